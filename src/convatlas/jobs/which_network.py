"""Several networks for one set of images: features of each once, probes on all their stages, a ranking, and one of them taken.

Only training images are looked at here, and none is held out from one network and not from another. A network that cannot be used is
a row that says why, and costs the others nothing; a name that does not exist is an error at once, before anything is computed.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from convatlas import catalogue
from convatlas.data import Dataset
from convatlas.data.framing import FitMode
from convatlas.errors import ConvAtlasError
from convatlas.jobs.evidence import rank_correlation
from convatlas.jobs.images import Progress
from convatlas.jobs.material import gather, training_records
from convatlas.transfer.logme import logme
from convatlas.transfer.networks import Judged, rank
from convatlas.transfer.plans import Plan, parse_plan
from convatlas.transfer.probe import ClassWeights, rungs_of, select
from convatlas.weights.caches import HUB_FILES
from convatlas.weights.source import EMBEDDED, WeightsSource, find_weights

Backbones = str | Path | Sequence[str | Path]

_ENDINGS = (".safetensors", ".pth", ".pt", ".th", ".bin")


@dataclass(frozen=True, kw_only=True)
class Entrant:
    """A network that takes part, or why it cannot."""

    name: str  # the network's, with its weights where two have the same
    source: WeightsSource | None
    failure: ConvAtlasError | None = None


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """The network to take, and the ranking as fit.json has it."""

    source: WeightsSource
    json: dict[str, Any]


def entrants(backbones: Backbones, weights: str | Path | None, *, download: bool, progress: Progress) -> list[Entrant]:
    """The networks that `backbones` names: a folder of weights files, or names, files and tags, as a list or with commas.

    `weights` is a folder in which names are looked for; without it, each name gets the best weights on this disk. Raises `ConvAtlasError`
    for a name that is none, and where fewer than two are named.
    """
    given = backbones if isinstance(backbones, Sequence) and not isinstance(backbones, str) else [backbones]
    items = [item for text in given for item in ([text] if _exists(text) else str(text).split(","))]
    items = [item for item in items if str(item).strip()]
    known = {} if weights is None else _by_network(Path(weights).expanduser())
    found: list[Entrant] = []
    for item in items:
        text, path = str(item).strip(), Path(str(item).strip()).expanduser()
        if text in catalogue.networks():  # a folder of that name is meant by `./resnet50`
            if weights is not None and text not in known:
                there = ", ".join(known) or "none"
                raise ConvAtlasError(f"{weights}: no weights there are for {text}.", remedy=f"There are {there}.")
            found.append(_entrant(text, path=known.get(text), download=download, progress=progress))
        elif path.is_dir() and not any((path / name).is_file() for name in HUB_FILES):
            found.extend(_of_folder(path))
        elif path.exists() or "/" in text or text == EMBEDDED:
            found.append(_entrant(text, path=text, download=download, progress=progress))
        else:
            catalogue.find(text)  # which says what is near
    unique = list({(one.source.name, one.source.path) if one.source else one.name: one for one in found}.values())
    if len(unique) < 2:
        raise ConvAtlasError(
            f"{str(backbones)!r} names {len(unique)} network{'' if len(unique) == 1 else 's'} with weights; to choose takes two.",
            remedy="Give names with commas between, or a folder of weights files, each with its card beside it.",
        )
    return _told_apart(unique)


def which_network(
    dataset: Dataset,
    taking_part: Sequence[Entrant],
    *,
    plan: str,
    resize_mode: FitMode,
    class_weights: ClassWeights,
    device: str,
    progress: Progress,
) -> Chosen:
    """Judges every network by its probes on held-out training images, ranks them and takes one.

    Raises the first network's error where none could be judged.
    """
    judged: dict[str, Judged] = {}
    about: dict[str, dict[str, Any]] = {}
    failures = {one.name: one.failure for one in taking_part if one.failure}
    sources: dict[str, WeightsSource] = {}
    for one in taking_part:
        if one.source is None:
            continue
        started = time.perf_counter()
        try:
            only = parse_plan(plan, catalogue.find(one.source.name).rungs)
            judged[one.name], about[one.name] = _judged(
                dataset, one.source, only, resize_mode, class_weights, device, progress
            )
            about[one.name]["seconds"] = time.perf_counter() - started
            sources[one.name] = one.source
        except ConvAtlasError as error:
            failures[one.name] = error
        except (
            ValueError,
            RuntimeError,
        ) as error:  # images of a size that it cannot take, memory that does not suffice
            failures[one.name] = ConvAtlasError(f"{one.source.path}: {error}.", remedy="Leave it out.")
    if not judged:
        raise next(iter(failures.values()))
    if len({len(one.right) for one in judged.values()}) > 1:
        raise ConvAtlasError(f"{dataset.root}: images changed meanwhile.", remedy="Repeat when nothing writes there.")
    ranking = rank(judged)
    rows = [
        {**asdict(row), **about[row.name], "chosen": row.name == ranking.chosen, "failure": None}
        for row in ranking.rows
    ]
    rows += [{"name": name, "chosen": False, "failure": str(error)} for name, error in failures.items()]
    measured = [row for row in rows if row["failure"] is None]
    tau = rank_correlation([row["logme"] for row in measured], [row["accuracy"] for row in measured])
    found = {"chosen": ranking.chosen, "reason": ranking.reason, "logme": tau, "rows": rows}
    return Chosen(source=sources[ranking.chosen], json=found)


def _judged(
    dataset: Dataset,
    source: WeightsSource,
    plan: Plan | None,
    resize_mode: FitMode,
    class_weights: ClassWeights,
    device: str,
    progress: Progress,
) -> tuple[Judged, dict[str, Any]]:
    records = training_records(dataset)
    found = gather(dataset, source, resize_mode, device=device, progress=progress, records=records)
    train, classes = found.train, len(found.classes)
    rungs = rungs_of(plan, train.rungs(found.passed))
    selection = select(
        rungs, train.labels, classes, class_weights=class_weights, folds=found.held_out, together=train.together
    )
    probe = selection.probe
    right = np.where(np.isfinite(probe.losses), probe.held_out.argmax(axis=1) == train.labels, np.nan)
    last = found.passed.store.means(train.sha256s)[catalogue.find(source.name).stages[-1]]
    parameters, mult_adds = _costs(found.source)
    about = {
        "backbone": source.name,
        "weights": source.tag,
        "stage": selection.name,
        "images": int(np.isfinite(right).sum()),
        "input": found.source.preprocessing.size,
        "parameters": parameters,
        "mult_adds": mult_adds,
        "logme": logme(last, train.labels, classes),
    }
    return Judged(right=right, losses=probe.losses, mult_adds=mult_adds, together=train.together), about


def _costs(source: WeightsSource) -> tuple[int, int]:
    """Parameters and mult-adds of the network without its classifier, for an image as these weights take it."""
    from convatlas.jobs.analyse import analyse
    from convatlas.weights.load import skeleton

    p = source.preprocessing
    whole = analyse(skeleton(source), (p.channels, p.size, p.size)).whole
    return whole.parameters, whole.cost.mult_adds * p.crops


def _entrant(name: str, *, path: str | Path | None, download: bool, progress: Progress) -> Entrant:
    network = name if path is None or name in catalogue.networks() else None
    try:
        source = find_weights(path, name=network, download=download, progress=progress)
    except ConvAtlasError as error:
        return Entrant(name=name, source=None, failure=error)
    return Entrant(name=source.name, source=source)


def _of_folder(folder: Path) -> Iterable[Entrant]:
    for path in sorted(path for path in folder.iterdir() if path.suffix.lower() in _ENDINGS):
        try:
            source = find_weights(path)
            yield Entrant(name=source.name, source=source)
        except ConvAtlasError as error:
            yield Entrant(name=path.name, source=None, failure=error)


def _exists(text: str | Path) -> bool:
    try:
        return Path(text).exists()
    except OSError:  # too long for a name: several
        return False


def _by_network(folder: Path) -> dict[str, Path]:
    """The files of a folder by the network that their cards name."""
    if not folder.is_dir():
        raise ConvAtlasError(
            f"{folder} is no folder, and several networks have several weights.",
            remedy="Give --weights a folder of weights files, or name the files themselves with --backbones.",
        )
    found: dict[str, Path] = {}
    for source in (one.source for one in _of_folder(folder) if one.source):
        if source.name in found:
            raise ConvAtlasError(
                f"{folder}: both {found[source.name].name} and {source.path.name} are for {source.name}.",
                remedy="Name the file itself with --backbones.",
            )
        found[source.name] = source.path
    return found


def _told_apart(found: Sequence[Entrant]) -> list[Entrant]:
    """Names that occur once stay; others get the name of their weights file, and where that is the same too, its whole path."""
    names = [one.name for one in found]
    stems = [(one.name, one.source.path.stem if one.source else "") for one in found]

    def called(one: Entrant) -> str:
        if one.source is None or names.count(one.name) == 1:
            return one.name
        path = one.source.path
        return f"{one.name} ({path.stem if stems.count((one.name, path.stem)) == 1 else path})"

    return [replace(one, name=called(one)) for one in found]
