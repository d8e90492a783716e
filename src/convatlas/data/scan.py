"""From a path to a `Dataset`: which files, which labels, which split. Nothing is decoded and nothing is written.

Classes are those of the training part, by name; what the other splits hold beside them is an error with the names,
never a shift of indices.
"""

from __future__ import annotations

import re
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal

from convatlas.data.layouts import EXPECTED, Reading, read_folders
from convatlas.data.pairs import has_pairs, read_pairs
from convatlas.data.problems import Problem, count, listing, printable
from convatlas.data.records import Record, Split
from convatlas.data.sniff import extension
from convatlas.data.sources import FolderSource, Source, ZipSource
from convatlas.data.table import read_table
from convatlas.data.tar import TarSource, archives_among, is_tar, matching
from convatlas.errors import ConvAtlasError

ClassOrder = Literal["lexicographic", "natural"]

SPLIT_ORDER: tuple[Split, ...] = ("train", "val", "test", "all")
_IMBALANCE = 10  # images of the largest class for one of the smallest, from which it is worth a word


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """The labelled files below a root, in a stable order: by split, then by path."""

    root: Path
    layout: str  # "split folders", "class folders", "images with .cls files" or "csv", and in what
    records: tuple[Record, ...]
    problems: tuple[Problem, ...]  # what the listing alone shows; `diagnose` adds what the files show
    classes: tuple[str, ...]  # of the training part where there is one
    source: Source = field(repr=False, compare=False)

    @cached_property
    def splits(self) -> dict[Split, int]:
        """Images by split, for the splits there are."""
        counts = Counter(record.split for record in self.records)
        return {split: counts[split] for split in SPLIT_ORDER if split in counts}

    def of(self, split: str) -> tuple[Record, ...]:
        """The records of one split; none where the data set lacks it."""
        return tuple(record for record in self.records if record.split == split)

    def class_counts(self) -> dict[Split, dict[str, int]]:
        """Images by split and class; the classes in order, unknown ones after them."""
        counts = Counter((record.split, record.label) for record in self.records)
        unknown = sorted({record.label for record in self.records} - set(self.classes))
        return {
            split: {
                name: counts[split, name]
                for name in (*self.classes, *unknown)
                if name in self.classes or counts[split, name]
            }
            for split in self.splits
        }

    def read(self, record: Record) -> bytes:
        """The file's bytes. Raises `DecodeError` of kind `unreadable`."""
        return self.source.read(record.path)

    def locate(self, record: Record) -> str:
        """The path by which a person finds the file; inside an archive, `archive.zip/inner/path`."""
        return self.source.locate(record.path)


def scan(path: str | Path, *, class_order: ClassOrder = "lexicographic") -> Dataset:
    """List the data set at `path`: a folder, a zip or tar archive of one, a folder of tar archives, or a CSV file.

    A pattern (`train-{000..145}.tar`, `train-*.tar`) means several tar archives, read as one.
    `class_order` is `"lexicographic"` (1, 10, 2; as torchvision, Keras and the Hugging Face hub) or `"natural"` (1, 2, 10; as
    timm). Raises `ConvAtlasError` for a path that holds no labelled images.
    """
    root = Path(path).expanduser()
    if class_order not in ("lexicographic", "natural"):
        raise ConvAtlasError(f"unknown class order {class_order!r}.", remedy="Use lexicographic or natural.")
    shown = printable(str(root))
    source: Source
    if root.is_dir():
        source = FolderSource(root)
        if shards := archives_among(source):
            source = TarSource(root, shards)
        reading = _read(source)
    elif not root.exists() and (shards := matching(root)):
        source = TarSource(root, shards)
        reading = _read(source)
    elif not root.exists():
        raise ConvAtlasError(f"there is no {shown}.", remedy=_nearest(root) or "Check the path. " + EXPECTED)
    elif not root.is_file():
        raise ConvAtlasError(f"{shown} is neither a folder nor a file.", remedy=EXPECTED)
    elif zipfile.is_zipfile(root) or extension(root.name) == ".zip":
        source = ZipSource(root)
        reading = _read(source)
    elif extension(root.name) in (".csv", ".tsv"):
        source, reading = read_table(root)
    elif is_tar(root):
        source = TarSource(root)
        reading = _read(source)
    else:
        raise ConvAtlasError(f"{shown} is not a folder, a zip or tar archive or a CSV file.", remedy=EXPECTED)

    records = tuple(sorted(reading.records, key=lambda record: (SPLIT_ORDER.index(record.split), record.path)))
    training = [record for record in records if record.split == "train"] or records
    key = _natural if class_order == "natural" else str
    classes = tuple(sorted({record.label for record in training}, key=key))
    return Dataset(
        root=root,
        layout=reading.layout + _inside(source),
        records=records,
        problems=(*reading.problems, *_class_problems(records, training, classes)),
        classes=classes,
        source=source,
    )


