"""Two samples: called unlike when they are, rarely when they are not, and not because a class is rarer."""

from __future__ import annotations

import numpy as np

from convatlas.transfer.unlike import unlike


def sample(seed: int, count: int = 240) -> tuple[np.ndarray, np.ndarray]:
    """Features (n, 20) of three classes far apart, and their labels."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 3, count)
    return generator.normal(size=(count, 20)) + 3 * np.eye(20)[labels], labels


def test_a_shift_of_all_images_is_seen() -> None:
    features, labels = sample(0)
    side = np.arange(240) >= 160
    features[side, 5] += 1
    found = unlike(features, side, labels, np.arange(240))
    assert found is not None and found.shown
    assert found.told_apart > 0.6
    assert found.images == (160, 80)
    assert found == unlike(features, side, labels, np.arange(240))


def test_like_samples_are_seldom_called_unlike() -> None:
    chances = []
    for seed in range(40):
        features, labels = sample(seed)
        side = np.random.default_rng(1000 + seed).random(240) < 0.4
        found = unlike(features, side, labels, np.arange(240), seed)
        assert found is not None
        chances.append(found.by_chance)
    assert np.mean(np.array(chances) <= 0.05) <= 0.15
    assert np.mean(np.array(chances) <= 0.5) > 0.3


def test_features_that_tell_nothing_never_tell_the_sides_apart() -> None:
    labels, side = np.arange(80) % 2, np.arange(80) >= 40
    for seed in range(20):
        found = unlike(np.ones((80, 5)), side, labels, np.arange(80), seed)
        assert found is not None and not found.shown


def test_a_rarer_class_is_no_difference_of_looks() -> None:
    shown = 0
    for seed in range(10):
        features, labels = sample(seed)
        side = np.random.default_rng(seed).random(240) < np.array([0.1, 0.5, 0.8])[labels]
        found = unlike(features, side, labels, np.arange(240), seed)
        assert found is not None
        shown += found.shown
    assert shown <= 1


def test_what_lies_on_both_sides_says_nothing_nor_do_few_images() -> None:
    features, labels = sample(0)
    twice = np.concatenate([features, features])
    side = np.arange(480) >= 240
    assert unlike(twice, side, np.concatenate([labels, labels]), np.tile(np.arange(240), 2)) is None
    assert unlike(features, np.arange(240) < 9, labels, np.arange(240)) is None


def test_groups_are_dealt_whole() -> None:
    """Photos of one subject are alike; that every subject is on one side only is no difference between the sides."""
    shown = 0
    for seed in range(10):
        features, labels = sample(seed)
        groups = np.arange(240) // 6
        features = features + np.random.default_rng(seed).normal(size=(40, 20))[groups]
        side = np.random.default_rng(seed).permutation(40)[groups] < 15
        found = unlike(features, side, np.zeros_like(labels), groups, seed)
        assert found is not None
        shown += found.shown
    assert shown <= 1
