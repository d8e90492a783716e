"""The main job: from a folder of images to a classifier with its evidence.

One pass decodes, checks and runs every image once; from the features of all stages a linear probe is fitted on each, one is chosen by
cross-validation on the training part alone, and only then is the test part looked at. Without a test part the headline comes from
outer folds, in each of which the whole choice is made anew.
"""

from __future__ import annotations

import json
import platform
import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np

import convatlas
from convatlas import cache, catalogue
from convatlas.bundle.folder import ensure_replaceable, whole_folder
from convatlas.data import (
    ClassMap,
    Dataset,
    Examined,
    Problem,
    Record,
    choose,
    diagnose,
    folds,
    scan,
    units,
    worst_first,
)
from convatlas.data.framing import FitMode
from convatlas.errors import ConvAtlasError
from convatlas.jobs.advice import advice_json, training_json
from convatlas.jobs.gallery import explain_rows, right_answers
from convatlas.jobs.images import Pass, Progress, extract_features, fingerprint, resolve_device, silent
from convatlas.jobs.result import FitResult, answer_in_words, classifier_in_words, protocol_in_words
from convatlas.jobs.scores import accuracy_with_interval, mistakes, scores, write_thumbnails
from convatlas.jobs.shapes import shapes_json
from convatlas.metrics import wilson
from convatlas.transfer.plans import parse_budget, parse_plan
from convatlas.transfer.probe import Selection, ladder, outer_folds_predictions, rungs_of, select
from convatlas.weights.source import find_weights

SCHEMA = "convatlas.fit/1"
RESULT = "fit.json"
_OUTER_FOLDS = 5
_IGNORED = ("junk", "ignored-files", "unlabelled", "outside-splits")  # findings whose files are no part of the data set


@dataclass(frozen=True, kw_only=True)
class _Part:
    """Images that can be used, of the training or the test side."""

    records: list[Record]
    sha256s: list[str]
    labels: np.ndarray  # (n,) class indices

    def rungs(self, passed: Pass) -> dict[str, tuple[np.ndarray, ...]]:
        """What the probes are fitted on: each stage alone, and all of them."""
        return ladder(passed.store.means(self.sha256s), passed.store.deviations(self.sha256s))


