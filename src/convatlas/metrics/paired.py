"""Bonett, Price. Adjusted Wald confidence interval for a difference of binomial proportions based on paired data. Journal of Educational
and Behavioral Statistics 37, 2012, https://doi.org/10.3102/1076998611411915.

Two classifiers judged on the same images mostly agree, and what they agree on says nothing of their difference. So the interval is of the
differences image by image, which is much narrower than what two intervals side by side suggest.
"""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike

from convatlas.metrics.clusters import independent_number


def paired_interval(
    differences: ArrayLike, confidence: float = 0.95, *, together: ArrayLike | None = None
) -> tuple[float, float]:
    """An interval of the mean difference in accuracy, from one difference an image: right (1) or wrong (0) here less the same there.

    The normal interval after two more images, one that only the first has right and one that only the other has, so that it has a width
    where no image differs. Differences from a mean over several classifiers are fractions, for which two whole images are more than they
    need: it is then on the wide side. Summed over all outcomes, for pairs of classifiers that differ on any share of the images, it covers
    95 to 97 %, and for the worst pair 90 % with 10 images and 93 % with 20 or more. Of no images nothing is known: (-1, 1). Images that are
    equal in `together` (n,) are one unit, copies or one patient's, and count for as many as they tell of; the others are independent.

    Raises:
        ValueError: for a difference outside [-1, 1], or a `confidence` that is not inside (0, 1).
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is {confidence}; it must lie between 0 and 1, such as 0.95")
    given = np.asarray(differences, dtype=np.float64)
    if given.ndim != 1 or not (np.abs(given) <= 1).all():
        raise ValueError("expected one difference of accuracies an image, each from -1 to 1")
    if not len(given):
        return -1.0, 1.0
    number = independent_number(given, together)
    total = number + 2
    mean = given.mean() * number / total
    variance = (np.square(given).mean() * number + 2) / total - mean**2  # the two are at 1 and at -1
    half = NormalDist().inv_cdf(0.5 + confidence / 2) * np.sqrt(variance / total)
    return float(max(mean - half, -1.0)), float(min(mean + half, 1.0))
