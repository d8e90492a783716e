"""How good is a probe whose stage and strength were chosen? Nested cross-validation makes every choice anew, without the images that judge
it: Varma, Simon. Bias in Error Estimation When Using Cross-Validation for Model Selection. 2006. https://doi.org/10.1186/1471-2105-7-91
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from convatlas.data import left_out
from convatlas.metrics import softmax
from convatlas.transfer.probe import (
    STRENGTHS,
    ClassWeights,
    Features,
    NothingHeldOut,
    blocks_of,
    select,
    usual_rung,
)
from convatlas.transfer.ridge import Array


@dataclass(frozen=True, kw_only=True)
class OuterFolds:
    """Predictions for each image by a classifier in whose making, choices included, it had no part."""

    probabilities: Array  # (n, K); NaN for images in no outer fold
    # outer fold → the rung its selection chose; None where nothing was left to choose by
    chosen: Mapping[int, str | None]


def outer_folds_predictions(
    rungs: Mapping[str, Features],
    labels: ArrayLike,
    num_classes: int,
    outer: ArrayLike,
    *,
    class_weights: ClassWeights = None,
    together: ArrayLike | None = None,
    strengths: Sequence[float] = STRENGTHS,
) -> OuterFolds:
    """The nested estimate: for each outer fold, `select` on all other images, then predict it.

    Each selection holds out what `data.left_out` says of the images that it has. The final classifier learns from more images than any
    of these, so the estimate is, if anything, pessimistic. Where a fold leaves no class two images, or units, so that one could be held
    out to choose by, an image is taken to be of the class whose mean on the last stage is nearest.

    Args:
        outer: (n,) fold ids, stratified, with groups and duplicates kept together; −1 is always fitted, never predicted.
        together: (n,) equal for images of one unit, as for `select`.

    The other arguments and the errors are those of `fit_probe`.
    """
    truth, fold_of = np.asarray(labels), np.asarray(outer)
    units = np.arange(len(truth)) if together is None else np.asarray(together)
    if fold_of.shape != truth.shape:
        raise ValueError(f"there must be one fold id for each of the {len(truth)} images")
    probabilities = np.full((len(truth), num_classes), np.nan)
    chosen: dict[int, str | None] = {}
    for fold in np.unique(fold_of[fold_of >= 0]):
        out = fold_of == fold
        try:
            rows = np.flatnonzero(~out)
            selection = select(
                *(rungs, truth, num_classes),
                class_weights=class_weights,
                folds=left_out(truth, units, rows),
                together=units,
                strengths=strengths,
                rows=rows,
            )
        except NothingHeldOut:
            chosen[int(fold)] = None
            probabilities[out] = _by_nearest_mean(rungs[usual_rung(rungs)], truth, num_classes, out)
            continue
        chosen[int(fold)] = selection.name
        probabilities[out] = selection.probe.probabilities([block[out] for block in blocks_of(rungs[selection.name])])
    return OuterFolds(probabilities=probabilities, chosen=chosen)


def _by_nearest_mean(features: Features, labels: np.ndarray, num_classes: int, out: np.ndarray) -> Array:
    """(m, K) for the images that are `out`, by their distances to the means of the classes of the others."""
    x = np.concatenate([block.astype(np.float64) for block in blocks_of(features)], axis=1)
    there = np.unique(labels[~out])
    means = np.array([x[~out & (labels == label)].mean(axis=0) for label in there])
    distances = np.stack([np.square(x[out] - mean).sum(axis=1) for mean in means], axis=1)
    shares = np.zeros((int(out.sum()), num_classes))
    shares[:, there] = softmax(-distances / max(float(distances.mean()), np.finfo(np.float64).tiny))
    return shares
