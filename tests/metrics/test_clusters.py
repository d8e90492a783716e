"""Images that come in units tell less, by as much as they are alike; independent ones lose hardly anything."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from convatlas.metrics import (
    balanced_accuracy_interval,
    independent_number,
    paired_interval,
    share_interval,
    wilson,
)


def coins(number: int, share: float = 0.5) -> np.ndarray:
    return (np.random.default_rng(0).random(number) < share).astype(float)


def test_of_single_images_it_is_wilsons() -> None:
    right = coins(80)
    assert share_interval(right) == share_interval(right, np.arange(80)) == wilson(right.sum(), 80)
    assert share_interval([]) == (0, 1)


def test_copies_add_nothing() -> None:
    right, units = coins(60), np.repeat(np.arange(60), 3)
    assert share_interval(np.repeat(right, 3), units) == pytest.approx(share_interval(right), abs=0.004)
    assert share_interval(np.ones(90), np.repeat(np.arange(30), 3)) == pytest.approx(wilson(30, 30))
    assert share_interval(np.ones(9), np.zeros(9)) == pytest.approx(wilson(1, 1))
    apart = coins(60, 0.3) - coins(60, 0.8)
    assert paired_interval(np.repeat(apart, 3), together=units) == pytest.approx(paired_interval(apart), abs=0.01)


@given(st.lists(st.tuples(st.integers(0, 9), st.sampled_from([-1.0, 0.0, 1.0])), min_size=1, max_size=60))
def test_units_never_make_more_images(rows: list[tuple[int, float]]) -> None:
    units, values = (np.array(column) for column in zip(*rows, strict=True))
    number = independent_number(values, units)
    assert 0 < number <= len(rows) + 1e-9
    assert len(np.unique(units)) < len(rows) or number == len(rows)


def test_units_of_independent_images_cost_little() -> None:
    right = coins(300)
    low, high = share_interval(right, np.arange(300) // 3)
    plain = wilson(right.sum(), 300)
    assert high - low <= 1.25 * (plain[1] - plain[0])


@pytest.mark.parametrize(("patients", "images"), [(60, 5), (20, 5), (10, 30), (5, 50), (3, 50), (2, 20)])
def test_it_covers_for_patients_of_several_images(patients: int, images: int) -> None:
    """Some patients are hard throughout: for their accuracy, and for what one classifier has right more often than another."""
    generator, units = np.random.default_rng(0), np.repeat(np.arange(patients), images)
    covered = []
    for _ in range(1000):
        one, other = (np.repeat(generator.beta(4, 1, patients), images) for _ in range(2))  # each of mean 0.8
        right, rival = ((generator.random(len(units)) < difficulty).astype(float) for difficulty in (one, other))
        (low, high), (less, more) = share_interval(right, units), paired_interval(right - rival, together=units)
        covered.append((low <= 0.8 <= high, less <= 0 <= more))
    assert (np.mean(covered, axis=0) >= 0.92).all()
    assert patients <= 10 or (np.mean(covered, axis=0) <= 0.98).all()  # of few nothing more is known


def test_images_worth_less_widen_the_balanced_accuracy() -> None:
    matrix = np.array([[40, 10], [5, 45]])
    low, high = balanced_accuracy_interval(matrix, worth=0.25)
    assert (low, high) == pytest.approx(balanced_accuracy_interval(np.array([[10, 2], [1, 11]])), abs=0.03)
    plain = balanced_accuracy_interval(matrix)
    assert low < plain[0] and high > plain[1]
