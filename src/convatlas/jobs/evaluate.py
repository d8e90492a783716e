"""Evaluating a model folder on labelled images: classes matched by name, every image counted once, nothing replaced."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from convatlas.data import ClassMap, Dataset, diagnose, examine, scan
from convatlas.errors import ConvAtlasError
from convatlas.jobs.images import Progress, resolve_device, silent
from convatlas.jobs.result import EvaluateResult
from convatlas.jobs.scores import mistakes, scores

SCHEMA = "convatlas.evaluate/1"
_BATCH = 32


def evaluate(
    folder: str | Path, data: str | Path, *, split: str | None = None, device: str = "auto", progress: Progress = silent
) -> EvaluateResult:
    """Judges the model of `folder` on the images at `data` (a folder, zip, tar or CSV, as for `fit`).

    `split` is train, val, test or all; by default the test split, else the validation split, else everything. Classes are matched by name;
    a class the model does not know is a `ConvAtlasError` that names it. Files that cannot be read are left out and listed.
    """
    from convatlas.bundle.load import load

    dataset = scan(data)
    chosen = _split(dataset, split)
    classifier = load(folder, device=resolve_device(device))
    classes = ClassMap(classifier.classes)
    records = [record for record in dataset.records if chosen in ("all", record.split)]
    classes.align(sorted({record.label for record in records}), partial=True)

    examined, rows = [], []
    pixels: list[np.ndarray] = []
    for item in examine(dataset, records, preprocessing=classifier.preprocessing):
        examined.append(item)
        if item.pixels is not None:
            pixels.append(item.pixels)
        if len(pixels) == _BATCH:
            rows.append(classifier.probabilities(np.stack(pixels)))
            pixels.clear()
        progress("evaluate", len(examined), len(records))
    if pixels:
        rows.append(classifier.probabilities(np.stack(pixels)))
    read = [item.record for item in examined if item.facts is not None]
    if not read:
        raise ConvAtlasError(
            f"{dataset.root}: no image could be read.", remedy="`convatlas check` names each file and the reason."
        )
    probabilities = np.concatenate(rows)
    truth = classes.indices([record.label for record in read])
    found = scores(probabilities, truth, classes.names)
    result = {
        "schema": SCHEMA,
        "model": str(classifier.folder),
        "data": {"path": str(dataset.root), "split": chosen},
        "images": len(read),
        "unreadable": [dataset.locate(item.record) for item in examined if item.failure is not None],
        "protocol": f"{'all' if chosen == 'all' else chosen + ' split,'} {len(read)} images, classes matched by name",
        **found,
        "mistakes": [row for _, row in mistakes(dataset, read, probabilities, truth, classes.names)],
        "problems": [problem.to_json() for problem in _problems(dataset, examined)],
    }
    return EvaluateResult(json.loads(json.dumps(result)))


def _split(dataset: Dataset, asked: str | None) -> str:
    if asked is None:
        return next(split for split in ("test", "val", "all", "train") if split in dataset.splits)
    if asked != "all" and asked not in dataset.splits:
        there = ", ".join(dataset.splits)
        raise ConvAtlasError(
            f"{dataset.root}: has no {asked} split.", remedy=f"It has {there}; `all` takes everything."
        )
    return asked


def _problems(dataset: Dataset, examined: Iterable[Any]) -> list[Any]:
    return [*dataset.problems, *diagnose(dataset, list(examined))]