def _read(source: Source) -> Reading:
    return read_pairs(source) if isinstance(source, TarSource) and has_pairs(source) else read_folders(source)


def _inside(source: Source) -> str:
    if isinstance(source, ZipSource):
        return " in a zip archive"
    if isinstance(source, TarSource):
        return " in a tar archive" if source.archives == 1 else f" in {source.archives:,} tar archives"
    return ""


def _class_problems(
    records: Iterable[Record], training: Sequence[Record], classes: tuple[str, ...]
) -> Iterator[Problem]:
    """What names and counts show."""
    by_split: dict[Split, dict[str, list[str]]] = {}
    for record in records:
        by_split.setdefault(record.split, {}).setdefault(record.label, []).append(record.path)
    for split, labels in by_split.items():
        unknown = sorted(set(labels) - set(classes))
        if unknown:
            strangers = tuple(path for name in unknown for path in labels[name])
            folded = {name.casefold(): name for name in classes}
            alike = [
                f"{name} differs from {folded[name.casefold()]} only in case"
                for name in unknown
                if name.casefold() in folded
            ]
            yield Problem(
                kind="unknown-class",
                severity="error",
                paths=strangers,
                message=f"the {split} split has {_classes(unknown)}, unknown to train, which has {listing(classes, most=20)}"
                + (f" ({'; '.join(alike)})" if alike else "")
                + f": {listing(strangers)}.",
                remedy="Rename the folder to the name used in train, add the class to train, or remove it.",
            )
        missing = [name for name in classes if name not in labels]
        if missing:
            yield Problem(
                kind="missing-class",
                severity="warning",
                paths=(),
                message=f"the {split} split has no image of {_classes(missing)}, which train has; it is not evaluated there.",
                remedy=f"Add images of {'it' if len(missing) == 1 else 'them'} to {split}.",
            )
    clashes: dict[str, set[str]] = {}
    for name in {record.label for record in records}:
        clashes.setdefault(name.casefold(), set()).add(name)
    for names in (sorted(names) for _, names in sorted(clashes.items()) if len(names) > 1):
        yield Problem(
            kind="case-clash",
            severity="warning",
            paths=(),
            message=f"the class names {listing(names)} differ only in case and count as {len(names)} classes.",
            remedy="If they are one class, put their images under one name.",
        )
    counts = Counter(record.label for record in training)
    where = "train" if any(record.split == "train" for record in training) else "the data set"
    if len(classes) == 1:
        yield Problem(
            kind="one-class",
            severity="error",
            paths=(),
            message=f"{where} has one class, {classes[0]}: there is nothing to tell apart.",
            remedy="Add images of at least one other class.",
        )
    single = [name for name in classes if counts[name] == 1]
    if single:
        alone = tuple(record.path for record in training if record.label in single)
        yield Problem(
            kind="few-images",
            severity="warning",
            paths=alone,
            message=f"{where} has one image only of {_classes(single)}: learned from, but in no "
            f"cross-validated figure: {listing(alone)}.",
            remedy="Add images; some twenty a class make the figures meaningful.",
        )
    largest, smallest = max(classes, key=lambda name: counts[name]), min(classes, key=lambda name: counts[name])
    if counts[largest] >= _IMBALANCE * counts[smallest]:
        yield Problem(
            kind="imbalance",
            severity="warning",
            paths=(),
            message=f"the classes are uneven in {where}: {largest} has {count(counts[largest], 'image')}, {smallest} has "
            f"{counts[smallest]:,}. Always answering {largest} would be right for "
            f"{counts[largest] / len(training):.0%}.",
            remedy="Judge by the balanced accuracy and the table of classes; weight the classes, or add images of the rare ones.",
        )


def _classes(names: list[str]) -> str:
    return f"the class {names[0]}" if len(names) == 1 else f"{len(names)} classes ({listing(names, most=20)})"


def _natural(name: str) -> tuple[list[str | int], str]:
    # Text and number alternate, so that places of the same kind are compared.
    parts = re.split(r"(\d+)", name.casefold())
    return [int(part) if place % 2 else part for place, part in enumerate(parts)], name


def _nearest(path: Path) -> str:
    """The part of the path that does exist, which is where the typing error is."""
    for parent in path.absolute().parents:
        if parent.is_dir():
            names = sorted(entry.name for entry in parent.iterdir() if not entry.name.startswith("."))
            return f"{printable(str(parent))} holds {listing([printable(name) for name in names])}." if names else ""
    return ""
