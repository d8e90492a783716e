"""Which files are images, and what their folders say about label and split.

Read are `root/{train,val,test}/{class}/*` and `root/{class}/*`, at any depth below the class, and the same inside one
wrapping folder, which archives often have. What the folders do not say is never guessed: it is listed or refused.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from convatlas.data.problems import Problem, count, listing
from convatlas.data.records import Record, Split
from convatlas.data.sniff import IMAGE_EXTENSIONS, extension, is_picture
from convatlas.data.sources import Source
from convatlas.errors import ConvAtlasError

SPLITS: dict[str, Split] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
EXPECTED = (
    "Expected are ROOT/CLASS/IMAGES or ROOT/{train,val,test}/CLASS/IMAGES, a CSV file with the columns path, label "
    "(and split, group), or a zip or tar archive of such folders."
)


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What was understood of a source."""

    layout: str
    records: tuple[Record, ...]
    problems: tuple[Problem, ...]


def class_name(folder: str) -> str:
    """Names that look the same are the same: macOS stores é as two characters, most others as one."""
    return unicodedata.normalize("NFC", folder).strip()


def read_folders(source: Source) -> Reading:
    """Raises `ConvAtlasError` where the folders do not amount to classes."""
    images = [path for path in source.files if _is_image(source, path)]
    others = sorted(set(source.files) - set(images))
    if not images:
        raise ConvAtlasError(f"no images in {source.locate('').rstrip('/')}.", remedy=EXPECTED)
    problems = list(source.problems)

    wrapper = _wrapper(source.folders, images)
    if wrapper:
        problems.append(
            Problem(
                kind="wrapped",
                severity="note",
                paths=(wrapper,),
                message=f"everything lies inside the one folder {wrapper}, which is taken as the root.",
                remedy="Nothing to do, unless it was meant as a class: then give the other classes folders beside it.",
            )
        )
    depth = wrapper.count("/") + 1 if wrapper else 0
    folders = [tuple(path.split("/"))[depth:] for path in source.folders]
    parts = {path: tuple(path.split("/"))[depth:] for path in images}
    split_names = _split_folders(parts.values())
    _refuse_ambiguous(split_names, source, parts)

    records, loose, outside, nested = [], [], [], dict[str, None]()
    for path, inside in parts.items():
        split = SPLITS.get(inside[0].casefold()) if split_names else None
        if split_names and split is None:
            outside.append(path)
            continue
        below = inside[1:] if split else inside
        if len(below) < 2:
            loose.append(path)
            continue
        if len(below) > 2:
            nested[class_name(below[0])] = None
        records.append(Record(path=path, label=class_name(below[0]), split=split or "all"))

    if not records:
        table = next((path for path in others if extension(path) == ".csv"), None)
        hint = f" There is a table beside them: try {source.locate(table)}." if table else ""
        raise ConvAtlasError(
            f"{count(len(images), 'image')} in {source.locate('').rstrip('/')}, but no class folders "
            f"({listing(images, most=3)}).",
            remedy=EXPECTED + hint,
        )
    problems.extend(_leftovers(others, loose, outside, list(nested), sorted(split_names)))
    problems.extend(_empty_classes(folders, split_names, parts.values(), wrapper))
    return Reading(
        layout="split folders" if split_names else "class folders", records=tuple(records), problems=tuple(problems)
    )


def _is_image(source: Source, path: str) -> bool:
    """By name where the name says so (a web page called cat.jpg is a broken image, not a page), else by content."""
    return extension(path) in IMAGE_EXTENSIONS or is_picture(source.prefix(path))


def _wrapper(folders: tuple[str, ...], images: list[str]) -> str:
    """The chain of folders that are alone at their level, as long as there are folders with images below."""
    wrapper = ""
    while True:
        start = f"{wrapper}/" if wrapper else ""
        tops = {path[len(start) :].split("/")[0] for path in folders if path.startswith(start)}
        if len(tops) != 1 or any("/" not in path[len(start) :] for path in images):
            return wrapper
        (top,) = tops
        below = f"{start}{top}/"
        if top.casefold() in SPLITS or any("/" not in path[len(below) :] for path in images):
            return wrapper
        wrapper = f"{start}{top}"


def _split_folders(parts: Iterable[tuple[str, ...]]) -> set[str]:
    """The top folders that are splits: named like one, with class folders inside.

    "train" is also a vehicle: a folder of that name that holds its images directly is a class.
    """
    return {inside[0] for inside in parts if inside[0].casefold() in SPLITS and len(inside) >= 3}


def _refuse_ambiguous(split_names: set[str], source: Source, parts: dict[str, tuple[str, ...]]) -> None:
    by_split: dict[Split, list[str]] = {}
    for name in sorted(split_names):
        by_split.setdefault(SPLITS[name.casefold()], []).append(name)
    for split, names in by_split.items():
        if len(names) > 1:
            raise ConvAtlasError(
                f"{source.locate('').rstrip('/')} holds {len(names)} folders for the {split} split: {listing(names)}.",
                remedy="Keep one of them, or merge them.",
            )
    tops = {inside[0] for inside in parts.values()}
    if not split_names and len(tops) > 1 and all(top.casefold() in SPLITS for top in tops):
        raise ConvAtlasError(
            f"the folders {listing(sorted(tops))} hold images directly, without class folders.", remedy=EXPECTED
        )


def _leftovers(
    others: list[str], loose: list[str], outside: list[str], nested: list[str], split_names: list[str]
) -> Iterator[Problem]:
    if others:
        yield Problem(
            kind="ignored-files",
            severity="note",
            paths=tuple(others),
            message=f"{count(len(others), 'file')} that hold no image ignored: {listing(others)}.",
            remedy="Nothing to do; if one should be an image, it is damaged.",
        )
    if loose:
        yield Problem(
            kind="unlabelled",
            severity="warning",
            paths=tuple(loose),
            message=f"{count(len(loose), 'image')} outside any class folder left out: {listing(loose)}.",
            remedy="Move them into the folder of their class.",
        )
    if outside:
        yield Problem(
            kind="outside-splits",
            severity="warning",
            paths=tuple(outside),
            message=f"{count(len(outside), 'image')} beside the splits {listing(split_names)} left out: {listing(outside)}.",
            remedy="Move them into one of the splits.",
        )
    if nested:
        yield Problem(
            kind="nested",
            severity="note",
            paths=tuple(nested),
            message=f"folders inside the class folders {listing(nested)}: their images are counted to the class.",
            remedy="If the inner folders are the classes, move them up one level.",
        )


def _empty_classes(
    folders: list[tuple[str, ...]], split_names: set[str], parts: Iterable[tuple[str, ...]], wrapper: str
) -> Iterator[Problem]:
    filled = {inside[:depth] for inside in parts for depth in (1, 2)}
    if split_names:  # class folders, and splits that hold nothing at all
        candidates = {inside for inside in folders if len(inside) == 2 and inside[0] in split_names}
        candidates |= {inside for inside in folders if len(inside) == 1 and inside[0].casefold() in SPLITS}
    else:
        candidates = {inside for inside in folders if len(inside) == 1}
    start = f"{wrapper}/" if wrapper else ""
    empty = [start + "/".join(inside) for inside in sorted(candidates - filled)]
    if empty:
        yield Problem(
            kind="empty-class",
            severity="warning",
            paths=tuple(empty),
            message=f"{count(len(empty), 'folder')} without any image: {listing(empty)}. No class is made of it.",
            remedy="Add images, or remove the folder.",
        )
