"""Pooled features of every stage from one decode and one forward per image, kept under the hash of the image's bytes.

What a feature depends on (weights, network, preprocessing, pooling, decoder, library versions, device kind) is the identity of the store it
is kept in, so an entry is never stale: with anything changed, another store is used. Images already there are neither decoded nor
run; a killed run goes on from what it had stored. The key is the content, so a renamed or moved image is found again.
"""

from __future__ import annotations

import json
import platform
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from typing import TYPE_CHECKING

import numpy as np

from convatlas import catalogue
from convatlas.cache import Store
from convatlas.data import DECODER, Examined, Preprocessing

if TYPE_CHECKING:
    from torch import nn

    from convatlas.weights.source import WeightsSource

POOLING = "mean over the map"
ARITHMETIC = "batch norm folded, channels last, float32"
_WRITE_EVERY = 64  # images a transaction; what a kill can cost


class FeatureStore:
    """The stored features of one network under one way of preparing images: `{stage: (features,) float32}` by content hash."""

    def __init__(self, source: WeightsSource, *, weights_sha256: str, device: str) -> None:
        """Opens (or makes) the store; needs no torch. `device` is the kind: cpu, cuda or mps."""
        self.stages = catalogue.find(source.name).stages
        self._store = Store(
            "features",
            {
                "network": source.name,
                "config": source.config,
                "weights": weights_sha256,
                "cuts": self.stages,
                "pooling": POOLING,
                "preprocessing": source.preprocessing.to_json(),
                "decoder": DECODER,
                "arithmetic": ARITHMETIC,
                "torch": version("torch"),
                "device": device,
                "machine": platform.machine(),
            },
        )
        self.path = self._store.path
        self._rows: dict[str, dict[str, np.ndarray]] = {}
        self._unwritten: list[tuple[str, bytes]] = []
        self._lock = threading.Lock()
        self._widths: list[int] = json.loads(self._store.get("widths") or b"[]")

    def has(self, sha256: str) -> bool:
        """Whether the features of the image with this content are there, whole and verified; reads them if so."""
        with self._lock:
            if sha256 not in self._rows and self._widths and (blob := self._store.get(sha256)):
                self._rows[sha256] = self._split(np.frombuffer(blob, np.float32))
            return sha256 in self._rows

    def add(self, sha256s: list[str], features: dict[str, np.ndarray]) -> None:
        """Adds the features (n, d) of a batch of images, stage by stage."""
        with self._lock:
            if not self._widths:
                self._widths = [features[stage].shape[1] for stage in self.stages]
                self._store.put([("widths", json.dumps(self._widths).encode())])
            rows = np.concatenate([features[stage] for stage in self.stages], axis=1)
            for sha256, row in zip(sha256s, rows, strict=True):
                self._rows[sha256] = self._split(row)
                self._unwritten.append((sha256, row.tobytes()))
            if len(self._unwritten) >= _WRITE_EVERY:
                self._flush()

    def matrix(self, stage: str, sha256s: Iterable[str]) -> np.ndarray:
        """The features of these images at one stage, (n, d) float32."""
        return np.stack([self._rows[sha256][stage] for sha256 in sha256s])

    def close(self) -> None:
        """Writes what is still in hand and closes the file."""
        with self._lock:
            self._flush()
        self._store.close()

    def _flush(self) -> None:
        self._store.put(self._unwritten)
        self._unwritten = []

    def _split(self, row: np.ndarray) -> dict[str, np.ndarray]:
        return dict(zip(self.stages, np.split(row, np.cumsum(self._widths)[:-1]), strict=True))


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
    run: Callable[[np.ndarray], dict[str, np.ndarray]] | None = None
    waiting: dict[str, np.ndarray] = {}
    batch_size = 0
    before = time.perf_counter()
    for item in stream:
        found.wait_seconds += time.perf_counter() - before
        pixels = item.pixels
        found.examined.append(replace(item, pixels=None))
        found.decoded += pixels is not None
        if pixels is not None and item.sha256 not in waiting and not store.has(item.sha256):
            if run is None:
                started = time.perf_counter()
                run, batch_size = _runner(network(), preprocessing, device)
                found.forward_seconds += time.perf_counter() - started
            waiting[item.sha256] = pixels
        if run is not None and len(waiting) >= batch_size:
            found.forward_seconds += _forward(run, waiting, store)
            found.forwarded += len(waiting)
            waiting.clear()
        progress(len(found.examined))
        before = time.perf_counter()
    found.wait_seconds += time.perf_counter() - before
    if run is not None and waiting:
        found.forward_seconds += _forward(run, waiting, store)
        found.forwarded += len(waiting)
    return found


def _forward(
    run: Callable[[np.ndarray], dict[str, np.ndarray]], waiting: dict[str, np.ndarray], store: FeatureStore
) -> float:
    started = time.perf_counter()
    store.add(list(waiting), run(np.stack(list(waiting.values()))))
    return time.perf_counter() - started


def _runner(
    taps: nn.Module, preprocessing: Preprocessing, device: str
) -> tuple[Callable[[np.ndarray], dict[str, np.ndarray]], int]:
    """A function from pixels (n, h, w, c) uint8 to `{stage: features (n, d) float32}`, and the batch size that suits the device."""
    import torch

    from convatlas.zoo.inference import CPU_BATCH, GPU_BATCH, for_inference, normalised

    size = preprocessing.size
    fast = for_inference(taps.to(device), torch.zeros(1, preprocessing.channels, size, size, device=device))

    @torch.inference_mode()
    def run(pixels: np.ndarray) -> dict[str, np.ndarray]:
        images = normalised(torch.from_numpy(pixels).to(device), preprocessing.mean, preprocessing.std)
        return {stage: activation.mean((2, 3)).cpu().numpy() for stage, activation in fast(images).items()}

    return run, CPU_BATCH if device == "cpu" else GPU_BATCH
