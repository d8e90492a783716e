"""Folds dealt several times: as sure as the number of images allows, and less where images come in units."""

from __future__ import annotations

import numpy as np
import pytest

from convatlas.metrics import repeated_interval, wilson


def test_one_deal_is_wilson_s_of_fewer_images() -> None:
    """Learning from other images adds a half of the variance of judging on others, with five folds."""
    right, folds = np.random.default_rng(0).integers(0, 2, 80).astype(float), np.arange(80) % 5
    assert repeated_interval(right[None], folds[None]) == pytest.approx(wilson(right.sum() / 1.5, 80 / 1.5))
    assert repeated_interval(right[None], folds[None], np.arange(80)) == repeated_interval(right[None], folds[None])
    tripled, threefold = (np.repeat(each, 3)[None] for each in (right, folds))
    units = np.repeat(np.arange(80), 3)
    assert repeated_interval(tripled, threefold, units) == pytest.approx(
        repeated_interval(right[None], folds[None]), abs=0.01
    )
    assert repeated_interval(np.empty((1, 0)), np.empty((1, 0))) == (0, 1)
    with pytest.raises(ValueError, match="a row a deal"):
        repeated_interval([0, 1], [0, 1])


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
