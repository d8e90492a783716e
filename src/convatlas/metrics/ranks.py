"""Kendall, "The treatment of ties in ranking problems", Biometrika 1945: do two scores put things in the same order?

Of all pairs, how many more does the second score order as the first does than the other way round. Nothing is assumed of either scale.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike


def kendall(first: ArrayLike, second: ArrayLike) -> float:
    """Kendall's τ-b of two scores of the same things: 1 for the same order, −1 for the reverse.

    NaN where either ties everything, and of fewer than two.

    Raises `ValueError` if they do not fit together.
    """
    one, other = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if one.ndim != 1 or one.shape != other.shape:
        raise ValueError(f"expected two scores of the same things, not {one.shape} and {other.shape}")
    pairs = np.triu_indices(len(one), 1)
    ours, theirs = (np.sign(each[:, None] - each[None, :])[pairs] for each in (one, other))
    untied = float(np.sqrt((ours**2).sum() * (theirs**2).sum()))
    return float(ours @ theirs) / untied if untied else float("nan")
