"""A folder that appears whole or not at all: written beside its place, flushed, then moved there."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from convatlas.errors import ConvAtlasError

MARK = ".convatlas"  # lists the files that were written, one a line: these, and only these, the next run may replace
_LEFT_BEHIND = (".DS_Store", "Thumbs.db", "desktop.ini")  # by those who look into a folder


@contextmanager
def whole_folder(target: Path, *, mark: bool = True) -> Iterator[Path]:
    """Yields an empty folder to fill; on success it becomes `target`, on any error or interrupt nothing is left of it.

    An earlier result of ours at `target` is replaced, together with all of it; a folder that holds anything else is not touched
    and is an error. Without `mark` the new folder holds nothing besides what was put into it, and is never replaced.
    """
    ensure_replaceable(target)
    target = target.resolve()  # a link stays, and what it leads to is replaced
    partial = target.with_name(_partial(target, os.getpid()))
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        yield partial
        if mark:
            (partial / MARK).write_text("".join(f"{name}\n" for name in sorted(_files(partial))), encoding="utf-8")
        for name in _files(partial):
            with (partial / name).open("r+b") as file:  # Windows flushes only what may be written
                os.fsync(file.fileno())
        _swap(partial, target)
    except OSError as error:
        raise ConvAtlasError(
            f"{target}: cannot be written ({error}).", remedy="Give another folder with --out."
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def is_being_written(target: Path) -> bool:
    """Whether a process is filling the folder that shall become `target`, or was killed while it did."""
    return any(each.name.startswith(_partial(target, "")) for each in target.absolute().parent.iterdir())


def ensure_replaceable(target: Path) -> None:
    """Raises `ConvAtlasError` where `target` is a file, the working directory, or a folder that holds anything we did not write."""
    if target.resolve() == Path.cwd():
        raise ConvAtlasError(
            f"{target} is the working directory, which cannot be replaced.",
            remedy="Give the name of a new folder with --out.",
        )
    if not target.exists():
        return
    if not target.is_dir():
        raise ConvAtlasError(f"{target} is a file.", remedy="Give another folder with --out.")
    mark = target / MARK
    ours = {MARK, *mark.read_text(encoding="utf-8").splitlines()} if mark.is_file() else set()
    foreign = sorted(
        name
        for name in _files(target)
        if name not in ours
        and not name.startswith("charts/")  # saved on demand
        and not (ours and name.rpartition("/")[2] in _LEFT_BEHIND)
    )
    if foreign:
        raise ConvAtlasError(
            f"{target} holds {foreign[0]!r}{' and more' if foreign[1:] else ''}, which ConvAtlas did not write, so it is left alone.",
            remedy="Give another folder with --out, or move that away.",
        )


def _partial(target: Path, process: int | str) -> str:
    return f".{target.name}.partial-{process}"


def _files(folder: Path) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()]


def _swap(partial: Path, target: Path) -> None:
    """Moves `partial` to `target`; the earlier folder there goes only once the new one is in place, and comes back if that fails."""
    old = target.with_name(f".{target.name}.old-{os.getpid()}")
    try:
        if target.exists():
            target.rename(old)
        partial.rename(target)
    except BaseException:
        if old.exists() and not target.exists():
            old.rename(target)
        raise
    shutil.rmtree(old, ignore_errors=True)
