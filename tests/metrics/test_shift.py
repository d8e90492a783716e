"""Gaps between two sets of images: the interval covers, and a choice among many is not believed."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import ArrayLike

from convatlas.metrics import Rights, class_gaps, difference_interval, gap, wilson, without_choice
from convatlas.transfer.probe import select


def rights(right: ArrayLike, labels: ArrayLike = 0, together: ArrayLike | None = None) -> Rights:
    given = np.asarray(right, dtype=np.float64)
    units = np.arange(len(given)) if together is None else np.asarray(together)
    return Rights(right=given, together=units, labels=np.broadcast_to(labels, given.shape))


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
    found = gap(rights([]), rights([1, 0]))
    assert math.isnan(found.difference) and not found.shown
    with pytest.raises(ValueError, match="not a proportion"):
        difference_interval((5, 4), (1, 2))


def test_one_bad_class_is_named_and_no_other() -> None:
    generator = np.random.default_rng(0)
    own, other = np.repeat(np.arange(5), 60), np.repeat(np.arange(5), 40)
    before = rights(generator.random(300) < 0.95, own)
    after = rights(generator.random(200) < np.where(other == 3, 0.4, 0.95), other)
    rows = class_gaps(before, after, 5)
    assert [k for k, row in enumerate(rows) if row.shown] == [3]
    assert rows[3].difference < -0.4
    assert rows[3].interval[0] < gap(before.of(3), after.of(3)).interval[0]  # wider, since five were looked at
    assert gap(before, after).shown


def test_class_gaps_rarely_cry_wolf() -> None:
    generator = np.random.default_rng(1)
    own, other = np.repeat(np.arange(10), 30), np.repeat(np.arange(10), 20)
    alarms = 0
    for _ in range(200):
        before, after = generator.random(300) < 0.85, generator.random(200) < 0.85
        rows = class_gaps(rights(before, own), rights(after, other), 10)
        alarms += any(row.shown for row in rows)
    assert alarms <= 16  # 5 % of 200, and what chance adds to that


def test_patients_that_differ_are_no_shift() -> None:
    """Thirty were foretold of and ten found, twenty images of each; image by image they would differ nearly every second time."""
    generator, shown = np.random.default_rng(0), {"units": 0, "images": 0}
    for _ in range(300):
        units = [np.repeat(np.arange(patients), 20) for patients in (30, 10)]
        difficulties = [np.repeat(generator.beta(4, 1, len(each) // 20), 20) for each in units]
        before, after = (generator.random(len(each)) < each for each in difficulties)
        shown["units"] += gap(rights(before, together=units[0]), rights(after, together=units[1])).shown
        shown["images"] += gap(rights(before), rights(after)).shown
    assert shown["units"] <= 24 and shown["images"] >= 90  # of 300


def test_the_best_of_many_guessers_is_not_believed() -> None:
    generator = np.random.default_rng(0)
    truths = generator.integers(0, 2, (30, 60))  # thirty candidates that guess
    plain = (1 - truths).mean(axis=1).max()
    losses, right = list(truths.astype(float)), list(1 - truths)
    freed = without_choice(losses, right)
    assert plain > 0.6
    assert abs(freed.mean() - 0.5) < 0.06
    assert np.array_equal(freed, without_choice(losses, right))


@pytest.mark.parametrize("copies", [2, 20])
def test_copies_are_drawn_as_one(copies: int) -> None:
    generator = np.random.default_rng(0)
    truths = generator.integers(0, 2, (30, 60))
    losses, right = list(truths.astype(float)), list(1 - truths)
    once = without_choice(losses, right, together=np.arange(60))
    again = without_choice(
        [each.repeat(copies) for each in losses],
        [each.repeat(copies) for each in right],
        together=np.arange(60).repeat(copies),
    )
    assert np.allclose(again, once.repeat(copies))


@pytest.mark.parametrize("weighted", [False, True])
def test_the_choice_made_again_is_that_of_the_probes(weighted: bool) -> None:
    """Every image drawn once, the choice is the one that was made."""
    for seed in range(20):
        generator = np.random.default_rng(seed)
        labels = generator.integers(0, 2, 60)
        rungs = {f"stage{k}": generator.normal(size=(60, 4)) + 0.2 * (k % 3) * labels[:, None] for k in range(5)}
        chosen = select(rungs, labels, 2, class_weights="balanced" if weighted else None)
        probes = list(chosen.probes.values())
        kept = without_choice(
            [each.losses for each in probes],
            [np.full(60, k) for k in range(5)],
            weights=chosen.weights,
            resamples=0,
        )
        assert set(kept) == {list(chosen.probes).index(chosen.name)}


def test_the_usual_is_kept_where_no_other_is_shown_to_be_better() -> None:
    generator = np.random.default_rng(0)
    usual = generator.random(200)
    little, much = usual - 0.01 * generator.normal(1, 30, 200), usual - 0.2
    marks = [np.zeros(200), np.ones(200)]
    assert without_choice([little, usual], marks).mean() > 0.7
    assert without_choice([much, usual], marks).mean() == 0


def test_without_alternatives_nothing_is_taken_away() -> None:
    right = np.random.default_rng(0).integers(0, 2, 50)
    assert np.array_equal(without_choice([1 - right], [right]), right)
    assert wilson(right.sum(), 50) == wilson(without_choice([1 - right], [right]).sum(), 50)
