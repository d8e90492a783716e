"""A CSV file as a data set: one row an image, with its label and optionally its split and its group.

The columns go by the names that pandas users, Keras and the Hugging Face hub give them. Paths are relative to the table.
"""

from __future__ import annotations

import csv
import io
from pathlib import Path

from convatlas.data.facts import DecodeError
from convatlas.data.layouts import SPLITS, Reading, class_name
from convatlas.data.problems import Problem, count, listing, printable
from convatlas.data.records import Record
from convatlas.data.sniff import PREFIX_BYTES
from convatlas.data.sources import read_file
from convatlas.errors import ConvAtlasError

_COLUMNS = {
    "path": ("path", "image", "filename", "file_name"),
    "label": ("label", "class", "target"),
    "split": ("split",),
    "group": ("group",),
}


class TableSource:
    """The files a table names, read relative to its folder."""

    problems: tuple[Problem, ...] = ()
    folders: tuple[str, ...] = ()

    def __init__(self, root: Path, files: tuple[str, ...] = ()) -> None:
        self.root = root
        self.files = files

    def read(self, path: str) -> bytes:
        return read_file(self._file(path), path)

    def prefix(self, path: str) -> bytes:
        try:
            with self._file(path).open("rb") as file:
                return file.read(PREFIX_BYTES)
        except (OSError, ValueError):
            return b""

    def locate(self, path: str) -> str:
        return printable(str(self._file(path)))

    def _file(self, path: str) -> Path:
        file = self.root.parent / path
        # Tables written on Windows; a name that really holds a backslash wins.
        return self.root.parent / path.replace("\\", "/") if "\\" in path and not file.exists() else file


def read_table(root: Path) -> tuple[TableSource, Reading]:
    """Raises `ConvAtlasError` for a table that cannot be understood, naming the line."""
    shown = printable(str(root))
    text = _text(root, shown)
    header = text.split("\n", 1)[0]
    delimiter = max(",;\t", key=header.count)
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        columns = _columns(next(rows, []), shown)
        source = TableSource(root)
        records: dict[str, Record] = {}
        unlabelled, repeated, conflicting, unsplit = [], [], [], []
        for row in rows:
            if not any(cell.strip() for cell in row):
                continue
            cells = {name: row[at].strip() if at < len(row) else "" for name, at in columns.items()}
            path, label = cells["path"], class_name(printable(cells["label"]))
            if not path or printable(path) != path:
                raise ConvAtlasError(
                    f"line {rows.line_num} of {shown} names no file.", remedy="Complete or remove the line."
                )
            if not label:
                unlabelled.append(path)
                continue
            split = "all"
            if "split" in columns:
                split = SPLITS.get(cells["split"].casefold(), "train")
                if not cells["split"]:
                    unsplit.append(path)
                elif cells["split"].casefold() not in SPLITS:
                    raise ConvAtlasError(
                        f"line {rows.line_num} of {shown} has the unknown split {cells['split']!r}.",
                        remedy="Use train, val or test.",
                    )
            record = Record(path=path, label=label, split=split, group=cells.get("group") or None)
            known = records.setdefault(path, record)
            if known.label != label:
                conflicting.append(path)
            elif known is not record:
                repeated.append(path)
    except csv.Error as error:
        raise ConvAtlasError(
            f"line {rows.line_num} of {shown} is not CSV: {error}.", remedy="Save the table again."
        ) from None
    if not records:
        raise ConvAtlasError(f"{shown} lists no labelled images.", remedy="Add rows of path and label.")
    source.files = tuple(records)
    problems = [
        *_unless_empty(unlabelled, "unlabelled", "warning", "without a label left out", "Give each row a label."),
        *_unless_empty(conflicting, "conflicting-labels", "error", "listed under two labels; the first is used",
                       "Keep one row for each image."),
        *_unless_empty(repeated, "repeated-row", "warning", "listed more than once; counted once", "Keep one row for each image."),
        *_unless_empty(unsplit, "no-split", "warning", "without a split taken for training", "Fill in the split column."),
    ]  # fmt: skip
    return source, Reading(layout="csv", records=tuple(records.values()), problems=tuple(problems))


def _text(root: Path, shown: str) -> str:
    try:
        data = read_file(root, shown)
        return data.decode("utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except DecodeError:
        raise ConvAtlasError(f"the table {shown} cannot be read.", remedy="Check that the file may be read.") from None
    except UnicodeDecodeError as error:
        raise ConvAtlasError(
            f"the table {shown} is not UTF-8 text (byte {error.start:,}).", remedy="Save it as `CSV UTF-8`."
        ) from None


def _columns(header: list[str], shown: str) -> dict[str, int]:
    given = [cell.strip().casefold() for cell in header]
    found: dict[str, int] = {}
    for column, names in _COLUMNS.items():
        at = [place for place, name in enumerate(given) if name in names]
        if len(at) > 1:
            raise ConvAtlasError(
                f"{shown} has {len(at)} columns for the {column}: {listing([header[place] for place in at])}.",
                remedy="Keep one of them.",
            )
        if at:
            found[column] = at[0]
    for column in ("path", "label"):
        if column not in found:
            raise ConvAtlasError(
                f"{shown} has no column for the {column}; its first line is {', '.join(header)[:200]!r}.",
                remedy=f"Name the column {' or '.join(_COLUMNS[column])}.",
            )
    return found


def _unless_empty(paths: list[str], kind: str, severity: str, what: str, remedy: str) -> list[Problem]:
    if not paths:
        return []
    assert severity in ("error", "warning")
    message = f"{count(len(paths), 'image')} {what}: {listing(paths)}."
    return [Problem(kind=kind, severity=severity, paths=tuple(paths), message=message, remedy=remedy)]
