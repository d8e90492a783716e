"""Evaluating a model folder on labelled images: classes matched by name, every image counted once, nothing replaced."""

from __future__ import annotations

import json
from pathlib import Path

from convatlas.data import diagnose, scan
from convatlas.jobs.images import Progress, resolve_device, silent
from convatlas.jobs.judge import judge, part_in_words, part_of, views_json
from convatlas.jobs.result import EvaluateResult
from convatlas.jobs.scores import mistakes, scores

SCHEMA = "convatlas.evaluate/1"


def evaluate(
    folder: str | Path,
    data: str | Path,
    *,
    split: str | None = None,
    views: str = "centre",
    device: str = "auto",
    progress: Progress = silent,
) -> EvaluateResult:
    """Judges the model of `folder` on the images at `data` (a folder, zip, tar or CSV, as for `fit`).

    `split` is train, val, test or all; by default the test split, else the validation split, else everything. Classes are matched by name;
    a class the model does not know is a `ConvAtlasError` that names it. Files that cannot be read are left out and listed. `views` is what
    the network is shown of an image, over which probabilities are averaged: centre, flip, ten, 144, along or dense (`data.views`).
    """
    from convatlas.bundle.load import load

    dataset = scan(data)
    chosen = part_of(dataset, split, ("test", "val"))
    classifier = load(folder, device=resolve_device(device))
    looked = classifier.looking(views)
    records = [record for record in dataset.records if chosen in ("all", record.split)]
    judged = judge(classifier, dataset, records, looked, "evaluate", progress)
    probabilities, truth, names = judged.probabilities, judged.truth, classifier.classes
    protocol = part_in_words(chosen, len(judged.read))
    result = {
        "schema": SCHEMA,
        "model": str(classifier.folder),
        "data": {"path": str(dataset.root), "split": chosen},
        "images": len(judged.read),
        "unreadable": [dataset.locate(item.record) for item in judged.examined if item.failure is not None],
        "views": views_json(classifier, looked),
        "protocol": protocol if looked.name == "centre" else f"{protocol}, probabilities averaged over views ({views})",
        **scores(probabilities, truth, names),
        "mistakes": [row for _, row in mistakes(dataset, judged.read, probabilities, truth, names)],
        "problems": [problem.to_json() for problem in [*dataset.problems, *diagnose(dataset, judged.examined)]],
    }
    return EvaluateResult(json.loads(json.dumps(result)))
