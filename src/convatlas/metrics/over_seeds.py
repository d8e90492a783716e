"""Student. The probable error of a mean. Biometrika 6, 1908, https://doi.org/10.2307/2331554.

A network trained from another seed is another network, so a claim about how networks of a kind train needs several of them, and the
interval of their mean is wide for as few as one can afford: with three it is 4.3 standard errors to either side, not 2. Two kinds trained
from the same seeds are compared by the differences, seed by seed.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np
from numpy.typing import ArrayLike


def over_seeds(values: ArrayLike, confidence: float = 0.95) -> tuple[float, float]:
    """An interval of the mean that many more seeds would have, from one value a seed.

        mean ± t s / √n,   t the quantile of Student's distribution with n − 1 degrees of freedom

    The values are taken to scatter about as a normal distribution does. Of one value nothing is known: (−∞, ∞).

    Raises:
        ValueError: without values, for values that are not finite, or a `confidence` that is not inside (0, 1).
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is {confidence}; it must lie between 0 and 1, such as 0.95")
    given = np.asarray(values, dtype=np.float64)
    if given.ndim != 1 or not len(given) or not np.isfinite(given).all():
        raise ValueError("expected finite numbers, one a seed, and at least one")
    if len(given) == 1:
        return -math.inf, math.inf
    half = student(confidence, len(given) - 1) * given.std(ddof=1) / math.sqrt(len(given))
    return float(given.mean() - half), float(given.mean() + half)


@cache
def student(share: float, freedom: int) -> float:
    """The t within which, to both sides of 0, lies this share of Student's distribution."""
    low, high = 0.0, 1.0
    while _within(high, freedom) < share:
        high *= 2
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if _within(middle, freedom) < share else (low, middle)
    return (low + high) / 2


def _within(t: float, freedom: int) -> float:
    """The share of Student's distribution within ±t: Abramowitz, Stegun. Handbook of Mathematical Functions. 1964. 26.7.3 and 26.7.4."""
    angle = math.atan2(t, math.sqrt(freedom))
    odd = freedom % 2
    term = math.cos(angle) if odd else 1.0
    total = 0.0
    for k in range(1 + odd, freedom, 2):
        total += term
        term *= math.cos(angle) ** 2 * k / (k + 1)
    if not odd:
        return math.sin(angle) * total
    return 2 / math.pi * (angle + math.sin(angle) * total)
