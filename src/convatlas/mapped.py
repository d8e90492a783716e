"""Arrays too large for memory: equal rows in one file of the cache, computed once, then mapped into memory and read in place.

A file lies under the hash of all that decides its bytes. It holds the rows, then a checksum a row, then what it is. It arrives whole or not
at all, and every row is checked when it is opened: a damaged file is built anew. `convatlas cache` shows and prunes them.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convatlas import cache
from convatlas.errors import ConvAtlasError
from convatlas.locks import locked

_CHECKSUM = 16  # bytes a row


class Unmappable(ConvAtlasError):
    """What cannot be kept in a mapped file: for its kind, for its size, or since the disk does not take it."""


@dataclass(frozen=True, kw_only=True)
class Rows:
    """What is kept: rows of one shape and type, and how they are described."""

    kind: str  # the file's suffix: what they are of
    words: str  # for messages: "the decoded images"
    otherwise: str  # what to do where there is no room for them, as the end of a sentence
    identity: Mapping[str, Any]  # everything that decides the bytes
    count: int
    shape: tuple[int, ...]  # of a row
    dtype: str

    @property
    def path(self) -> Path:
        return cache.mapped_path(self.kind, self.identity)

    @property
    def row_bytes(self) -> int:
        return int(np.prod(self.shape)) * np.dtype(self.dtype).itemsize


def mapped(
    rows: Rows,
    make: Callable[[dict[str, Any]], Iterable[NDArray[Any]]],
    say: Callable[[str], None] = lambda message: None,
) -> tuple[NDArray[Any], Mapping[str, Any]]:
    """The rows (count, *shape), read only, all of them sound, and what was said of them when they were made.

    `make` gives them in order where they are not there yet, and may put what should be said into the dictionary that it is given, as JSON
    has it. `say` is told of a damaged file. Raises `Unmappable` where they do not fit into the cache or onto the disk.
    """
    found = _opened(rows, say)
    if found is None:
        with _alone(rows.path):  # another process may have built it meanwhile
            found = _opened(rows, say)
            if found is None:
                _build(rows, make)
                found = _opened(rows, say)
        cache.prune(keep=(rows.path,))
    if found is None:
        raise ConvAtlasError(
            f"{rows.path} cannot be read back.", remedy="Set CONVATLAS_CACHE to a folder on a sound disk."
        )
    return found


def _opened(rows: Rows, say: Callable[[str], None]) -> tuple[NDArray[Any], Mapping[str, Any]] | None:
    path = rows.path
    if not path.exists():
        return None
    try:
        about = cache.described(path)
        if about["identity"] != rows.identity or about["entries"] != rows.count:
            raise ValueError("it is described as something else")
        values = np.memmap(path, rows.dtype, "r", shape=(rows.count, *rows.shape))
        sums = np.memmap(path, np.uint8, "r", offset=values.nbytes, shape=(rows.count, _CHECKSUM))
        for place in range(rows.count):
            if _checksum(values[place]) != sums[place].tobytes():
                raise ValueError(f"row {place} does not match its checksum")
        os.utime(path)  # when it was last used, for pruning
    except (OSError, ValueError, KeyError, TypeError) as error:
        say(f"{path} is damaged ({error}) and built anew")
        return None
    return values, about["said"]


def _build(rows: Rows, make: Callable[[dict[str, Any]], Iterable[NDArray[Any]]]) -> None:
    _ensure_room(rows)
    path, said = rows.path, dict[str, Any]()
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    written = 0
    try:
        with partial.open("wb") as file:
            sums = bytearray()
            for row in make(said):
                whole = np.ascontiguousarray(row, rows.dtype)
                file.write(whole.data)
                sums += _checksum(whole)
                written += 1
            if written != rows.count:
                raise ValueError(f"{written} rows were made where {rows.count} were promised")
            file.write(sums)
            file.write(cache.description(rows.identity, entries=rows.count, said=said))
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        raise Unmappable(
            f"{path}: {rows.words} cannot be written ({error}).",
            remedy="Make room, or set CONVATLAS_CACHE to a folder on another disk.",
        ) from error
    finally:
        with contextlib.suppress(OSError):  # there only if something failed, and removed by the next build otherwise
            partial.unlink()


def _ensure_room(rows: Rows) -> None:
    bytes_ = rows.count * (rows.row_bytes + _CHECKSUM)
    limit, free = cache.size_limit(), shutil.disk_usage(rows.path.parent).free
    if bytes_ > limit:
        raise Unmappable(
            f"{rows.words} take {bytes_ / 1e6:,.1f} MB, and the cache may hold {limit / 1e6:,.1f} MB.",
            remedy=f"Raise CONVATLAS_CACHE_LIMIT, or {rows.otherwise}.",
        )
    if bytes_ > free:
        raise Unmappable(
            f"{rows.path.parent}: {free / 1e6:,.1f} MB are free, and {rows.words} take {bytes_ / 1e6:,.1f} MB.",
            remedy="Make room, or set CONVATLAS_CACHE to a folder on another disk.",
        )


def _checksum(row: NDArray[Any]) -> bytes:
    return hashlib.blake2b(row.data, digest_size=_CHECKSUM).digest()


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """One build at a time; what killed ones left is removed."""
    with contextlib.ExitStack() as held:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            held.enter_context(locked(path.parent / f".{path.suffix.removeprefix('.')}.lock", wait=True))
        except OSError as error:
            raise Unmappable(
                f"{path.parent}: the cache cannot be written ({error}).",
                remedy="Set CONVATLAS_CACHE to a writable folder.",
            ) from error
        if os.name != "nt":  # where, without locks, what is being written cannot be told from what was left
            for left in path.parent.glob(f".*{path.suffix}.*.partial"):
                with contextlib.suppress(OSError):  # it takes up room, no more
                    left.unlink()
        yield
