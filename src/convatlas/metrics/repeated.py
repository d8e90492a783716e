"""Nadeau, Bengio. Inference for the generalization error. Machine Learning 52, 2003, https://doi.org/10.1023/A:1024068626366.

An accuracy from folds, dealt once or several times. Two things make it uncertain. Which images there are: for that Wilson's interval, of
the number of images and never of images times deals; where images come in units (copies, one patient's), of as many independent images as
would give as uncertain a mean. And which images each classifier learned from: since classifiers of overlapping folds are alike, the
scatter over folds counts (1/J + share held out / share learned from) times, not 1/J. Neither covers what the other does, so the wider end
is taken. The few folds of a single deal tell too little of their scatter: Wilson's interval is then that of fewer images, by what learning
from other images was measured to add.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from convatlas.metrics.clusters import independent_number
from convatlas.metrics.intervals import wilson
from convatlas.metrics.over_seeds import student


def repeated_interval(right: ArrayLike, folds: ArrayLike, together: ArrayLike | None = None) -> tuple[float, float]:
    """95 %, of the mean of (deals, n) right or wrong, images held out in the folds (deals, n).

    `together` (n,) is equal for images of one unit. Raises `ValueError` for arrays that do not fit together.
    """
    hit, fold_of = np.asarray(right, dtype=np.float64), np.asarray(folds)
    if hit.ndim != 2 or hit.shape != fold_of.shape or not ((hit >= 0) & (hit <= 1)).all():
        raise ValueError(
            f"expected a row a deal of 0 and 1 and of folds, not the shapes {hit.shape} and {fold_of.shape}"
        )
    deals, count = hit.shape
    if not count:
        return 0.0, 1.0
    units = np.arange(count) if together is None else np.asarray(together)
    mean = float(hit.mean())
    number = independent_number(hit.mean(axis=0), units, variance=mean * (1 - mean))
    if deals == 1:
        number /= 1 + _excess(len(np.unique(fold_of)))
        return wilson(mean * number, number)
    low, high = wilson(mean * number, number)
    means = np.concatenate(
        [[row[own == fold].mean() for fold in np.unique(own)] for row, own in zip(hit, fold_of, strict=True)]
    )
    held_out = deals / len(means)
    scatter = math.sqrt((1 / len(means) + held_out / (1 - held_out)) * means.var(ddof=1)) if held_out < 1 else 0.0
    half = student(0.95, len(means) - 1) * scatter
    return max(min(low, mean - half), 0.0), min(max(high, mean + half), 1.0)


def _excess(folds: int) -> float:
    """What learning from other images adds to the variance of a mean over so many folds, as a share of what judging on others does.

    Half with five folds, as measured on CIFAR-10's training images (docs/dev/decisions.md), and in proportion to images held out over
    images learned from.
    """
    return 2 / (folds - 1) if folds > 1 else 0.0
