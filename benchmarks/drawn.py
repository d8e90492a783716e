"""Images of the shared sets as features: so many of a class drawn once, run through a network, kept in the cache of whoever runs this."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from convatlas.data import Dataset, Record, scan
from convatlas.jobs.images import extract_features
from convatlas.transfer.probe import ladder
from convatlas.weights.source import WeightsSource
from measuring import SHARED, folder, python

Rungs = dict[str, tuple[np.ndarray, ...]]


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """Which images of a set: some classes, and of each so many after the first `skip` in an order drawn once."""

    name: str
    classes: tuple[int, int | None] = (0, None)  # from which to which, in alphabetical order
    skip: int = 0
    count: int | None = None  # all of them by default
    split: str | None = None


def fresh(count: int, of_tiny: tuple[int, int]) -> tuple[tuple[Drawing, Drawing], ...]:
    """Of six sets what to draw from, `count` a class where there are thousands, and unseen images to judge by: test parts, of MNIST other
    digits; of Tiny ImageNet some classes."""
    return (
        (Drawing(name="hymenoptera", split="train"), Drawing(name="hymenoptera", split="val")),
        (Drawing(name="flowers12", split="train"), Drawing(name="flowers12", split="test")),
        (Drawing(name="ucmerced", split="train"), Drawing(name="ucmerced", split="test")),
        (
            Drawing(name="tiny-imagenet-train", classes=of_tiny, count=count),
            Drawing(name="tiny-imagenet-val", classes=of_tiny),
        ),
        (Drawing(name="cifar10-train", count=count), Drawing(name="cifar10-test", count=100)),
        (Drawing(name="mnist-10k", count=count), Drawing(name="mnist-10k", skip=500, count=100)),
    )


@dataclass(frozen=True, kw_only=True)
class Features:
    """Images of one drawing, class by class, each with its rungs."""

    records: tuple[Record, ...]
    labels: np.ndarray
    rungs: Rungs
    last: str  # the last single stage

    def of_each(self, first: int, stop: int | None) -> np.ndarray:
        """The rows of each class from `first` to `stop`, in their order."""
        own = [np.flatnonzero(self.labels == label)[first:stop] for label in np.unique(self.labels)]
        return np.concatenate(own)


class Sets:
    """Opens the shared sets, unpacked where they are packed; a context, at whose end what was unpacked is gone."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._open: dict[str, Dataset] = {}

    def __enter__(self) -> Sets:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def features(self, drawing: Drawing, source: WeightsSource) -> Features:
        """The drawn images, in their order within each class."""
        dataset = self.dataset(drawing.name)
        records = _drawn(dataset, drawing)
        passed = extract_features(dataset, tuple(records), source, device="cpu")
        usable = [item for item in passed.examined if item.facts is not None]
        names = sorted({item.record.label for item in usable})
        labels = np.array([names.index(item.record.label) for item in usable])
        sha256s = [item.sha256 for item in usable]
        means = passed.store.means(sha256s)
        return Features(
            records=tuple(item.record for item in usable),
            labels=labels,
            rungs=ladder(means, passed.store.deviations(sha256s)),
            last=list(means)[-1],
        )

    def dataset(self, name: str) -> Dataset:
        """The set, listed once."""
        if name not in self._open:
            place = SHARED / "data" / name
            if not place.is_dir():
                unpacked: Path = self._stack.enter_context(folder())
                python(SHARED / "data/unpack.py", unpacked, name)
                place = unpacked / name
            self._open[name] = scan(place)
        return self._open[name]


def _drawn(dataset: Dataset, drawing: Drawing) -> Sequence[Record]:
    by_class: dict[str, list[Record]] = {}
    for record in dataset.records:
        if drawing.split in (None, record.split):
            by_class.setdefault(record.label, []).append(record)
    generator, records = np.random.default_rng(0), list[Record]()
    stop = None if drawing.count is None else drawing.skip + drawing.count
    for label in sorted(by_class)[slice(*drawing.classes)]:
        order = generator.permutation(len(by_class[label]))[drawing.skip : stop]
        records += [by_class[label][place] for place in order]
    return records
