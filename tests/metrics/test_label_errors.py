"""Wrong labels: their share is estimated, a chance means what it says, and a weak classifier's mistakes are not taken for them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest

from convatlas.metrics import label_errors, softmax


class Drawn(NamedTuple):
    probabilities: np.ndarray
    given: np.ndarray
    truth: np.ndarray


def draw(seed: int, classes: int, strength: float, rate: float, images: int = 1000, uneven: float = 1.0) -> Drawn:
    """Images of Gaussian classes, of which the probabilities are known exactly, with a share of the labels drawn anew among the others.

    Each class is `uneven` times as frequent as the one before it.
    """
    generator = np.random.default_rng(seed)
    shares = uneven ** np.arange(classes)
    shares /= shares.sum()
    truth = generator.choice(classes, images, p=shares)
    seen = strength * np.eye(classes)[truth] + generator.normal(size=(images, classes))
    given = truth.copy()
    for i in generator.choice(images, round(rate * images), replace=False):
        others = np.where(np.arange(classes) == truth[i], 0, shares)
        given[i] = generator.choice(classes, p=others / others.sum())
    return Drawn(softmax(strength * seen + np.log(shares)), given, truth)


SHAPES = [(2, 4.0, 1.0), (4, 4.0, 1.0), (4, 2.0, 1.0), (20, 4.0, 1.0), (20, 2.5, 1.0), (5, 3.0, 0.5)]


@pytest.mark.parametrize(("classes", "strength", "uneven"), SHAPES)
def test_the_rate_and_the_chances_are_what_was_planted(classes: int, strength: float, uneven: float) -> None:
    inside, foretold, wrong = [], 0.0, 0
    for rate in (0.0, 0.02, 0.05, 0.15):
        for seed in range(5):
            one = draw(seed, classes, strength, rate, uneven=uneven)
            # flatter than they are, as what is calibrated on wrong labels is
            found = label_errors(softmax(0.7 * np.log(one.probabilities)), one.given)
            inside.append(found.interval[0] <= rate <= found.interval[1])
            assert found.interval[0] <= found.rate <= found.interval[1]
            assert found.judged == 1000
            foretold += found.chances.sum()
            wrong += (one.given != one.truth).sum()
    assert np.mean(inside) >= 0.85, "of 20 intervals of 95 % more than one in seven miss"
    assert foretold == pytest.approx(wrong, rel=0.15)


@pytest.mark.parametrize(("classes", "strength", "uneven"), SHAPES)
def test_mistakes_of_a_weak_classifier_are_not_suspected(classes: int, strength: float, uneven: float) -> None:
    """Without wrong labels hardly one is suspected, at any strength; up to 15 % of these answers are wrong."""
    drawn = [draw(seed, classes, strength, 0.0, uneven=uneven) for seed in range(5)]
    found = [label_errors(one.probabilities, one.given) for one in drawn]
    assert np.mean([len(each.suspects) for each in found]) <= 5
    assert max(each.rate for each in found) < 0.02


@pytest.mark.parametrize("classes", [2, 10])
def test_suspects_are_the_surest_first_with_the_class_they_show(classes: int) -> None:
    one = draw(0, classes, 4.0, 0.05)
    found = label_errors(one.probabilities, one.given)
    flipped = set(np.flatnonzero(one.given != one.truth).tolist())
    hits = [each for each in found.suspects if each.index in flipped]
    assert len(hits) >= 0.7 * len(flipped)
    assert len(hits) >= 0.5 * len(found.suspects)
    assert sum(each.suggested == one.truth[each.index] for each in hits) >= 0.9 * len(hits)
    chances = [each.chance for each in found.suspects]
    assert chances == sorted(chances, reverse=True)
    assert set(np.flatnonzero(found.chances >= 0.1).tolist()) == {each.index for each in found.suspects}
    assert all(each.given == one.given[each.index] != each.suggested for each in found.suspects)
    stricter = label_errors(one.probabilities, one.given, chance=0.5)
    assert [each.index for each in stricter.suspects] == [each.index for each in found.suspects if each.chance >= 0.5]


def test_classes_may_be_made_to_count_alike() -> None:
    """Probabilities as of equally frequent classes, told as such, give about the chances of those as they are."""
    one = draw(1, 4, 3.0, 0.05, images=4000, uneven=0.4)
    alike = one.probabilities / np.bincount(one.truth)
    alike /= alike.sum(axis=1, keepdims=True)
    balanced, plain = label_errors(alike, one.given, balanced=True), label_errors(one.probabilities, one.given)
    flipped = one.given != one.truth
    assert balanced.rate == pytest.approx(np.mean([flipped[one.given == k].mean() for k in range(4)]), rel=0.5)
    sure = plain.chances > 0.9
    assert sure.sum() > 50
    assert (balanced.chances[sure] > 0.5).mean() > 0.9


def test_few_images_do_not_say_much() -> None:
    shares = np.array([[0.9, 0.1], [np.nan, np.nan], [0.9, 0.1], [0.6, 0.4]])
    found = label_errors(shares, [1, 1, 0, 1])
    assert found.judged == 3
    assert np.isnan(found.chances).tolist() == [False, True, False, False]
    assert found.interval[0] == 0.0
    assert found.interval[1] > 0.1
    assert max(each.chance for each in found.suspects) < 0.3


def test_certain_probabilities_are_judged() -> None:
    shares = np.eye(3)[[0, 1, 2] * 20]
    right = label_errors(shares, [0, 1, 2] * 20)
    assert (right.interval[0], right.suspects) == (0.0, ())
    assert right.rate < 0.03
    one = label_errors(shares, [0, 1, 2] * 19 + [0, 1, 1])
    assert [(each.index, each.suggested) for each in one.suspects] == [(59, 2)]


def test_what_does_not_fit_together_is_refused() -> None:
    nobody = label_errors(np.empty((0, 3)), np.empty(0, int))
    assert (nobody.judged, nobody.interval, nobody.suspects) == (0, (0.0, 1.0), ())
    with pytest.raises(ValueError, match="2 true labels for 4 rows"):
        label_errors(np.full((4, 2), 0.5), [0, 1])
    with pytest.raises(ValueError, match="chance is 1"):
        label_errors(np.full((2, 2), 0.5), [0, 1], chance=1)
