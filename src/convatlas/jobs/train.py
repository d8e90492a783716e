"""Training a network of the zoo from scratch by a recipe: images in, a run in a folder, a model folder in the end."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import convatlas
from convatlas.bundle.folder import whole_folder
from convatlas.data import ClassMap, Dataset, Preprocessing, Record, examine, scan
from convatlas.errors import ConvAtlasError
from convatlas.jobs.images import Progress, resolve_device, silent
from convatlas.metrics import wilson

if TYPE_CHECKING:
    from torch import Tensor

    from convatlas.train.config import TrainConfig
    from convatlas.train.recipes import Recipe

SCHEMA = "convatlas.train/1"


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """What a finished run left."""

    folder: Path  # the run
    model: Path  # the model folder, for `load`, `predict` and `evaluate`
    json: dict[str, Any]


def train_recipe(
    name: str,
    data: str | Path,
    *,
    out: str | Path,
    network: str | None = None,
    settings: Iterable[str] = (),
    device: str = "auto",
    save_every: int = 0,
    progress: Progress = silent,
    say: Callable[[str], None] = lambda message: None,
) -> TrainResult:
    """Trains the network of the recipe `name` on the training images at `data` (a folder, zip or CSV, as for `fit`), from scratch.

    `out` is the run: run.json, metrics.jsonl, checkpoints/ and, when it is done, result.json and model/. Called again with the same
    arguments it goes on where it was; with others it is refused. `network` is another one that the recipe is for. `settings` change the
    recipe, as `optim.lr=0.05`. A validation part, or else a test part, is measured after every epoch; nothing is chosen by it, the last
    weights are the result; but recipes whose rate falls on a plateau look at it, and insist on a validation part. A checkpoint is written
    after every epoch and, if that is not 0, every `save_every` steps. Images are kept in memory, at the size that the network sees.

    Raises `ConvAtlasError` for what cannot be trained, `train.run.Stopped` after Ctrl-C or SIGTERM, when the run has saved where it is.
    """
    if save_every < 0:
        raise ConvAtlasError(f"save_every is {save_every};", remedy="give steps, or 0 for after every epoch only.")
    kind = resolve_device(device)
    import torch

    from convatlas.train.checkpoint import write_whole
    from convatlas.train.loop import train
    from convatlas.train.losses import ensure_auxiliary
    from convatlas.train.optim import ensure_watched
    from convatlas.train.overrides import overridden
    from convatlas.train.recipes import recipe
    from convatlas.train.run import open_run

    found = recipe(name, network)
    config = overridden(found.config, settings)
    dataset = scan(data)
    classes = ClassMap(dataset.classes)
    split = "train" if "train" in dataset.splits else "all"
    watched = next((part for part in ("val", "test") if part in dataset.splits), None)
    ensure_watched(config.optim, watched)
    square, shown = (
        Preprocessing(
            size=side,
            resize=side,
            interpolation="bilinear",
            mean=config.mean,
            std=config.std,
            channels=len(config.mean),
        )
        for side in (config.image_size, config.shown_size)
    )
    images, labels, names = _read(dataset, dataset.of(split), classes, square, progress, say)
    held_out = None
    if watched:
        pixels, truth, _ = _read(dataset, dataset.of(watched), classes, shown, progress, say)
        held_out = pixels, truth
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        model = found.build(num_classes=len(classes.names), in_channels=square.channels)
    ensure_auxiliary(model, config)
    described = {
        "recipe": name,
        "network": found.network,
        "changes": dict(found.changes),
        "source": found.source,
        "config": asdict(config),
        "data": {
            "images": len(images),
            "held_out": len(held_out[0]) if held_out else 0,
            "classes": list(classes.names),
            "sha256": _digest([images, labels, *(held_out or ())]),
        },
        "weights": {"initial_sha256": _digest(model.state_dict().values())},
        "versions": {
            "convatlas": convatlas.__version__,
            "torch": torch.__version__,
            "python": sys.version.split()[0],
            "device": kind,
            "threads": torch.get_num_threads(),
        },
    }
    folder = Path(out).expanduser()
    with open_run(folder, described, say) as run, run.listening():
        history = train(
            *(model, images, labels, config),
            held_out=held_out,
            part=watched,
            names=names,
            device=kind,
            run=run,
            save_every=save_every,
            progress=lambda done, steps: progress("train", done, steps),
        )
        reached = _reached(history[-1].held_out, watched, held_out, config)
        result = {"schema": SCHEMA, **described, **reached}
        result["loss"] = history[-1].loss
        with whole_folder(folder / "model") as place:
            _save_model(place, model, found, classes, shown, result)
        write_whole(folder / "result.json", json.dumps(result, indent=1).encode() + b"\n")
    return TrainResult(folder=folder, model=folder / "model", json=result)


def _read(
    dataset: Dataset,
    records: Sequence[Record],
    classes: ClassMap,
    square: Preprocessing,
    progress: Progress,
    say: Callable[[str], None],
) -> tuple[Tensor, Tensor, list[str]]:
    """Images, uint8 (n, c, size, size), labels (n,) and where the files are. Files that cannot be read are named and left out."""
    import torch

    classes.align(sorted({record.label for record in records}), partial=True)
    images = np.empty((len(records), square.channels, square.size, square.size), np.uint8)
    read: list[Record] = []
    for done, item in enumerate(examine(dataset, records, preprocessing=square), start=1):
        if item.pixels is None:
            say(f"left out: {dataset.locate(item.record)} ({item.failure})")
        else:
            images[len(read)] = item.pixels.transpose(2, 0, 1)
            read.append(item.record)
        progress("decode", done, len(records))
    if len(read) < 2:
        raise ConvAtlasError(
            f"{dataset.root}: {len(read)} of {len(records)} images could be read.",
            remedy="`convatlas check` names each file and the reason.",
        )
    labels = torch.from_numpy(classes.indices([record.label for record in read]).astype(np.int64))
    return torch.from_numpy(images[: len(read)]), labels, [dataset.locate(record) for record in read]


def _digest(tensors: Iterable[Tensor]) -> str:
    found = hashlib.sha256()
    for tensor in tensors:
        found.update(np.ascontiguousarray(tensor.numpy()).tobytes())
    return found.hexdigest()


def _reached(
    accuracy: float | None, split: str | None, held_out: tuple[Tensor, Tensor] | None, config: TrainConfig
) -> dict[str, Any]:
    if accuracy is None or held_out is None:
        return {"accuracy": None, "protocol": "no part of the data was held out, so nothing is known of new images"}
    n = len(held_out[0])
    watches = config.optim.schedule == "plateau" and config.optim.watch == "validation"
    chosen = "the learning rate lowered" if watches else "nothing chosen"
    low, high = wilson(round(accuracy * n), n)
    return {
        "accuracy": accuracy,
        "accuracy_interval": [low, high],
        "protocol": f"{split} split, {n} images, weights after epoch {config.epochs}, {chosen} by it; 95 % Wilson interval, one seed",
    }


def _save_model(
    place: Path, model: Any, recipe: Recipe, classes: ClassMap, square: Preprocessing, result: dict[str, Any]
) -> None:
    from convatlas.bundle.save import Contents, save

    about = {key: result[key] for key in ("recipe", "source", "config", "accuracy", "protocol")}
    contents = Contents(
        name=recipe.network,
        config=dict(recipe.changes),
        classes=classes.names,
        preprocessing=square,
        about={"training": about},
    )
    save(place, model, contents)
