"""What is said of a classifier's probabilities on labelled images: the same figures wherever a classifier is judged."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from convatlas import metrics
from convatlas.data import Dataset, Record, decode
from convatlas.jobs.overlay import thumbnail, written

MOST_MISTAKES = 24
_THUMBNAIL = 256  # pixels of the longer side: sharp on dense screens


def scores(
    probabilities: np.ndarray,
    truth: np.ndarray,
    classes: Sequence[str],
    train_counts: Sequence[int] | None = None,
    together: np.ndarray | None = None,
) -> dict[str, Any]:
    """Accuracy, balanced accuracy, calibration, confusion and a row per class, as JSON; from (n, classes) and (n,) class indices.

    Images that are equal in `together` (n,) are of one unit: intervals are then those of fewer images.
    """
    predicted = probabilities.argmax(axis=1)
    hit, units = predicted == truth, np.arange(len(truth)) if together is None else together
    matrix = metrics.confusion_matrix(truth, predicted, len(classes))
    right = int(np.trace(matrix))
    rows = [
        {
            "name": name,
            "train": train_counts[i] if train_counts is not None else None,
            "test": row.support,
            "recall": _number(row.recall),
            "recall_interval": list(metrics.share_interval(hit[truth == i], units[truth == i]))
            if row.support
            else None,
            "precision": _number(row.precision),
            "f1": _number(row.f1),
        }
        for i, (name, row) in enumerate(zip(classes, metrics.per_class(matrix), strict=True))
    ]
    return {
        "accuracy": right / len(truth),
        "accuracy_interval": list(metrics.share_interval(hit, units)),
        "balanced_accuracy": metrics.balanced_accuracy(matrix),
        "balanced_accuracy_interval": list(
            metrics.balanced_accuracy_interval(matrix, worth=metrics.independent_number(hit, units) / len(hit))
        ),
        "log_loss": metrics.log_loss(probabilities, truth),
        "expected_calibration_error": metrics.expected_calibration_error(probabilities, truth),
        "classes": rows,
        "confusion": {"classes": list(classes), "matrix": matrix.tolist()},
        "calibration": [
            {
                "from": bin_.low,
                "to": bin_.high,
                "count": bin_.count,
                "confidence": _number(bin_.confidence),
                "accuracy": _number(bin_.accuracy),
                "accuracy_interval": list(bin_.accuracy_interval),
            }
            for bin_ in metrics.reliability(probabilities, truth, together=units)
            if bin_.count
        ],
    }


def accuracy_with_interval(right: np.ndarray, together: np.ndarray | None = None) -> dict[str, Any]:
    """`accuracy`, its 95 % interval and the number of images, of a boolean per image; `together` (n,) as in `scores`."""
    return {
        "accuracy": int(right.sum()) / len(right),
        "accuracy_interval": list(metrics.share_interval(right, together)),
        "images": len(right),
    }


def mistakes(
    dataset: Dataset, records: Sequence[Record], probabilities: np.ndarray, truth: np.ndarray, classes: Sequence[str]
) -> list[tuple[Record, dict[str, Any]]]:
    """The wrong predictions in which the classifier was most confident, worst first, with where to find each file."""
    predicted = probabilities.argmax(axis=1)
    confidence = probabilities.max(axis=1)
    wrong = np.flatnonzero(predicted != truth)
    worst: list[int] = wrong[np.argsort(-confidence[wrong], kind="stable")][:MOST_MISTAKES].tolist()
    return [
        (
            records[i],
            {
                "path": dataset.locate(records[i]),
                "truth": classes[truth[i]],
                "predicted": classes[predicted[i]],
                "probability": float(confidence[i]),
                "truth_probability": float(probabilities[i, truth[i]]),
                "thumbnail": None,  # this and what follows is for a report
                "map": None,
                "map_method": None,
                "nearest": None,
            },
        )
        for i in worst
    ]


def write_thumbnails(
    dataset: Dataset, found: Sequence[tuple[Record, dict[str, Any]]], folder: Path, kind: str = "mistake"
) -> list[dict[str, Any]]:
    """Small JPEG copies of the images in folder/assets, KIND-000.jpg and so on, named in their rows; the originals are only read."""
    (folder / "assets").mkdir(exist_ok=True)
    rows: list[dict[str, Any]] = []
    for i, (record, row) in enumerate(found):
        image, _ = decode(dataset.read(record), name=row["path"])
        small = thumbnail(image, _THUMBNAIL)
        rows.append({**row, "thumbnail": written(folder, f"{kind}-{i:03d}.jpg", small)})
    return rows


def _number(value: float) -> float | None:
    """The value, or None for a ratio without a denominator: JSON has no NaN."""
    return None if math.isnan(value) else value
