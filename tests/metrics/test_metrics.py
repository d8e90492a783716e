"""Intervals that cover, calibration that recovers what was put in, and tables that add up."""

from __future__ import annotations

import math
from dataclasses import asdict
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from convatlas import metrics
from convatlas.metrics import (
    accuracy,
    balanced_accuracy,
    balanced_accuracy_interval,
    confusion_matrix,
    expected_calibration_error,
    fit_temperature,
    log_loss,
    per_class,
    reliability,
    softmax,
    wilson,
)


def test_every_public_name_exists() -> None:
    assert all(hasattr(metrics, name) for name in metrics.__all__)


# R's prop.test(x, n, correct = FALSE); the first row is Newcombe's (1998) example 81 of 263
@pytest.mark.parametrize(
    "correct, total, low, high",
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_has_the_published_values(correct: int, total: int, low: float, high: float) -> None:
    assert wilson(correct, total) == pytest.approx((low, high), abs=6e-5)


@given(st.integers(1, 500), st.floats(0, 1), st.floats(0.5, 0.999))
def test_wilson_solves_the_score_equation_and_is_symmetric(total: int, share: float, confidence: float) -> None:
    correct = round(share * total)
    low, high = wilson(correct, total, confidence)
    assert 0 <= low <= correct / total <= high <= 1
    assert low < high
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    for bound in (low, high):
        assert (correct / total - bound) ** 2 == pytest.approx(z**2 * bound * (1 - bound) / total, abs=1e-9)
    assert wilson(total - correct, total, confidence) == pytest.approx((1 - high, 1 - low), abs=1e-12)


def test_wilson_narrows_with_images_and_widens_with_confidence() -> None:
    assert wilson(90, 100)[0] < wilson(900, 1000)[0] < 0.9 < wilson(900, 1000)[1] < wilson(90, 100)[1]
    assert wilson(90, 100, 0.99)[0] < wilson(90, 100, 0.9)[0]


def test_of_no_images_nothing_is_known() -> None:
    assert wilson(0, 0) == (0.0, 1.0)
    assert balanced_accuracy_interval([[0, 0], [0, 0]]) == (0.0, 1.0)
    assert math.isnan(accuracy([[0]])) and math.isnan(balanced_accuracy([[0]]))


@pytest.mark.parametrize("arguments", [(3, 2), (-1, 2), (1, 2, 1.0), (1, 2, 95)])
def test_wilson_refuses_what_is_no_proportion(arguments: tuple) -> None:
    with pytest.raises(ValueError):
        wilson(*arguments)


SITUATIONS = {
    "two classes": ([70, 83], [0.93, 0.93]),
    "two small classes": ([10, 10], [0.9, 0.9]),
    "many classes of twenty": ([20] * 21, [0.92] * 21),
    "unequal recalls": ([20] * 10, list(np.linspace(0.5, 1, 10))),
    "a rare hard class": ([200, 10], [0.95, 0.6]),
    "a tiny hard class": ([200, 200, 3], [0.99, 0.99, 0.5]),
    "a hundred classes of one image": ([1] * 100, [0.9] * 100),
    "all sizes": ([1, 2, 5, 10, 50, 200], [0.4, 0.6, 0.7, 0.8, 0.9, 0.95]),
}


@pytest.mark.parametrize("counts, recalls", SITUATIONS.values(), ids=SITUATIONS)
def test_the_balanced_interval_covers(counts: list[int], recalls: list[float]) -> None:
    rng = np.random.default_rng(0)
    trials, truth = 400, np.mean(recalls)
    covered = 0
    for right in rng.binomial(counts, recalls, size=(trials, len(counts))):
        matrix = np.diag(right)
        matrix[np.arange(len(counts)), (np.arange(len(counts)) + 1) % len(counts)] = np.array(counts) - right
        low, high = balanced_accuracy_interval(matrix)
        assert 0 <= low <= balanced_accuracy(matrix) <= high <= 1
        covered += low <= truth <= high
    assert covered / trials > 0.95 - 3 * math.sqrt(0.95 * 0.05 / trials)


def test_the_balanced_interval_without_errors_and_with_one_image() -> None:
    low, high = balanced_accuracy_interval(np.diag([20, 30]))
    assert 0.8 < low < 0.95 and high == 1.0
    low, high = balanced_accuracy_interval(np.diag([50, 1]))
    assert 0.3 < low < 0.7 and high == 1.0  # one image of a class says little
    low, high = balanced_accuracy_interval([[0, 5], [5, 0]])
    assert low == 0.0 and 0.1 < high < 0.5


def test_with_one_class_or_an_absent_one_the_balanced_interval_is_that_of_the_rest() -> None:
    assert balanced_accuracy_interval([[17, 3], [0, 0]]) == pytest.approx(wilson(17, 20))
    assert balanced_accuracy_interval([[8, 2, 0], [1, 9, 3], [0, 0, 0]]) == balanced_accuracy_interval([[8, 2], [4, 9]])


def test_confusion_has_the_truth_in_rows() -> None:
    matrix = confusion_matrix([0, 0, 1, 2, 2], [0, 1, 1, 2, 0], 4)
    assert matrix.tolist() == [[1, 1, 0, 0], [0, 1, 0, 0], [1, 0, 1, 0], [0, 0, 0, 0]]
    assert accuracy(matrix) == 3 / 5
    assert balanced_accuracy(matrix) == pytest.approx((1 / 2 + 1 + 1 / 2) / 3)  # the fourth class has no images
    assert confusion_matrix([], [], 2).tolist() == [[0, 0], [0, 0]]


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=60))
def test_the_table_agrees_with_counting(pairs: list[tuple[int, int]]) -> None:
    truth, said = zip(*pairs, strict=True)
    matrix = confusion_matrix(truth, said, 4)
    rows = per_class(matrix)
    assert sum(row.support for row in rows) == sum(row.predicted for row in rows) == len(pairs)
    for k, row in enumerate(rows):
        right = sum(t == s == k for t, s in pairs)
        assert row.support == truth.count(k) and row.predicted == said.count(k)
        assert math.isnan(row.recall) == (row.support == 0) and math.isnan(row.precision) == (row.predicted == 0)
        assert row.recall_interval == wilson(right, row.support)
        assert row.precision_interval == wilson(right, row.predicted)
        if row.support and row.predicted and right:
            assert row.f1 == pytest.approx(2 / (1 / row.recall + 1 / row.precision))
    recalls = [row.recall for row in rows if row.support]
    assert balanced_accuracy(matrix) == pytest.approx(np.mean(recalls))


