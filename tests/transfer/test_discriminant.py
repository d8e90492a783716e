"""The step from regression to discriminant: against the textbook's formula, and what is held out really is."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from convatlas.transfer.discriminant import PARTS, discriminant, mapping, stretched
from convatlas.transfer.probe import fit_probe
from convatlas.transfer.ridge import Ridge

Array = NDArray[np.float64]


def classes(
    counts: list[int], width: int, seed: int = 0, apart: float = 0.7, draw: int = 0
) -> tuple[Array, NDArray[np.int64]]:
    """Gaussian classes whose centres, those of a seed, differ more in some directions than in others."""
    centres = apart * np.random.default_rng(seed).normal(size=(len(counts), width)) * np.linspace(3, 0.3, width)
    draws = np.random.default_rng((seed, draw))
    labels = draws.permutation(np.repeat(np.arange(len(counts)), counts))
    return centres[labels] + draws.normal(size=(len(labels), width)), labels


@pytest.mark.parametrize("counts", [[30, 30], [40, 8], [12] * 6, [5, 9, 30, 14, 3]])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("strength", [1e-3, 0.3])
def test_of_fitted_scores_it_is_the_penalised_linear_discriminant(
    counts: list[int], weighted: bool, strength: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("convatlas.transfer.discriminant.BETWEEN", 1.0)
    x, labels = classes(counts, 7)
    weights = np.random.default_rng(1).uniform(0.5, 2, len(labels)) if weighted else np.ones(len(labels))
    weights /= weights.mean()
    targets = np.eye(len(counts))[labels]
    ridge = Ridge([x], targets, weights)
    weight, bias = ridge.solution(strength)
    scores, shares = x @ weight + bias, weights @ targets / len(x)
    together = (weights[:, None] * (targets - shares)).T @ (scores - shares) / len(x)
    turn, shift = mapping(stretched(together / np.sqrt(np.outer(shares, shares))), shares)
    found = scores @ turn + shift

    # Hastie, Tibshirani, Friedman. The Elements of Statistical Learning. 2009, (4.10), the covariance penalised
    centred = x - weights @ x / len(x)
    scaled = centred * np.sqrt(len(x) / (weights @ centred**2).sum())
    means = np.stack(
        [np.average(scaled[labels == k], axis=0, weights=weights[labels == k]) for k in range(len(counts))]
    )
    within = (scaled - means[labels]).T @ (weights[:, None] * (scaled - means[labels])) / len(x)
    directions = np.linalg.solve(within + strength * np.eye(7), means.T)
    np.testing.assert_allclose(found, scaled @ directions - np.einsum("kj,jk->k", means, directions) / 2, atol=1e-9)


def test_without_between_it_is_the_regression_in_relation_to_the_shares(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("convatlas.transfer.discriminant.BETWEEN", 0.0)
    scores, targets = np.random.default_rng(0).normal(size=(20, 3)), np.eye(3)[np.arange(20) % 3]
    map_ = discriminant(scores, targets, np.ones(20), [np.arange(0, 20, 2), np.arange(1, 20, 2)])
    np.testing.assert_allclose(scores @ map_.turn + map_.shift, scores / map_.shares - 1, atol=1e-12)


def test_what_is_held_out_knows_nothing_of_the_image_nor_of_those_out_with_it() -> None:
    draws = np.random.default_rng(0)
    targets = np.eye(4)[np.arange(120) % 4]
    scores = targets * 0.3 + draws.normal(size=(120, 4)) * 0.2
    sets = [np.arange(first, 120, 2 * PARTS) for first in range(2 * PARTS)]
    before = discriminant(scores, targets, np.ones(120), sets).held_out
    changed = scores.copy()
    changed[sets[3]] += draws.normal(size=(len(sets[3]), 4))
    after = discriminant(changed, targets, np.ones(120), sets).held_out
    same = np.asarray(np.isclose(before, after, atol=1e-12).all(axis=1))
    with_it = np.isin(np.arange(120), np.concatenate(sets[3::PARTS]))
    assert same[with_it & ~np.isin(np.arange(120), sets[3])].all()
    assert not same[~with_it].any()


def test_what_is_in_no_set_has_no_scores_and_says_nothing() -> None:
    targets, scores = np.eye(2)[np.arange(12) % 2], np.full((12, 2), np.nan)
    scores[:8] = np.random.default_rng(0).normal(size=(8, 2))
    found = discriminant(scores, targets, np.ones(12), [np.arange(4), np.arange(4, 8)])
    assert np.isnan(found.held_out).all(axis=1).tolist() == [False] * 8 + [True] * 4
    assert np.isfinite(found.turn).all() and np.isfinite(found.shift).all()


def test_one_set_alone_leaves_a_regression() -> None:
    """Of nothing else could be held out what it says; then it must not be said to new images either."""
    targets, scores = np.eye(2)[np.arange(12) % 2], np.random.default_rng(0).normal(size=(12, 2))
    found = discriminant(scores, targets, np.ones(12), [np.arange(8)])
    np.testing.assert_allclose(found.turn, np.diag(1 / found.shares), atol=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_many_and_uneven_classes_are_told_apart_better_than_by_the_regression(seed: int) -> None:
    counts = [4, 40] * 10
    x, labels = classes(counts, 20, seed)
    unseen, truth = classes([50] * 20, 20, seed, draw=1)
    probe = fit_probe(x, labels, 20)
    weight, bias = Ridge([x], np.eye(20)[labels], np.ones(len(x))).solution(probe.strength)
    ours, theirs = (scores.argmax(axis=1) == truth for scores in (probe.scores(unseen), unseen @ weight + bias))
    assert ours.mean() > theirs.mean()


@pytest.mark.parametrize("seed", range(20))
def test_a_class_without_images_is_predicted_of_no_image_however_odd(seed: int) -> None:
    draws = np.random.default_rng(seed)
    x, labels = classes(list(draws.integers(2, 12, 5)), 6, seed, apart=draws.uniform(0, 3))
    probe = fit_probe(x, labels + (labels >= 2), 7)  # neither 2 nor 6
    odd = draws.normal(size=(200, 6)) * 10.0 ** draws.uniform(-2, 4, (200, 1))
    assert not np.isin(probe.scores(odd).argmax(axis=1), [2, 6]).any()
    assert not np.isin(probe.held_out.argmax(axis=1), [2, 6]).any()
