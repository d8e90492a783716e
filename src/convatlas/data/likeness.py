"""Near copies by their looks: one photo saved again, resized, brightened, or cropped by a few per cent.

Of every decoded image a grey thumbnail of 16 × 16 is kept with its facts. From it comes a perceptual hash of 64 bits (Zauner,
Implementation and Benchmarking of Perceptual Image Hash Functions, 2010: the signs of the lowest frequencies of a cosine transform), which
finds candidates, and then a distance: how much of one thumbnail the other cannot explain when it may be shifted and stretched a little.
How near is too near to be chance differs between photos and digits, so `radius` reads it off the pairs themselves.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Thumbs = NDArray[np.uint8]  # (n, SIDE, SIDE)
Index = NDArray[np.int64]

SIDE = 16  # of a thumbnail, pixels
FARTHEST = 0.02  # the largest distance at which two images may count as copies
BITS = 20  # of a hash that copies may differ in
_PLAIN = 2.0  # standard deviation in grey levels of a thumbnail that shows nothing
_ALIKE = 0.7  # correlation of thumbnails as they stand, from which a closer look is worth its time
_MOST = 40  # candidates an image; where the hash cannot tell images apart, fewer bits may differ
_GROWTH = 2**2.5  # by how much chance pairs multiply, at least, when the distance doubles
_CHANCE, _SHARE = 1.0, 0.2  # pairs by chance that are put up with: so many, or this share of what is found
_BLOCK = 2048  # pairs taken at a time
_TILE = 1024  # hashes compared with as many others at a time: 8 MB of numbers, which stay in the processor's cache
_COSINES = np.cos(np.pi * np.outer(np.arange(8), 2 * np.arange(SIDE) + 1) / (2 * SIDE))


@dataclass(frozen=True, kw_only=True, eq=False)
class Pairs:
    """Pairs of images that look alike, the closest first."""

    first: Index  # (m,) positions, always the smaller of the two
    second: Index
    distance: NDArray[np.float64]  # 0 of equal looks

    def __len__(self) -> int:
        return len(self.first)

    def where(self, kept: NDArray[np.bool_]) -> Pairs:
        """Those of them that are kept."""
        return Pairs(first=self.first[kept], second=self.second[kept], distance=self.distance[kept])


def thumbnail(image: Image.Image) -> str:
    """Grey, 16 × 16, each pixel the mean of what it covers; as base64, to travel through JSON."""
    small = image.resize((SIDE, SIDE), Image.Resampling.BOX, reducing_gap=2.0).convert("L")
    return base64.b64encode(small.tobytes()).decode()


def unpacked(thumbnails: Sequence[str]) -> Thumbs:
    """The inverse of `thumbnail`, of many."""
    data = b"".join(base64.b64decode(text) for text in thumbnails)
    return np.frombuffer(data, np.uint8).reshape(-1, SIDE, SIDE)


def hashes(thumbs: Thumbs) -> NDArray[np.uint64]:
    """(n,) 64 bits each: which of the 63 lowest frequencies is above their median; the mean brightness is left out."""
    waves = (_COSINES @ thumbs.astype(np.float64) @ _COSINES.T).reshape(-1, 64)
    bits = waves[:, 1:] > np.median(waves[:, 1:], axis=1, keepdims=True)
    packed = np.packbits(np.pad(bits, ((0, 0), (1, 0))), axis=1)
    return packed.view(np.uint64)[:, 0]


def alike(thumbs: Thumbs) -> Pairs:
    """The pairs that look alike, up to twice `FARTHEST` apart. Images that show nothing are in none.

    Every pair of hashes is compared, 1.2 seconds of one core for 50,000 images; the rest is for candidates only.
    """
    shown = np.flatnonzero(thumbs.reshape(-1, SIDE**2).std(axis=1) > _PLAIN)
    first, second = _candidates(hashes(thumbs[shown]))
    first, second = shown[first], shown[second]
    smooth = _smoothed(thumbs)
    flat = _unit(smooth[:, 1:-1, 1:-1].reshape(-1, (SIDE - 2) ** 2))
    near = np.concatenate([np.empty(0, bool), *(_dots(flat[a], flat[b]) >= _ALIKE for a, b in _parts(first, second))])
    first, second = first[near], second[near]
    involved, places = np.unique(np.concatenate([first, second]), return_inverse=True)
    bases = _moves(smooth[involved])
    distance = [np.empty(0)]
    for a, b in _parts(places[: len(first)], places[len(first) :]):
        one, other = flat[involved[a]], flat[involved[b]]
        explained = np.maximum(
            (np.einsum("nij,ni->nj", bases[a], other) ** 2).sum(axis=1),
            (np.einsum("nij,ni->nj", bases[b], one) ** 2).sum(axis=1),
        )
        distance.append(1 - np.sqrt(np.minimum(explained, 1.0)))
    found = Pairs(first=first, second=second, distance=np.concatenate(distance))
    found = found.where(found.distance <= 2 * FARTHEST)
    order = np.argsort(found.distance, kind="stable")
    return Pairs(first=found.first[order], second=found.second[order], distance=found.distance[order])


def radius(distance: NDArray[np.float64]) -> float:
    """The distance within which pairs are copies rather than alike by chance; of all pairs' distances up to twice `FARTHEST`.

    Images that happen to look alike fill a space of many dimensions: twice the distance holds at least `_GROWTH` times as many of them.
    Copies crowd near 0. So the pairs between r and 2 r bound those that are within r by chance, and the radius is halved until
    these are few. Among photos the largest radius stays; among digits, where many look alike, little more than copies saved again is left.
    """
    tried = FARTHEST
    while tried > FARTHEST / 1024:
        within = int((distance <= tried).sum())
        by_chance = (int((distance <= 2 * tried).sum()) - within) / (_GROWTH - 1)
        if by_chance <= max(_CHANCE, _SHARE * within):
            return tried
        tried /= 2
    return 0.0


def _candidates(codes: NDArray[np.uint64]) -> tuple[Index, Index]:
    """The pairs whose hashes differ in few bits: at most `BITS`, and fewer where that would be too many pairs."""
    most, bits, number = _MOST * len(codes), BITS, 0
    found: list[tuple[Index, Index, NDArray[np.uint8]]] = []
    tiles = range(0, len(codes), _TILE)
    for start, other in ((start, other) for start in tiles for other in tiles if other >= start):
        apart = np.bitwise_count(codes[start : start + _TILE, None] ^ codes[other : other + _TILE])
        place = np.flatnonzero(apart <= bits)
        a, b = place // apart.shape[1], place % apart.shape[1]
        later = b + other > a + start
        found.append((a[later] + start, b[later] + other, apart[a[later], b[later]]))
        number += len(found[-1][0])
        while number > most and bits:
            bits -= 1
            found = [(one[near <= bits], two[near <= bits], near[near <= bits]) for one, two, near in found]
            number = sum(len(one) for one, _, _ in found)
    empty = np.empty(0, np.int64)
    return np.concatenate([empty, *(part[0] for part in found)]), np.concatenate([empty, *(part[1] for part in found)])


def _smoothed(thumbs: Thumbs) -> NDArray[np.float32]:
    """Each pixel the weighted mean of its 3 × 3, 1-2-1 each way, so that a shift of a part of a pixel changes little."""
    wide = np.pad(thumbs.astype(np.float32), ((0, 0), (1, 1), (1, 1)), mode="edge")
    wide = wide[:, :-2] + 2 * wide[:, 1:-1] + wide[:, 2:]
    return ((wide[:, :, :-2] + 2 * wide[:, :, 1:-1] + wide[:, :, 2:]) / 16).astype(np.float32, copy=False)


def _moves(smooth: NDArray[np.float32]) -> NDArray[np.float32]:
    """(n, pixels, 5) orthonormal: what an image becomes, to first order, when it is shifted and stretched along both axes."""
    down, right = np.asarray(np.gradient(smooth, axis=1)), np.asarray(np.gradient(smooth, axis=2))
    middle = (np.arange(SIDE, dtype=np.float32) - (SIDE - 1) / 2) / SIDE
    made = (smooth, down, right, middle[:, None] * down, middle * right)
    columns = np.stack([part[:, 1:-1, 1:-1].reshape(-1, (SIDE - 2) ** 2) for part in made], axis=2)
    columns -= columns.mean(axis=1, keepdims=True)
    return np.linalg.qr(columns)[0]


def _unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Each row without its mean, of length 1; rows of nothing stay 0."""
    centred = rows - rows.mean(axis=1, keepdims=True)
    length = np.linalg.norm(centred, axis=1, keepdims=True)
    return centred / np.where(length > 0, length, 1)


def _dots(one: NDArray[np.float32], other: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.einsum("ij,ij->i", one, other)


def _parts(first: Index, second: Index) -> list[tuple[Index, Index]]:
    return [(first[i : i + _BLOCK], second[i : i + _BLOCK]) for i in range(0, len(first), _BLOCK)]
