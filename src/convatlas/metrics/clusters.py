"""Kish. Survey Sampling. 1965: images that come in units (copies, one patient's, crops of one photo) tell less than as many others.

By how much is read off the images themselves: the variance of a mean over units against that over images, the design effect. Few units
do not tell that variance well, for which Student's quantile stands instead of the normal one, as images fewer still.
"""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike

from convatlas.metrics.intervals import wilson
from convatlas.metrics.over_seeds import student

_NORMAL = NormalDist().inv_cdf(0.975)
_MANY = 200  # units, from which on Student's quantile is as good as the normal one


def independent_number(values: ArrayLike, together: ArrayLike | None = None, *, variance: float | None = None) -> float:
    """How many independent images would give as wide a 95 % interval of the mean of `values` (n,); n at the most.

    Args:
        together: (n,) equal for images of one unit; None where each is one of its own.
        variance: of a single image, where it is known better than from `values`.
    """
    given = np.asarray(values, dtype=np.float64)
    count = len(given)
    if together is None or not count:
        return float(count)
    _, unit, sizes = np.unique(np.asarray(together), return_inverse=True, return_counts=True)
    units = len(sizes)
    if units == count:
        return float(count)
    mean = given.mean()
    plain = (given.var() if variance is None else variance) / count
    if units == 1 or plain == 0:
        return float(units)
    totals = np.bincount(unit, given - mean)
    clustered = (totals**2).sum() / count**2 * units / (units - 1)
    effect = float(np.clip(clustered / plain, 1.0, (sizes**2).sum() / count))
    return count / effect * (_NORMAL / student(0.95, min(units, _MANY) - 1)) ** 2


def share_interval(right: ArrayLike, together: ArrayLike | None = None) -> tuple[float, float]:
    """95 %, of the share of images (n,) that are right: Wilson's, of as many independent images as these are worth."""
    hit = np.asarray(right, dtype=np.float64)
    mean = float(hit.mean()) if len(hit) else 0.0
    number = independent_number(hit, together, variance=mean * (1 - mean))
    return wilson(mean * number, number)
