"""The cache: what is computed from an image's bytes is kept under the hash of those bytes, and is checked when it is read back.

One SQLite file a kind of thing (a network's features, the facts of the image check), in `$CONVATLAS_CACHE` or the user's cache folder,
never beside the data. SQLite's transactions make a killed run lose at most the batch in hand, and let several runs share a file.
What training maps into memory, decoded images and the maps that a frozen network makes of them, is in files of another form (`*.pixels`,
`*.maps`): raw, with a description at the end; see `mapped`. A network that is adapted has a folder (`*.training`): its run while it goes
on, what came of it then; see `transfer.kept`.
Nothing in it is precious: a damaged file is put away and begun anew. `$CONVATLAS_CACHE_LIMIT` (default 5 GB) bounds the whole; what was
not used for longest goes first.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import shutil
import sqlite3
import threading
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from convatlas.errors import ConvAtlasError
from convatlas.locks import locked

_LIMIT = 5_000_000_000
_MAPPED = ("pixels", "maps")  # suffixes of files that are mapped
_TRAINING = "training"  # of folders
_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}


def cache_folder() -> Path:
    """`$CONVATLAS_CACHE`, else `convatlas` in the user's cache folder."""
    if own := os.environ.get("CONVATLAS_CACHE"):
        return Path(own).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "convatlas"


@functools.cache
def code_sha256(*parts: str) -> str:
    """Of the code of these parts of the package, as "zoo": another version may compute otherwise."""
    files = [path for part in parts for path in sorted((Path(__file__).parent / part).rglob("*.py"))]
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()


def parse_size(text: str) -> int:
    """Bytes of a size such as `5G`, `500 MB` or `1000000` (powers of ten)."""
    number = text.strip().upper().removesuffix("B").rstrip()
    unit = number[-1:] if number[-1:].isalpha() else ""
    try:
        size = int(float(number.removesuffix(unit)) * _UNITS[unit])
        if size < 0:
            raise ValueError("negative")
        return size
    except (ValueError, KeyError, OverflowError) as error:
        raise ConvAtlasError(f"{text!r} is not a size.", remedy="Write it as 500M, 5G or a number of bytes.") from error


def size_limit() -> int:
    """Bytes that the cache may hold: `$CONVATLAS_CACHE_LIMIT`, else 5 GB."""
    return parse_size(os.environ.get("CONVATLAS_CACHE_LIMIT", str(_LIMIT)))


class Store:
    """A persistent map from content hashes to bytes, each value verified when read; safe to use from several threads and processes."""

    def __init__(self, kind: str, identity: Mapping[str, Any]) -> None:
        """Opens the store of this `kind` for exactly this `identity`: everything that can change a value must be in it."""
        described, digest = _described(identity)
        self.path = cache_folder() / f"{kind}-{digest}.sqlite"
        self._salt = digest.encode()
        self._described = described
        self._lock = threading.Lock()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._open()
        except (OSError, sqlite3.OperationalError) as error:  # not writable, or locked by another for too long
            warnings.warn(
                f"{self.path}: the cache cannot be used ({error}); the run goes on without it. "
                "Set CONVATLAS_CACHE to a writable folder.",
                stacklevel=2,
            )
            self._open(in_memory=True)
        except sqlite3.DatabaseError:
            self._begin_anew()

    def get(self, key: str) -> bytes | None:
        """The value under `key`, or None where there is none or it does not match its checksum."""
        try:
            with self._lock:
                row = self._db.execute("SELECT value, checksum FROM entries WHERE key = ?", (key,)).fetchone()
        except sqlite3.DatabaseError:
            return None  # a damaged page: as good as absent; what is computed anew replaces it
        if row is None or not isinstance(row[0], bytes) or row[1] != self._checksum(key, row[0]):
            return None
        return row[0]

    def put(self, entries: Iterable[tuple[str, bytes]]) -> None:
        """Stores all entries in one transaction. A cache that cannot be written (full disk, damage) stops no run."""
        rows = [(key, value, self._checksum(key, value)) for key, value in entries]
        try:
            with self._lock:
                try:
                    self._insert(rows)
                except sqlite3.DatabaseError as error:
                    if type(error) is not sqlite3.DatabaseError:  # the narrower errors are not about damage
                        raise
                    self._begin_anew()
                    self._insert(rows)
        except (OSError, sqlite3.DatabaseError) as error:
            warnings.warn(
                f"{self.path}: the cache could not be written ({error}); the run goes on without it.", stacklevel=2
            )

    def close(self) -> None:
        with self._lock:
            self._db.close()

    def _open(self, *, in_memory: bool = False) -> None:
        self._db = sqlite3.connect(":memory:" if in_memory else self.path, timeout=60, check_same_thread=False)
        # no waiting for the disk: a kill loses nothing, and what a power failure damages is noticed when it is read
        self._db.execute("PRAGMA synchronous = OFF")
        with self._db:
            self._db.execute("CREATE TABLE IF NOT EXISTS entries (key TEXT PRIMARY KEY, value BLOB, checksum BLOB)")
            self._db.execute("CREATE TABLE IF NOT EXISTS identity (described TEXT PRIMARY KEY)")
            self._db.execute("INSERT OR IGNORE INTO identity VALUES (?)", (self._described,))
        if not in_memory:
            os.utime(self.path)  # when it was last used, for pruning

    def _begin_anew(self) -> None:
        self._db.close()
        self.path.unlink(missing_ok=True)
        self._open()

    def _insert(self, rows: list[tuple[str, bytes, bytes]]) -> None:
        with self._db:
            self._db.executemany("INSERT OR REPLACE INTO entries VALUES (?, ?, ?)", rows)

    def _checksum(self, key: str, value: bytes) -> bytes:
        return hashlib.blake2b(self._salt + key.encode() + value, digest_size=16).digest()


