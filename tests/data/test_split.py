"""Folds: every promise of the docstring, over random labels and groups; and classes by name."""

from __future__ import annotations

import pickle
from collections import Counter

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from convatlas.data import ClassMap, folds, left_out, stratified, units
from convatlas.errors import ConvAtlasError

ITEMS = st.lists(st.tuples(st.sampled_from("abcd"), st.one_of(st.none(), st.integers(0, 12))), max_size=60)


@given(ITEMS, st.integers(2, 6), st.integers(0, 3))
def test_folds_keep_their_promises(items: list[tuple[str, int | None]], k: int, seed: int) -> None:
    labels = np.array([label for label, _ in items], dtype="U1")
    groups = [group for _, group in items]
    dealt = folds(labels, groups, k, seed)
    assert np.array_equal(dealt, folds(labels, groups, k, seed))
    used = sorted(set(dealt[dealt >= 0].tolist()))
    assert used == list(range(len(used)))
    assert len(used) <= k
    for group in {group for group in groups if group is not None}:
        assert len(set(dealt[[other == group for other in groups]].tolist())) == 1
    for fold in used:  # whatever is held out is also trained on
        assert set(labels[dealt == fold]) <= set(labels[dealt != fold])
    for label in set(labels.tolist()):
        joined = {
            (group, None) if group is not None else (None, at) for at, group in enumerate(groups) if labels[at] == label
        }
        if len(joined) == 1:
            assert (dealt[labels == label] == -1).all()


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=80), st.integers(2, 6))
def test_without_groups_folds_are_even(labels: list[str], k: int) -> None:
    dealt = folds(labels, None, k)
    for label, number in Counter(labels).items():
        held = Counter(fold for fold, other in zip(dealt.tolist(), labels, strict=True) if other == label)
        if number == 1:
            assert held == {-1: 1}
            continue
        assert -1 not in held
        assert len(held) == min(k, number)
        assert max(held.values()) - min(held.values()) <= 1


def test_seed_and_size() -> None:
    labels = np.arange(1000) % 7
    one, other = folds(labels, None, 5, 0), folds(labels, None, 5, 1)
    assert not np.array_equal(one, other)
    assert max(Counter(one.tolist()).values()) - min(Counter(one.tolist()).values()) <= 7
    assert folds([], None, 5).shape == (0,)
    with pytest.raises(ValueError, match="k=1"):
        folds(labels, None, 1)


@given(st.lists(st.integers(2, 9), min_size=2, max_size=5), st.booleans())
@example([2, 2, 2, 6, 6], True)  # a fold with the copy has fewer originals
def test_of_small_classes_one_unit_each_is_left_out_at_once(counts: list[int], copied: bool) -> None:
    labels = np.repeat(np.arange(len(counts)), counts)
    joined = np.arange(len(labels))
    if copied:  # the first image of each class is there twice
        firsts = np.unique(labels, return_index=True)[1]
        labels, joined = np.append(labels, labels[firsts]), np.append(joined, joined[firsts])
    ids = left_out(labels, joined)
    assert ids is not None and ids.min() >= 0
    typical = int(np.median(counts))
    assert len(np.unique(ids)) == typical
    for label, count in enumerate(counts):
        held = Counter(ids[labels == label].tolist())
        assert len(held) == min(count, typical)
        assert max(held.values()) <= max(-(-(count + copied) // typical), 1 + copied)
    for unit in np.unique(joined):
        assert len(set(ids[joined == unit].tolist())) == 1


@given(st.integers(2, 8), st.integers(2, 9), st.integers(1, 4), st.integers(0, 9))
def test_no_fold_lacks_a_class(classes: int, units_: int, images: int, seed: int) -> None:
    """Else what is held out would be of the class that is rarer among those that stay."""
    labels = np.repeat(np.arange(classes), units_ * images)
    fold_of = stratified(labels, np.arange(len(labels)) // images, k=5, seed=seed)
    held = [set(labels[fold_of == fold].tolist()) for fold in range(fold_of.max() + 1)]
    assert len(held) == min(5, units_) and all(len(found) == classes for found in held)


def test_of_large_classes_one_unit_is_left_out_at_a_time() -> None:
    labels = np.repeat(np.arange(3), [51, 60, 1])
    assert left_out(labels) is None
    joined = np.arange(112)
    joined[1] = 0
    ids = left_out(labels, joined)
    assert ids is not None
    assert ids.tolist() == [*joined[:111].tolist(), -1]


def test_units_join_through_any_key() -> None:
    joined = units([1, 1, None, None, 2, None], ["x", "y", "y", "z", "z", None])
    assert joined[0] == joined[1] == joined[2]
    assert joined[3] == joined[4]
    assert len(set(joined.tolist())) == 3
    with pytest.raises(ValueError, match="6 and 1"):
        units([None] * 6, [1])


def test_class_map() -> None:
    classes = ClassMap(("ants", "bees", "flies"))
    assert [classes.index(name) for name in classes] == [0, 1, 2]
    assert classes.align(("flies", "ants", "bees")).tolist() == [2, 0, 1]
    assert classes.align(("bees",), partial=True).tolist() == [1]
    assert classes.indices(["bees", "bees"]).tolist() == [1, 1]
    assert pickle.loads(pickle.dumps(classes)) == classes
    with pytest.raises(ConvAtlasError, match=r"unknown here: wasps; missing there: ants, bees"):
        classes.align(("wasps", "flies"))
    with pytest.raises(ConvAtlasError, match="did you mean 'bees'|Did you mean 'bees'"):
        classes.index("bee")
    with pytest.raises(ConvAtlasError, match="ants occur twice"):
        ClassMap(("ants", "ants"))
