"""LogME against the evidence computed from its definition, and what the score is for."""

from __future__ import annotations

import numpy as np
import pytest

from convatlas.transfer.logme import logme


def brute_force(features: np.ndarray, target: np.ndarray) -> float:
    """ln N(y; 0, 1/β + FFᵀ/α) a row, the largest on a fine grid of α and β: no decomposition, no fixed point."""
    count, best = len(target), -np.inf
    outer = features @ features.T
    for ratio in np.logspace(-8, 6, 281) * np.trace(outer) / count:
        shape = np.eye(count) + outer / ratio
        _, log_determinant = np.linalg.slogdet(shape)
        beta = count / (target @ np.linalg.solve(shape, target))  # where its derivative is 0
        best = max(best, 0.5 * (count * np.log(beta / (2 * np.pi)) - count - log_determinant))
    return best / count


def clusters(count: int, width: int, classes: int, apart: float) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng((count, width))
    labels = np.arange(count) % classes
    return generator.normal(size=(count, width)) + apart * generator.normal(size=(classes, width))[labels], labels


@pytest.mark.parametrize(("count", "width"), [(60, 7), (30, 50), (40, 40), (25, 1)])
@pytest.mark.parametrize("apart", [0.0, 0.4, 3.0])
def test_it_is_the_evidence_at_its_maximum(count: int, width: int, apart: float) -> None:
    features, labels = clusters(count, width, 3, apart)
    slow = np.mean([brute_force(features, (labels == label).astype(float)) for label in range(3)])
    assert logme(features, labels, 3) == pytest.approx(slow, abs=2e-4)


def test_a_class_without_images_and_the_scale_of_features_do_not_matter() -> None:
    features, labels = clusters(60, 7, 3, 1.0)
    assert logme(features, labels, 5) == pytest.approx(logme(features, labels, 3))
    assert logme(1000 * features, labels, 3) == pytest.approx(logme(features, labels, 3), abs=1e-6)


def test_better_features_score_higher() -> None:
    scores = [logme(*clusters(90, 12, 3, apart), 3) for apart in (0.0, 0.3, 1.0, 3.0)]
    assert scores == sorted(scores)


def test_constant_features_and_perfect_ones_have_a_score() -> None:
    labels = np.arange(20) % 2
    assert np.isfinite(logme(np.zeros((20, 3), np.float32), labels, 2))
    assert np.isfinite(logme(np.eye(2)[labels], labels, 2))


def test_what_is_no_feature_is_refused() -> None:
    with pytest.raises(ValueError, match="NaN or infinite"):
        logme(np.full((4, 2), np.nan), [0, 1, 0, 1], 2)
    with pytest.raises(ValueError, match="do not describe"):
        logme(np.ones((4, 2)), [0, 1, 0], 2)
