"""Training a network of the zoo from scratch by a recipe: images in, a run in a folder, a model folder in the end."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

import convatlas
from convatlas.bundle.folder import whole_folder
from convatlas.bundle.neighbours import FittedOn
from convatlas.data import ClassMap, Dataset, Preprocessing, scan
from convatlas.errors import ConvAtlasError
from convatlas.jobs.held_out import HeldOut, reached
from convatlas.jobs.images import Progress, resolve_device, silent

if TYPE_CHECKING:
    from torch import Tensor

    from convatlas.jobs.held_out import Part
    from convatlas.train.config import TrainConfig
    from convatlas.train.images import Images
    from convatlas.train.learner import Epoch
    from convatlas.train.recipes.recipe import Recipe
    from convatlas.train.run import Run
    from convatlas.zoo import ConvNet

SCHEMA = "convatlas.train/1"
PHOTOS = (
    96  # pixels of the network's images from which random crops are taken from the whole photo, not from one made small
)
REPORT_SECONDS = 10  # at least, between two writings of a run's page
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
    network: str | None = None,
    settings: Iterable[str] = (),
    images: Literal["auto", "memory", "cached", "streamed"] = "auto",
    device: str = "auto",
    processes: int = 1,
    nodes: int = 1,
    save_every: int = 0,
    progress: Progress = silent,
    say: Callable[[str], None] = lambda message: None,
) -> TrainResult:
    """Trains the network of the recipe `name` on the training images at `data` (a folder, zip or CSV, as for `fit`), from scratch.

    `out` is the run: run.json, metrics.jsonl, checkpoints/, report.html with its curves and, when it is done, result.json and model/.
    Called again with the same arguments it goes on where it was; with others it is refused. `network` is another one that the recipe is
    for. `settings` change the recipe, as `optim.lr=0.05`. A validation part, or else a test part, is measured after every epoch; where
    there are both, the test part once in the end. Only patience and a learning rate that falls on a plateau look at it, and insist on a
    validation part; without patience the last weights are the result. A checkpoint is written after every epoch and, if that is not 0,
    every `save_every` steps.
    `images` says how they are read: kept in memory or in one mapped file of the cache, both at the size that the network sees, or streamed,
    decoded and cropped anew each time; "auto" streams where the recipe takes random crops of photos, and caches what is above a gigabyte.

    With several `processes` each runs the script that called this, once more from its beginning, and works on its part of every batch;
    on `nodes` machines the same command is given on each, as torchrun or Slurm do.

    Raises `ConvAtlasError` for what cannot be trained, `train.run.Stopped` after Ctrl-C or SIGTERM, when the run has saved where it is.
    """
    if save_every < 0:
        raise ConvAtlasError(f"save_every is {save_every};", remedy="give steps, or 0 for after every epoch only.")
    kind = resolve_device(device)
    import torch

    from convatlas.train.images import digest
    from convatlas.train.loop import rights, train
    from convatlas.train.losses import has_auxiliary
    from convatlas.train.optim import ensure_watched
    from convatlas.train.processes import led
    from convatlas.train.processes import processes as started
    from convatlas.train.run import open_run

    found, dataset, classes, model = _begun(name, network, settings, data)
    config = found.config
    watched = next((split for split in ("val", "test") if split in dataset.splits), None)
    ensure_watched(config, watched)
    resting = found.rests or (has_auxiliary(model) and not config.auxiliary)
    together = started(processes, kind, nodes=nodes, resting=resting)
    if together.rank:
        progress, say = silent, lambda message: None
    parts = {split: _read(dataset, split, classes, config, images, progress, say) for split in dataset.splits}
    training, watching = parts.get("train") or parts["all"], parts.get(watched or "")
    held_out = {
        split: HeldOut.of(dataset, split, parts[split], training) for split in ("val", "test") if split in parts
    }
    described = {
        "recipe": name,
        "network": found.network,
        "changes": dict(found.changes),
        "source": found.source,
        "config": asdict(config),
        "data": {
            "images": len(training),
            "held_out": len(watching) if watching else 0,
            "classes": list(classes.names),
            "sha256": _digest([part for part in (training, watching) if part]),
        },
        "read": type(training).__name__,
        "weights": {"initial_sha256": digest(*model.state_dict().values())},
        "versions": {
            "convatlas": convatlas.__version__,
            "torch": torch.__version__,
            "python": sys.version.split()[0],
            "device": kind,
            "threads": torch.get_num_threads(),
            "processes": together.count,
        },
    }
    if found.prepare:  # after the digest, which may not depend on the last bits of what this computes from the images
        found.prepare(model, _standardised(training, config))
    folder, batch = Path(out).expanduser(), min(config.batch_size, len(training))  # progress is told in images
    with open_run(folder, described, say, together) as run, run.listening():
        for part in held_out.values():
            part.warn(say)
        history = train(
            *(model, training, config),
            held_out=watching,
            part=watched,
            together=together,
            run=run,
            save_every=save_every,
            progress=lambda done, steps: progress("train", done * batch, steps * batch),
            log=_drawing(run.folder, say) if together.rank == 0 else lambda epoch: None,
            say=say,
        )
        known = reached(history, config, held_out, lambda part: rights(model, part, config, together).numpy())
        result = {"schema": SCHEMA, **described, "epochs": len(history), "loss": history[-1].loss, **known}
        seen = FittedOn.of([sha256 for sha256 in training.contents if sha256])
        led(together, lambda: _write(run, model, found, classes, seen, result))
    return TrainResult(folder=folder, model=folder / "model", json=result)


def find_lr(
    name: str,
    data: str | Path,
    *,
    network: str | None = None,
    settings: Iterable[str] = (),
    images: Literal["auto", "memory", "cached", "streamed"] = "auto",
    device: str = "auto",
    progress: Progress = silent,
    say: Callable[[str], None] = lambda message: None,
) -> dict[str, Any]:
    """The learning rate range test of a recipe on the training images at `data`, as `convatlas.train.lr_find` makes it; nothing is
    written. Arguments as for `train_recipe`. The answer is plain data: rates, losses, and the rate to try."""
    kind = resolve_device(device)
    from convatlas.train.lr_find import lr_find

    found, dataset, classes, model = _begun(name, network, settings, data)
    split = "train" if "train" in dataset.splits else "all"
    training = _read(dataset, split, classes, found.config, images, progress, say)
    if found.prepare:
        found.prepare(model, _standardised(training, found.config))
    return {"recipe": name, "network": found.network, **lr_find(model, training, found.config, device=kind).to_json()}


def _standardised(images: Images, config: TrainConfig) -> Tensor:
    """Some of the images, for a recipe that sets weights from them."""
    from convatlas.train.augment import standardised
    from convatlas.train.images import some_of

    return standardised(some_of(images, PREPARED).float() / 255, config)


def _begun(
    name: str, network: str | None, settings: Iterable[str], data: str | Path
) -> tuple[Recipe, Dataset, ClassMap, ConvNet]:
    """The recipe with its settings, the data listed, and the network with its first weights."""
    import torch

    from convatlas.train.losses import ensure_auxiliary
    from convatlas.train.overrides import overridden
    from convatlas.train.recipes import recipe

    found = recipe(name, network)
    found = replace(found, config=overridden(found.config, settings))
    dataset = scan(data)
    if not {"train", "all"} & set(dataset.splits):
        there = " and ".join(dataset.splits)
        raise ConvAtlasError(
            f"{dataset.root}: has a {there} part only.", remedy="Add a folder `train`, or give class folders."
        )
    classes = ClassMap(dataset.classes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(found.config.seed)
        model = found.build(num_classes=len(classes.names), in_channels=len(found.config.mean))
    ensure_auxiliary(model, found.config)
    _ensure_shown(model, found.network, found.config)
    return found, dataset, classes, model


def _ensure_shown(model: ConvNet, network: str, config: TrainConfig) -> None:
    """Raises `ConvAtlasError` for images too small for the network, before there is a run."""
    import torch

    from convatlas.train.losses import logits

    model.eval()
    with torch.no_grad():
        for size in {config.image_size, config.shown_size}:
            try:
                logits(model, torch.zeros(1, len(config.mean), size, size), config.auxiliary)
            except (RuntimeError, ValueError) as error:
                raise ConvAtlasError(
                    f"{network} cannot be shown images of {size} pixels ({error}).", remedy="Set image_size larger."
                ) from error
    model.train()


def _read(
    dataset: Dataset,
    split: str,
    classes: ClassMap,
    config: TrainConfig,
    how: Literal["auto", "memory", "cached", "streamed"],
    progress: Progress,
    say: Callable[[str], None],
) -> Part:
    """A part's images. Files that cannot be read are named and left out; those that are streamed are an error once it is their turn."""
    import torch

    from convatlas.jobs.pixels import ensure_enough, prepared
    from convatlas.train import Streamed

    training = split in ("train", "all")
    records, square = dataset.of(split), _square(config, training=training)
    classes.align(sorted({record.label for record in records}), partial=True)
    truth = torch.from_numpy(classes.indices([record.label for record in records]).astype(np.int64))
    if how == "auto":
        photos = training and square.size >= PHOTOS and config.augment.crops
        how = "streamed" if photos else "auto"
    if how == "streamed" and training:
        ensure_enough(dataset, len(records), len(records), 2)
        return Streamed(dataset, records, truth, square, augment=config.augment, progress=progress)
    kept = "cached" if how == "streamed" else how
    return prepared(dataset, records, truth, square, kept, least=2 if training else 1, progress=progress, say=say)


