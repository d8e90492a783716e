"""Whether what a classifier promises of its answers holds: the share called "none of these", and how often sets hold the true class.

The same figures wherever they are measured: on the test images of a fit, and on whatever `evaluate` is given.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from convatlas.bundle.confidence import Confidence, Promise
from convatlas.errors import ConvAtlasError
from convatlas.metrics import independent_number, share_interval

_NORMAL = 1.96  # standard errors to either side, for 95 %
RATES = (0.01, 0.05, 0.10)  # of which a fit says what its images show


def rejection_json(rejected: np.ndarray, right: np.ndarray, together: np.ndarray, rate: float) -> dict[str, Any]:
    """The share of images of known classes that is called none of them, and the accuracy of the answers to the others.

    Images that are equal in `together` (n,) are of one unit: intervals, here and below, are then those of fewer images.
    """
    kept = ~rejected
    answered = right[kept]
    return {
        "stated": rate,
        "rejected": float(rejected.mean()),
        "rejected_interval": list(share_interval(rejected, together)),
        "images": len(rejected),
        "accuracy_of_others": float(answered.mean()) if len(answered) else None,
        "accuracy_of_others_interval": list(share_interval(answered, together[kept])) if len(answered) else None,
    }


def sets_json(sets: np.ndarray, truth: np.ndarray, together: np.ndarray, coverage: float) -> dict[str, Any]:
    """How often sets (n, K) hold the true class, and how large they are. The interval of the mean size is the normal one."""
    covered, sizes = sets[np.arange(len(sets)), truth], sets.sum(axis=1)
    mean, half = float(sizes.mean()), float(_NORMAL * sizes.std() / np.sqrt(independent_number(sizes, together)))
    return {
        "stated": coverage,
        "coverage": float(covered.mean()),
        "coverage_interval": list(share_interval(covered, together)),
        "images": len(sets),
        "mean_size": mean,
        "mean_size_interval": [max(mean - half, 1.0), min(mean + half, float(sets.shape[1]))],
        "single": float((sizes == 1).mean()),
        "single_interval": list(share_interval(sizes == 1, together)),
    }


def promises_json(
    promise: Promise, probabilities: np.ndarray, typicality: np.ndarray, truth: np.ndarray, together: np.ndarray
) -> dict[str, Any]:
    """What was promised against what these images show; of what was not asked for, None."""
    rejection = sets = None
    if promise.false_reject is not None:
        right = probabilities.argmax(axis=1) == truth
        rejection = rejection_json(promise.rejected(typicality), right, together, promise.false_reject)
    if promise.coverage is not None:
        sets = sets_json(promise.sets(probabilities), truth, together, promise.coverage)
    return {"none_of_these": rejection, "sets": sets}


def confidence_json(
    confidence: Confidence,
    held_out: np.ndarray,
    labels: np.ndarray,
    together: np.ndarray,
    classes: Sequence[str],
    tested: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray] | None,
) -> dict[str, Any]:
    """What a fit's images show at each of `RATES`: the training images, held out in turn, and the test images where there are some.

    Args:
        held_out: (n, K) the probabilities of the training images that were held out.
        labels: (n,) their classes.
        together: (n,) equal for images of one unit: copies, a group.
        tested: the test images' probabilities (m, K), typicalities (m,), classes (m,) and units (m,).
    """
    typicality = confidence.typicality_of_training()
    rates = []
    for rate in RATES:
        try:
            promise = Promise(confidence=confidence, false_reject=rate, coverage=1 - rate)
        except ConvAtlasError as error:  # too few images
            rates.append({"rate": rate, "refused": str(error), "training": None, "test": None, "most_rejected": None})
            continue
        row = {
            "rate": rate,
            "refused": None,
            "training": promises_json(promise, held_out, typicality, labels, together),
        }
        row["test"] = None if tested is None else promises_json(promise, *tested)
        rates.append(row | {"most_rejected": _most_rejected(promise.rejected(typicality), labels, classes)})
    return {**confidence.to_json(), "rates": rates}


def _most_rejected(rejected: np.ndarray, labels: np.ndarray, classes: Sequence[str]) -> dict[str, Any]:
    """The class with the largest share of rejected images: the promise is of all classes together."""
    images = np.bincount(labels, minlength=len(classes))
    shares = np.bincount(labels[rejected], minlength=len(classes)) / np.maximum(images, 1)
    worst = int(shares.argmax())
    return {"name": classes[worst], "rejected": float(shares[worst]), "images": int(images[worst])}
