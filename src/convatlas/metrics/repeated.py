"""Nadeau, Bengio. Inference for the generalization error. Machine Learning 52, 2003, https://doi.org/10.1023/A:1024068626366.

An accuracy from folds that were dealt several times. Two things make it uncertain. Which images there are: for that Wilson's interval, of
the number of images and never of images times deals; where images come in units (copies, one patient's), of as many independent images as
would give as uncertain a mean (the design effect: Kish, Survey Sampling, 1965). And which images each classifier learned from: since
classifiers of overlapping folds are alike, the scatter over folds counts (1/J + share held out / share learned from) times, not 1/J.
Neither covers what the other does, so the wider end is taken.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from convatlas.metrics.intervals import wilson
from convatlas.metrics.over_seeds import student


def repeated_interval(right: ArrayLike, folds: ArrayLike, together: ArrayLike | None = None) -> tuple[float, float]:
    """95 %, of the mean of (deals, n) right or wrong, images held out in the folds (deals, n); with one deal, Wilson's.

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
    number = count / _design_effect(hit.mean(axis=0), units)
    low, high = wilson(mean * number, number)
    if deals == 1:
        return low, high
    means = np.concatenate(
        [[row[own == fold].mean() for fold in np.unique(own)] for row, own in zip(hit, fold_of, strict=True)]
    )
    held_out = deals / len(means)
    scatter = math.sqrt((1 / len(means) + held_out / (1 - held_out)) * means.var(ddof=1)) if held_out < 1 else 0.0
    half = student(0.95, len(means) - 1) * scatter
    return max(min(low, mean - half), 0.0), min(max(high, mean + half), 1.0)


def _design_effect(shares: np.ndarray, together: np.ndarray) -> float:
    """How many times as uncertain the mean is as that of as many independent images."""
    _, unit, sizes = np.unique(together, return_inverse=True, return_counts=True)
    count, units = len(shares), len(sizes)
    if units == count:
        return 1.0
    mean = shares.mean()
    plain = mean * (1 - mean) / count
    if units == 1 or plain == 0:
        return count / units
    totals = np.bincount(unit, shares - mean)
    clustered = (totals**2).sum() / count**2 * units / (units - 1)
    return float(np.clip(clustered / plain, 1.0, (sizes**2).sum() / count))
