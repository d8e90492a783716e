"""Whether a test part is harder than cross-validation foretold, and which classes carry the difference.

Newcombe, "Interval estimation for the difference between independent proportions", Statistics in Medicine 17, 1998, method 10: each
proportion's Wilson limits, combined. The cross-validated side was also used to choose, which flatters it; Tsamardinos, Greasidou and
Borboudakis, "Bootstrapping the out-of-sample predictions for efficient and accurate cross-validation", Machine Learning 107, 2018, say by
how much, without any training: choose again on resampled images, and judge the choice by the images that the resample lacks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convatlas.metrics.clusters import independent_number
from convatlas.metrics.intervals import wilson

RESAMPLES = 200


@dataclass(frozen=True, kw_only=True)
class Gap:
    """An accuracy foretold, the one found on other images, and what lies between."""

    foretold: float
    found: float
    difference: float  # found − foretold; NaN where one of them is of no image
    interval: tuple[float, float]
    images: tuple[int, int]  # behind the two

    @property
    def shown(self) -> bool:
        """Whether the images show that there is a difference."""
        return self.interval[0] > 0 or self.interval[1] < 0


def difference_interval(
    first: tuple[float, float], second: tuple[float, float], confidence: float = 0.95
) -> tuple[float, float]:
    """An interval of the first proportion less the second, each given as (right, images), of different images.

    Raises `ValueError` as `wilson` does; where one side has no image, anything from −1 to 1 may be.
    """
    if not first[1] or not second[1]:
        return -1.0, 1.0
    p, q = first[0] / first[1], second[0] / second[1]
    (low, high), (less, more) = wilson(*first, confidence), wilson(*second, confidence)
    return p - q - float(np.hypot(p - low, more - q)), p - q + float(np.hypot(high - p, q - less))


@dataclass(frozen=True, kw_only=True)
class Rights:
    """Images and how they were judged."""

    right: NDArray[np.float64]  # (n,) from 0 to 1: right or wrong, or the share of choices with which it is right
    together: NDArray[np.int64]  # (n,) equal for images of one unit: copies, a group
    labels: NDArray[np.int64]  # (n,) class indices

    def of(self, class_: int) -> Rights:
        there = self.labels == class_
        return Rights(right=self.right[there], together=self.together[there], labels=self.labels[there])

    @property
    def mean(self) -> float:
        return float(self.right.mean()) if len(self.right) else float("nan")

    @property
    def independent(self) -> tuple[float, float]:
        """How many of how many independent images being right would say as much."""
        if not len(self.right):
            return 0.0, 0.0
        number = independent_number(self.right, self.together, variance=self.mean * (1 - self.mean))
        return self.mean * number, number


def gap(foretold: Rights, found: Rights, confidence: float = 0.95) -> Gap:
    """Between what was foretold of some images and what was found on others."""
    return Gap(
        foretold=foretold.mean,
        found=found.mean,
        difference=found.mean - foretold.mean,
        interval=difference_interval(found.independent, foretold.independent, confidence),
        images=(len(foretold.right), len(found.right)),
    )


def class_gaps(foretold: Rights, found: Rights, num_classes: int) -> list[Gap]:
    """A gap for each class, with intervals that all hold together in 95 % of cases (Bonferroni's)."""
    return [gap(foretold.of(k), found.of(k), 1 - 0.05 / num_classes) for k in range(num_classes)]


def without_choice(
    losses: Sequence[ArrayLike],
    right: Sequence[ArrayLike],
    *,
    usual: int = -1,
    weights: ArrayLike | None = None,
    together: ArrayLike | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> NDArray[np.float64]:
    """(n,) how often each image is right when it had no part in choosing among candidates; the mean is an accuracy that is not flattered.

    The choice is that of `transfer.probe.select`: the usual candidate, or the one of least mean loss if that is lower by more than the
    standard error of the mean difference.

    Args:
        losses: one (n,) for each candidate, held out.
        right: as many, 1 where the candidate is right on the image.
        usual: which candidate is kept where no other is shown to be better.
        weights: (n,) of the images in mean losses; equal by default.
        together: (n,) equal for images of one unit, which is drawn or left as a whole; None where each is one of its own.
        resamples: of units, with replacement.
    """
    lost, hit = np.array(losses, dtype=np.float64), np.array(right, dtype=np.float64)
    weight = np.ones(lost.shape[1]) if weights is None else np.asarray(weights, dtype=np.float64)
    units = np.arange(len(weight)) if together is None else np.asarray(together)
    _, unit = np.unique(units, return_inverse=True)
    count = int(unit.max()) + 1
    mass = np.bincount(unit, weight)
    lower = np.stack([np.bincount(unit, weight * (lost[usual] - each)) for each in lost])  # (candidates, units)

    def choice(drawn: NDArray[np.int64]) -> NDArray[np.int64]:
        """Of resamples (number, units) of how often each unit was drawn."""
        total = drawn @ mass
        gains = drawn @ lower.T / total[:, None]
        least = gains.argmax(axis=1)
        gain, its = gains[np.arange(len(drawn)), least], lower[least]
        error = np.sqrt((drawn * (its - gain[:, None] * mass) ** 2).sum(axis=1)) / total
        return np.where(gain > error, least, usual % len(lost))

    drawn = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), resamples)
    out = (drawn == 0).T[unit]
    judged = out.sum(axis=1)
    freed = (hit[choice(drawn)].T * out).sum(axis=1)
    return np.where(judged > 0, freed / np.maximum(judged, 1), hit[choice(np.ones((1, count), dtype=np.int64))[0]])
