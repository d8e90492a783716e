"""Pooled features of every stage from one decode and one forward per image, kept under the hash of the image's bytes.

What a feature depends on (weights, network and its code, preprocessing, pooling, decoder, library versions, device kind) is the identity
of the store it is kept in, so an entry is never stale: with anything changed, another store is used. Images already there are neither
decoded nor run; a killed run goes on from what it had stored. The key is the content, so a renamed or moved image is found again.
"""

from __future__ import annotations

import json
import platform
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from typing import TYPE_CHECKING

import numpy as np

from convatlas import catalogue
from convatlas.cache import Store, code_sha256
from convatlas.data import DECODER, Examined, Preprocessing

if TYPE_CHECKING:
    from torch import nn

    from convatlas.weights.source import WeightsSource

POOLING = "mean of each map; of all stages but the last its standard deviation too, centred first"
Run = Callable[
    [np.ndarray], dict[str, tuple[np.ndarray, np.ndarray]]
]  # pixels of a batch to means and deviations by stage
ARITHMETIC = "batch norm folded, channels last, float32"
_WRITE_EVERY = 64  # images a transaction; what a kill can cost


class FeatureStore:
    """The stored features of one network under one way of preparing images, by content hash: each stage's means and deviations.

    In memory they are one float32 array, an image a row, in the order in which the images came.
    """

    def __init__(self, source: WeightsSource, *, weights_sha256: str, device: str, capacity: int) -> None:
        """Opens (or makes) the store for a pass over `capacity` images; needs no torch. `device` is cpu, cuda or mps."""
        network = catalogue.find(source.name)
        self.cuts, self._varied = network.rungs, network.stages[:-1]  # the latter give deviations too
        self._store = Store(
            "features",
            {
                "network": source.name,
                "config": source.config,
                "weights": weights_sha256,
                "cuts": self.cuts,
                "pooling": POOLING,
                "preprocessing": source.preprocessing.to_json(),
                "decoder": DECODER,
                "arithmetic": ARITHMETIC,
                "code": code_sha256("zoo"),
                "torch": version("torch"),
                "device": device,
                "machine": platform.machine(),
            },
        )
        self.path = self._store.path
        self._capacity = capacity
        self._place: dict[str, int] = {}  # the row of each image that has come
        self._fetched: dict[str, np.ndarray] = {}  # read from disk by the threads, not yet in its row
        self._unwritten: list[tuple[str, bytes]] = []
        self._lock = threading.Lock()
        self._widths: list[int] = json.loads(
            self._store.get("widths") or b"[]"
        )  # of each stage's means, then of the deviations
        self._rows = np.empty((capacity, sum(self._widths)), np.float32)

    def has(self, sha256: str) -> bool:
        """Whether the features of the image with this content are there, whole and verified; called from threads, ahead of `arrive`."""
        if not self._widths:
            return False
        with self._lock:
            if sha256 not in self._place and sha256 not in self._fetched and (blob := self._store.get(sha256)):
                self._fetched[sha256] = np.frombuffer(blob, np.float32)
            return sha256 in self._place or sha256 in self._fetched

    def arrive(self, sha256: str) -> bool:
        """Gives the image the next row; whether its features must still be computed and added."""
        with self._lock:
            if sha256 in self._place:
                return False
            place = self._place[sha256] = len(self._place)
            row = self._fetched.pop(sha256, None)
            if row is not None:
                self._rows[place] = row
            return row is None

    def add(self, sha256s: list[str], features: dict[str, tuple[np.ndarray, np.ndarray]]) -> None:
        """Adds the features of a batch of images that have arrived: for each stage means and deviations, (n, maps) each."""
        blocks = [features[cut][0] for cut in self.cuts] + [features[cut][1] for cut in self._varied]
        rows = np.concatenate(blocks, axis=1, dtype=np.float32)
        with self._lock:
            if not self._widths:
                self._widths = [block.shape[1] for block in blocks]
                self._store.put([("widths", json.dumps(self._widths).encode())])
                self._rows = np.empty((self._capacity, rows.shape[1]), np.float32)
            for sha256, row in zip(sha256s, rows, strict=True):
                self._rows[self._place[sha256]] = row
                self._unwritten.append((sha256, row.tobytes()))
            if len(self._unwritten) >= _WRITE_EVERY:
                self._flush()

    def means(self, sha256s: Sequence[str]) -> dict[str, np.ndarray]:
        """`{cut: (n, maps) float32}`, the mean of each map of these images; views where the images came one after the other."""
        return dict(zip(self.cuts, self._blocks(sha256s), strict=False))

    def deviations(self, sha256s: Sequence[str]) -> dict[str, np.ndarray]:
        """`{stage: (n, maps) float32}`, the standard deviation of each map of these images; of all stages but the last."""
        return dict(zip(self._varied, self._blocks(sha256s)[len(self.cuts) :], strict=True))

    @property
    def widths(self) -> list[int]:
        """Of the blocks of a row: each stage's means, then the deviations; empty before the first image."""
        return self._widths

    def blobs(self, sha256s: Sequence[str]) -> dict[str, bytes]:
        """The stored form of images that have come, for another process's `receive`."""
        return {sha256: self._rows[self._place[sha256]].tobytes() for sha256 in sha256s}

    def receive(self, widths: list[int], blobs: Mapping[str, bytes]) -> None:
        """Keeps what another process has computed for the same network and preprocessing."""
        if blobs:
            self._store.put([("widths", json.dumps(widths).encode()), *blobs.items()])

    def close(self) -> None:
        """Writes what is still in hand and closes the file."""
        with self._lock:
            self._flush()
        self._store.close()

    def _blocks(self, sha256s: Sequence[str]) -> list[np.ndarray]:
        index = np.array([self._place[sha256] for sha256 in sha256s], dtype=np.int64)
        in_a_row = len(index) > 0 and np.array_equal(index, np.arange(index[0], index[0] + len(index)))
        rows = self._rows[index[0] : index[0] + len(index)] if in_a_row else self._rows[index]
        return np.split(rows, np.cumsum(self._widths)[:-1], axis=1)

    def _flush(self) -> None:
        self._store.put(self._unwritten)
        self._unwritten = []