def fit(
    data: str | Path,
    *,
    backbone: str | None = None,
    weights: str | Path | None = None,
    out: str | Path | None = None,
    class_weights: Literal["balanced"] | None = None,
    plan: str = "auto",
    budget: str | float | None = None,
    bn: Literal["frozen", "stats", "train"] = "frozen",
    resize_mode: FitMode = "auto",
    device: str = "auto",
    download: bool = False,
    seed: int = 0,
    report: bool = True,
    progress: Progress = silent,
) -> FitResult:
    """Fits, evaluates and saves a classifier for the images at `data`; returns what was found.

    `data` is a folder (`train/class/*` and `test/class/*`, or `class/*`), a zip or tar of one, or a CSV. `backbone` and `weights` (a file,
    a folder, a tag) choose the network; without them the best weights on this disk, else the embedded backbone. `out` becomes the model
    folder, with `fit.json` and `report.html` in it.

    `plan` says what is done with the network: `probe`, `probe:stage3`, `tune:stage4`, `tune:all`, `scratch` (see `transfer.plans`); or
    `auto`, which probes and, where a `budget` is given (seconds, or `"10m"`), tries what fits into it and takes what the training images
    show to be best. `bn` is what batch norms do in the part of a network that is tuned: keep their numbers, follow the images' statistics,
    or learn scale and shift too. `resize_mode` is how images that are not square become so: crop, pad, squash, or auto, the weights' own
    unless images are very long. `seed` deals images to folds. Raises `ConvAtlasError` where the data or the weights cannot be used, or the
    plan is none.
    """
    clock = _Clock()
    source = find_weights(weights, name=backbone, download=download, progress=progress)
    asked = parse_plan(plan, catalogue.find(source.name).rungs)
    allowed = parse_budget(budget) if isinstance(budget, str) else budget
    if asked and allowed is not None:
        raise ConvAtlasError(
            f"a budget of {budget} is for plan auto, which searches; {plan} takes what it takes.",
            remedy="Leave one of them out.",
        )
    dataset = scan(data)
    _refuse_blockers(dataset.problems)
    target = Path(out).expanduser() if out is not None else _default_out(dataset)
    _refuse_among_images(dataset, target)
    ensure_replaceable(target)
    limit = cache.size_limit()
    framing = choose(resize_mode, source.preprocessing, dataset)
    source = replace(source, preprocessing=replace(source.preprocessing, fit=framing.fit))

    passed = extract_features(dataset, dataset.records, source, device=device, progress=progress)
    problems = worst_first([*dataset.problems, *diagnose(dataset, passed.examined)])
    classes = ClassMap(dataset.classes)
    train, test = _parts(dataset, passed.examined, classes)
    if not train.records:
        if set(dataset.splits) <= {"val", "test"}:
            raise ConvAtlasError(
                f"{dataset.root}: has a test part only.", remedy="Add a folder `train`, or give class folders."
            )
        raise ConvAtlasError(
            f"{dataset.root}: no training image could be used.",
            remedy="`convatlas check` names each file and the reason.",
        )

    solving = time.perf_counter()
    progress("solve", 0, 1)
    together = units([record.group for record in train.records], train.sha256s)
    inner = _held_out_together(train.labels, together)
    rungs = rungs_of(asked, train.rungs(passed))
    selection = select(rungs, train.labels, len(classes), class_weights=class_weights, folds=inner)
    by_rung: dict[str, np.ndarray] = {}
    if test.records:
        unseen = rungs_of(asked, test.rungs(passed))
        by_rung = {name: probe.probabilities(unseen[name]) for name, probe in selection.probes.items()}
    adapted, told, adapting = None, list[str](), time.perf_counter()
    if (asked and asked.trains) or (asked is None and allowed):
        from convatlas.jobs.adapt import adapt

        labels = np.concatenate([train.labels, test.labels])
        means = passed.store.means([*train.sha256s, *test.sha256s])
        adapted = adapt(
            *(dataset, [*train.records, *test.records], labels, len(train.records)),
            *(source, rungs, selection.name, means, len(classes)),
            plan=asked,
            budget=allowed,
            together=together,
            class_weights=class_weights,
            norms=bn,
            device=resolve_device(device),
            seed=seed,
            progress=progress,
            say=told.append,
        )
    adapt_seconds = time.perf_counter() - adapting if adapted else None
    trained, outer = adapted.trained if adapted else None, None
    if adapted and trained and test.records:
        judged, probabilities = test, adapted.test
    elif adapted and trained:
        judged, probabilities = _subset(train, adapted.judged), adapted.held_out[adapted.judged]
    elif test.records:
        judged, probabilities = test, by_rung[selection.name]
    else:
        deal = folds(train.labels, together, k=_OUTER_FOLDS, seed=seed + 1)
        outer = outer_folds_predictions(
            rungs, train.labels, len(classes), deal, class_weights=class_weights, folds=inner
        )
        kept = np.flatnonzero(np.isfinite(outer.probabilities).all(axis=1))
        judged, probabilities = _subset(train, kept), outer.probabilities[kept]
    solve_seconds = time.perf_counter() - solving - (adapt_seconds or 0.0)
    progress("solve", 1, 1)

    with whole_folder(target) as folder:
        protocol = protocol_in_words(judged.records, selection, outer, adapted)
        found = scores(
            probabilities, judged.labels, classes.names, np.bincount(train.labels, minlength=len(classes)).tolist()
        )
        wrong = mistakes(dataset, judged.records, probabilities, judged.labels, classes.names)
        result: dict[str, Any] = {
            "schema": SCHEMA,
            "version": convatlas.__version__,
            "created": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "command": shlex.join(["convatlas", *sys.argv[1:]])
            if Path(sys.argv[0]).stem == "convatlas"
            else "convatlas.fit(…)",
            "data": {
                "path": str(dataset.root),
                "resolved": str(dataset.root.resolve()),
                "layout": dataset.layout,
                "fingerprint": fingerprint(passed.examined),
            },
            "shapes": shapes_json(framing, source.preprocessing, passed.examined),
            **found,
            "temperature": 1 / (adapted.scale if adapted and trained else selection.probe.scale),
            "protocol": protocol,
            "headline": "test" if test.records else "outer folds",
            "accuracy_without_duplicates": _without_duplicates(train, judged, probabilities) if test.records else None,
            "backbone": source.name,
            "weights": {"source": source.tag, "sha256": source.sha256(), "note": " ".join(source.notes)},
            "plan": str(adapted.advice.chosen) if adapted and trained else f"probe:{selection.name}",
            "classifier": classifier_in_words(source.name, selection, adapted),
            "stage": None if trained else selection.name,
            "strength": None if trained else selection.probe.strength,
            "choice": adapted.advice.reason if adapted else selection.reason,
            "stages": _stage_rows(selection, by_rung, test, chosen=None if trained else selection.name),
            "advice": advice_json(adapted.advice) if adapted else None,
            "training": training_json(trained) if trained else None,
            "images": {
                "train": len(train.records),
                "test": len(test.records),
                "unreadable": sum(item.failure is not None for item in passed.examined),
                "conflicting": sum(i.facts is not None for i in passed.examined)
                - len(train.records)
                - len(test.records),
                "ignored": sum(len(problem.paths) for problem in problems if problem.kind in _IGNORED),
            },
            "mistakes": write_thumbnails(dataset, wrong, folder) if report else [row for _, row in wrong],
            "problems": [problem.to_json() for problem in problems],
            "counts": {
                "decoded": passed.extraction.decoded,
                "forwarded": passed.extraction.forwarded,
                "from_cache": len({i.sha256 for i in passed.examined if i.facts is not None})
                - passed.extraction.forwarded,
            },
            "right": [],
            "notes": [*source.notes, *([framing.reason] if framing.told else []), *told],
            "bundle": str(target),
            "report": str(target / "report.html") if report else None,
            "environment": _environment(resolve_device(device)),
        }
        result |= answer_in_words(result, classes.names)
        from convatlas.bundle.load import load
        from convatlas.jobs import probe_model  # torch comes with it, and must not before the images

        if adapted and trained:
            probe_model.save_tuned(folder, source, trained.model, adapted.scale, classes.names, result)
        else:
            remember = probe_model.remembering(rungs[selection.name], train.records, train.sha256s)
            probe_model.save_probe(folder, source, selection, classes.names, result, remember)
        classifier = load(folder)  # a model that could not be loaded is not handed out
        if report:
            records = [record for record, _ in wrong]
            shown = list(zip(records, result["mistakes"], strict=True))
            result["mistakes"] = explain_rows(folder, classifier, dataset, shown, "mistake")
            right = right_answers(dataset, judged.records, probabilities, judged.labels, classes.names)
            result["right"] = explain_rows(folder, classifier, dataset, right, "right")
        result["seconds"] = clock.seconds(passed, solve_seconds, adapt_seconds)
        _write(folder, result)
        if report:
            from convatlas.report import render

            started = time.perf_counter()
            render(folder)
            result["seconds"] = clock.seconds(passed, solve_seconds, adapt_seconds, time.perf_counter() - started)
            _write(folder, result)
    cache.prune(limit, keep=[passed.store.path])
    return FitResult(result)


