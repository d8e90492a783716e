"""The main job: from a folder of images to a classifier with its evidence.

One pass decodes, checks and runs every image once (`material`); from the features of all stages the classifier is chosen, and judged
(`decide`); then the model folder is written, loaded again, and its report drawn.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import convatlas
from convatlas import cache, catalogue
from convatlas.bundle.folder import ensure_replaceable, whole_folder
from convatlas.data import Dataset, Record, scan
from convatlas.data.framing import FitMode
from convatlas.errors import ConvAtlasError
from convatlas.jobs.decide import Decided, Wanted, decide
from convatlas.jobs.doubts import label_records
from convatlas.jobs.evidence import evidence
from convatlas.jobs.fit_json import fit_json
from convatlas.jobs.gallery import explain_rows, right_answers
from convatlas.jobs.images import Progress, resolve_device, silent
from convatlas.jobs.material import (
    Material,
    default_out,
    framed,
    gather,
    refuse_among_images,
    refuse_blockers,
    training_records,
)
from convatlas.jobs.result import FitResult
from convatlas.jobs.scores import MOST_MISTAKES, mistakes, write_thumbnails
from convatlas.jobs.which_network import Backbones, entrants, which_network
from convatlas.transfer.plans import AUTO, Plan, parse_budget, parse_plan
from convatlas.weights.source import WeightsSource, find_weights

RESULT = "fit.json"
_VALUES = {"bn": ("frozen", "stats", "train"), "maps": ("float32", "float16"), "class_weights": (None, "balanced")}


def fit(
    data: str | Path,
    *,
    backbone: str | None = None,
    backbones: Backbones | None = None,
    weights: str | Path | None = None,
    out: str | Path | None = None,
    class_weights: Literal["balanced"] | None = None,
    plan: str = "auto",
    budget: str | float | None = None,
    bn: Literal["frozen", "stats", "train"] = "frozen",
    augment: int = 0,
    maps: Literal["float32", "float16"] = "float32",
    control: bool = False,
    resize_mode: FitMode = "auto",
    device: str = "auto",
    processes: int = 1,
    nodes: int = 1,
    download: bool = False,
    seed: int = 0,
    report: bool = True,
    progress: Progress = silent,
) -> FitResult:
    """Fits, evaluates and saves a classifier for the images at `data`; returns what was found.

    `data` is a folder (`train/class/*` and `test/class/*`, or `class/*`), a zip or tar of one, or a CSV. `backbone` and `weights` (a file,
    a folder, a tag) choose the network; without them the best weights on this disk, else the embedded backbone. `backbones` names several
    (names, files or tags, or a folder of weights files; `weights` is then a folder in which names are looked for): they are ranked by
    probes on held-out training images, and the best is taken, or a cheaper one shown to lose less than a point. `out` becomes the model
    folder, with `fit.json` and `report.html` in it.

    `plan` says what is done with the network: `probe`, `probe:stage3`, `tune:stage4`, `tune:all`, `scratch` (see `transfer.plans`); or
    `auto`, which probes and, where a `budget` is given (seconds, or `"10m"`), tries what fits into it and takes what the training images
    show to be best. `bn` is what batch norms do in the part of a network that is tuned: keep their numbers, follow the images' statistics,
    or learn scale and shift too. With `augment` a tuning sees so many random crops and mirrorings of each image (through a frozen part,
    cached; any number where nothing is frozen), else images as they are in use. `maps` is how what a frozen part makes of images is kept:
    float16 takes half of the space. With `control` the same network is trained from scratch as
    well, and judged on the same images: what the pretrained weights bought. `resize_mode` is how images that are not square become so:
    crop, pad, squash; multicrop, squares along the longer side whose features and scores are averaged; or auto, the weights' own unless
    images are long, then multicrop. `seed` deals images to folds. With several `processes`, on each of `nodes` machines, all compute
    features, each image's once; every one runs the script that called this, and all but the first end here. Called again after it was
    interrupted it goes on: features and trainings are kept in the cache. Raises `ConvAtlasError` where the data or the weights cannot be
    used, or the plan is none; `Stopped` after Ctrl-C or SIGTERM in a training, when that was saved.
    """
    clock = _Clock()
    _refuse_unknown(bn=bn, maps=maps, class_weights=class_weights)
    _refuse_contradictions(backbone, backbones, plan, budget, augment, control)
    _refuse_idle(plan, budget, bn=bn, augment=augment, maps=maps)
    seconds = parse_budget(budget) if isinstance(budget, str) else budget
    if seconds is not None and not 0 <= seconds < math.inf:
        raise ConvAtlasError(f"a budget of {seconds} seconds.", remedy="Give 0 or more, or a time such as 10m.")
    if seed < 0:
        raise ConvAtlasError(f"a seed of {seed}.", remedy="Give 0 or more.")
    several = [] if backbones is None else entrants(backbones, weights, download=download, progress=progress)
    source = None if several else find_weights(weights, name=backbone, download=download, progress=progress)
    asked = _known(plan, source) if source else None  # before any work
    dataset = scan(data)
    refuse_blockers(dataset.problems)
    target = Path(out).expanduser() if out is not None else default_out(dataset)
    refuse_among_images(dataset, target)
    ensure_replaceable(target)
    limit = cache.size_limit()

    if (processes, nodes) != (1, 1):
        sources = [source] if source else [entrant.source for entrant in several if entrant.source]
        records = dataset.records if source else training_records(dataset)
        _share(dataset, records, sources, resize_mode, processes, nodes, resolve_device(device), progress)
    networks = None
    if source is None:
        with clock.part("rank"):
            networks = which_network(
                *(dataset, several),
                plan=plan,
                resize_mode=resize_mode,
                class_weights=class_weights,
                device=device,
                progress=progress,
            )
        source = networks.source
        asked = _known(plan, source)
    wanted = Wanted(
        plan=asked,
        budget=seconds,
        class_weights=class_weights,
        norms=bn,
        augment=augment,
        maps=maps,
        device=device,
        seed=seed,
        control=control,
    )
    found = gather(dataset, source, resize_mode, device=device, progress=progress)
    decided = decide(found, wanted, progress=progress)
    controlled = None
    if control:
        from convatlas.jobs.control import control_json  # and with it torch

        with clock.part("control"):
            controlled = control_json(found, wanted, decided, progress=progress)
    if out is None:
        target = default_out(dataset)  # once more, since another fit may have taken it meanwhile
    with whole_folder(target) as folder:
        balanced = class_weights is not None
        result = fit_json(found, decided, target, device=resolve_device(device), report=report, balanced=balanced)
        result["control"] = controlled
        result["networks"] = networks.json if networks else None
        if networks and result["headline"] != "test":
            result["protocol"] += "; the network was chosen by these images too, so it flatters a little"
        result["evidence"] = evidence(found, decided, wanted)
        _save(folder, found, decided, result, report)
        result["seconds"] = clock.seconds(found, decided)
        _write(folder, result)
        if report:
            from convatlas.report import render

            started = time.perf_counter()
            render(folder)
            result["seconds"] = clock.seconds(found, decided, time.perf_counter() - started)
            _write(folder, result)
    cache.prune(limit, keep=[found.passed.store.path])
    return FitResult(result)


def _known(plan: str, source: WeightsSource) -> Plan | None:
    """The plan for this network. Raises `ConvAtlasError` for a stage or block that it does not have."""
    found = parse_plan(plan, catalogue.find(source.name).rungs)
    if found and found.kind == "tune" and "." in found.at[0]:
        from convatlas.transfer.frozen import cut_before  # and with it torch
        from convatlas.weights.load import skeleton

        cut_before(skeleton(source), found.at[0])
    return found


def _refuse_unknown(**given: str | None) -> None:
    """Raises `ConvAtlasError` for a setting that has no such value."""
    for name, value in given.items():
        if value not in _VALUES[name]:
            known = [repr(each) for each in _VALUES[name]]
            raise ConvAtlasError(f"{name} is {value!r}.", remedy=f"Give {', '.join(known[:-1])} or {known[-1]}.")


def _refuse_contradictions(
    backbone: str | None,
    backbones: Backbones | None,
    plan: str,
    budget: str | float | None,
    augment: int,
    control: bool,
) -> None:
    """Raises `ConvAtlasError` for wishes that cannot all be granted."""
    if backbones is not None and backbone is not None:
        raise ConvAtlasError(f"backbone {backbone} and backbones {backbones}.", remedy="Leave one of them out.")
    if plan != AUTO and budget is not None:
        raise ConvAtlasError(
            f"a budget of {budget} is for plan auto, which searches; {plan} takes what it takes.",
            remedy="Leave one of them out.",
        )
    if augment == 1 or augment < 0:
        raise ConvAtlasError(
            f"{augment} random views of each image.", remedy="Give 2 or more, or 0 for images as they are."
        )
    if control and plan == "scratch":
        raise ConvAtlasError(
            "the plan scratch is its own control.", remedy="Leave out the control, or choose another plan."
        )


def _refuse_idle(plan: str, budget: str | float | None, *, bn: str, augment: int, maps: str) -> None:
    """Raises `ConvAtlasError` for settings of a fine-tuning where nothing is fine-tuned."""
    set_ = {"bn": bn != "frozen", "augment": augment != 0, "maps": maps != "float32"}
    given = ", ".join(name for name, given in set_.items() if given)
    if not given or plan.startswith("tune") or (plan == AUTO and budget is not None):
        return
    if plan == "scratch":
        raise ConvAtlasError(
            f"{given}: of no effect on the plan scratch, which has norms and random views of its own.",
            remedy="Leave it out, or give a plan that tunes, as tune:all.",
        )
    raise ConvAtlasError(
        f"{given}: of no effect, since nothing is fine-tuned.",
        remedy="Give a plan that tunes, as tune:all, or a budget for a search.",
    )


def _share(
    dataset: Dataset,
    records: Sequence[Record],
    sources: Sequence[WeightsSource],
    mode: FitMode,
    processes: int,
    nodes: int,
    device: str,
    progress: Progress,
) -> None:
    """The passes by several processes, of which the first goes on and the others end."""
    from convatlas.jobs.shares import share_features
    from convatlas.train.processes import processes as started

    together = started(processes, device, nodes=nodes)
    told = silent if together.rank else progress
    for source in sources:
        share_features(dataset, records, framed(dataset, source, mode)[0], together, device=device, progress=told)
    if together.rank:
        raise SystemExit(0)


def _save(folder: Path, found: Material, decided: Decided, result: dict[str, Any], report: bool) -> None:
    """Fills the model folder and loads it: a model that could not be loaded is not handed out. With a report, the pictures too."""
    from convatlas.bundle.load import load
    from convatlas.jobs import probe_model  # torch comes with it, and must not before the images

    dataset, judged, classes = found.dataset, decided.judged, found.classes.names
    wrong = mistakes(dataset, judged.records, decided.probabilities, judged.labels, classes)
    result["mistakes"] = write_thumbnails(dataset, wrong, folder) if report else [row for _, row in wrong]
    train, trained = found.train, decided.trained
    if trained and trained.own:
        remember = probe_model.remembering(trained.own.maps, train.records, train.sha256s)
        how = decided.scale, classes, result, remember, decided.confidence
        probe_model.save_tuned(folder, found.source, trained.model, *how)
    else:
        selection = decided.selection
        remember = probe_model.remembering(decided.rungs[selection.name], train.records, train.sha256s)
        probe_model.save_probe(folder, found.source, selection, classes, result, remember, decided.confidence)
    classifier = load(folder)
    if report:
        for part, most in (("train", MOST_MISTAKES), ("test", MOST_MISTAKES // 2)):
            rows = result["label_suspects"][part]
            pictured = list(zip(label_records(found, rows[:most]), rows[:most], strict=True))
            rows[:most] = write_thumbnails(dataset, pictured, folder, f"label-{part}")
        shown = list(zip([record for record, _ in wrong], result["mistakes"], strict=True))
        result["mistakes"] = explain_rows(folder, classifier, dataset, shown, "mistake")
        right = right_answers(dataset, judged.records, decided.probabilities, judged.labels, classes)
        result["right"] = explain_rows(folder, classifier, dataset, right, "right")


class _Clock:
    """Seconds since this process, or in a longer-lived one this job, began."""

    def __init__(self) -> None:
        self.started = time.perf_counter()
        self.before = convatlas.startup_seconds()
        self.parts: dict[str, float | None] = {"rank": None, "control": None}  # where these were asked for

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """While this lasts, time belongs to that part."""
        started = time.perf_counter()
        yield
        self.parts[name] = time.perf_counter() - started

    def seconds(self, found: Material, decided: Decided, report: float | None = None) -> dict[str, float | None]:
        passed = found.passed
        return {
            "import": self.before + passed.import_seconds,
            "decode": passed.extraction.wait_seconds,
            "forward": passed.extraction.forward_seconds,
            "solve": decided.solve_seconds,
            "adapt": decided.adapt_seconds,
            **self.parts,
            "report": report,
            "total": self.before + time.perf_counter() - self.started,
        }


def _write(folder: Path, result: dict[str, Any]) -> None:
    partial = folder / f"{RESULT}.partial"
    text = json.dumps(result, indent=1, ensure_ascii=False)
    partial.write_text(text, encoding="utf-8", errors="backslashreplace")  # as in the model's config.json
    partial.replace(folder / RESULT)