@dataclass
class Extraction:
    """What one pass over the images found and cost."""

    examined: list[Examined] = field(default_factory=list)  # every image in order, without its pixels
    decoded: int = 0
    forwarded: int = 0
    wait_seconds: float = 0.0  # the network stood still for want of decoded images
    forward_seconds: float = 0.0


def extract(
    stream: Iterable[Examined],
    store: FeatureStore,
    network: Callable[[], nn.Module],
    preprocessing: Preprocessing,
    *,
    device: str = "cpu",
    progress: Callable[[int], None] = lambda done: None,
) -> Extraction:
    """Takes images as they are decoded, runs those the store lacks through the network once, and stores their features.

    `network` is called at most once, and not at all when every image is known. Equal images are run once.
    """
    found = Extraction()
    run: Run | None = None
    waiting: dict[str, np.ndarray] = {}
    batch_size = 0

    def forward() -> None:
        started = time.perf_counter()
        if run is not None and waiting:
            store.add(list(waiting), run(np.stack(list(waiting.values()))))
        found.forwarded += len(waiting)
        waiting.clear()
        found.forward_seconds += time.perf_counter() - started

    before = time.perf_counter()
    for item in stream:
        found.wait_seconds += time.perf_counter() - before
        found.examined.append(replace(item, pixels=None))
        found.decoded += item.pixels is not None
        if item.facts is not None and store.arrive(item.sha256) and item.pixels is not None:
            if run is None:
                started = time.perf_counter()
                run, batch_size = _runner(network(), preprocessing, device)
                found.forward_seconds += time.perf_counter() - started
            waiting[item.sha256] = item.pixels
            if len(waiting) == batch_size:
                forward()
        progress(len(found.examined))
        before = time.perf_counter()
    found.wait_seconds += time.perf_counter() - before
    forward()
    return found


def _runner(taps: nn.Module, preprocessing: Preprocessing, device: str) -> tuple[Run, int]:
    """A function from pixels (n, h, w, c) uint8 to means and deviations by stage, and the batch size that suits the device."""
    import torch

    from convatlas.zoo.heads.probe import pooled
    from convatlas.zoo.inference import CPU_BATCH, GPU_BATCH, apart, by_image, for_inference, normalised

    size = preprocessing.size
    fast = for_inference(taps.to(device), (1, preprocessing.channels, size, size))

    @torch.inference_mode()
    def run(pixels: np.ndarray) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        images = normalised(torch.from_numpy(pixels).to(device), preprocessing.mean, preprocessing.std)
        found = {cut: pooled(activation) for cut, activation in fast(apart(images)).items()}
        mean, deviation = (
            {cut: by_image(both[i], len(pixels)).cpu().numpy() for cut, both in found.items()} for i in (0, 1)
        )
        return {cut: (mean[cut], deviation[cut]) for cut in found}

    return run, max(1, (CPU_BATCH if device == "cpu" else GPU_BATCH) // preprocessing.crops)
