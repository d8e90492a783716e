"""Where training images come from: what the loop asks of them."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from contextlib import closing
from typing import Protocol

import torch
from torch import Tensor


class Images(Protocol):
    """Labelled images, read in any order."""

    labels: Tensor  # (n,), int64
    names: Sequence[str]  # where each is, for errors; may be empty

    def __len__(self) -> int: ...

    def batches(self, wanted: Iterable[tuple[Tensor, int]]) -> Generator[Tensor]:
        """For each (indices (b,), seed) in turn the images (b, c, h, w), uint8; the seed decides what is random in reading them."""
        ...


class InMemory:
    """Images (n, c, h, w), uint8, that are all there."""

    def __init__(self, images: Tensor, labels: Tensor, names: Sequence[str] = ()) -> None:
        if len(images) != len(labels):
            raise ValueError(f"{len(images)} images with {len(labels)} labels; each needs one")
        self.images, self.labels, self.names = images, labels, names

    def __len__(self) -> int:
        return len(self.images)

    def batches(self, wanted: Iterable[tuple[Tensor, int]]) -> Generator[Tensor]:
        for indices, _ in wanted:
            yield self.images[indices]


def some_of(images: Images, most: int) -> Tensor:
    """At most so many of the images, spread evenly: (n, c, h, w), uint8."""
    chosen = torch.arange(0, len(images), -(-len(images) // most))
    with closing(images.batches([(chosen, 0)])) as read:
        return next(read)
