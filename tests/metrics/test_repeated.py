"""Folds dealt several times: as sure as the number of images allows, and less where images come in units."""

from __future__ import annotations

import numpy as np
import pytest

from convatlas.metrics import repeated_interval, wilson


def averaged_interval(right: np.ndarray, together: np.ndarray | None = None) -> tuple[float, float]:
    """Of one deal."""
    return repeated_interval(right[None], np.arange(len(right))[None] % 5, together)


def test_of_single_images_it_is_wilsons() -> None:
    right = np.random.default_rng(0).integers(0, 2, 80).astype(float)
    assert averaged_interval(right) == pytest.approx(wilson(right.sum(), 80))
    assert averaged_interval(right, np.arange(80)) == averaged_interval(right)
    assert averaged_interval(np.empty(0)) == (0, 1)
    with pytest.raises(ValueError, match="a row a deal"):
        repeated_interval([0, 1], [0, 1])


def test_copies_add_nothing() -> None:
    right = np.random.default_rng(0).integers(0, 2, 60).astype(float)
    alone, tripled = averaged_interval(right), averaged_interval(np.repeat(right, 3), np.repeat(np.arange(60), 3))
    assert tripled == pytest.approx(alone, abs=0.004)
    always = averaged_interval(np.ones(90), np.repeat(np.arange(30), 3))
    assert always == pytest.approx(wilson(30, 30))
    assert averaged_interval(np.ones(9), np.zeros(9)) == pytest.approx(wilson(1, 1))


def test_units_of_independent_images_cost_little() -> None:
    right = np.random.default_rng(0).integers(0, 2, 300).astype(float)
    low, high = averaged_interval(right, np.arange(300) // 3)
    plain = wilson(right.sum(), 300)
    assert high - low <= 1.25 * (plain[1] - plain[0])


def test_it_covers_for_patients_of_several_images() -> None:
    generator = np.random.default_rng(0)
    covered = []
    for _ in range(1000):
        difficulty = generator.beta(4, 1, 60)  # of mean 0.8: some patients are hard throughout
        right = generator.random(300) < np.repeat(difficulty, 5)
        low, high = averaged_interval(right.astype(float), np.repeat(np.arange(60), 5))
        covered.append(low <= 0.8 <= high)
    assert 0.92 <= np.mean(covered) <= 0.98


def test_more_deals_do_not_make_more_images() -> None:
    generator = np.random.default_rng(0)
    right = generator.random(60) < 0.85
    folds = np.stack([generator.permutation(60) % 5 for _ in range(5)])
    low, high = repeated_interval(np.tile(right, (5, 1)), folds)
    plain = wilson(right.sum(), 60)
    assert low <= plain[0] and high >= plain[1]
    assert high - low < 1.6 * (plain[1] - plain[0])
    sure = repeated_interval(np.ones((5, 60)), folds)
    assert sure == wilson(60, 60)


def test_folds_that_scatter_widen_it() -> None:
    """Some classifiers were lucky in what they learned from: images alone do not show that."""
    folds = np.arange(100) % 5
    right = (np.arange(100) // 5 % 20) < np.array([20, 20, 20, 11, 9])[folds]
    low, high = repeated_interval(np.tile(right, (2, 1)), np.tile(folds, (2, 1)))
    plain = wilson(right.sum(), 100)
    assert high - low > 1.5 * (plain[1] - plain[0])
