"""How unlike an image is, against models really refitted; and the stated rate on images that were never seen."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from convatlas.bundle.confidence import CONFIDENCE, Confidence, Promise, read_confidence
from convatlas.errors import ConvAtlasError
from convatlas.transfer.confidence import fit_confidence
from convatlas.transfer.probe import fit_probe, image_weights
from convatlas.transfer.ridge import Ridge

Array = NDArray[np.float64]
CLASSES = 3


def drawn(count: int, width: int, seed: int, *, away: float = 0.0) -> tuple[Array, NDArray[np.int64]]:
    """Gaussian classes; `away` moves the images along a direction of their own."""
    rng = np.random.default_rng(seed)
    world = np.random.default_rng(99)
    centres, spread = 0.7 * world.normal(size=(CLASSES, width)), world.uniform(0.2, 1.5, width)
    labels = rng.integers(0, CLASSES, count)
    labels[:CLASSES] = np.arange(CLASSES)
    return centres[labels] + rng.normal(size=(count, width)) * spread + away * world.normal(size=width) + 3, labels


def fitted(features: Array, labels: NDArray[np.int64], folds: NDArray[np.int64] | None = None) -> Confidence:
    """The confidence of a probe on these."""
    return fit_confidence(features, labels, fit_probe(features, labels, CLASSES, folds=folds), folds=folds)


def from_moments(features: Array, kept: np.ndarray, weights: Array, penalty: float) -> Array:
    """(1, x) times the inverse of the moments of the images kept, times (1, x): shares no step with the ridge."""
    columns = np.hstack([np.ones((len(features), 1)), features])
    moments = columns[kept].T @ (weights[kept, None] * columns[kept])
    moments += penalty * np.diag(np.append(0.0, np.ones(features.shape[1])))
    return np.einsum("ij,ji->i", columns, np.linalg.solve(moments, columns.T))


@pytest.mark.parametrize("width", [4, 40], ids=["narrow", "wider than many"])
@pytest.mark.parametrize("class_weights", [None, "balanced"])
@pytest.mark.parametrize("how", ["one by one", "groups", "few large groups", "some never"])
def test_held_out_leverages_are_those_of_refits(width: int, class_weights: str | None, how: str) -> None:
    features, labels = drawn(30, width, 0)
    ids = np.arange(30)
    if how != "one by one":
        ids = ids // (12 if how == "few large groups" else 3)
    if how == "some never":
        ids = np.where(ids < 2, -1, ids)
    sets = [np.flatnonzero(ids == one) for one in np.unique(ids[ids >= 0])]
    weights = image_weights(labels, CLASSES, class_weights)
    ridge = Ridge([features], np.zeros((30, 1)), weights)
    found = ridge.held_out_leverages(1e-3, sets)
    expected = np.full(30, np.nan)
    for index in sets:
        kept = np.ones(30, bool)
        kept[index] = False
        expected[index] = from_moments(features * ridge.scaling, kept, weights, 1e-3 * 30)[index]
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("width", [5, 60])
def test_new_images_are_measured_as_by_the_moments(width: int) -> None:
    features, labels = drawn(40, width, 0)
    probe = fit_probe(features, labels, CLASSES)
    confidence = fit_confidence(features, labels, probe)
    new, _ = drawn(10, width, 1, away=2.0)
    both = np.vstack([features, new]) * confidence.metric.scaling
    expected = from_moments(both, np.arange(50) < 40, np.ones(50), probe.strength * 40)[40:]
    np.testing.assert_allclose(confidence.metric.leverages(new), expected, rtol=1e-4)


@pytest.mark.parametrize("width", [6, 80], ids=["fewer features than images", "more"])
def test_known_classes_are_rejected_as_often_as_stated_and_others_more(width: int) -> None:
    rate, shares, others = 0.1, [], []
    for seed in range(60):
        features, labels = drawn(60, width, seed)
        probe = fit_probe(features, labels, CLASSES)
        confidence = fit_confidence(features, labels, probe)
        promise = Promise(confidence=confidence, false_reject=rate, coverage=None)
        for away, found in ((0.0, shares), (1.5, others)):
            new, _ = drawn(100, width, 1000 + seed, away=away)
            typicality = confidence.typicality(new, probe.scale * probe.scores(new))
            found.append(promise.rejected(typicality).mean())
    assert abs(np.mean(shares) - rate) <= 0.02
    assert np.mean(others) > 0.8


def test_copies_that_stand_together_do_not_make_images_look_typical() -> None:
    features, labels = drawn(25, 60, 0)
    twice, both = np.vstack([features, features]), np.concatenate([labels, labels])
    apart = fitted(twice, both)
    together = fitted(twice, both, folds=np.tile(np.arange(25), 2))
    new, _ = drawn(400, 60, 7)
    probe = fit_probe(twice, both, CLASSES, folds=np.tile(np.arange(25), 2))
    logits = probe.scale * probe.scores(new)
    assert (apart.typicality(new, logits) <= 0.1).mean() > 0.5  # each image's copy was in the fit
    assert (together.typicality(new, logits) <= 0.1).mean() < 0.25


def test_training_images_are_as_typical_as_their_rank() -> None:
    confidence = fitted(*drawn(40, 5, 0))
    found = confidence.typicality_of_training()
    np.testing.assert_allclose(np.sort(found), np.arange(1, 41) / 40)
    assert found[confidence.unlikenesses.argmax()] == 1 / 40


def test_what_is_saved_comes_back_and_says_the_same(tmp_path: Path) -> None:
    features, labels = drawn(40, 60, 0)
    confidence = fitted(features, labels)
    assert read_confidence(tmp_path) is None
    confidence.save(tmp_path)
    back = read_confidence(tmp_path)
    assert back is not None
    new, logits = drawn(20, 60, 1)[0], np.random.default_rng(0).normal(size=(20, CLASSES))
    np.testing.assert_array_equal(back.typicality(new, logits), confidence.typicality(new, logits))
    assert back.to_json() == confidence.to_json()
    assert back.own_scores.shape == (40,)


@pytest.mark.parametrize("damage", [b"", b"not a tensor"])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, damage: bytes) -> None:
    (tmp_path / CONFIDENCE).write_bytes(damage)
    with pytest.raises(ConvAtlasError, match=f"{CONFIDENCE}: cannot be read"):
        read_confidence(tmp_path)


def test_constant_features_and_scores_do_no_harm() -> None:
    labels = np.tile(np.arange(2), 10)
    features = np.ones((20, 3))
    probe = fit_probe(features, labels, 2)
    confidence = fit_confidence(features, labels, probe)
    typicality = confidence.typicality(features[:2], probe.scale * probe.scores(features[:2]))
    assert np.isfinite(typicality).all()
    assert (typicality > 0.05).all()
