"""Images beside files that hold their class: `0001.jpg` and `0001.cls`, as WebDataset keeps them in tar archives.

The key of a file is its path up to the first dot of its name, as there (https://github.com/webdataset/webdataset). A class file holds a
number or a name. Folders named like splits are splits; what the names do not say is never guessed.
"""

from __future__ import annotations

from collections.abc import Iterator

from convatlas.data.facts import DecodeError
from convatlas.data.layouts import EXPECTED, SPLITS, Reading, class_name
from convatlas.data.problems import Problem, Severity, count, listing, printable
from convatlas.data.records import Record
from convatlas.data.sniff import IMAGE_EXTENSIONS
from convatlas.data.sources import Source
from convatlas.data.tar import LABEL
from convatlas.errors import ConvAtlasError

_LONGEST = 200  # characters of a class's name


def has_pairs(source: Source) -> bool:
    """Whether there is any file of a class."""
    return any(_key(path)[1] == LABEL for path in source.files)


def read_pairs(source: Source) -> Reading:
    """Raises `ConvAtlasError` where no image has a class."""
    images: dict[str, str] = {}  # path → key
    labels: dict[str, str] = {}  # key → class
    unclear: list[str] = []
    others: list[str] = []
    for path in source.files:
        key, ending = _key(path)
        if ending in IMAGE_EXTENSIONS:
            images[path] = key
        elif ending != LABEL:
            others.append(path)
        elif label := _label(source, path):
            labels[key] = label
        else:
            unclear.append(path)
    split_names = {path.split("/")[0] for path in images if "/" in path and path.split("/")[0].casefold() in SPLITS}
    records: list[Record] = []
    unlabelled: list[str] = []
    outside: list[str] = []
    for path, key in images.items():
        split = SPLITS.get(path.split("/")[0].casefold()) if "/" in path else None
        if key not in labels:
            unlabelled.append(path)
        elif split_names and split is None:
            outside.append(path)
        else:
            records.append(Record(path=path, label=labels[key], split=split or "all"))
    if not records:
        raise ConvAtlasError(
            f"no image of {source.locate('').rstrip('/')} has its class in a {LABEL} file.", remedy=EXPECTED
        )
    alone = sorted(set(labels) - set(images.values()))
    problems = (*source.problems, *_problems(unlabelled, unclear, outside, alone, others, sorted(split_names)))
    return Reading(layout=f"images with {LABEL} files", records=tuple(records), problems=problems)


def _key(path: str) -> tuple[str, str]:
    """What names an image and its class together, and the ending in lower case."""
    folder, slash, name = path.rpartition("/")
    stem, dot, ending = name.partition(".")
    return f"{folder}{slash}{stem}", f"{dot}{ending}".lower()


def _label(source: Source, path: str) -> str:
    """Empty where the file holds no name."""
    try:
        text = source.read(path).decode("utf-8-sig").strip()
    except (DecodeError, UnicodeDecodeError):
        return ""
    return class_name(text) if printable(text) == text and len(text) <= _LONGEST else ""


def _problems(
    unlabelled: list[str],
    unclear: list[str],
    outside: list[str],
    alone: list[str],
    others: list[str],
    split_names: list[str],
) -> Iterator[Problem]:
    said: tuple[tuple[list[str], str, Severity, str, str, str], ...] = (
        (unclear, "unclear-class", "error", "class file", "that hold no name of a class", "Write one line, a number or a name."),
        (unlabelled, "unlabelled", "warning", "image", f"without a {LABEL} file left out", "Add the class under the image's name."),
        (outside, "outside-splits", "warning", "image", f"beside the splits {listing(split_names)} left out", "Move them into a split."),
        (alone, "no-image", "warning", "class file", "without an image", "If there was one, it is missing; pack the set again."),
        (others, "ignored-files", "note", "file", "that hold no image ignored", "Nothing to do; if one should be an image, rename it."),
    )  # fmt: skip
    for paths, kind, severity, noun, what, remedy in said:
        if paths:
            message = f"{count(len(paths), noun)} {what}: {listing(paths)}."
            yield Problem(kind=kind, severity=severity, paths=tuple(paths), message=message, remedy=remedy)
