"""One pass of a classifier over labelled images: each read, decoded and shown to every member, with the classes matched by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from convatlas.data import ClassMap, Dataset, Examined, Record, Views, examine, units
from convatlas.errors import ConvAtlasError
from convatlas.jobs.images import Progress
from convatlas.jobs.result import percent
from convatlas.jobs.scores import accuracy_with_interval

if TYPE_CHECKING:
    from convatlas.bundle.classifier import Classifier
    from convatlas.bundle.confidence import Promise

_BUFFER_BYTES = 100_000_000  # of decoded views waiting for the network
_AHEAD = 64  # images decoded before the network asks for them, at most


@dataclass(frozen=True, kw_only=True, eq=False)
class Judgement:
    """What a classifier said of the images that could be read, and what is true."""

    examined: list[Examined]  # all of them, without their pixels
    read: list[Record]  # those that could be read
    members: np.ndarray  # (members, n, classes) float64: each member's probabilities
    truth: np.ndarray  # (n,) int64: class indices
    typicality: np.ndarray | None = None  # (n,) where something was promised

    @property
    def probabilities(self) -> np.ndarray:
        """(n, classes): the classifier's own, the mean over its members."""
        return self.members.mean(axis=0)

    @cached_property
    def hashes(self) -> list[str]:
        """(n,) of the files that could be read."""
        return [item.sha256 for item in self.examined if item.facts is not None]

    @cached_property
    def together(self) -> np.ndarray:
        """(n,) equal for images of one unit: copies of a file, a group."""
        return units([record.group for record in self.read], self.hashes)


def judge(
    classifier: Classifier,
    dataset: Dataset,
    records: Sequence[Record],
    views: Views,
    what: str,
    progress: Progress,
    *,
    promise: Promise | None = None,
) -> Judgement:
    """Runs `records` through the classifier; `what` is said to `progress`. With a `promise` their typicality is found out too.

    Raises `ConvAtlasError` for a label that is none of its classes, and where no image can be read.
    """

    classes = ClassMap(classifier.classes)
    classes.align(sorted({record.label for record in records}), partial=True)
    together = classifier.images_together(views)
    examined: list[Examined] = []
    waiting: list[list[list[np.ndarray]]] = []
    found: list[np.ndarray] = []
    typicalities: list[np.ndarray] = []

    def run() -> None:
        if promise is None:
            found.append(classifier.judged(waiting, views))
        else:
            probabilities, typicality = classifier.assured(waiting, promise)
            found.append(probabilities[None])
            typicalities.append(typicality)
        waiting.clear()

    stream = examine(
        dataset,
        records,
        views=lambda image: classifier.views(image, views),
        background=classifier.background,
        ahead=min(_AHEAD, max(4, _BUFFER_BYTES // _bytes_an_image(classifier, views))),
    )
    for item in stream:
        examined.append(replace(item, views=None))
        if item.views is not None:
            waiting.append(item.views)
        if len(waiting) == together:
            run()
        progress(what, len(examined), len(records))
    if waiting:
        run()
    read = [item.record for item in examined if item.facts is not None]
    if not read:
        raise ConvAtlasError(
            f"{dataset.root}: no image could be read.", remedy="`convatlas check` names each file and the reason."
        )
    truth = classes.indices([record.label for record in read])
    return Judgement(
        examined=examined,
        read=read,
        members=np.concatenate(found, axis=1),
        truth=truth,
        typicality=np.concatenate(typicalities) if typicalities else None,
    )


def overlap_json(classifier: Classifier, judged: Judgement) -> dict[str, Any]:
    """`trained_on`: how many of the images the classifier was fitted on, and its accuracy `without` them; None where it does not remember.
    And `alarms`: that its figures flatter, where they do."""
    known = classifier.fitted_on(judged.hashes)
    if known is None:
        return {"trained_on": None, "alarms": []}
    right, others = judged.probabilities.argmax(axis=1) == judged.truth, ~known
    without = accuracy_with_interval(right[others], judged.together[others]) if others.any() else None
    trained_on = {"images": int(known.sum()), "without": without}
    if not known.any():
        return {"trained_on": trained_on, "alarms": []}
    who = "members were" if classifier.ensemble else "the model was"
    told = f"{who} fitted on {known.sum():,} of these {len(known):,} images, so that the figures flatter"
    if without is None:
        return {"trained_on": trained_on, "alarms": [f"{told}: they say nothing of new images."]}
    low, high = map(percent, without["accuracy_interval"])
    told += f"; on the other {without['images']:,} the accuracy is {percent(without['accuracy'])} ({low} to {high})."
    return {"trained_on": trained_on, "alarms": [told]}


def views_json(classifier: Classifier, views: Views) -> dict[str, Any]:
    """The views and what they cost, as JSON."""
    return {"name": views.name, "what": views.what, "forward_passes": classifier.forward_passes(views)}


def part_of(dataset: Dataset, asked: str | None, preferred: Sequence[str]) -> str:
    """The split that is meant: the one asked for, if it is there, else the first of `preferred` that is."""
    if asked is None:
        return next(split for split in (*preferred, "all", "train") if split in dataset.splits)
    if asked != "all" and asked not in dataset.splits:
        there = ", ".join(dataset.splits)
        raise ConvAtlasError(
            f"{dataset.root}: has no {asked} split.", remedy=f"It has {there}; `all` takes everything."
        )
    return asked


def part_in_words(split: str, images: int) -> str:
    """On which images something was measured."""
    return f"{'all' if split == 'all' else split + ' split,'} {images} images, classes matched by name"


def _bytes_an_image(classifier: Classifier, views: Views) -> int:
    longer = 2 if views.dense else 1  # most photos are no longer than that
    return sum(
        m.forward_passes(views)
        * max(views.sides, default=m.preprocessing.size) ** 2
        * m.preprocessing.channels
        * longer
        for m in classifier.members
    )
