"""Kendall's τ-b against scipy's, and its edges."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import kendalltau

from convatlas.metrics import kendall


@pytest.mark.parametrize("seed", range(10))
def test_it_is_kendalls(seed: int) -> None:
    generator = np.random.default_rng(seed)
    one, other = generator.integers(0, 6, 9), generator.normal(size=9).round(1)
    assert kendall(one, other) == pytest.approx(kendalltau(one, other)[0])


def test_order_is_all_that_counts() -> None:
    assert kendall([1, 2, 3], [0.1, 10, 11]) == 1
    assert kendall([1, 2, 3], [3, 2, 1]) == -1


def test_without_an_order_there_is_nothing_to_say() -> None:
    assert np.isnan(kendall([1, 1, 1], [1, 2, 3]))
    assert np.isnan(kendall([1], [2]))
    with pytest.raises(ValueError, match="the same things"):
        kendall([1, 2], [1, 2, 3])
