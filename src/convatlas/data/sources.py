"""Where files lie: a folder or a zip archive (or tar archives, see tar.py), listed and read alike, and never written to.

Names are made printable once, here: a file name is bytes, and those that are not text would break every report later.
"""

from __future__ import annotations

import contextlib
import os
import stat
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

from convatlas.data.facts import DecodeError
from convatlas.data.problems import Problem, count, listing, printable
from convatlas.data.sniff import PREFIX_BYTES
from convatlas.errors import ConvAtlasError

MOST_BYTES = 1 << 30  # of one file; the largest image that would be decoded is smaller

_JUNK = frozenset(("__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "@eadir", "$recycle.bin", "lost+found"))


class Source(Protocol):
    """Files by "/"-separated printable path below `root`."""

    root: Path
    files: tuple[str, ...]
    folders: tuple[str, ...]  # all of them, the empty ones too; without the root
    problems: tuple[Problem, ...]

    def read(self, path: str) -> bytes:
        """The file's bytes. Raises `DecodeError` of kind `unreadable`."""
        ...

    def prefix(self, path: str) -> bytes:
        """The first `PREFIX_BYTES` bytes; empty where the file cannot be read."""
        ...

    def locate(self, path: str) -> str:
        """How a person finds the file."""
        ...


def is_junk(name: str) -> bool:
    """Hidden files, and what operating systems leave behind (among them .DS_Store and .ipynb_checkpoints)."""
    return name.startswith(".") or name.casefold() in _JUNK


class FolderSource:
    """A folder. Links to folders are followed once each; a link back to a folder that contains it is not."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._names: dict[str, str] = {}  # printable path → real path, where they differ
        files: list[str] = []
        folders: list[str] = []
        junk: list[str] = []
        loops: list[str] = []
        closed: list[str] = []
        followed: set[tuple[int, int]] = set()

        def enter(folder: str, path: str, above: frozenset[tuple[int, int]]) -> None:
            try:
                with os.scandir(folder) as entries:
                    found = sorted(entries, key=lambda entry: entry.name)
            except OSError:
                closed.append(path)
                return
            for entry in found:
                shown = f"{path}/{printable(entry.name)}" if path else printable(entry.name)
                if is_junk(entry.name):
                    junk.append(shown)
                    continue
                if not entry.is_dir():
                    # A pipe or a device would block its reader for ever; a dangling link is named when it is read.
                    if entry.is_file() or entry.is_symlink():
                        files.append(shown)
                        if shown != os.path.relpath(entry.path, root).replace(os.sep, "/"):
                            self._names[shown] = entry.path
                    continue
                here = _identity(entry.stat())
                if entry.is_symlink():
                    link = _identity(entry.stat(follow_symlinks=False))
                    if here in above or link in followed:
                        loops.append(shown)
                        continue
                    followed.add(link)
                folders.append(shown)
                enter(entry.path, shown, above | {here})

        enter(str(root), "", frozenset((_identity(root.stat()),)))
        if "" in closed:
            raise ConvAtlasError(f"the folder {printable(str(root))} cannot be read.", remedy="Check its permissions.")
        self.files, self.folders = tuple(files), tuple(folders)
        self.problems = tuple(listing_problems(junk, loops, closed))

    def read(self, path: str) -> bytes:
        return read_file(Path(self._names.get(path, self.root / path)), path)

    def prefix(self, path: str) -> bytes:
        try:
            with Path(self._names.get(path, self.root / path)).open("rb") as file:
                return file.read(PREFIX_BYTES)
        except (OSError, ValueError):
            return b""

    def locate(self, path: str) -> str:
        return printable(str(self.root / path))


class ZipSource:
    """A zip archive, read in place; several threads may read at once. Survives pickling by opening the file again."""

    def __init__(self, root: Path) -> None:
        self.root = root
        try:
            self._archive = zipfile.ZipFile(root)
        except (OSError, zipfile.BadZipFile, ValueError) as error:
            raise ConvAtlasError(
                f"the zip archive {printable(str(root))} cannot be opened: {reason_of(error)}.",
                remedy="Fetch it again, or unpack it with another program and give the folder.",
            ) from None
        self._members: dict[str, zipfile.ZipInfo] = {}
        folders: dict[str, None] = {}
        junk: dict[str, None] = {}
        for info in self._archive.infolist():
            parts = [part for part in _member_name(info).split("/") if part not in ("", ".")]
            hidden = next((place for place, part in enumerate(parts) if is_junk(part)), None)
            if not parts:
                continue
            if hidden is not None:  # ".." among them: a name that points out of the archive
                junk["/".join(parts[: hidden + 1])] = None
                continue
            if info.flag_bits & 1:
                raise ConvAtlasError(
                    f"the zip archive {printable(str(root))} is encrypted.", remedy="Unpack it and give the folder."
                )
            for depth in range(1, len(parts) + info.is_dir()):
                folders["/".join(parts[:depth])] = None
            if not info.is_dir():
                self._members["/".join(parts)] = info
        self.files, self.folders = tuple(sorted(self._members)), tuple(sorted(folders))
        self.problems = tuple(listing_problems(sorted(junk)))

    def read(self, path: str) -> bytes:
        info = self._members.get(path)
        if info is None:
            raise unreadable(path, "the archive holds no such file")
        if info.file_size > MOST_BYTES:
            raise unreadable(path, f"it has {info.file_size:,} bytes; at most {MOST_BYTES:,} are read")
        try:
            return self._archive.read(info)
        except (OSError, ValueError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
            raise unreadable(path, reason_of(error)) from None

    def prefix(self, path: str) -> bytes:
        try:
            with self._archive.open(self._members[path]) as file:
                return file.read(PREFIX_BYTES)
        except (OSError, ValueError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error):
            return b""

    def locate(self, path: str) -> str:
        return f"{printable(str(self.root))}/{path}"

    def __reduce__(self) -> tuple[type[ZipSource], tuple[Path]]:
        return ZipSource, (self.root,)


def read_file(file: Path, shown: str) -> bytes:
    """The bytes of an ordinary file. Raises `DecodeError` of kind `unreadable`, naming `shown`."""
    try:
        about = file.stat()
        if not stat.S_ISREG(about.st_mode):  # opening a pipe would wait for ever
            raise unreadable(shown, "it is not an ordinary file")
        if about.st_size > MOST_BYTES:
            raise unreadable(shown, f"it has {about.st_size:,} bytes; at most {MOST_BYTES:,} are read")
        return file.read_bytes()
    except (OSError, ValueError) as error:
        raise unreadable(shown, reason_of(error)) from None


def _identity(about: os.stat_result) -> tuple[int, int]:
    return about.st_dev, about.st_ino


def _member_name(info: zipfile.ZipInfo) -> str:
    """The printable name. Many programs store UTF-8 without saying so; Python then reads it as the DOS code page."""
    name = info.filename
    if not info.flag_bits & 0x800:
        with contextlib.suppress(UnicodeError):
            name = name.encode("cp437").decode("utf-8")
    return printable(name.replace("\\", "/"))


def unreadable(path: str, reason: str) -> DecodeError:
    """The error of `Source.read`."""
    return DecodeError(
        "unreadable",
        f"the file cannot be read: {reason}",
        "Check that it exists and may be read.",
        name=printable(path),
    )


def reason_of(error: Exception) -> str:
    """What an error says, without the file's name."""
    return printable((error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__)


def listing_problems(junk: list[str], loops: Sequence[str] = (), closed: Sequence[str] = ()) -> Iterator[Problem]:
    """What was not listed."""
    if junk:
        yield Problem(
            kind="junk",
            severity="note",
            paths=tuple(junk),
            message=f"{count(len(junk), 'hidden or system entry', 'hidden or system entries')} ignored: {listing(junk)}.",
            remedy="Nothing to do; they can be deleted.",
        )
    if loops:
        yield Problem(
            kind="link-loop",
            severity="warning",
            paths=tuple(loops),
            message=f"{count(len(loops), 'link')} to a folder already entered, not followed again: {listing(loops)}.",
            remedy="Remove the link, or check that its images are found elsewhere.",
        )
    if closed:
        yield Problem(
            kind="unreadable",
            severity="error",
            paths=tuple(closed),
            message=f"{count(len(closed), 'folder')} cannot be read: {listing(closed)}.",
            remedy="Check the permissions; the images inside are missing from everything below.",
        )