class _Clock:
    """Seconds since this process, or in a longer-lived one this job, began."""

    def __init__(self) -> None:
        self.started = time.perf_counter()
        self.before = convatlas.startup_seconds()

    def seconds(
        self, passed: Pass, solve: float, adapt: float | None, report: float | None = None
    ) -> dict[str, float | None]:
        return {
            "import": self.before + passed.import_seconds,
            "decode": passed.extraction.wait_seconds,
            "forward": passed.extraction.forward_seconds,
            "solve": solve,
            "adapt": adapt,
            "report": report,
            "total": self.before + time.perf_counter() - self.started,
        }


def _refuse_blockers(problems: Sequence[Problem]) -> None:
    """What the listing shows to make a fit meaningless."""
    for problem in problems:
        if problem.kind in ("unknown-class", "one-class"):
            raise ConvAtlasError(problem.message, remedy=problem.remedy)


def _parts(dataset: Dataset, examined: Sequence[Examined], classes: ClassMap) -> tuple[_Part, _Part]:
    """The training and the test side. With a test split the validation split trains too: choices are made by cross-validation.

    Images that stand under two labels are left out of both, since one of the labels is wrong.
    """
    under: dict[str, set[str]] = {}
    for item in examined:
        under.setdefault(item.sha256, set()).add(item.record.label)
    usable = [item for item in examined if item.facts is not None and len(under[item.sha256]) == 1]
    held_out = "test" if "test" in dataset.splits else "val"

    def part(items: list[Examined]) -> _Part:
        return _Part(
            records=[item.record for item in items],
            sha256s=[item.sha256 for item in items],
            labels=classes.indices([item.record.label for item in items]),
        )

    return part([i for i in usable if i.record.split != held_out]), part(
        [i for i in usable if i.record.split == held_out]
    )


