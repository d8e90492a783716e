"""The study of the four quadrants, carried out: sets drawn, plans trained, the adviser asked; what is measured is kept plan by plan.

A list of cases is a JSON file: the weights, and for each set its folder (relative to the file), whether it is similar to what the weights
were trained on, how many images of each class to train on, and how many to test on.

    {"weights": "mobilenet.safetensors", "sets": [{"data": "flowers", "similar": true, "images": [5, 20], "test": 20}]}
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from convatlas import catalogue
from convatlas.data import ClassMap, Dataset, Record, left_out, scan, stratified, units
from convatlas.errors import ConvAtlasError
from convatlas.jobs.images import Progress, extract_features
from convatlas.studies.quadrants import Case, Outcome, Reached, judged, outcome_of
from convatlas.transfer.plans import ALL, Plan
from convatlas.transfer.probe import ladder, select
from convatlas.weights.source import WeightsSource, find_weights

if TYPE_CHECKING:
    from convatlas.studies.finding import Finding
    from convatlas.transfer.workshop import Workshop

CELLS = "cells.json"
SPLITS = 3
LEAST = 3  # images a class: each fold leaves two of some
FOLDS = 5  # of the adviser's trials
BUDGET = 0.25  # of the time that all plans are foretold to take
_KEYS = {"data", "similar", "images", "test"}


@dataclass(frozen=True, kw_only=True)
class CaseSet:
    """A data set of the list."""

    path: Path
    similar: bool
    images: tuple[int, ...]  # training images of each class, a case each
    test: int  # test images of each class

    @property
    def cases(self) -> list[Case]:
        return [Case(name=self.path.stem, similar=self.similar, per_class=count) for count in sorted(self.images)]


def quadrants(
    list_: str | Path,
    folder: Path,
    *,
    splits: int = SPLITS,
    partial: bool = False,
    device: str = "cpu",
    progress: Progress,
    say: Callable[[str], None],
) -> Finding:
    """Measures what is not in `folder`/cells.json yet, and judges what is.

    Raises `ConvAtlasError` for a list that cannot be read, a set that is too small, and with `partial` where nothing was measured.
    """
    source, sets = read_list(Path(list_).expanduser())
    kept = _Kept(folder / CELLS, source, sets)
    if not partial:
        for split in range(splits):
            for each in sets:
                if not all(kept.outcome(case, split) for case in each.cases):
                    _measure(each, split, source, kept, device, progress, say)
    cases = [(case, split) for each in sets for case in each.cases for split in range(splits)]
    found = [outcome for case, split in cases if (outcome := kept.outcome(case, split))]
    if not found:
        raise ConvAtlasError(f"{folder}: nothing was measured yet.", remedy="Leave out --partial.")
    return judged(found, network=source.name, wanted=len(cases))


def read_list(path: Path) -> tuple[WeightsSource, list[CaseSet]]:
    """The weights and the sets of a list of cases."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        rows = found["sets"]
        sets = [
            CaseSet(
                path=path.parent / row["data"],
                similar=bool(row["similar"]),
                images=tuple(map(int, row["images"])),
                test=int(row["test"]),
            )
            for row in rows
            if set(row) == _KEYS
        ]
        few = any(min(each.images, default=0) < LEAST or each.test < 1 for each in sets)
        if len(sets) < len(rows) or not sets or few:
            raise ValueError(
                f"each set has {', '.join(sorted(_KEYS))}, and at least {LEAST} images a class and 1 to test on"
            )
        names = [each.path.stem for each in sets]
        if len(set(names)) < len(names):
            raise ValueError(f"two sets are called {max(names, key=names.count)}, and results are kept by name")
        if not isinstance(weights := found["weights"], str):
            raise ValueError(f"weights are {weights}, not a file or a tag")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConvAtlasError(
            f"{path} is no list of cases ({error}).", remedy="docs/studies.md shows what one looks like."
        ) from error
    file = path.parent / weights
    return find_weights(file if file.exists() else weights), sets


