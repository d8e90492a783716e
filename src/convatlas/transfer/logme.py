"""You et al., "LogME: Practical Assessment of Pre-trained Models for Transfer Learning", ICML 2021, https://arxiv.org/abs/2102.11005.

How well could a linear model of these features explain the labels, averaged over all linear models rather than judged by the best? Each
class's indicator is y = F w + noise with w ~ N(0, 1/α) and noise ~ N(0, 1/β); the score is ln p(y | F) a row, at the α and β that
make it largest, averaged over classes. Nothing is fitted that could be overfitted, so no image need be held out.

With F = U S Vᵀ and t = α/β everything follows from the eigenvalues S² and z = Uᵀy, so one decomposition serves all classes; α and β
come from the fixed point of the journal version (You et al., JMLR 2022, https://arxiv.org/abs/2110.10545).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from convatlas.transfer.ridge import ROWS, Array

MOST = 4000  # images; more hardly change the score, and the decomposition grows with them
_STEPS, _SETTLED = 200, 1e-9


def logme(features: np.ndarray, labels: ArrayLike, num_classes: int) -> float:
    """The logarithm of the maximum evidence, a row and class: larger is better, and comparable only between features of the same images.

    Args:
        features: (n, d) of any float type.
        labels: (n,) class indices. Classes without an image are left out.

    Raises:
        ValueError: if the arguments do not fit together, there is no image, or a feature is not finite.
    """
    truth = np.asarray(labels)
    if features.ndim != 2 or truth.shape != (len(features),) or not len(truth):
        raise ValueError(f"{truth.shape} labels do not describe features of shape {features.shape}")
    step = -(-len(truth) // MOST)
    features, truth = features[::step], truth[::step]
    targets = np.eye(num_classes)[truth][:, np.unique(truth)]
    energy, projected = _decomposed(features, targets)
    if not np.isfinite(energy).all():
        raise ValueError("the features hold NaN or infinite values")
    beyond = np.maximum((targets**2).sum(axis=0) - projected.sum(axis=0), 0.0)
    return float(_evidence(energy, projected, beyond, len(targets)).mean() / len(targets))


def _decomposed(features: np.ndarray, targets: Array) -> tuple[Array, Array]:
    """The squared singular values (r,) of F, and (r, K) the squares of each target's share along its left singular vectors."""
    count, width = features.shape
    if count <= width:
        gram = np.zeros((count, count))
        for start in range(0, width, ROWS):
            part = features[:, start : start + ROWS].astype(np.float64)
            gram += part @ part.T
        energy, vectors = _eigen(gram)
        return energy, (vectors.T @ targets) ** 2
    gram, along = np.zeros((width, width)), np.zeros((width, targets.shape[1]))
    for start in range(0, count, ROWS):
        part = features[start : start + ROWS].astype(np.float64)
        gram += part.T @ part
        along += part.T @ targets[start : start + ROWS]
    energy, vectors = _eigen(gram)
    return energy, (vectors.T @ along) ** 2 / energy[:, None]


def _eigen(gram: Array) -> tuple[Array, Array]:
    """The eigenvalues that rounding of single precision leaves, and their vectors."""
    if not np.isfinite(gram).all():
        return np.full(1, np.nan), np.full((len(gram), 1), np.nan)
    values, vectors = np.linalg.eigh(gram)
    kept = values > values.max(initial=0.0) * len(values) * np.finfo(np.float64).eps
    return values[kept], vectors[:, kept]


def _evidence(energy: Array, projected: Array, beyond: Array, count: int) -> Array:
    """(K,) the largest log evidence of each target: `projected` (r, K) is what lies along F, `beyond` (K,) what no w explains."""
    s = energy[:, None]
    t = np.full(projected.shape[1], energy.mean() if len(energy) else 1.0)  # α / β
    tiny = np.finfo(np.float64).tiny
    for _ in range(_STEPS):
        explained = (s / (t + s)).sum(axis=0)  # γ, the number of directions that the data determine
        length = (s * projected / (t + s) ** 2).sum(axis=0)  # ‖w‖²
        residual = (projected * (t / (t + s)) ** 2).sum(axis=0) + beyond
        new = explained * np.maximum(residual, tiny) / np.maximum((count - explained) * length, tiny)
        new = np.clip(new, 1e-12 * energy.max(initial=1.0), 1e12 * energy.max(initial=1.0))
        settled = (np.abs(new - t) <= _SETTLED * t).all()
        t = new
        if settled:
            break
    length = (s * projected / (t + s) ** 2).sum(axis=0)
    residual = np.maximum((projected * (t / (t + s)) ** 2).sum(axis=0) + beyond, tiny)
    beta = count / (residual + t * length)  # the best one, given t
    return 0.5 * (count * (np.log(beta / (2 * np.pi)) - 1) - np.log1p(s / t).sum(axis=0))
