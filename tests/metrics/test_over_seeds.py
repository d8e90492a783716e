"""The interval of a mean over seeds: Student's table, and how often it covers."""

from __future__ import annotations

import math

import numpy as np
import pytest

from convatlas.metrics import over_seeds

TABLE = {  # Fisher, Yates. Statistical Tables. 1938: two-sided quantiles by degrees of freedom, of 95 and 99 %
    1: (12.706, 63.657),
    2: (4.303, 9.925),
    3: (3.182, 5.841),
    6: (2.447, 3.707),
    9: (2.262, 3.250),
    30: (2.042, 2.750),
}


@pytest.mark.parametrize("freedom", TABLE)
def test_it_is_students(freedom: int) -> None:
    values = np.random.default_rng(freedom).normal(5, 2, freedom + 1)
    for confidence, t in zip((0.95, 0.99), TABLE[freedom], strict=True):
        low, high = over_seeds(values, confidence)
        assert (low + high) / 2 == pytest.approx(values.mean())
        assert (high - low) / 2 == pytest.approx(t * values.std(ddof=1) / math.sqrt(len(values)), rel=5e-4)


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_it_covers_as_often_as_it_says(seeds: int) -> None:
    draws = np.random.default_rng(0).normal(0.3, 0.1, (2000, seeds))
    bounds = np.array([over_seeds(values) for values in draws])
    covered = ((bounds[:, 0] <= 0.3) & (bounds[:, 1] >= 0.3)).mean()
    assert abs(covered - 0.95) < 3 * math.sqrt(0.95 * 0.05 / 2000)


def test_of_one_seed_nothing_is_known_and_of_equal_ones_no_scatter() -> None:
    assert over_seeds([0.4]) == (-math.inf, math.inf)
    assert over_seeds([0.4, 0.4, 0.4]) == pytest.approx((0.4, 0.4))


@pytest.mark.parametrize("values", [[], [math.nan, 1.0], [[1.0, 2.0]]])
def test_what_is_no_list_of_numbers_is_refused(values: list[float]) -> None:
    with pytest.raises(ValueError, match="one a seed"):
        over_seeds(values)
    with pytest.raises(ValueError, match="confidence is 1"):
        over_seeds([1.0, 2.0], 1.0)
