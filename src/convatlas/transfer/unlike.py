"""Lopez-Paz, Oquab. Revisiting Classifier Two-Sample Tests. ICLR 2017, https://arxiv.org/abs/1610.06545.

Do the test images look like the training images? A linear classifier tries to tell the two apart by their features, on images it has not
learned from. How well it does by chance is seen by dealing the two names anew within each class, so that a class that is rarer in the test
part is no difference of looks. All deals are columns of one ridge regression, which costs one decomposition.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from convatlas.data import stratified
from convatlas.transfer.ridge import Array, Index, Ridge

STRENGTH = 0.01
DEALS = 99
MOST = 300  # images of either side; enough to see what matters, in a twentieth of a second
UNLIKE = 0.01  # chance of such a value without a difference, at or below which the sides are called unlike


@dataclass(frozen=True, kw_only=True)
class Unlike:
    """How well training and test images can be told apart."""

    told_apart: float  # of pairs, one image of each side, the share put the right way round; 0.5 is guessing
    by_chance: float  # how often deals of the names give as much, at least 1 / (DEALS + 1)
    images: tuple[int, int]

    @property
    def shown(self) -> bool:
        return self.by_chance <= UNLIKE and self.told_apart > 0.5


def unlike(features: np.ndarray, is_test: np.ndarray, labels: Index, together: Index, seed: int = 0) -> Unlike | None:
    """Whether the test images' features differ from the training images' of the same classes; None where there are too few to tell.

    Args:
        features: (n, d), of both sides.
        is_test: (n,) which are the test images.
        labels: (n,) classes.
        together: (n,) equal where images are copies or of one group; such share a fold. Those on both sides are left out.
    """
    generator = np.random.default_rng(seed)
    one_sided = ~np.isin(together, np.intersect1d(together[is_test], together[~is_test]))
    sides = [np.flatnonzero((is_test == side) & one_sided) for side in (False, True)]
    kept = np.sort(np.concatenate([_some(index, generator) for index in sides]))
    side, own = is_test[kept], labels[kept]
    if min(side.sum(), (~side).sum()) < 10:
        return None
    _, unit, size = np.unique(together[kept], return_inverse=True, return_counts=True)
    fold_of = stratified(own, unit, k=5, seed=seed)
    sets = [np.flatnonzero(fold_of == fold) for fold in range(int(fold_of.max()) + 1)]
    names = np.stack([side, *(_dealt(side, own, unit, size, generator) for _ in range(DEALS))], axis=1)
    ridge = Ridge([features[kept]], names.astype(np.float64), np.ones(len(kept)))
    ((_, scores),) = ridge.held_out([STRENGTH], sets)
    scored = np.flatnonzero(fold_of >= 0)
    areas = _areas(scores[scored], names[scored])
    return Unlike(
        told_apart=float(areas[0]),
        by_chance=float((1 + (areas[1:] >= areas[0]).sum()) / (DEALS + 1)),
        images=(int((~side).sum()), int(side.sum())),
    )


def _some(index: Index, generator: np.random.Generator) -> Index:
    return index if len(index) <= MOST else generator.choice(index, MOST, replace=False)


def _dealt(side: np.ndarray, labels: Index, unit: Index, size: Index, generator: np.random.Generator) -> np.ndarray:
    """The names of the sides, shuffled among units of one size that begin with one class."""
    _, first = np.unique(unit, return_index=True)
    kind = labels[first] * (size.max() + 1) + size
    names = side[first].copy()
    for value in np.unique(kind):
        members = np.flatnonzero(kind == value)
        names[members] = generator.permutation(names[members])
    return names[unit]


def _areas(scores: Array, names: np.ndarray) -> Array:
    """Under the ROC curve, of each column; of two images that score alike, half is the right way round."""
    ranks = (_ranks(scores) + len(scores) + 1 - _ranks(-scores)) / 2
    positive = names.sum(axis=0)
    return ((ranks * names).sum(axis=0) - positive * (positive + 1) / 2) / np.maximum(
        positive * (len(scores) - positive), 1
    )


def _ranks(scores: Array) -> Array:
    """From 1, in each column; of those that score alike, in their order."""
    ranks = np.empty_like(scores)
    order = scores.argsort(axis=0, kind="stable")
    np.put_along_axis(ranks, order, np.arange(1.0, len(scores) + 1)[:, None], axis=0)
    return ranks
