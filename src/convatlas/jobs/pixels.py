"""Images decoded once and prepared as a network sees them, for what trains on them: in memory or, where they are many, in a mapped file."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from convatlas.data import Dataset, Preprocessing, Record, examine
from convatlas.errors import ConvAtlasError
from convatlas.jobs.images import Progress
from convatlas.train.cached import Cached
from convatlas.train.images import InMemory

LARGE = 1 << 30  # bytes of images that memory should not hold


def prepared(
    dataset: Dataset,
    records: Sequence[Record],
    labels: Tensor,
    square: Preprocessing,
    how: Literal["auto", "memory", "cached"],
    *,
    least: int = 2,
    progress: Progress,
    say: Callable[[str], None],
) -> InMemory | Cached:
    """The images of `records`, with `labels` (n,) int64. What cannot be read is named to `say` and left out.

    Raises `ConvAtlasError` where fewer than `least` can be read.
    """
    height, width, channels = square.shape
    if how == "auto":
        how = "cached" if len(records) * math.prod(square.shape) > LARGE else "memory"
    if how == "cached":
        cached = Cached(dataset, records, labels, square, progress=progress, say=say)
        for failure in cached.failures:
            say(f"left out: {failure}")
        ensure_enough(dataset, len(cached), len(records), least)
        return cached
    pixels = np.empty((len(records), channels, height, width), np.uint8)
    read: list[int] = []
    contents: list[str] = []
    for place, item in enumerate(examine(dataset, records, preprocessing=square)):
        if item.pixels is None:
            say(f"left out: {dataset.locate(item.record)} ({item.failure})")
        else:
            pixels[len(read)] = item.pixels.transpose(2, 0, 1)
            read.append(place)
            contents.append(item.sha256)
        progress("decode", place + 1, len(records))
    ensure_enough(dataset, len(read), len(records), least)
    names = [dataset.locate(records[place]) for place in read]
    return InMemory(torch.from_numpy(pixels[: len(read)]), labels[read], names, contents)


def ensure_enough(dataset: Dataset, read: int, of: int, least: int) -> None:
    """Raises `ConvAtlasError` where fewer than `least` of so many images can be read."""
    if read < least:
        raise ConvAtlasError(
            f"{dataset.root}: {read} of {of} images could be read, and {least} are needed.",
            remedy="`convatlas check` names each file that cannot be read, and the reason.",
        )
