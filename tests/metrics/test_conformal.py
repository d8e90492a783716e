"""Prediction sets and p-values keep their promise on exchangeable draws, whatever the classifier is like."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from convatlas.metrics import (
    conformal_threshold,
    fewest,
    own_scores,
    p_values,
    prediction_sets,
    set_scores,
    softmax,
)

_logits = arrays(np.float64, st.tuples(st.integers(1, 6), st.integers(2, 12)), elements=st.floats(-8, 8))


def _drawn(
    generator: np.random.Generator, count: int, classes: int, *, skill: float, scale: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities and true classes of a classifier that is right more often the greater its skill; uncalibrated unless scale is 1."""
    logits = generator.normal(size=(count, classes)) * skill
    truth = (softmax(logits).cumsum(axis=1) < generator.random(count)[:, None]).sum(axis=1)
    return softmax(scale * logits), truth


@pytest.mark.parametrize(("classes", "skill", "scale"), [(2, 1.0, 1.0), (10, 1.5, 1.0), (10, 1.5, 4.0), (60, 1.0, 0.3)])
@pytest.mark.parametrize("coverage", [0.8, 0.9, 0.95])
def test_sets_hold_the_true_class_as_often_as_promised(
    classes: int, skill: float, scale: float, coverage: float
) -> None:
    held_out, fresh, resamples = 99, 200, 400
    generator = np.random.default_rng(0)
    found = []
    for _ in range(resamples):
        given_, truth = _drawn(generator, held_out + fresh, classes, skill=skill, scale=scale)
        threshold = conformal_threshold(own_scores(given_[:held_out], truth[:held_out]), coverage)
        sets = prediction_sets(given_[held_out:], threshold)
        found.append(sets[np.arange(fresh), truth[held_out:]].mean())
    error = np.std(found) / math.sqrt(resamples)
    assert np.mean(found) >= coverage - 3 * error
    if classes > 2:  # of two classes the likeliest alone, which is always in, may cover more
        assert np.mean(found) <= coverage + 1 / (held_out + 1) + 3 * error


def test_where_the_classifier_suffices_sets_are_its_answer() -> None:
    given_, truth = _drawn(np.random.default_rng(1), 2000, 5, skill=12.0)
    right = given_.argmax(axis=1) == truth
    assert right.mean() > 0.9
    sets = prediction_sets(given_, conformal_threshold(own_scores(given_, truth), 0.85))
    assert (sets.sum(axis=1) == 1).all()
    assert sets[np.arange(len(sets)), given_.argmax(axis=1)].all()


@given(_logits, st.floats(0, 1), st.floats(0, 1))
def test_sets_are_nested_and_never_empty(logits: np.ndarray, one: float, other: float) -> None:
    low, high = sorted((one, other))
    small, large = prediction_sets(softmax(logits), low), prediction_sets(softmax(logits), high)
    assert (small <= large).all()
    assert small[np.arange(len(logits)), softmax(logits).argmax(axis=1)].all()
    assert prediction_sets(softmax(logits), math.inf).all()


@given(_logits, st.integers(0, 2**32))
def test_the_order_of_the_classes_plays_no_part(logits: np.ndarray, seed: int) -> None:
    logits = logits.round()  # so that some are equally likely
    order = np.random.default_rng(seed).permutation(logits.shape[1])
    given_ = softmax(logits)
    np.testing.assert_allclose(set_scores(given_)[:, order], set_scores(given_[:, order]), atol=1e-12)
    same = given_[:, :, None] == given_[:, None, :]
    scores = set_scores(given_)
    assert (~same | (scores[:, :, None] == scores[:, None, :])).all()


def test_many_classes_are_charged_for() -> None:
    even = np.array([[0.4, 0.2, 0.15, 0.1, 0.08, 0.07]])
    plain, charged = set_scores(even, charge=0.0), set_scores(even, charge=0.5, free=2)
    np.testing.assert_allclose(plain[0], [0, 0.4, 0.6, 0.75, 0.85, 0.93])
    np.testing.assert_allclose(charged[0] - plain[0], [0, 0, 0.5, 1.0, 1.5, 2.0])


@pytest.mark.parametrize("rate", [0.05, 0.1, 0.25])
@pytest.mark.parametrize("count", [19, 20, 157])
def test_p_values_are_below_a_rate_at_most_that_often(rate: float, count: int) -> None:
    generator = np.random.default_rng(2)
    found = [
        float((p_values(generator.normal(size=count), generator.normal(size=50)) <= rate).mean()) for _ in range(800)
    ]
    error = np.std(found) / math.sqrt(len(found))
    assert rate - 1 / (count + 1) - 3 * error <= np.mean(found) <= rate + 3 * error


def test_p_values_by_hand() -> None:
    np.testing.assert_allclose(p_values([1, 2, 2, 3], [0, 2, 2.5, 4]), [1, 4 / 5, 2 / 5, 1 / 5])


@pytest.mark.parametrize(("rate", "count"), [(0.05, 19), (0.1, 9), (0.01, 99), (0.5, 1), (0.3, 3)])
def test_how_many_images_a_rate_takes(rate: float, count: int) -> None:
    assert fewest(rate) == count
    scores = np.arange(count, dtype=float)
    assert conformal_threshold(scores, 1 - rate) <= scores.max()
    assert conformal_threshold(scores[:-1], 1 - rate) == math.inf
    assert p_values(scores, [1e9])[0] <= rate < p_values(scores[:-1], [1e9])[0]


@pytest.mark.parametrize("rate", [0.0, 1.0, -0.1, 5.0, math.nan])
def test_rates_lie_between_0_and_1(rate: float) -> None:
    for asked in (fewest, lambda r: conformal_threshold([1.0], r)):
        with pytest.raises(ValueError, match="between 0 and 1"):
            asked(rate)


def test_shapes_must_fit() -> None:
    with pytest.raises(ValueError, match="one row an image"):
        set_scores([0.5, 0.5])
    with pytest.raises(ValueError, match="true labels"):
        own_scores([[0.5, 0.5]], [0, 1])
