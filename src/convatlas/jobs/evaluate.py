"""Evaluating a model folder on labelled images: classes matched by name, every image counted once, nothing replaced."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from convatlas.bundle.confidence import Promise
from convatlas.data import diagnose, scan
from convatlas.jobs.images import Progress, resolve_device, silent
from convatlas.jobs.judge import Judgement, judge, overlap_json, part_in_words, part_of, views_json
from convatlas.jobs.promises import promises_json
from convatlas.jobs.result import EvaluateResult
from convatlas.jobs.scores import mistakes, scores

SCHEMA = "convatlas.evaluate/1"


def evaluate(
    folder: str | Path,
    data: str | Path,
    *,
    split: str | None = None,
    views: str = "centre",
    false_reject: float | None = None,
    sets: float | None = None,
    device: str = "auto",
    progress: Progress = silent,
) -> EvaluateResult:
    """Judges the model of `folder` on the images at `data` (a folder, zip, tar or CSV, as for `fit`).

    `split` is train, val, test or all; by default the test split, else the validation split, else everything. Classes are matched by name;
    a class the model does not know is a `ConvAtlasError` that names it. Files that cannot be read are left out and listed. `views` is what
    the network is shown of an image, over which probabilities are averaged: centre, flip, ten, 144, along or dense (`data.views`).

    With `false_reject`, such as 0.05, the share of these images that is called "none of these" at that rate is measured, with `sets`, such
    as 0.9, how often the sets of classes hold the true one, and how large they are. Accuracy and calibration remain those of all images.
    Where the model was trained on some of these very images, `alarms` says so, and `trained_on` what it reaches on the others.
    """
    from convatlas.bundle.load import load

    dataset = scan(data)
    chosen = part_of(dataset, split, ("test", "val"))
    classifier = load(folder, device=resolve_device(device))
    looked = classifier.looking(views)
    promise = classifier.promise(looked, false_reject, sets)
    records = [record for record in dataset.records if chosen in ("all", record.split)]
    judged = judge(classifier, dataset, records, looked, "evaluate", progress, promise=promise)
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
        **scores(probabilities, truth, names, together=judged.together),
        **_promises(promise, judged),
        **overlap_json(classifier, judged),
        "mistakes": [row for _, row in mistakes(dataset, judged.read, probabilities, truth, names)],
        "problems": [problem.to_json() for problem in [*dataset.problems, *diagnose(dataset, judged.examined)]],
    }
    return EvaluateResult(json.loads(json.dumps(result)))


def _promises(promise: Promise | None, judged: Judgement) -> dict[str, Any]:
    if promise is None:
        return {"none_of_these": None, "sets": None}
    assert judged.typicality is not None
    return promises_json(promise, judged.probabilities, judged.typicality, judged.truth, judged.together)
