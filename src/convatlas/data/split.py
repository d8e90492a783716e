"""Folds for cross-validation: stratified by class, with everything that belongs together on one side.

Two copies of one photo, or two photos of one patient, in different folds make a score that no new patient will confirm.
So images are first joined into units, and units are dealt to folds, the scarcest classes first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

LARGE = 50  # units of a class from which on leaving one out hardly changes how frequent the class is


def units(*keys: Sequence[Hashable | None], links: Iterable[tuple[int, int]] = ()) -> NDArray[np.int64]:
    """Join items that share a value in any of the key sequences; int64 (n,), equal where items belong together.

    `units(groups, hashes)` keeps together what shares a group *or* has the same bytes, and whatever hangs on either.
    None joins nothing. `links` are pairs of positions to be joined as well.
    """
    number = len(keys[0]) if keys else 0
    parent = list(range(number))

    def root(item: int) -> int:
        while parent[item] != item:
            parent[item] = parent[parent[item]]
            item = parent[item]
        return item

    for values in keys:
        if len(values) != number:
            raise ValueError(f"key sequences of {number} and {len(values)} items do not describe the same items")
        first: dict[Hashable, int] = {}
        for item, value in enumerate(values):
            if value is not None:
                parent[root(item)] = root(first.setdefault(value, item))
    for one, other in links:
        parent[root(one)] = root(other)
    return np.unique([root(item) for item in range(number)], return_inverse=True)[1].astype(np.int64)


def folds(
    labels: ArrayLike, groups: Sequence[Hashable | None] | NDArray[np.int64] | None = None, k: int = 5, seed: int = 0
) -> NDArray[np.int64]:
    """Deal n items to at most k folds; int64 (n,), the fold in which each item is held out, or -1.

    Items of one group share a fold (None: on its own). Every class is spread evenly over as many folds as it has groups,
    at most k, so that it is always trained on; a class with a single group is never held out (-1), nor is that group.
    Fold numbers are 0, 1, … without gaps; there may be fewer than k, or none. Deterministic in its arguments.
    """
    if k < 2:
        raise ValueError(f"k={k}: cross-validation needs at least 2 folds")
    _, classes = np.unique(np.asarray(labels), return_inverse=True)
    joined = np.arange(len(classes)) if groups is None else units(list(groups))
    members: dict[int, list[int]] = {}
    for item, unit in enumerate(joined.tolist()):
        members.setdefault(unit, []).append(item)
    held = {unit: Counter(classes[items].tolist()) for unit, items in members.items()}
    spread = Counter(class_ for counts in held.values() for class_ in counts)  # in how many units a class occurs

    result = np.full(len(classes), -1, dtype=np.int64)
    generator = np.random.default_rng(seed)
    order = generator.permutation(sorted(held)).tolist()
    # The scarcest classes choose first, and large groups before small ones, which can still even things out.
    order.sort(key=lambda unit: (min(spread[class_] for class_ in held[unit]), -len(members[unit])))
    filled = [Counter[int]() for _ in range(k)]
    totals = [0] * k
    undealt = spread.copy()
    homes: dict[int, set[int]] = {class_: set() for class_ in spread}  # the folds that hold some of a class, or -1
    for unit in order:
        counts = held[unit]
        undealt.subtract(counts.keys())

        def cost(fold: int, counts: Counter[int] = counts) -> tuple[int, int, int]:
            # A fold must not come to hold all of a class, or nothing of it would be left to train on.
            alone = sum(undealt[class_] == 0 and homes[class_] <= {fold} for class_ in counts)
            return alone, sum(filled[fold][class_] for class_ in counts), totals[fold]

        fold = min(range(k), key=cost)
        if cost(fold)[0]:
            fold = -1
        else:
            filled[fold].update(counts)
            totals[fold] += len(members[unit])
        for class_ in counts:
            homes[class_].add(fold)
        result[members[unit]] = fold
    used = result >= 0
    result[used] = np.unique(result[used], return_inverse=True)[1]
    return result


def stratified(labels: ArrayLike, together: NDArray[np.int64], k: int, seed: int = 0) -> NDArray[np.int64]:
    """`folds`, but no more than the middle class has units, so that each holds some of each class.

    A fold that lacks a class makes it the commoner one among those that stay, see `left_out`.
    """
    labels = np.asarray(labels)
    return folds(labels, together, k=min(k, max(_typical(labels, together), 2)), seed=seed)


def _typical(labels: NDArray[Any], together: NDArray[np.int64]) -> int:
    """Units of the middle class."""
    return int(np.median([len(units) for units in _units_of_classes(labels, together)] or [0]))


def _units_of_classes(labels: NDArray[Any], together: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    return [np.unique(together[labels == label]) for label in np.unique(labels)]


def left_out(
    labels: ArrayLike, together: NDArray[np.int64] | None = None, rows: NDArray[np.int64] | None = None
) -> NDArray[np.int64] | None:
    """What is held out at once while a classifier is being chosen: fold ids (n,), or None for one item at a time.

    A left-out item makes its class the rarer one among those that stay, and a classifier of few images that has learned nothing but
    frequencies is then always wrong (Parker, Günter, Bedo. Stratification bias in low signal microarray studies. 2007.
    https://doi.org/10.1186/1471-2105-8-326). So where the middle class has less than `LARGE` units, one unit of each class is left out
    at once. A unit that holds all there is of a class is always fitted (-1): the class could not be recognised without it.

    Args:
        labels: (n,) classes.
        together: (n,) ids of the units, as `units` joins items; each item alone by default.
        rows: the items that there are, all by default; the others are -1.
    """
    labels = np.asarray(labels)
    together = np.arange(len(labels)) if together is None else together
    if rows is not None:
        ids = left_out(labels[rows], together[rows])
        if ids is None:
            return None
        found = np.full(len(labels), -1, dtype=np.int64)
        found[rows] = ids
        return found
    if _typical(labels, together) < LARGE:
        return stratified(labels, together, k=LARGE)
    if len(np.unique(together)) == len(together):
        return None
    needed = [units[0] for units in _units_of_classes(labels, together) if len(units) == 1]
    return np.where(np.isin(together, needed), -1, together)