def _square(config: TrainConfig, *, training: bool = False) -> Preprocessing:
    side = config.image_size if training else config.shown_size
    channels = len(config.mean)
    return Preprocessing(
        size=side, resize=side, interpolation="bilinear", mean=config.mean, std=config.std, channels=channels
    )


def _digest(parts: Sequence[Images]) -> str:
    """Of what decides the batches of all parts."""
    from convatlas.train.images import InMemory, digest

    in_memory = [tensor for part in parts if isinstance(part, InMemory) for tensor in (part.images, part.labels)]
    return digest(*in_memory, *(part.sha256() for part in parts if not isinstance(part, InMemory)))


def _drawing(folder: Path, say: Callable[[str], None]) -> Callable[[Epoch], None]:
    """Writes the page of the run after an epoch, unless that was a moment ago: drawing it takes a tenth of a second. A disk that does not
    take it does not stop the run."""
    from convatlas.report.run_page import render_run

    written = -REPORT_SECONDS

    def write(epoch: Epoch) -> None:
        nonlocal written
        if time.monotonic() - written >= REPORT_SECONDS:
            try:
                render_run(folder)
            except OSError as error:
                say(f"{folder}: the page could not be written ({error}); the training goes on")
            written = time.monotonic()

    return write


def _write(run: Run, model: Any, recipe: Recipe, classes: ClassMap, seen: FittedOn, result: dict[str, Any]) -> None:
    """The result, and the model folder; where patience chose an epoch, the last one's too."""
    from convatlas.report.run_page import render_run
    from convatlas.train.checkpoint import newest, write_whole
    from convatlas.train.learner import last_result

    with run.writing("model"), whole_folder(run.folder / "model") as place:
        _save_model(place, model, recipe, classes, seen, result)
    last = newest(run.checkpoints) if recipe.config.patience else None
    if last:
        model.load_state_dict(last_result(last.tensors))
        unknown = {"accuracy": None, "protocol": "weights after the last epoch, which patience did not choose"}
        with run.writing("last"), whole_folder(run.folder / "last") as place:
            _save_model(place, model, recipe, classes, seen, {**result, **unknown})
    with run.writing("result.json"):
        write_whole(run.folder / "result.json", json.dumps(result, indent=1).encode() + b"\n")
    with run.writing("report.html"):
        render_run(run.folder)


def _save_model(
    place: Path, model: Any, recipe: Recipe, classes: ClassMap, seen: FittedOn, result: dict[str, Any]
) -> None:
    from convatlas.bundle.save import Contents, save

    about = {key: result[key] for key in ("recipe", "source", "config", "accuracy", "protocol")}
    contents = Contents(
        name=recipe.network,
        config=dict(recipe.changes),
        classes=classes.names,
        preprocessing=_square(recipe.config),
        about={"training": about},
        training=seen,
    )
    save(place, model, contents)