def roles(stages: tuple[str, ...]) -> dict[str, Plan]:
    """The plans that train, by their role in the study, the shallowest first."""
    return {
        "last": Plan(kind="tune", at=(stages[-1],)),
        "two": Plan(kind="tune", at=(stages[-2],)),
        "all": Plan(kind="tune", at=(ALL,)),
        "scratch": Plan(kind="scratch"),
    }


def drawn(dataset: Dataset, each: CaseSet, split: int) -> tuple[list[Record], list[int]]:
    """The records of a split, its training images first, and of each how many of its class come before it; -1 for a test image.

    The training images of a smaller case are those of a larger one that come first. Raises `ConvAtlasError` where a class is too small.
    """
    draws = np.random.default_rng(split)
    train: list[tuple[int, Record]] = []
    test: list[Record] = []
    most = max(each.images)
    for label in dataset.classes:
        there = [record for record in dataset.records if record.label == label]
        if len(there) < most + each.test:
            raise ConvAtlasError(
                f"{each.path}: class {label!r} has {len(there)} images, and {most} to train and {each.test} to test on are asked for.",
                remedy="Ask for fewer.",
            )
        mixed = [there[i] for i in draws.permutation(len(there))]
        test += mixed[: each.test]
        train += enumerate(mixed[each.test : each.test + most])
    return [record for _, record in train] + test, [place for place, _ in train] + [-1] * len(test)


class _Kept:
    """What was measured, in a file that is whole at every moment."""

    def __init__(self, file: Path, source: WeightsSource, sets: Sequence[CaseSet]) -> None:
        self._file, self._weights = file, source.sha256()
        self._test = {each.path.stem: each.test for each in sets}
        try:
            self._cells: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            self._cells = {}
        except ValueError as error:
            raise ConvAtlasError(f"{file} cannot be read ({error}).", remedy="Move it away to measure anew.") from error

    def cell(self, case: Case, split: int) -> dict[str, Any]:
        """What is known of a case's split, to be added to."""
        decides = json.dumps([self._weights, asdict(case), self._test[case.name], split])
        key = hashlib.sha256(decides.encode()).hexdigest()[:16]
        return self._cells.setdefault(key, {"case": asdict(case), "split": split, "plans": {}})

    def outcome(self, case: Case, split: int) -> Outcome | None:
        """Of a split that is finished."""
        cell = self.cell(case, split)
        return outcome_of(cell) if "advised" in cell else None

    def write(self) -> None:
        from convatlas.report.page import replaced

        self._file.parent.mkdir(parents=True, exist_ok=True)
        known = {key: cell for key, cell in self._cells.items() if cell["plans"]}
        replaced(self._file, json.dumps(known, indent=1) + "\n")


def _measure(
    each: CaseSet,
    split: int,
    source: WeightsSource,
    kept: _Kept,
    device: str,
    progress: Progress,
    say: Callable[[str], None],
) -> None:
    """All plans of all cases of a set, on one split."""
    bench = Bench.of(each, split, source, device, progress, say)
    for case in each.cases:
        cell = kept.cell(case, split)
        if "advised" in cell:
            continue
        say(f"{case.label}, split {split}")
        for _ in bench.carried_out(case, cell):
            kept.write()


