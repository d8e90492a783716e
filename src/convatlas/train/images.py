"""Where the training loop gets its images: a protocol, and its simplest case, images that are in memory.

The loop says which images it wants in which order, and a source hands over batches of bytes. Three sources keep the protocol: `InMemory`
here, `Cached` (cached.py) for small images by the hundred thousand, mapped from one file, and `Streamed` (streamed.py) for photos that are
read and decoded while the network trains. What a batch holds depends on what was asked for and on nothing else.
"""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Iterable, Sequence
from contextlib import closing
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

# For each batch the indices (b,) int64 of its images, on the CPU, and the seed of what is random in it.
Wanted = Iterable[tuple[Tensor, int]]


class Images(Protocol):
    """Labelled images, all of one size once they are in a batch."""

    @property
    def labels(self) -> Tensor:
        """(n,), int64, on the CPU."""
        ...

    @property
    def names(self) -> Sequence[str]:
        """Where each file is, for messages; may be made only when asked for. Empty where nothing is known."""
        ...

    @property
    def crops(self) -> bool:
        """Whether batches come already randomly cropped and resized, as `Augment.scale` and `ratio` say; then the loop must not do it again
        and augments with `scale=(1, 1)`. All else (padding, flips, colours, mixing) is always the loop's, on the whole batch on its device.
        """
        ...

    @property
    def prepared(self) -> bool:
        """Whether batches are what the network takes, of any floating type, and are neither standardised nor augmented: maps that a frozen
        part of it has made."""
        ...

    def __len__(self) -> int: ...

    def batches(self, wanted: Wanted) -> Generator[Tensor]:
        """For each pair in turn the batch (b, c, h, w), uint8 unless `prepared`, on the CPU, in either memory format.

        May take a few pairs ahead of the consumer. Closing the iterator, or dropping it, ends what runs for it. An error is raised where
        the batch that has it would have been returned: `ConvAtlasError`, with the name of the file.
        """
        ...

    def sha256(self) -> str:
        """Of what decides the batches, for the description of a run."""
        ...


class InMemory:
    """Images (n, c, h, w), uint8, that are there."""

    crops = prepared = False

    def __init__(self, images: Tensor, labels: Tensor, names: Sequence[str] = (), contents: Sequence[str] = ()) -> None:
        """`contents` are the SHA-256 of the files, where there are files. Raises `ValueError` where these do not fit together."""
        if images.dtype != torch.uint8 or images.ndim != 4:
            raise ValueError(f"images are {images.dtype} {tuple(images.shape)}; they must be uint8 (n, c, h, w)")
        if {len(labels), len(names or images), len(contents or images)} != {len(images)}:
            of = f"{len(labels)} labels, {len(names)} names and {len(contents)} hashes"
            raise ValueError(f"{len(images)} images with {of}")
        self.images = images
        self.labels = labels
        self.names = names
        self.contents = contents

    def __len__(self) -> int:
        return len(self.images)

    def batches(self, wanted: Wanted) -> Generator[Tensor]:
        for indices, _ in wanted:
            yield self.images[indices]

    def sha256(self) -> str:
        return digest(self.images, self.labels)


def digest(*parts: Tensor | str) -> str:
    """The SHA-256 of tensors' bytes and of texts, one after the other."""
    found = hashlib.sha256()
    for part in parts:
        found.update(part.encode() if isinstance(part, str) else np.ascontiguousarray(part.cpu().numpy()).data)
    return found.hexdigest()


def some_of(images: Images, most: int) -> Tensor:
    """At most so many of the images, spread evenly: (n, c, h, w), uint8."""
    chosen = torch.arange(0, len(images), -(-len(images) // most))
    with closing(images.batches([(chosen, 0)])) as read:
        return next(read)


class Part:
    """Some of the images of a source, `rows` (m,) of them, as a source: a fold."""

    def __init__(self, images: Images, rows: Tensor) -> None:
        """Raises `IndexError` for a row that is not there."""
        self.labels = images.labels[rows]
        self.crops, self.prepared = images.crops, images.prepared
        self._images, self._rows = images, rows

    @property
    def names(self) -> Sequence[str]:
        return [self._images.names[int(row)] for row in self._rows] if self._images.names else ()

    def __len__(self) -> int:
        return len(self._rows)

    def batches(self, wanted: Wanted) -> Generator[Tensor]:
        return self._images.batches((self._rows[indices], seed) for indices, seed in wanted)

    def sha256(self) -> str:
        return digest(self._images.sha256(), self._rows)
