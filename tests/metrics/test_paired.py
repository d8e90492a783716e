"""The interval of a difference on the same images: its published value, its coverage, and what it says of nothing and of sameness."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from convatlas.metrics import paired_interval, wilson


def outcomes(better: int, worse: int, total: int) -> list[int]:
    return [1] * better + [-1] * worse + [0] * (total - better - worse)


def test_of_many_images_it_is_the_textbook_s() -> None:
    """Agresti, Categorical Data Analysis, 2nd edition 2002, table 10.1: 86 and 150 of 1,600 changed, -0.04 ± 1.96 · 0.0095."""
    assert paired_interval(outcomes(86, 150, 1600)) == pytest.approx((-0.059, -0.021), abs=6e-4)


def test_it_is_the_plain_interval_of_two_more_images() -> None:
    """One more in either cell of the table of pairs in which they differ, spelled out over the cells."""
    only_here, only_there, total = 9 + 1, 3 + 1, 60 + 2
    mean = (only_here - only_there) / total
    half = 1.959964 * math.sqrt(((only_here + only_there) / total - mean**2) / total)
    assert paired_interval(outcomes(9, 3, 60)) == pytest.approx((mean - half, mean + half), abs=1e-7)


def coverage(better: float, worse: float, total: int) -> float:
    """The chance that the interval holds the true difference, summed over every outcome there can be."""
    same = 1 - better - worse
    covered = 0.0
    for b in range(total + 1):
        for w in range(total + 1 - b):
            low, high = paired_interval(outcomes(b, w, total))
            if low <= better - worse <= high:
                ways = math.comb(total, b) * math.comb(total - b, w)
                covered += ways * better**b * worse**w * same ** (total - b - w)
    return covered


@pytest.mark.parametrize(("total", "least", "mean"), [(10, 0.90, 0.96), (25, 0.93, 0.95)])
def test_the_coverage_summed_over_every_outcome(total: int, least: float, mean: float) -> None:
    rates = [(b, w) for b in (0.0, 0.02, 0.07, 0.2, 0.45) for w in (0.0, 0.02, 0.07, 0.2, 0.45) if b >= w]
    found = [coverage(b, w, total) for b, w in rates]
    assert min(found) >= least
    assert np.mean(found) >= mean


def simulated(rng: np.random.Generator, images: int, members: int) -> np.ndarray:
    """Differences between a vote of `members` and their mean, on images of every difficulty, which all members share."""
    ease = rng.beta(2, 1, size=images)
    right = rng.random((members, images)) < ease
    return (right.sum(axis=0) * 2 > members) - right.mean(axis=0)


@pytest.mark.parametrize(("images", "members"), [(30, 3), (100, 7), (400, 5)])
def test_it_covers_the_gain_of_a_vote_over_its_mean_member(images: int, members: int) -> None:
    truth = float(simulated(np.random.default_rng(1), 400_000, members).mean())
    assert truth > 0.02
    trials = 500
    rng = np.random.default_rng(2)
    intervals = [paired_interval(simulated(rng, images, members)) for _ in range(trials)]
    covered = np.mean([low <= truth <= high for low, high in intervals])
    assert covered >= 0.95 - 3 * math.sqrt(0.95 * 0.05 / trials)


def test_it_is_the_bootstrap_s_of_many_images() -> None:
    differences = simulated(np.random.default_rng(3), 3000, 7)
    rng = np.random.default_rng(4)
    means = [differences[rng.integers(0, 3000, 3000)].mean() for _ in range(3000)]
    expected = np.quantile(means, [0.025, 0.975])
    assert paired_interval(differences) == pytest.approx(tuple(expected), abs=0.06 * (expected[1] - expected[0]))


def test_it_is_narrower_than_two_intervals_side_by_side() -> None:
    low, high = paired_interval(outcomes(12, 2, 1000))
    assert 0 < low < high
    assert wilson(912, 1000)[0] < wilson(902, 1000)[1]  # which overlap


def test_sameness_still_has_a_width_and_nothing_has_all() -> None:
    low, high = paired_interval(np.zeros(50))
    assert low == pytest.approx(-high) and 0.02 < high < 0.1
    assert paired_interval(np.zeros(5000))[1] < 0.001
    assert paired_interval([]) == (-1.0, 1.0)


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=40), st.floats(0.5, 0.99))
def test_it_holds_the_difference_seen_and_turns_with_its_sign(differences: list[float], confidence: float) -> None:
    low, high = paired_interval(differences, max(confidence, 0.9))
    assert -1 <= low <= np.mean(differences) + 1e-12 and np.mean(differences) - 1e-12 <= high <= 1
    turned = paired_interval([-x for x in differences], max(confidence, 0.9))
    assert turned == pytest.approx((-high, -low), abs=1e-12)
    assert paired_interval(differences, 0.999)[0] <= low


@pytest.mark.parametrize("arguments", [([2.0],), ([float("nan")],), ([[0.0]],), ([0.0], 1.0), ([0.0], 95)])
def test_what_is_no_difference_is_refused(arguments: tuple) -> None:
    with pytest.raises(ValueError):
        paired_interval(*arguments)
