"""Near copies among the files of a data set: which files they are, and what is said about them.

Looks alone make suspects, which is all a check has. Where a network has seen the images too, both must agree: pictures of one layout may
look alike from afar and show different things, and two photos of one thing are no copies of each other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from convatlas.data.examine import Examined
from convatlas.data.likeness import FARTHEST, alike, radius, unpacked
from convatlas.data.problems import Problem, count

# Cosines of centred features: from which two images may be copies, and where looks alone would not do.
ALIKE, SAME = 0.3, 0.8
_SHOWN = 3  # pairs named in a message


@dataclass(frozen=True, kw_only=True)
class NearPair:
    """Two contents that are copies of one picture, in other bytes."""

    sha256s: tuple[str, str]
    distance: float  # of their looks: 0 is equal, see `likeness`
    cosine: float | None  # of their centred features; None where no network has seen them


def near_copies(
    examined: Sequence[Examined], features: Callable[[list[str]], np.ndarray] | None = None
) -> tuple[NearPair, ...]:
    """The pairs of different contents that are copies of one picture, the closest first.

    `features` gives a row for each of these contents, all of which were decoded: then only pairs that it finds alike count.
    """
    thumbs = {item.sha256: item.facts.thumb for item in examined if item.facts is not None and item.facts.thumb}
    contents = list(thumbs)
    pairs = alike(unpacked(list(thumbs.values())))
    cosine = None
    if features is not None and len(pairs):
        rows = features(contents).astype(np.float64)
        rows -= rows.mean(axis=0)
        rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
        cosine = np.einsum("ij,ij->i", rows[pairs.first], rows[pairs.second])
        pairs, cosine = pairs.where(cosine >= ALIKE), cosine[cosine >= ALIKE]
    near = pairs.distance <= radius(pairs.distance)
    if cosine is not None:  # after the radius, which compares the numbers of pairs at different distances
        near &= (pairs.distance <= FARTHEST / 2) | (cosine >= SAME)
    return tuple(
        NearPair(
            sha256s=(contents[pairs.first[i]], contents[pairs.second[i]]),
            distance=float(pairs.distance[i]),
            cosine=None if cosine is None else float(cosine[i]),
        )
        for i in np.flatnonzero(near)
    )


def near_problems(examined: Sequence[Examined], near: Sequence[NearPair]) -> Iterator[Problem]:
    """What is said of near copies: across splits, under two labels, and the rest; suspects where no network has seen them."""
    files: dict[str, list[Examined]] = {}
    for item in examined:
        files.setdefault(item.sha256, []).append(item)
    across: list[tuple[str, str]] = []
    labels: list[tuple[str, str]] = []
    rest: list[tuple[str, str]] = []
    for pair in near:
        for one, other in ((one, other) for one in files[pair.sha256s[0]] for other in files[pair.sha256s[1]]):
            a, b = one.record, other.record
            if a.label != b.label:
                labels.append((a.path, b.path))
            if a.split != b.split:
                across.append((a.path, b.path))
            elif a.label == b.label:
                rest.append((a.path, b.path))
    sure = all(pair.cosine is not None for pair in near)
    what = "near copies of each other" if sure else "so alike that they may be near copies"
    if across:
        yield Problem(
            kind="near-duplicate-across-splits",
            severity="error" if sure else "warning",
            paths=_paths(across),
            message=f"{count(len(across), 'pair')} of images in different splits are {what}, so an accuracy measured there is of "
            f"images that were all but trained on: {_pairs(across)}.",
            remedy="Look at them, and keep each picture in one split."
            + (" The figures are also given without such images." if sure else ""),
        )
    if labels:
        yield Problem(
            kind="near-conflicting-labels",
            severity="warning",
            paths=_paths(labels),
            message=f"{count(len(labels), 'pair')} of images are {what} and have different labels: {_pairs(labels)}.",
            remedy="Look at them: one of the two labels is probably wrong.",
        )
    if rest:
        yield Problem(
            kind="near-duplicate",
            severity="warning" if sure else "note",
            paths=_paths(rest),
            message=f"{count(len(rest), 'pair')} of images are {what}: {_pairs(rest)}.",
            remedy="They are kept on one side of every split; nothing to do, unless they should be there once."
            if sure
            else "Look at them; `convatlas fit` keeps those on one side of every split that its network finds alike too.",
        )


def _paths(pairs: Sequence[tuple[str, str]]) -> tuple[str, ...]:
    """Each file once, in the order of the pairs."""
    return tuple(dict.fromkeys(path for pair in pairs for path in pair))


def _pairs(pairs: Sequence[tuple[str, str]]) -> str:
    named = "; ".join(f"{one} and {other}" for one, other in pairs[:_SHOWN])
    return named + (f"; and {len(pairs) - _SHOWN:,} more" if len(pairs) > _SHOWN else "")