def training_path(identity: Mapping[str, Any]) -> Path:
    """The folder of the training of this identity, if it is there."""
    return mapped_path(_TRAINING, identity)


def mapped_path(kind: str, identity: Mapping[str, Any]) -> Path:
    """Where the rows of this kind and identity lie, if they are there."""
    return cache_folder() / f"{_described(identity)[1]}.{kind}"


def description(identity: Mapping[str, Any], **about: Any) -> bytes:
    """The end of a mapped file: JSON, and its length in 8 bytes."""
    text = json.dumps({"identity": json.loads(_described(identity)[0]), **about}).encode()
    return text + len(text).to_bytes(8, "little")


def described(path: Path) -> dict[str, Any]:
    """What `description` wrote there. Raises `OSError` or `ValueError` where that cannot be read."""
    with path.open("rb") as file:
        bytes_ = file.seek(0, os.SEEK_END)
        if bytes_ < 8:
            raise ValueError("it is shorter than any description")
        file.seek(-8, os.SEEK_END)
        length = int.from_bytes(file.read(8), "little")
        if length > bytes_ - 8:
            raise ValueError("its last bytes are no description")
        file.seek(bytes_ - 8 - length)
        found = json.loads(file.read(length))
    if not isinstance(found, dict) or not isinstance(found.get("identity"), dict):
        raise ValueError("its last bytes are no description")
    return found


def _described(identity: Mapping[str, Any]) -> tuple[str, str]:
    """An identity as text, and the digest that files are named by."""
    text = json.dumps(identity, sort_keys=True, default=str)
    return text, hashlib.sha256(text.encode()).hexdigest()[:24]


@dataclass(frozen=True, kw_only=True)
class CacheFile:
    """A file of the cache, or a training's folder: what it was computed from, its entries and bytes, when it was last used."""

    path: Path
    identity: dict[str, Any]
    entries: int
    bytes_: int
    used: float  # seconds since the epoch


def contents() -> list[CacheFile]:
    """The cache's files, the most recently used first."""
    found: list[CacheFile] = []
    for path in (path for kind in ("sqlite", *_MAPPED, _TRAINING) for path in cache_folder().glob(f"*.{kind}")):
        try:
            identity, entries = _summary(path)
        except (OSError, sqlite3.DatabaseError, TypeError, ValueError):
            identity, entries = {"damaged": True}, 0
        stats = _stats(path)
        bytes_, used = sum(stat.st_size for stat in stats), max((stat.st_mtime for stat in stats), default=0.0)
        found.append(CacheFile(path=path, identity=identity, entries=entries, bytes_=bytes_, used=used))
    return sorted(found, key=lambda file: -file.used)


def _stats(path: Path) -> list[os.stat_result]:
    """Of a file, or of all files in a folder; what goes away meanwhile is left out."""
    files = [Path(folder, name) for folder, _, names in os.walk(path) for name in names] if path.is_dir() else [path]
    found: list[os.stat_result] = []
    for file in files:
        with contextlib.suppress(OSError):
            found.append(file.stat())
    return found


def _summary(path: Path) -> tuple[dict[str, Any], int]:
    """A file's identity, and how many entries it holds."""
    if path.suffix == f".{_TRAINING}":
        identity = json.loads((path / "run.json").read_text(encoding="utf-8"))
        return {**identity, "what": "a training"}, len(list(path.glob("*/step-*.json")))
    if path.suffix.removeprefix(".") in _MAPPED:
        found = described(path)
        return found["identity"], int(found.get("entries", 0))
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=5)) as db:
        identity = json.loads(db.execute("SELECT described FROM identity").fetchone()[0])
        return identity, db.execute("SELECT count(*) FROM entries").fetchone()[0]


def prune(limit: int | None = None, *, keep: Iterable[Path] = ()) -> list[CacheFile]:
    """Removes the least recently used files until the cache holds at most `limit` bytes; returns what was removed."""
    limit = size_limit() if limit is None else limit
    kept, removed, found = set(keep), [], contents()
    total = sum(file.bytes_ for file in found)
    for file in reversed(found):
        if total > limit and file.path not in kept and remove(file.path):
            removed.append(file)
            total -= file.bytes_
    return removed


def remove(path: Path) -> bool:
    """Removes a file, or a folder in which nobody trains now; whether it is gone."""
    try:
        if not path.is_dir() or path.is_symlink():
            path.unlink(missing_ok=True)
            return True
        with locked(path / ".lock", wait=False):
            shutil.rmtree(path)
    except OSError:
        return False
    return True
