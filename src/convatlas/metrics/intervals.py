"""Wilson, "Probable inference, the law of succession, and statistical inference", JASA 1927.

The interval of a proportion: which true accuracies would make the count seen unsurprising? Unlike p ± 1.96 se it stays inside
[0, 1], and it has a width when every image is right or there is only one.
"""

from __future__ import annotations

from statistics import NormalDist

import numpy as np


def wilson(correct: float, total: float, confidence: float = 0.95) -> tuple[float, float]:
    """The Wilson score interval of `correct / total`, without continuity correction.

        (p + z²/2n ± z √(p(1−p)/n + z²/4n²)) / (1 + z²/n)

    Fractions are taken, for proportions known through an effective number of images. Of no images nothing is known:
    (0, 1). The images are assumed independent; duplicates and frames of one video are not.

    Raises:
        ValueError: if not 0 ≤ correct ≤ total, or `confidence` is not inside (0, 1).
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is {confidence}; it must lie between 0 and 1, such as 0.95")
    if not 0 <= correct <= total:
        raise ValueError(f"{correct} of {total} is not a proportion; correct must lie between 0 and total")
    if total == 0:
        return 0.0, 1.0
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    share, spread = correct / total, z * z / total
    centre = (share + spread / 2) / (1 + spread)
    half = z * np.sqrt(share * (1 - share) / total + spread / (4 * total)) / (1 + spread)
    # at 0 and at 1 the bound equals the proportion exactly, which rounding would miss by 1e-17
    low = 0.0 if correct == 0 else centre - half
    high = 1.0 if correct == total else centre + half
    return float(low), float(high)
