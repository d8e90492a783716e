"""Several models made into one whose probabilities are averaged, and what each of them adds to it.

Members and their order are the caller's. Nothing is chosen here, so that what the table says of a split is not what the split was used for.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from convatlas import metrics
from convatlas.bundle.folder import ensure_replaceable, whole_folder
from convatlas.data import Dataset, Views, scan
from convatlas.errors import ConvAtlasError
from convatlas.jobs.images import Progress, fingerprint, resolve_device, silent
from convatlas.jobs.judge import Judgement, judge, overlap_json, part_in_words, part_of
from convatlas.jobs.scores import accuracy_with_interval

if TYPE_CHECKING:
    from convatlas.bundle.classifier import Classifier

SCHEMA = "convatlas.ensemble/1"


@dataclass(frozen=True, kw_only=True)
class EnsembleResult:
    """An ensemble that was made: the model folder, and in `json`, versioned, its members and what each adds."""

    folder: Path
    json: dict[str, Any]


def ensemble(
    folders: Sequence[str | Path],
    out: str | Path,
    *,
    data: str | Path | None = None,
    split: str | None = None,
    device: str = "auto",
    progress: Progress = silent,
) -> EnsembleResult:
    """Makes one model folder, `out`, of the models in `folders`, whose probabilities it averages; for `load`, `predict` and `evaluate`.

    Members are model folders or runs of `train`, in any number from two, of any networks and input sizes; classes are matched by name, in
    the first one's order. With `data` (as for `evaluate`) the result says what each member adds, in the order given, on `split`: by default
    the validation split, else the test split, else everything. Choose members by a validation split, never by the test split; where they
    were fitted on these very images, as `fit` does on a validation split, `alarms` says so.

    Raises `ConvAtlasError` for members that are not models of the same classes, for one given twice, and for an ensemble among them.
    """
    target = Path(out).expanduser()
    try:
        ensure_replaceable(target)
    except ConvAtlasError as error:
        raise ConvAtlasError(error.message, remedy="Give another folder for the ensemble.") from None
    places = [_model_folder(Path(folder).expanduser()) for folder in folders]
    _refuse_overlap(target, places)
    dataset = None if data is None else scan(data)
    if dataset is None and split is not None:
        raise ConvAtlasError(f"split {split!r} of what?", remedy="Give the images with data, or leave the split out.")
    chosen = None if dataset is None else part_of(dataset, split, ("val", "test"))

    from convatlas.bundle.ensemble import save_ensemble
    from convatlas.bundle.load import load

    device = resolve_device(device)
    joined = _joined([load(place, device=device) for place in places], target)
    names = _names(places)
    result: dict[str, Any] = {
        "schema": SCHEMA,
        "bundle": str(target),
        "classes": list(joined.classes),
        "forward_passes": joined.forward_passes(Views()),
        "members": [
            {"model": name, "network": member.network, "size": member.preprocessing.size}
            for name, member in zip(names, joined.members, strict=True)
        ],
    }
    if dataset is not None and chosen is not None:
        records = [record for record in dataset.records if chosen in ("all", record.split)]
        judged = judge(joined, dataset, records, Views(), "evaluate", progress)
        result |= _gains(dataset, chosen, judged, names) | overlap_json(joined, judged)
    kept = (
        "members",
        "images",
        "accuracy",
        "accuracy_interval",
        "mean_member_accuracy",
        "gain",
        "protocol",
        "table",
        "trained_on",
        "alarms",
    )
    about = {key: result[key] for key in kept if key in result}
    if "data" in result:
        about["data"] = {
            key: result["data"][key] for key in ("split", "fingerprint")
        }  # where it lay is nobody's business
    with whole_folder(target) as folder:
        save_ensemble(folder, joined.members, joined.classes, about)
        load(folder)  # a model that could not be loaded is not handed out
    return EnsembleResult(folder=target, json=json.loads(json.dumps(result)))


def _model_folder(given: Path) -> Path:
    """The model folder that is meant: itself, or what a run of `train` left in `model/`."""
    if (given / "run.json").is_file() and not (given / "config.json").is_file():
        if not (given / "model" / "config.json").is_file():
            raise ConvAtlasError(
                f"{given}: is a run that has no model yet.",
                remedy="Repeat its `convatlas train`, which goes on with it.",
            )
        return given / "model"
    return given


def _refuse_overlap(target: Path, places: Sequence[Path]) -> None:
    if len(places) < 2:
        raise ConvAtlasError(f"{len(places)} model makes no ensemble.", remedy="Give two model folders or more.")
    own = target.resolve()
    for place in map(Path.resolve, places):
        if own == place or own.is_relative_to(place) or place.is_relative_to(own):
            raise ConvAtlasError(
                f"{target}: would replace, or lie in, the member {place}.",
                remedy="Give a folder elsewhere to write to.",
            )


def _joined(models: Sequence[Classifier], target: Path) -> Classifier:
    """The members as one classifier in memory, in the class order of the first. Raises `ConvAtlasError` for what cannot be one."""
    from convatlas.bundle.classifier import Classifier
    from convatlas.bundle.verify import read_config

    first = models[0]
    seen: dict[str, Path] = {}
    for model in models:
        if model.ensemble:
            raise ConvAtlasError(
                f"{model.folder}: is an ensemble itself.", remedy="Give its members instead: the folders in `members/`."
            )
        checksum = read_config(model.folder)["convatlas"]["config_sha256"]
        if checksum in seen:
            raise ConvAtlasError(
                f"{model.folder} is the same model as {seen[checksum]}.", remedy="Give each model once."
            )
        seen[checksum] = model.folder
        try:
            model.members[0].classes.align(first.classes)
        except ConvAtlasError as error:
            raise ConvAtlasError(
                f"{model.folder} beside {first.folder}: {error.message}", remedy=error.remedy
            ) from None
        if model.background != first.background:
            raise ConvAtlasError(
                f"{model.folder} puts transparent images on the background {model.background}, {first.folder} on {first.background}.",
                remedy="Make the models with one background.",
            )
    return Classifier(target, first.classes, {}, [member for model in models for member in model.members])


def _names(places: Sequence[Path]) -> list[str]:
    """What the members are called in figures: their folders' names, a run's for its `model/`, and no more of where they lay."""
    full = [place.resolve() for place in places]
    return [(place.parent if (place.parent / "run.json").is_file() else place).name for place in full]


def _gains(dataset: Dataset, split: str, judged: Judgement, names: Sequence[str]) -> dict[str, Any]:
    """What each member reaches alone, and the mean of the first k, on the same images."""
    alone = judged.members.argmax(axis=2) == judged.truth  # (members, n)
    counts = np.arange(1, len(alone) + 1)[:, None, None]
    first = (judged.members.cumsum(axis=0) / counts).argmax(axis=2) == judged.truth
    together, rows = judged.together, []
    for i, name in enumerate(names):
        adds = None if i == 0 else _difference(first[i].astype(float) - first[i - 1], together)
        rows.append(
            {
                "model": name,
                "alone": accuracy_with_interval(alone[i], together),
                "first": accuracy_with_interval(first[i], together),
                "adds": adds,
            }
        )
    whole = accuracy_with_interval(first[-1], together)
    return {
        "data": {"path": str(dataset.root), "split": split, "fingerprint": fingerprint(judged.examined)},
        "images": len(judged.read),
        "unreadable": [dataset.locate(item.record) for item in judged.examined if item.failure is not None],
        "accuracy": whole["accuracy"],
        "accuracy_interval": whole["accuracy_interval"],
        "mean_member_accuracy": float(alone.mean()),
        "gain": _difference(first[-1] - alone.mean(axis=0), together),
        "protocol": f"{part_in_words(split, len(judged.read))}; members and their order as given; 95 % intervals: Wilson's, and of "
        "differences image by image Bonett and Price's",
        "table": rows,
    }


def _difference(differences: np.ndarray, together: np.ndarray) -> dict[str, Any]:
    low, high = metrics.paired_interval(differences, together=together)
    return {"difference": float(differences.mean()), "interval": [low, high], "shown": not low <= 0 <= high}
