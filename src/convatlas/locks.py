"""One process at a time: a lock of the operating system's on a file, which is free again when its holder is killed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def locked(path: Path, *, wait: bool) -> Iterator[None]:
    """While this lasts no other has the lock on `path`, which is made. Raises `BlockingIOError` where one has it and nobody waits.

    On Windows, which has no such locks, everybody gets it.
    """
    with path.open("w") as file:
        try:
            import fcntl
        except ImportError:
            yield
            return
        fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