def test_a_class_never_seen_nor_said_has_no_figures() -> None:
    row = asdict(per_class([[2, 0], [0, 0]])[1])
    assert row["recall_interval"] == row["precision_interval"] == (0.0, 1.0)
    assert all(math.isnan(row[name]) for name in ("recall", "precision", "f1"))


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: confusion_matrix([0, 3], [0, 0], 3), r"truth\[1\] is 3"),
        (lambda: confusion_matrix([0, 1], [0, -1], 3), r"predicted\[1\] is -1"),
        (lambda: confusion_matrix([0.5], [0], 3), "not a class index"),
        (lambda: confusion_matrix([0], [0, 1], 3), "1 true labels but 2 predictions"),
        (lambda: confusion_matrix([[0]], [0], 3), "one class index an image"),
        (lambda: accuracy([[1, 2]]), "square"),
        (lambda: accuracy([[1, -2], [0, 1]]), "counts"),
        (lambda: accuracy([[0.5, 0], [0, 1]]), "counts"),  # pyright: ignore[reportArgumentType] - what is wrong with it
        (lambda: log_loss([[0.5, 0.5]], [0, 1]), "2 true labels for 1 rows"),
        (lambda: log_loss([0.5, 0.5], [0, 1]), "one row an image"),
        (lambda: fit_temperature(np.zeros((0, 2)), []), "at least one image"),
        (lambda: fit_temperature([[np.nan, 1]], [0]), "finite"),
    ],
)
def test_what_does_not_fit_together_is_refused(make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_softmax_and_log_loss() -> None:
    probabilities = softmax([[0.0, math.log(3)], [1e6, -1e6], [-1e9, -1e9]])
    np.testing.assert_allclose(probabilities, [[0.25, 0.75], [1, 0], [0.5, 0.5]])
    assert log_loss(probabilities[:1], [1]) == pytest.approx(math.log(4 / 3))
    assert log_loss(probabilities, [1, 0, 0]) == pytest.approx((math.log(4 / 3) + 0 + math.log(2)) / 3)
    assert log_loss(probabilities[1:2], [1]) == pytest.approx(15 * math.log(10))  # impossible, yet finite
    assert math.isnan(log_loss(np.zeros((0, 2)), []))


def drawn(scores: np.ndarray, scale: float, seed: int) -> np.ndarray:
    """Labels drawn from softmax(scale · scores)."""
    chance = np.random.default_rng(seed).random((len(scores), 1))
    return (softmax(scale * scores).cumsum(axis=1) < chance).sum(axis=1).clip(max=scores.shape[1] - 1)


@pytest.mark.parametrize("classes", [2, 5, 30])
@pytest.mark.parametrize("scale", [0.5, 3.0, 40.0])
def test_temperature_recovers_the_scale_that_made_the_labels(classes: int, scale: float) -> None:
    scores = np.random.default_rng(1).normal(size=(6000, classes)) / scale
    truth = drawn(scores, scale, 2)
    fitted = fit_temperature(scores, truth)
    assert fitted == pytest.approx(scale, rel=0.08)
    assert fit_temperature(scores, truth, start=scale * 300) == pytest.approx(fitted, rel=1e-5)
    assert fit_temperature(scores * 7 + 11, truth) == pytest.approx(fitted / 7, rel=1e-5)
    best = log_loss(softmax(fitted * scores), truth)
    assert best < min(log_loss(softmax(fitted * factor * scores), truth) for factor in (0.9, 1.1))


def test_temperature_of_weighted_images_is_that_of_repeated_ones() -> None:
    scores = np.random.default_rng(1).normal(size=(3000, 4))
    truth = drawn(scores, 2.0, 3)
    repeats = 1 + (truth == 0) * 2
    repeated = fit_temperature(np.repeat(scores, repeats, axis=0), np.repeat(truth, repeats))
    assert fit_temperature(scores, truth, weights=repeats) == pytest.approx(repeated, rel=2e-3)


def test_temperature_stays_finite_when_all_is_right_and_positive_when_all_is_wrong() -> None:
    scores = np.eye(3)[np.tile(np.arange(3), 10)]
    right = fit_temperature(scores, scores.argmax(axis=1))
    top = softmax(right * scores).max(axis=1)
    assert top == pytest.approx(1 - 1 / 31, abs=1e-5)  # as if one more image had been seen, wrong
    wrong = fit_temperature(scores, (scores.argmax(axis=1) + 1) % 3)
    assert wrong > 0
    assert softmax(wrong * scores) == pytest.approx(np.full((30, 3), 1 / 3), abs=1e-3)
    assert fit_temperature(np.zeros((4, 3)), [0, 1, 2, 0]) == 1.0
    assert fit_temperature([[1.0, 0.0]], [0]) > 0


def test_calibration_error_of_calibrated_probabilities_vanishes_and_of_false_ones_does_not() -> None:
    scores = np.random.default_rng(0).normal(size=(60_000, 5)) * 2
    truth = drawn(scores, 1.0, 1)
    assert expected_calibration_error(softmax(scores), truth) < 0.01
    assert expected_calibration_error(softmax(3 * scores), truth) > 0.1
    assert expected_calibration_error(np.eye(2)[[0, 1, 1]], [0, 1, 1]) == 0
    assert expected_calibration_error(np.eye(2)[[0, 1, 1]], [1, 0, 0]) == 1
    assert math.isnan(expected_calibration_error(np.zeros((0, 2)), []))


def test_reliability_bins_hold_every_image_once() -> None:
    probabilities = softmax(np.random.default_rng(0).normal(size=(200, 3)))
    probabilities[0], probabilities[1] = [1, 0, 0], [0.4, 0.4, 0.2]
    truth = np.zeros(200, dtype=int)
    bins = reliability(probabilities, truth, bins=10)
    assert sum(entry.count for entry in bins) == 200
    assert bins[0].count == 0 and math.isnan(bins[0].accuracy) and math.isnan(bins[0].confidence)
    assert all(entry.low < entry.confidence <= entry.high for entry in bins if entry.count)
    assert (bins[0].low, bins[-1].high) == (0, 1)
    assert bins[-1].count >= 1
    total = sum(entry.count * entry.accuracy for entry in bins if entry.count)
    assert total == (probabilities.argmax(axis=1) == 0).sum()
