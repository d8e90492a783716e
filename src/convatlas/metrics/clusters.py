"""Kish. Survey Sampling. 1965: images that come in units (copies, one patient's, crops of one photo) tell less than as many others.

By how much is read off the images themselves: the variance of a mean over units against that over images, the design effect.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from convatlas.metrics.intervals import wilson


def independent_number(values: ArrayLike, together: ArrayLike | None = None, *, variance: float | None = None) -> float:
    """How many independent images would make the mean of `values` (n,) as uncertain as it is; n at the most.

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
    return count / float(np.clip(clustered / plain, 1.0, (sizes**2).sum() / count))


def share_interval(right: ArrayLike, together: ArrayLike | None = None) -> tuple[float, float]:
    """95 %, of the share of images (n,) that are right: Wilson's, of as many independent images as these are worth."""
    hit = np.asarray(right, dtype=np.float64)
    mean = float(hit.mean()) if len(hit) else 0.0
    number = independent_number(hit, together, variance=mean * (1 - mean))
    return wilson(mean * number, number)
