"""One pass over a data set's files: read, hashed, decoded, checked and run through the network, each only where not known already.

Decoding begins before torch is imported and goes on meanwhile: the two take about as long, and decoding does not hold the interpreter.
"""

from __future__ import annotations

import hashlib
import importlib
import itertools
import json
import math
import sys
import time
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from convatlas.cache import Store
from convatlas.data import DECODER, PASSING, Dataset, DecodeError, Examined, Facts, Record, examine
from convatlas.errors import ConvAtlasError
from convatlas.transfer.features import Extraction, FeatureStore, extract
from convatlas.weights.source import WeightsSource

if TYPE_CHECKING:
    from torch import nn

Progress = Callable[[str, int, int], None]  # what is being done, how much of it is done, of how much

_BUFFER_BYTES = 100_000_000  # of decoded images waiting for the network


def silent(what: str, done: int, total: int) -> None:
    """The progress of those who did not ask for any."""


class KnownFacts:
    """What earlier passes found out about files, by the hash of their bytes: nothing is decoded twice to be checked.

    Some facts (`Facts.thumb`, `grey`, `dominant`) are of the image on the `background` that transparent ones are put on.
    """

    def __init__(self, background: tuple[int, int, int] = (255, 255, 255)) -> None:
        self._store = Store("facts", {"decoder": DECODER, "facts": Facts.names(), "background": list(background)})
        self._new: dict[str, bytes] = {}
        self._old: dict[str, Facts] = {}  # what the store had

    def __call__(self, sha256: str) -> Facts | DecodeError | None:
        blob = self._store.get(sha256)
        if blob is None:
            return None
        found = json.loads(blob)
        if "width" not in found:
            return DecodeError.from_json(found)
        return self._old.setdefault(sha256, Facts.from_json(found))

    def learn(self, item: Examined) -> None:
        """Keeps what was found out about one file."""
        found = item.facts or item.failure
        if item.failure and item.failure.kind == PASSING:  # no fact about the file
            return
        if item.sha256 and found is not None and found is not self._old.get(item.sha256):
            self._new[item.sha256] = json.dumps(found.to_json()).encode()
        if len(self._new) >= 256:
            self._flush()

    def receive(self, facts: Mapping[str, Any]) -> None:
        """Keeps what another process has found out, as JSON."""
        self._new |= {sha256: json.dumps(found).encode() for sha256, found in facts.items()}

    def watch(self, stream: Iterable[Examined]) -> Generator[Examined]:
        """Passes the images of a stream on, keeping what is found out about them."""
        with self:
            for item in stream:
                self.learn(item)
                yield item

    def __enter__(self) -> KnownFacts:
        return self

    def __exit__(self, *_: object) -> None:
        self._flush()
        self._store.close()

    def _flush(self) -> None:
        self._store.put([(sha256, blob) for sha256, blob in self._new.items() if self._store.get(sha256) != blob])
        self._new = {}


@dataclass
class Pass:
    """A finished pass: what each file is, the features of those that are images, and what it cost."""

    extraction: Extraction
    store: FeatureStore
    import_seconds: float

    @property
    def examined(self) -> list[Examined]:
        return self.extraction.examined

    def last_stage(self, sha256s: list[str]) -> np.ndarray:
        """(n, maps), the means of the last maps of these images."""
        return list(self.store.means(sha256s).values())[-1]


def extract_features(
    dataset: Dataset, records: tuple[Record, ...], source: WeightsSource, *, device: str, progress: Progress = silent
) -> Pass:
    """Reads, checks and runs `records` through the network of `source`; `device` is auto, cpu, cuda or mps."""
    started = time.perf_counter()
    chosen = resolve_device(device)
    import_seconds = time.perf_counter() - started  # torch, where the choice needed it
    preprocessing = source.preprocessing
    store = FeatureStore(source, weights_sha256=source.sha256(), device=chosen, capacity=len(records))
    known = KnownFacts(preprocessing.background)
    ahead = max(16, _BUFFER_BYTES // math.prod(preprocessing.shape))
    stream = examine(
        dataset,
        records,
        preprocessing=preprocessing,
        known=known,
        wanted=lambda sha256: not store.has(sha256),
        ahead=ahead,
    )
    first = list(itertools.islice(stream, 1))  # the threads begin
    imported = time.perf_counter()
    if any(item.pixels is not None for item in first):
        importlib.import_module("convatlas.weights.load")  # and with it torch
    import_seconds += time.perf_counter() - imported

    def network() -> nn.Module:
        from convatlas import zoo
        from convatlas.weights.load import load_network

        model, _ = load_network(source, num_classes=0, in_channels=preprocessing.channels)
        return zoo.taps(model, store.cuts)

    with closing(store), closing(stream), closing(known.watch(itertools.chain(first, stream))) as watched:
        extraction = extract(
            watched,
            store,
            network,
            preprocessing,
            device=chosen,
            progress=lambda done: progress("decode and forward", done, len(records)),
        )
    return Pass(extraction=extraction, store=store, import_seconds=import_seconds)


def resolve_device(device: str) -> str:
    """The kind of device to use: what was asked for if it is there, the fastest there is for `auto`.

    Torch is imported only where a GPU could be.
    """
    if device == "cpu" or (device == "auto" and sys.platform == "linux" and not Path("/dev/nvidiactl").exists()):
        return "cpu"
    import torch

    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if device == "auto":
        return next(name for name in ("cuda", "mps", "cpu") if there[name])
    if device not in there:
        raise ConvAtlasError(f"unknown device {device!r};", remedy="use auto, cpu, cuda or mps.")
    if not there[device]:
        raise ConvAtlasError(f"there is no {device} device here.", remedy="Use --device auto.")
    return device


def fingerprint(examined: Iterable[Examined]) -> str:
    """A hash of what was learned from or judged on: every file's content, label and split, whatever its name or place."""
    rows = sorted((item.sha256, item.record.label, item.record.split) for item in examined)
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()
