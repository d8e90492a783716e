"""What a fit learns from: the images of a folder, their features, and which of them train and which only judge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from convatlas.bundle.folder import is_being_written
from convatlas.data import (
    ClassMap,
    Dataset,
    Examined,
    Framing,
    NearPair,
    Problem,
    Record,
    choose,
    diagnose,
    left_out,
    near_copies,
    near_problems,
    units,
    worst_first,
)
from convatlas.data.framing import FitMode
from convatlas.errors import ConvAtlasError
from convatlas.jobs.images import Pass, Progress, extract_features
from convatlas.transfer.probe import ladder
from convatlas.weights.source import WeightsSource


@dataclass(frozen=True, kw_only=True)
class Side:
    """Images that can be used, of the training or the test side."""

    records: list[Record]
    sha256s: list[str]
    labels: np.ndarray  # (n,) class indices
    together: np.ndarray  # (n,) ids of units: copies of an image, near ones too, or a group

    def __len__(self) -> int:
        return len(self.records)

    def rungs(self, passed: Pass) -> dict[str, tuple[np.ndarray, ...]]:
        """What the probes are fitted on: each stage alone, and all of them."""
        return ladder(passed.store.means(self.sha256s), passed.store.deviations(self.sha256s))

    def subset(self, index: np.ndarray) -> Side:
        """The images of these rows."""
        return Side(
            records=[self.records[i] for i in index],
            sha256s=[self.sha256s[i] for i in index],
            labels=self.labels[index],
            together=self.together[index],
        )


@dataclass(frozen=True, kw_only=True)
class Material:
    """The images of a fit, after the one pass.

    Near copies in training are looked for among training images alone, so that no choice depends on the test part.
    """

    dataset: Dataset
    source: WeightsSource  # with the preprocessing that these images get
    framing: Framing  # how they become square
    passed: Pass
    problems: tuple[Problem, ...]  # worst first
    classes: ClassMap
    train: Side
    test: Side  # empty where the data have no such part
    near: tuple[NearPair, ...]  # near copies among all images

    @property
    def together(self) -> np.ndarray:
        """(train,) ids of the units that are held out together."""
        return self.train.together

    @cached_property
    def held_out(self) -> np.ndarray | None:
        """(train,) what is held out at once while a probe is chosen; None for one image at a time."""
        return left_out(self.train.labels, self.together)


def gather(
    dataset: Dataset,
    source: WeightsSource,
    resize_mode: FitMode,
    *,
    device: str,
    progress: Progress,
    records: tuple[Record, ...] | None = None,
) -> Material:
    """Reads, checks and runs the images of `dataset`, all or only `records`. Raises `ConvAtlasError` where none can be learned from."""
    source, framing = framed(dataset, source, resize_mode)
    passed = extract_features(
        dataset, dataset.records if records is None else records, source, device=device, progress=progress
    )
    classes = ClassMap(dataset.classes)
    train, test = _sides(dataset, passed.examined, classes)
    if not len(train):
        if set(dataset.splits) <= {"val", "test"}:
            raise ConvAtlasError(
                f"{dataset.root}: has a test part only.", remedy="Add a folder `train`, or give class folders."
            )
        raise ConvAtlasError(
            f"{dataset.root}: no training image could be used.",
            remedy="`convatlas check` names each file and the reason.",
        )
    near = near_copies(passed.examined, passed.last_stage)
    train, test = (replace(side, together=_units(passed, side)) for side in (train, test))
    problems = [*dataset.problems, *diagnose(dataset, passed.examined), *near_problems(passed.examined, near)]
    return Material(
        dataset=dataset,
        source=source,
        framing=framing,
        passed=passed,
        problems=worst_first(problems),
        classes=classes,
        train=train,
        test=test,
        near=near,
    )


def _units(passed: Pass, side: Side) -> np.ndarray:
    """(n,) what of one side belongs together. Near copies are looked for among its own images alone."""
    paths, place = {record.path for record in side.records}, {sha256: i for i, sha256 in enumerate(side.sha256s)}
    near = near_copies([item for item in passed.examined if item.record.path in paths], passed.last_stage)
    links = [(place[one], place[other]) for one, other in (pair.sha256s for pair in near)]
    return units([record.group for record in side.records], side.sha256s, links=links)


def framed(dataset: Dataset, source: WeightsSource, mode: FitMode) -> tuple[WeightsSource, Framing]:
    """The weights with the preprocessing that these images get, and how and why they become square so."""
    framing = choose(mode, source.preprocessing, dataset)
    preprocessing = replace(source.preprocessing, fit=framing.fit, crops=framing.crops)
    return replace(source, preprocessing=preprocessing), framing


def training_records(dataset: Dataset) -> tuple[Record, ...]:
    """What may be learned from: all but the test part or, where there is none, the validation part."""
    return tuple(record for record in dataset.records if record.split != _judging(dataset))


def _judging(dataset: Dataset) -> str:
    return "test" if "test" in dataset.splits else "val"


def refuse_blockers(problems: Sequence[Problem]) -> None:
    """What the listing shows to make a fit meaningless. Raises `ConvAtlasError` for the first."""
    for problem in problems:
        if problem.kind in ("unknown-class", "one-class"):
            raise ConvAtlasError(problem.message, remedy=problem.remedy)


def refuse_among_images(dataset: Dataset, target: Path) -> None:
    """A model folder holds images, which the next run would take for a class."""
    if dataset.root.is_dir() and target.resolve().is_relative_to(dataset.root.resolve()):
        raise ConvAtlasError(
            f"{target} lies inside the images of {dataset.root}.", remedy="Give a folder elsewhere with --out."
        )


def default_out(dataset: Dataset) -> Path:
    """`NAME-classifier` in the working directory (beside the images, if that is among them), numbered on where that is taken."""
    root = dataset.root.resolve()
    place = root.parent if dataset.root.is_dir() and Path.cwd().is_relative_to(root) else Path()
    base = f"{root.stem or 'images'}-classifier"
    candidates = (place / (base if i == 1 else f"{base}-{i}") for i in range(1, 10_000))
    return next(path for path in candidates if not path.exists() and not is_being_written(path))


def _sides(dataset: Dataset, examined: Sequence[Examined], classes: ClassMap) -> tuple[Side, Side]:
    """The training and the test side. With a test split the validation split trains too: choices are made by cross-validation.

    Images that stand under two labels are left out of both, since one of the labels is wrong.
    """
    under: dict[str, set[str]] = {}
    for item in examined:
        under.setdefault(item.sha256, set()).add(item.record.label)
    usable = [item for item in examined if item.facts is not None and len(under[item.sha256]) == 1]
    held_out = _judging(dataset)

    def side(items: list[Examined]) -> Side:
        return Side(
            records=[item.record for item in items],
            sha256s=[item.sha256 for item in items],
            labels=classes.indices([item.record.label for item in items]),
            together=np.arange(len(items)),
        )

    return side([i for i in usable if i.record.split != held_out]), side(
        [i for i in usable if i.record.split == held_out]
    )
