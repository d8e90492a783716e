"""How many labels are wrong, and which, by a classifier that has not learned from their images.

A label is either what the classifier's probabilities p say, or, of a share r of the images, wrong: then it is any class but the true one,
each as often as there are labels of it (a share π). So a label y is given to an image with the probability

    (1 − r) p_y + r Σ_c≠y p_c π_y / (1 − π_c),

noise of one parameter in the sense of Sukhbaatar et al., "Training Convolutional Networks with Noisy Labels", 2015. Probabilities
calibrated on labels some of which are wrong are too flat, since they allow for these; so p = softmax(s · logits), and what the labels say
of s and r is found together. Bayes' rule gives the chance that one label is wrong. Where labels are no more surprising than the
classifier's own mistakes, r is small and hardly one is suspected, however weak the classifier.

Two assumptions keep few images from saying much: ln s is normal around 0 with a standard deviation of 1, and r has the beta distribution
of ½ and 11, which are four in a hundred on average; ten well-known sets have three (Northcutt et al., "Pervasive Label Errors in Test
Sets Destabilize Machine Learning Benchmarks", 2021). Nothing is maximised: the chances are means over all s and r by how probable the
labels make them. Errors that exchange what looks alike are taken for the classifier's mistakes oftener than others. What this replaced
stands in docs/dev/decisions.md.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convatlas.metrics.calibration import one_each, softmax

Array = NDArray[np.float64]

CHANCE = 0.1  # from which a label is suspected: of ten such images that someone looks at one or more are wrong
_SEEN_RIGHT = 10.0  # labels, as which the assumption of r counts, beside the root that the grid is made of
_LOG_SCALES = (-1.5, 2.5)  # between which s is looked for
_POINTS, _CLOSER = 15, 2  # of the grid of s, half of those of r; how often it is made finer
_FAR = 8.0  # by which the ln of the probability of what may be neglected is lower
_MOST = 300.0  # ln of the largest odds
_TINY = np.finfo(np.float64).tiny


@dataclass(frozen=True, kw_only=True)
class Suspect:
    """An image whose label is in doubt."""

    index: int
    given: int  # the class it is labelled
    suggested: int  # the likeliest of the others
    chance: float  # that the label is wrong


@dataclass(frozen=True, kw_only=True, eq=False)
class LabelErrors:
    """What is known of the wrong labels among some images."""

    judged: int  # images
    rate: float  # of them that are labelled wrongly; of balanced ones, the mean over classes
    interval: tuple[float, float]  # that holds it with 95 %, if images are independent
    chances: Array  # (n,) that each label is wrong; NaN of images that were not judged
    suspects: tuple[Suspect, ...]  # the surest first


def label_errors(
    probabilities: ArrayLike, labels: ArrayLike, *, balanced: bool = False, chance: float = CHANCE
) -> LabelErrors:
    """How many labels are wrong, and those that are so with a chance of at least `chance`.

    Args:
        probabilities: (n, K), calibrated, each from a classifier that did not learn from the image; rows of NaN are left out.
        labels: (n,) the given class indices.
        balanced: whether the probabilities are those of equally frequent classes; the labels then count as if they were.
        chance: above 0, below 1.

    Raises:
        ValueError: if they do not fit together.
    """
    shares = np.asarray(probabilities, dtype=np.float64)
    given = one_each(shares, labels)
    if not 0 < chance < 1:
        raise ValueError(f"chance is {chance}; it must lie between 0 and 1, such as 0.1")
    rows = np.flatnonzero(np.isfinite(shares).all(axis=1))
    chances = np.full(len(given), np.nan)
    if not len(rows):
        return LabelErrors(judged=0, rate=0.0, interval=(0.0, 1.0), chances=chances, suspects=())
    counts = np.bincount(given[rows]) if balanced else np.ones(shares.shape[1])
    weights = 1 / counts[given[rows]]
    logits = np.log(np.maximum(shares[rows], _TINY))
    known = _Labels(logits, given[rows], weights / weights.mean())
    belief = known.belief()
    chances[rows] = known.chances(belief)
    rate, interval = belief.rate()
    suspected = rows[chances[rows] >= chance]
    others = shares.copy()
    others[np.arange(len(given)), given] = -1.0
    suspects = tuple(
        Suspect(index=int(i), given=int(given[i]), suggested=int(others[i].argmax()), chance=float(chances[i]))
        for i in suspected[np.argsort(-chances[suspected], kind="stable")]
    )
    return LabelErrors(judged=len(rows), rate=rate, interval=interval, chances=chances, suspects=suspects)


@dataclass(frozen=True, kw_only=True)
class _Belief:
    """What is believed of the sharpness and of the rate after seeing the labels: weights on a grid, 1 in all."""

    log_scales: Array
    roots: Array  # of the rates
    weights: Array  # (log scales, roots)

    def rate(self) -> tuple[float, tuple[float, float]]:
        """The mean, and the shortest interval that holds the rate with 95 %."""
        rates, share = self.roots**2, self.weights.sum(axis=0)
        likeliest = np.argsort(-share, kind="stable")
        inside = likeliest[: 1 + int(np.searchsorted(np.cumsum(share[likeliest]), 0.95))]
        low = rates[max(inside.min() - 1, 0)]  # the point before, so that what reaches down to 0 says so
        return float(share @ rates), (float(low), float(rates[inside.max()]))


class _Labels:
    """The likelihood of labels."""

    def __init__(self, logits: Array, labels: NDArray[np.int64], weights: Array) -> None:
        self.logits, self.labels, self.weights = logits, labels, weights
        shares = np.bincount(labels, weights, minlength=logits.shape[1]) / weights.sum()
        self.shares = shares[labels]
        self.spread = 1 / np.maximum(1 - shares, np.finfo(np.float64).eps)  # over the labels that are wrong for a class

    def belief(self) -> _Belief:
        """Looks at all sharpnesses and rates, and closer where some are probable."""
        log_scales, roots = np.linspace(*_LOG_SCALES, _POINTS), np.linspace(0, 1, 2 * _POINTS + 1)[:-1]
        for _ in range(_CLOSER):
            values = np.stack([self._values(log_scale, roots) for log_scale in log_scales])
            likely = values > values.max() - _FAR
            log_scales, roots = _around(log_scales, likely.any(axis=1)), _around(roots, likely.any(axis=0))
        values = np.stack([self._values(log_scale, roots) for log_scale in log_scales])
        weights = np.exp(values - values.max())
        return _Belief(log_scales=log_scales, roots=roots, weights=weights / weights.sum())

    def chances(self, belief: _Belief) -> Array:
        """(n,) that each label is wrong."""
        found = np.zeros(len(self.labels))
        for log_scale, weights in zip(belief.log_scales, belief.weights, strict=True):
            odds = self._odds(log_scale)[1]
            for root, weight in zip(belief.roots, weights, strict=True):
                found += weight * root**2 * odds / (1 + root**2 * (odds - 1))
        return found

    def _odds(self, log_scale: float) -> tuple[Array, Array]:
        """ln of each label's probability if it is right, and its probability if it is wrong over that."""
        p, images = softmax(np.exp(log_scale) * self.logits), np.arange(len(self.labels))
        right = np.log(np.maximum(p[images, self.labels], _TINY))
        p[images, self.labels] = 0.0
        wrong = np.log(np.maximum(self.shares * (p @ self.spread), _TINY))
        return right, np.exp(np.minimum(wrong - right, _MOST))

    def _values(self, log_scale: float, roots: Array) -> Array:
        """ln of the likelihood, and of what was believed before, at several rates."""
        right, odds = self._odds(log_scale)
        labels = [self.weights @ (right + np.log1p(rate * (odds - 1))) for rate in roots**2]
        return np.array(labels) + _SEEN_RIGHT * np.log1p(-(roots**2)) - log_scale**2 / 2


def _around(grid: Array, likely: NDArray[np.bool_]) -> Array:
    """As many points, from the last unlikely one before what is likely to the first after it."""
    where = np.flatnonzero(likely)
    return np.linspace(grid[max(where[0] - 1, 0)], grid[min(where[-1] + 1, len(grid) - 1)], len(grid))
