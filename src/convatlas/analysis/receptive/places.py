"""Which dimension of a tensor is which axis of the image, kept through views.

Each dimension has a tag: the number of the image's axis that it runs along; `ALIKE`, where all units along it see the same; `MIXED`, where
they differ, as the channels of a concatenation do; or, after a view that merges dimensions, the parts it was merged from, slowest first,
each a size and a tag. A later view can take them apart again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod

ALIKE = -1
MIXED = -2

Part = tuple[int, int]  # a size and a tag
Tag = int | tuple[Part, ...]
Places = tuple[Tag, ...]  # of each dimension


def axes(tag: Tag) -> tuple[int, ...]:
    """The image's axes that a dimension runs along."""
    if isinstance(tag, tuple):
        return tuple(part for _, part in tag if part >= 0)
    return (tag,) if tag >= 0 else ()


def is_mixed(tag: Tag) -> bool:
    """Whether units differ along it beside what their place on the image makes different."""
    return any(part == MIXED for _, part in tag) if isinstance(tag, tuple) else tag == MIXED


def retagged(places: Places, dim: int, tag: int) -> Places:
    return (*places[:dim], tag, *places[dim + 1 :])


def reshaped(places: Places, shape: Sequence[int], made: Sequence[int]) -> Places | None:
    """Of a view of `shape` as `made`; None where it takes an axis of the image to pieces. Axes of one unit are dropped."""
    parts = [part for tag, size in zip(places, shape, strict=True) for part in _parts(tag, size) if part[0] > 1]
    tags: list[Tag] = []
    for sizes, block in _blocks(parts, made):
        if len(sizes) == 1:
            tags.append(_merged(block))
        elif any(tag >= 0 for _, tag in block):
            taken = _taken_apart(block, sizes)
            if taken is None:
                return None
            tags += taken
        else:
            mixed = MIXED if any(tag == MIXED for _, tag in block) else ALIKE
            tags += [ALIKE if size == 1 else mixed for size in sizes]
    return tuple(tags)


def _parts(tag: Tag, size: int) -> tuple[Part, ...]:
    return tag if isinstance(tag, tuple) else ((size, tag),)


def _merged(block: Sequence[Part]) -> Tag:
    if not block:
        return ALIKE
    if len(block) == 1:
        return block[0][1]
    if all(tag < 0 for _, tag in block):
        return MIXED if any(tag == MIXED for _, tag in block) else ALIKE
    return tuple(block)


def _blocks(parts: Sequence[Part], made: Sequence[int]) -> Iterator[tuple[list[int], list[Part]]]:
    """The smallest runs of dimensions made that hold whole runs of parts."""
    rest = list(parts)
    sizes: list[int] = []
    block: list[Part] = []
    for size in made:
        sizes.append(size)
        while rest and prod(part for part, _ in block) < prod(sizes):
            block.append(rest.pop(0))
        if prod(part for part, _ in block) == prod(sizes):
            yield sizes, block
            sizes, block = [], []
    if sizes:
        yield sizes, block


def _taken_apart(block: Sequence[Part], sizes: Sequence[int]) -> list[Tag] | None:
    """The parts of a block dealt out to several dimensions, in order; parts that are no axes may be cut."""
    rest = list(block)
    tags: list[Tag] = []
    for size in sizes:
        dealt: list[Part] = []
        while prod(part for part, _ in dealt) < size:
            part, tag = rest.pop(0)
            room, rough = divmod(size, prod(taken for taken, _ in dealt))
            if rough:
                return None
            if part > room:
                if tag >= 0 or part % room:
                    return None
                rest.insert(0, (part // room, tag))
                part = room
            dealt.append((part, tag))
        if prod(part for part, _ in dealt) != size:
            return None
        tags.append(_merged(dealt))
    return tags
