"""The images of a study: the first of each class by file name, so that whoever asks for as many gets the same, in the same order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from convatlas.data import ClassMap, Dataset, Preprocessing, Record, examine, scan
from convatlas.errors import ConvAtlasError
from convatlas.jobs.images import Progress, silent

if TYPE_CHECKING:
    from convatlas.train.images import InMemory

SIDE = 32  # pixels; larger images are made as small
HELD_OUT = 5  # training images for each held-out one, where that many are there


def study_images(
    data: str | Path, images: int, *, progress: Progress = silent
) -> tuple[InMemory, InMemory, tuple[str, ...]]:
    """Up to `images` of the training part of `data`, a fifth of that number of its test (else validation) part, and the classes.

    Where that is all of the training part, all of the other is taken too; else both hold as many images of each class as of any other,
    unless a class has fewer. Raises `ConvAtlasError` where a part is missing, has fewer than two images, or an image cannot be read: a
    study of other images than those asked for would be another study.
    """
    dataset = scan(data)
    held_out = next((split for split in ("test", "val") if split in dataset.splits), None)
    if "train" not in dataset.splits or held_out is None:
        raise ConvAtlasError(
            f"{data}: a study wants a training and a test part, and there is {', '.join(dataset.splits)}.",
            remedy="Give a folder with train/class/* and test/class/*.",
        )
    classes = ClassMap(dataset.classes)
    parts, all_ = [], dataset.splits["train"] <= images
    for split, wanted in (("train", images), (held_out, -(-images // HELD_OUT))):
        records = dataset.of(split) if all_ else first_of_each(dataset.of(split), -(-wanted // len(classes.names)))
        if len(records) < 2:
            raise ConvAtlasError(f"{data}: {split} has {len(records)} image;", remedy="add some.")
        parts.append(_read(dataset, records, classes, progress))
    return parts[0], parts[1], classes.names


def first_of_each(records: Sequence[Record], number: int) -> list[Record]:
    """The first `number` records of each class, in the order that they are in."""
    seen: Counter[str] = Counter()
    chosen = []
    for record in records:
        if seen[record.label] < number:
            seen[record.label] += 1
            chosen.append(record)
    return chosen


def _read(dataset: Dataset, records: Sequence[Record], classes: ClassMap, progress: Progress) -> InMemory:
    import torch

    from convatlas.train.images import InMemory

    classes.align(sorted({record.label for record in records}), partial=True)
    # mean and standard deviation are the training's, which takes the pixels as they are
    square = Preprocessing(size=SIDE, resize=SIDE, interpolation="bilinear", mean=(0.5,) * 3, std=(0.5,) * 3)
    pixels = np.empty((len(records), 3, SIDE, SIDE), np.uint8)
    for done, item in enumerate(examine(dataset, records, preprocessing=square), start=1):
        if item.pixels is None:
            raise ConvAtlasError(
                f"{dataset.locate(item.record)} cannot be read ({item.failure}).",
                remedy="Mend or remove it; `convatlas check` finds all such files.",
            )
        pixels[done - 1] = item.pixels.transpose(2, 0, 1)
        progress("decode", done, len(records))
    labels = torch.from_numpy(classes.indices([record.label for record in records]).astype(np.int64))
    return InMemory(torch.from_numpy(pixels), labels, [dataset.locate(record) for record in records])