@dataclass(frozen=True, kw_only=True)
class Bench:
    """The images of one split: their features, and the workshop in which plans are trained on them."""

    shop: Workshop
    rungs: dict[str, tuple[np.ndarray, ...]]
    place: np.ndarray  # (n,) how many of an image's class come before it; -1 for the test images
    together: np.ndarray  # (n,) copies of an image have one number
    stages: tuple[str, ...]
    seed: int

    @staticmethod
    def of(
        each: CaseSet, split: int, source: WeightsSource, device: str, progress: Progress, say: Callable[[str], None]
    ) -> Bench:
        """Draws the images of a split, and makes their features."""
        import torch

        from convatlas.jobs.pixels import prepared
        from convatlas.transfer.workshop import Workshop

        dataset = scan(each.path)
        records, place = drawn(dataset, each, split)
        passed = extract_features(dataset, tuple(records), source, device=device, progress=progress)
        usable = [i for i, item in enumerate(passed.examined) if item.facts is not None]
        records, sha256s = [records[i] for i in usable], [passed.examined[i].sha256 for i in usable]
        classes = ClassMap(dataset.classes)
        labels = torch.from_numpy(classes.indices([record.label for record in records]).astype(np.int64))
        images = prepared(dataset, records, labels, source.preprocessing, "auto", progress=progress, say=say)
        means = passed.store.means(sha256s)
        together = units([record.group for record in records], sha256s)
        shop = Workshop(
            *(source, images, list(means.values())[-1], len(classes)),
            together=together,
            device=device,
            seed=split,
            progress=progress,
        )
        return Bench(
            shop=shop,
            rungs=ladder(means, passed.store.deviations(sha256s)),
            place=np.array(place)[usable],
            together=together,
            stages=catalogue.find(source.name).stages,
            seed=split,
        )

    def rows(self, per_class: int) -> tuple[np.ndarray, np.ndarray]:
        """The training images of a case, and the test images without their copies."""
        train = np.flatnonzero((self.place >= 0) & (self.place < per_class))
        return train, np.flatnonzero((self.place < 0) & ~np.isin(self.together, self.together[train]))

    def carried_out(self, case: Case, cell: dict[str, Any]) -> Iterator[None]:
        """Fills the cell, and says after each plan that there is something new."""
        from convatlas.transfer.trials import Trials

        labels = self.shop.labels
        rows, test = self.rows(case.per_class)
        if not len(test):
            raise ConvAtlasError(
                f"{case.label}, split {self.seed}: every test image is a copy of a training image.",
                remedy="Leave out the copies, or the set.",
            )
        cell["test_images"] = len(test)

        started = time.perf_counter()
        mine = [tuple(block[rows] for block in blocks) for blocks in self.rungs.values()]
        rungs = dict(zip(self.rungs, mine, strict=True))
        held_out = left_out(labels[rows], self.together[rows])
        selection = select(rungs, labels[rows], self.shop.num_classes, folds=held_out, together=self.together[rows])
        seconds = time.perf_counter() - started
        for role, rung in (("top", self.stages[-1]), ("probe", selection.name)):
            scores = selection.probes[rung].scores([block[test] for block in self.rungs[rung]])
            cell["plans"][role] = asdict(Reached(accuracy=_accuracy(scores, labels[test]), seconds=seconds))
        yield

        plans = roles(self.stages)
        for plan in plans.values():
            self.shop.keep(plan)  # maps are made before anything is timed; what they cost is added below
        trials = Trials(self.shop, rows, stratified(labels[rows], self.together[rows], k=FOLDS, seed=self.seed))
        started = time.perf_counter()
        paces = {plan: self.shop.pace(plan, len(rows)) for plan in plans.values()}
        timing = time.perf_counter() - started
        foretold = {plan: pace.seconds(len(rows)) for plan, pace in paces.items()}
        frozen = {plan: pace.frozen * len(rows) for plan, pace in paces.items()}
        budget = BUDGET * sum(foretold.values()) - timing
        advice = trials.advice(selection.name, rungs[selection.name], foretold, budget=budget)
        tried = [verdict for verdict in advice.verdicts if verdict.images]
        spent = timing + sum(verdict.took + frozen.get(verdict.plan, 0.0) for verdict in tried)

        for role, plan in plans.items():
            if role not in cell["plans"]:
                found = self.shop.train(plan, rows, test)
                reached = Reached(
                    accuracy=_accuracy(found.logits, labels[test]),
                    seconds=found.seconds + frozen[plan],
                    foretold=foretold[plan],
                )
                cell["plans"][role] = asdict(reached)
                yield
        cell["advised"] = next((role for role, plan in plans.items() if plan == advice.chosen), "probe")
        cell["spent"] = spent
        yield


def _accuracy(scores: np.ndarray, truth: np.ndarray) -> float:
    return float((scores.argmax(axis=1) == truth).mean())
