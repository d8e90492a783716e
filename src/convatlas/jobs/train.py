"""Training a network of the zoo from scratch by a recipe: images in, a run in a folder, a model folder in the end."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
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

    from convatlas.train.images import InMemory
    from convatlas.train.run import Run

SCHEMA = "convatlas.train/1"
PREPARED = 5000  # training images, evenly spread, that a recipe may set weights from


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
    settings: Iterable[str] = (),
    device: str = "auto",
    processes: int = 1,
    nodes: int = 1,
    save_every: int = 0,
    progress: Progress = silent,
    say: Callable[[str], None] = lambda message: None,
) -> TrainResult:
    """Trains the network of the recipe `name` on the training images at `data` (a folder, zip or CSV, as for `fit`), from scratch.

    `out` is the run: run.json, metrics.jsonl, checkpoints/ and, when it is done, result.json and model/. Called again with the same
    arguments it goes on where it was; with others it is refused. `settings` change the recipe, as `optim.lr=0.05`. A validation part, or
    else a test part, is measured after every epoch; where there are both, the test part once in the end. Only `patience` chooses by what
    is measured, and never by a test part; otherwise the last weights are the result. A checkpoint is written after every epoch and, if
    that is not 0, every `save_every` steps. Images are kept in memory, at the size that the network sees.

    With several `processes` each runs the script that called this, once more from its beginning, and works on its part of every batch;
    on `nodes` machines the same command is given on each, as torchrun or Slurm do.

    Raises `ConvAtlasError` for what cannot be trained, `train.run.Stopped` after Ctrl-C or SIGTERM, when the run has saved where it is.
    """
    if save_every < 0:
        raise ConvAtlasError(f"save_every is {save_every};", remedy="give steps, or 0 for after every epoch only.")
    kind = resolve_device(device)
    import torch

    from convatlas import zoo
    from convatlas.train.checkpoint import write_whole
    from convatlas.train.loop import accuracy, standardised, train
    from convatlas.train.overrides import overridden
    from convatlas.train.processes import led
    from convatlas.train.processes import processes as started
    from convatlas.train.recipes import recipe
    from convatlas.train.run import open_run

    found = recipe(name)
    config = overridden(found.config, settings)
    dataset = scan(data)
    if config.patience and "val" not in dataset.splits:
        only = ", only a test part, by which nothing may be chosen" if "test" in dataset.splits else ""
        raise ConvAtlasError(
            f"{data}: patience asks for a validation part{only};", remedy="add val/, or set patience=0."
        )
    together = started(processes, kind, nodes=nodes)
    if together.rank:
        progress, say = silent, lambda message: None
    classes = ClassMap(dataset.classes)
    square = Preprocessing(
        size=config.image_size, resize=config.image_size, interpolation="bilinear", mean=config.mean, std=config.std
    )

    def part(split: str) -> InMemory:
        return _read(dataset, dataset.of(split), classes, square, progress, say)

    parts = {split: part(split) for split in dataset.splits}
    images = parts.get("train") or parts["all"]
    watched = next((split for split in ("val", "test") if split in parts), None)
    held_out = parts[watched] if watched else None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        model = zoo.build(found.network, num_classes=len(classes.names), in_channels=square.channels)
    described = {
        "recipe": name,
        "network": found.network,
        "source": found.source,
        "config": asdict(config),
        "data": {
            "images": len(images),
            "held_out": len(held_out) if held_out else 0,
            "classes": list(classes.names),
            "sha256": _digest(tensor for read in (images, held_out) if read for tensor in (read.images, read.labels)),
        },
        "weights": {"initial_sha256": _digest(model.state_dict().values())},
        "versions": {
            "convatlas": convatlas.__version__,
            "torch": torch.__version__,
            "python": sys.version.split()[0],
            "device": kind,
            "threads": torch.get_num_threads(),
            "processes": together.count,
        },
    }
    if (
        found.prepare
    ):  # after the digest: what it makes of the weights follows from them and the images, but for the last bits
        chosen = torch.arange(0, len(images), -(-len(images) // PREPARED))
        with closing(images.batches([(chosen, 0)])) as read:
            found.prepare(model, standardised(next(read).float() / 255, config))
    folder = Path(out).expanduser()
    with open_run(folder, described, say, together) as run, run.listening():
        history = train(
            *(model, images, config),
            held_out=held_out,
            together=together,
            run=run,
            save_every=save_every,
            progress=lambda done, steps: progress("train", done, steps),
            say=say,
        )
        result = {"schema": SCHEMA, **described, "epochs": len(history), "loss": history[-1].loss}
        if watched == "val" and "test" in parts:
            top1 = accuracy(model, parts["test"], config, together)
            result |= _reached(top1, len(parts["test"]), "test split, measured once, at the end")
        elif watched and held_out:
            best = max(history, key=lambda epoch: epoch.held_out or 0) if config.patience else history[-1]
            chosen = (
                "the best of its epochs, chosen by this, so it flatters" if config.patience else "nothing chosen by it"
            )
            result |= _reached(
                best.held_out, len(held_out), f"{watched} split, weights after epoch {best.epoch}, {chosen}"
            )
        else:
            result |= _reached(None, 0, "no part of the data was held out, so nothing is known of new images")

        def write() -> None:
            with whole_folder(folder / "model") as place:
                _save_model(place, model, found.network, classes, square, result)
            if config.patience:
                _put_last(model, run)
                with whole_folder(folder / "last") as place:
                    _save_model(
                        place, model, found.network, classes, square, {**result, **_reached(None, 0, "last epoch")}
                    )
            write_whole(folder / "result.json", json.dumps(result, indent=1).encode() + b"\n")

        led(together, write)
    return TrainResult(folder=folder, model=folder / "model", json=result)


def _read(
    dataset: Dataset,
    records: Sequence[Record],
    classes: ClassMap,
    square: Preprocessing,
    progress: Progress,
    say: Callable[[str], None],
) -> InMemory:
    """Images, uint8 (n, c, size, size). Files that cannot be read are named and left out."""
    import torch

    from convatlas.train.images import InMemory

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
    return InMemory(torch.from_numpy(images[: len(read)]), labels, [dataset.locate(record) for record in read])


def _digest(tensors: Iterable[Tensor]) -> str:
    found = hashlib.sha256()
    for tensor in tensors:
        found.update(np.ascontiguousarray(tensor.numpy()).tobytes())
    return found.hexdigest()


def _reached(accuracy: float | None, images: int, protocol: str) -> dict[str, Any]:
    if accuracy is None:
        return {"accuracy": None, "protocol": protocol}
    low, high = wilson(round(accuracy * images), images)
    return {
        "accuracy": accuracy,
        "accuracy_interval": [low, high],
        "protocol": f"{protocol}; {images} images, 95 % Wilson interval, one seed",
    }


def _put_last(model: Any, run: Run) -> None:
    """The weights after the last epoch, where the model has those of the best."""
    from convatlas.train.checkpoint import newest

    tensors = getattr(newest(run.checkpoints), "tensors", {})
    for prefix in ("average.module.", "model."):
        state = {key.removeprefix(prefix): x for key, x in tensors.items() if key.startswith(prefix)}
        if state:
            model.load_state_dict(state)
            return


def _save_model(
    place: Path, model: Any, network: str, classes: ClassMap, square: Preprocessing, result: dict[str, Any]
) -> None:
    from convatlas.bundle.save import Contents, save

    about = {key: result[key] for key in ("recipe", "source", "config", "accuracy", "protocol")}
    contents = Contents(name=network, config={}, classes=classes.names, preprocessing=square, about={"training": about})
    save(place, model, contents)
