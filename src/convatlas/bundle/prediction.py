"""What a classifier says of one image, as people get it: the likeliest classes, and what can be promised of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from convatlas.bundle.confidence import NONE_OF_THESE, Promise


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """What the model says of one image, or why it could not be read."""

    path: str | None  # None for an image that was given as an array or a PIL image
    label: str | None  # the likeliest class, or "none of these"
    probability: float | None  # of that class; None where it is rejected
    top: tuple[tuple[str, float], ...] = ()  # the likeliest classes with their probabilities, likeliest first
    error: str | None = None
    rejected: bool | None = None  # whether it is called none of these; None where no false-reject rate was asked for
    nearest_class: str | None = None  # the likeliest class, then
    typicality: float | None = (
        None  # the share of training images at least as unlike the others; at most the rate where rejected
    )
    one_of: tuple[str, ...] | None = None  # the set that holds the true class as often as asked for, likeliest first

    def to_json(self) -> dict[str, Any]:
        row: dict[str, Any] = {"path": self.path, "label": self.label, "probability": self.probability}
        row["top"] = [{"label": label, "probability": probability} for label, probability in self.top]
        if self.rejected is not None:
            row |= {"rejected": self.rejected, "nearest_class": self.nearest_class, "typicality": self.typicality}
        if self.one_of is not None:
            row["one_of"] = list(self.one_of)
        return row | ({"error": self.error} if self.error else {})


def predictions(classes: tuple[str, ...], probabilities: np.ndarray, top: int) -> list[Prediction]:
    """The answers to images with these probabilities (n, classes), their paths left open."""
    rows = []
    for row in probabilities:
        best = np.argsort(-row, kind="stable")[:top]
        likeliest = tuple((classes[i], float(row[i])) for i in best)
        rows.append(Prediction(path=None, label=likeliest[0][0], probability=likeliest[0][1], top=likeliest))
    return rows


def promised(
    answers: Sequence[Prediction],
    classes: tuple[str, ...],
    probabilities: np.ndarray,
    typicality: np.ndarray,
    promise: Promise,
) -> list[Prediction]:
    """The answers with what was asked of them: those too untypical are "none of these", and each has its set."""
    found = list(answers)
    if promise.false_reject is not None:
        rejected = promise.rejected(typicality).tolist()
        found = [_unless(*each) for each in zip(found, rejected, typicality.tolist(), strict=True)]
    if promise.coverage is not None:
        orders = np.argsort(-probabilities, axis=1, kind="stable").tolist()
        for i, inside in enumerate(promise.sets(probabilities)):
            found[i] = replace(found[i], one_of=tuple(classes[k] for k in orders[i] if inside[k]))
    return found


def _unless(answer: Prediction, rejected: bool, typicality: float) -> Prediction:
    """The answer, or where it is rejected "none of these"; in any case with the class that is likeliest."""
    known = replace(answer, rejected=rejected, nearest_class=answer.label, typicality=typicality)
    return replace(known, label=NONE_OF_THESE, probability=None) if rejected else known
