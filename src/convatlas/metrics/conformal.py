"""Angelopoulos, Bates, Jordan and Malik, "Uncertainty Sets for Image Classifiers using Conformal Prediction", ICLR 2021.

A set of classes that holds the true one as often as is asked for: every class is given a score, the less likely the greater, and those
whose score is no greater than most held-out images' own classes had are in. Their score, too, is the probability of the likelier
classes, with a charge for each class too many; but the class's own probability is left out where they add it in or a random part
of it. So a set needs no random draw, the likeliest class (score 0) is always in it, and where a classifier is right more often than
asked for, that class alone is the set. With the class itself counted, sets were larger for the same coverage.

If the held-out images and a new one are exchangeable, the threshold's rank among n + 1 makes the promise hold on average over draws
of both, whatever the classifier; the same rank gives p-values of other scores.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convatlas.metrics.calibration import one_each

CHARGE = 0.01  # for each class in the set beyond
FREE = 5  # classes, which cost nothing: Angelopoulos and others' numbers for ImageNet; few classes never come to it


def set_scores(probabilities: ArrayLike, *, charge: float = CHARGE, free: int = FREE) -> NDArray[np.float64]:
    """The score (n, K) of each class: how much probability the strictly likelier ones have, with `charge` for each that is one too many.

    A class is one too many if as many as `free` stand before it. Equally likely classes have equal scores, so their order plays no part.
    """
    given = np.asarray(probabilities, dtype=np.float64)
    if given.ndim != 2:
        raise ValueError(f"expected one row an image and one column a class, the shape is {given.shape}")
    order = np.argsort(-given, axis=1, kind="stable")
    falling = np.take_along_axis(given, order, axis=1)
    ranks = np.arange(given.shape[1])
    before = np.cumsum(falling, axis=1) - falling + charge * np.maximum(0, ranks + 1 - free)
    fresh = (
        np.diff(falling, axis=1, prepend=np.inf) < 0
    )  # where a run of equals begins, whose first gives all their score
    first = np.maximum.accumulate(np.where(fresh, ranks, 0), axis=1)
    scores = np.empty_like(given)
    np.put_along_axis(scores, order, np.take_along_axis(np.maximum(before, 0.0), first, axis=1), axis=1)
    return scores


def own_scores(probabilities: ArrayLike, truth: ArrayLike) -> NDArray[np.float64]:
    """The scores (n,) of the true classes, of held-out images: what `conformal_threshold` is made of."""
    scores = set_scores(probabilities)
    return scores[np.arange(len(scores)), one_each(scores, truth)]


def conformal_threshold(held_out: ArrayLike, coverage: float) -> float:
    """The ⌈(n + 1) · coverage⌉-th smallest of n held-out scores: a new one is no greater with a probability of at least `coverage`.

    Infinite where so few scores cannot promise that: see `fewest`.
    """
    scores = np.sort(np.asarray(held_out, dtype=np.float64))
    rank = math.ceil((len(scores) + 1) * _rate(coverage) - 1e-9)  # which rounding must not push one up
    return float(scores[rank - 1]) if rank <= len(scores) else math.inf


def prediction_sets(probabilities: ArrayLike, threshold: float) -> NDArray[np.bool_]:
    """Which classes (n, K) are in each image's set; never none. A greater threshold adds classes and takes none away."""
    return set_scores(probabilities) <= threshold


def p_values(held_out: ArrayLike, scores: ArrayLike) -> NDArray[np.float64]:
    """For each new score the share of held-out ones at least as great, itself counted: (1 + #) / (n + 1).

    Of an exchangeable image it is at most `rate` with a probability of at most `rate`.
    """
    known = np.sort(np.asarray(held_out, dtype=np.float64))
    below = np.searchsorted(known, np.asarray(scores, dtype=np.float64), side="left")
    return (1 + len(known) - below) / (len(known) + 1)


def fewest(rate: float) -> int:
    """How many held-out scores it takes for a rate of errors this small: with fewer, none is ever beyond the threshold."""
    return math.ceil(1 / _rate(rate) - 1 - 1e-9)


def _rate(rate: float) -> float:
    if not 0 < rate < 1:
        raise ValueError(f"the rate is {rate}; it must lie between 0 and 1, such as 0.1")
    return float(rate)
