"""A picture of a stage's feature space: van der Maaten, Hinton. Visualizing Data using t-SNE. 2008. https://www.jmlr.org/papers/v9/vandermaaten08a.html

Principal axes first (50 of them), then t-SNE, which keeps neighbours together where two principal axes would show only what varies most.
Each stage's map begins where the one before ended, so that points move no more than the features do (Kobak and Berens, The art of using
t-SNE, 2019, https://doi.org/10.1038/s41467-019-13056-x). Distances between groups and their sizes mean nothing there, so that a number
stands beside each map which no layout can flatter: how often an image's nearest neighbour in the features themselves is of its own class.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

_AXES = 50
_FEW = 12  # images up to which two principal axes are all there is to show


def layouts(features: Mapping[str, np.ndarray], *, seed: int = 0) -> Iterator[tuple[str, np.ndarray]]:
    """For each stage's features (n, d) a map (n, 2), centred, of at most 1 in each direction."""
    before: np.ndarray | None = None
    for stage, values in features.items():
        turned = principal(values, _AXES)
        found = (
            turned[:, :2] if len(values) <= _FEW else _tsne(turned, turned[:, :2] if before is None else before, seed)
        )
        found = found - (found.max(axis=0) + found.min(axis=0)) / 2
        found = before = found / (float(np.abs(found).max()) or 1.0)
        yield stage, found


def principal(features: np.ndarray, axes: int) -> np.ndarray:
    """(n, at most `axes`, at least 2): coordinates on the principal axes, the strongest first; the sign by the largest coordinate."""
    centred = features - features.mean(axis=0, dtype=np.float64)
    u, s, _ = np.linalg.svd(centred, full_matrices=False)
    found = (u * s)[:, :axes]
    found = found * np.sign(found[np.abs(found).argmax(axis=0), np.arange(found.shape[1])] + 1e-300)
    return np.pad(found, ((0, 0), (0, max(0, 2 - found.shape[1]))))


def neighbours_agree(features: np.ndarray, labels: np.ndarray) -> float:
    """The share of images whose nearest other image, by the cosine of centred features, is of the same class."""
    centred = features - features.mean(axis=0, dtype=np.float64)
    unit = centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-12)
    cosines = unit @ unit.T
    np.fill_diagonal(cosines, -np.inf)
    return float((labels[cosines.argmax(axis=1)] == labels).mean())


def _tsne(features: np.ndarray, start: np.ndarray, seed: int) -> np.ndarray:
    from sklearn.manifold import TSNE

    spread = float(start[:, 0].std()) or 1.0
    perplexity = min(30.0, (len(features) - 1) / 3)
    begin: Any = (1e-2 * start / spread).astype(np.float32)  # scikit-learn has only a word annotated here
    model = TSNE(init=begin, perplexity=perplexity, random_state=seed, max_iter=500)
    return np.asarray(model.fit_transform(features.astype(np.float32)), np.float64)
