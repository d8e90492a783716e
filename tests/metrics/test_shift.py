"""Gaps between two sets of images: the interval covers, and a choice among many is not believed."""

from __future__ import annotations

import math

import numpy as np
import pytest

from convatlas.metrics import class_gaps, difference_interval, gap, wilson, without_choice


def test_newcombes_own_example() -> None:
    """His table II, contrast a: 56 of 70 against 48 of 80."""
    low, high = difference_interval((56, 70), (48, 80))
    assert (round(low, 4), round(high, 4)) == (0.0524, 0.3339)


@pytest.mark.parametrize(("p", "n", "q", "m"), [(0.9, 60, 0.9, 200), (0.98, 40, 0.9, 40), (0.5, 20, 0.6, 300)])
def test_the_interval_covers(p: float, n: int, q: float, m: int) -> None:
    generator = np.random.default_rng(0)
    drawn = zip(generator.binomial(n, p, 2000), generator.binomial(m, q, 2000), strict=True)
    intervals = [difference_interval((a, n), (b, m)) for a, b in drawn]
    assert np.mean([low <= p - q <= high for low, high in intervals]) > 0.935


def test_nothing_is_known_of_no_images() -> None:
    assert difference_interval((0, 0), (3, 4)) == (-1, 1)
    found = gap(np.empty(0), [1, 0])
    assert math.isnan(found.difference) and not found.shown
    with pytest.raises(ValueError, match="not a proportion"):
        difference_interval((5, 4), (1, 2))


def test_one_bad_class_is_named_and_no_other() -> None:
    generator = np.random.default_rng(0)
    own, other = np.repeat(np.arange(5), 60), np.repeat(np.arange(5), 40)
    before = generator.random(300) < 0.95
    after = generator.random(200) < np.where(other == 3, 0.4, 0.95)
    rows = class_gaps(before, own, after, other, 5)
    assert [k for k, row in enumerate(rows) if row.shown] == [3]
    assert rows[3].difference < -0.4
    assert (
        rows[3].interval[0] < gap(before[own == 3], after[other == 3]).interval[0]
    )  # wider, since five were looked at
    assert gap(before, after).shown


def test_class_gaps_rarely_cry_wolf() -> None:
    generator = np.random.default_rng(1)
    own, other = np.repeat(np.arange(10), 30), np.repeat(np.arange(10), 20)
    alarms = 0
    for _ in range(200):
        rows = class_gaps(generator.random(300) < 0.85, own, generator.random(200) < 0.85, other, 10)
        alarms += any(row.shown for row in rows)
    assert alarms <= 16  # 5 % of 200, and what chance adds to that


def test_the_best_of_many_guessers_is_not_believed() -> None:
    generator = np.random.default_rng(0)
    truths = generator.integers(0, 2, (30, 60))  # thirty candidates that guess
    plain = (1 - truths).mean(axis=1).max()
    losses, right = list(truths.astype(float)), list(1 - truths)
    freed = without_choice(losses, right)
    assert plain > 0.6
    assert abs(freed.mean() - 0.5) < 0.06
    assert np.array_equal(freed, without_choice(losses, right))


def test_without_alternatives_nothing_is_taken_away() -> None:
    right = np.random.default_rng(0).integers(0, 2, 50)
    assert np.array_equal(without_choice([1 - right], [right]), right)
    assert wilson(right.sum(), 50) == wilson(without_choice([1 - right], [right]).sum(), 50)
