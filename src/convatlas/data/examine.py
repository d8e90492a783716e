"""One pass over the files: each is read once, hashed, and decoded unless its content is known already.

Threads suffice because reading, hashing, decoding and resizing all release the interpreter's lock. What comes out is in
the order of what went in, and only a bounded number of images is ahead of the consumer, so that memory does not grow
with the data set.
"""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from convatlas.data.colour import Colour
from convatlas.data.decode import decode
from convatlas.data.facts import DecodeError, Facts
from convatlas.data.preprocessing import Preprocessing
from convatlas.data.records import Record
from convatlas.data.scan import Dataset

_READ_ONLY = Facts(format="", width=0, height=0, mode="")  # said of a file, so that it is hashed and not decoded
_AHEAD = 64  # images decoded before the consumer asks for them, unless told otherwise


@dataclass(frozen=True, kw_only=True, eq=False)
class Examined:
    """What one record turned out to be. Either `facts` or `failure` is given."""

    record: Record
    sha256: str  # of the file's bytes, hexadecimal; empty where it could not be read
    facts: Facts | None = None
    failure: DecodeError | None = None
    pixels: NDArray[np.uint8] | None = None  # (size, size, channels), where asked for
    views: list[list[NDArray[np.uint8]]] | None = None  # by network and view, (h, w, channels), where asked for


def hashed(dataset: Dataset, records: Iterable[Record]) -> Iterator[Examined]:
    """Read and hash `records`, in order, without decoding them; their facts say nothing."""
    return examine(dataset, records, known=lambda sha256: _READ_ONLY)


def examine(
    dataset: Dataset,
    records: Iterable[Record],
    *,
    preprocessing: Preprocessing | None = None,
    views: Callable[[Image.Image], list[list[NDArray[np.uint8]]]] | None = None,
    background: Colour = (255, 255, 255),
    known: Callable[[str], Facts | DecodeError | None] = lambda sha256: None,
    wanted: Callable[[str], bool] = lambda sha256: True,
    workers: int | None = None,
    ahead: int = _AHEAD,
) -> Generator[Examined]:
    """Read, hash and decode `records`, in order.

    Pixels come with `preprocessing` and where `wanted(sha256)`; with `views` what that makes of the image on `background`.
    `known(sha256)` may hand back what an earlier pass found; a file is then decoded only if its pixels or views are wanted, and
    one that failed is not tried again. All three are called from worker threads. Closing the iterator, or an exception in the
    loop over it, cancels what has not begun.
    """
    background = preprocessing.background if preprocessing else background

    def look(record: Record) -> Examined:
        try:
            data = dataset.read(record)
        except DecodeError as error:
            return Examined(record=record, sha256="", failure=error.named(dataset.locate(record)))
        sha256 = hashlib.sha256(data).hexdigest()
        found = known(sha256)
        if isinstance(found, DecodeError):
            return Examined(record=record, sha256=sha256, failure=found.named(dataset.locate(record)))
        with_pixels = preprocessing is not None and wanted(sha256)
        if found is not None and not with_pixels and views is None:
            return Examined(record=record, sha256=sha256, facts=found)
        try:
            image, facts = decode(data, background=background)
        except DecodeError as error:
            return Examined(record=record, sha256=sha256, failure=error.named(dataset.locate(record)))
        pixels = preprocessing.pixels(image) if preprocessing is not None and with_pixels else None
        seen = views(image) if views is not None else None
        return Examined(record=record, sha256=sha256, facts=facts, pixels=pixels, views=seen)

    pool = ThreadPoolExecutor(workers or default_workers(), thread_name_prefix="examine")
    waiting: deque[Future[Examined]] = deque()
    try:
        for record in records:
            waiting.append(pool.submit(look, record))
            if len(waiting) >= ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def default_workers() -> int:
    """The processors this process may use, at most 8."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(8, allowed)