def _held_out_together(labels: np.ndarray, together: np.ndarray) -> np.ndarray | None:
    """Fold ids for leaving one unit out, a unit being copies of an image or a group; None, one image at a time, where all stand alone.

    A unit that holds all there is of a class is always fitted (-1): the class could not be recognised without it.
    """
    if len(np.unique(together)) == len(together):
        return None
    whole = [np.unique(together[labels == label]) for label in np.unique(labels)]
    needed = [unit[0] for unit in whole if len(unit) == 1]
    return np.where(np.isin(together, needed), -1, together)


def _subset(part: _Part, index: np.ndarray) -> _Part:
    return _Part(
        records=[part.records[i] for i in index], sha256s=[part.sha256s[i] for i in index], labels=part.labels[index]
    )


def _without_duplicates(train: _Part, test: _Part, probabilities: np.ndarray) -> dict[str, Any] | None:
    """The accuracy on the test images that are not also training images, if some are."""
    seen = set(train.sha256s)
    new = np.array([sha256 not in seen for sha256 in test.sha256s])
    if new.all() or not new.any():
        return None
    return accuracy_with_interval((probabilities.argmax(axis=1) == test.labels)[new])


def _stage_rows(
    selection: Selection, by_rung: dict[str, np.ndarray], judged: _Part, chosen: str | None
) -> list[dict[str, Any]]:
    rows = []
    for name, probe in selection.probes.items():
        out = np.isfinite(probe.losses)
        row: dict[str, Any] = {
            "name": name,
            "features": len(probe.weight),
            "cv_accuracy": probe.accuracy,
            "cv_interval": list(wilson(round(probe.accuracy * int(out.sum())), int(out.sum()))),
            "cv_log_loss": probe.log_loss,
            "test_accuracy": None,
            "test_interval": None,
            "chosen": name == chosen,
            "strength": probe.strength,
            "note": "chosen" if name == chosen else "not used for the choice",
        }
        if name in by_rung:
            tested = accuracy_with_interval(by_rung[name].argmax(axis=1) == judged.labels)
            row |= {"test_accuracy": tested["accuracy"], "test_interval": tested["accuracy_interval"]}
        rows.append(row)
    return rows


def _environment(device: str) -> dict[str, str]:
    packages = {name: version(name) for name in ("torch", "numpy", "pillow", "simplejpeg")}
    return {
        "convatlas": convatlas.__version__,
        "python": platform.python_version(),
        "system": platform.platform(),
        "device": device,
    } | packages


def _default_out(dataset: Dataset) -> Path:
    """`NAME-classifier` in the working directory (beside the images, if that is among them), numbered on where that is taken."""
    root = dataset.root.resolve()
    place = root.parent if dataset.root.is_dir() and Path.cwd().is_relative_to(root) else Path()
    base = f"{root.stem or 'images'}-classifier"
    candidates = (place / (base if i == 1 else f"{base}-{i}") for i in range(1, 10_000))
    return next(path for path in candidates if not path.exists())


def _refuse_among_images(dataset: Dataset, target: Path) -> None:
    """A model folder holds images, which the next run would take for a class."""
    if dataset.root.is_dir() and target.resolve().is_relative_to(dataset.root.resolve()):
        raise ConvAtlasError(
            f"{target} lies inside the images of {dataset.root}.", remedy="Give a folder elsewhere with --out."
        )


def _write(folder: Path, result: dict[str, Any]) -> None:
    partial = folder / f"{RESULT}.partial"
    text = json.dumps(result, indent=1, ensure_ascii=False)
    partial.write_text(text, encoding="utf-8", errors="backslashreplace")  # as in the model's config.json
    partial.replace(folder / RESULT)
