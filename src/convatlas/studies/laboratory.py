"""Where a study's networks are trained: each in a run of its own, begun, gone on with or found finished, and then counted.

A training is the folder NETWORK-SEED among the runs, made as `convatlas train` makes it, so a run that was made by that command from the
same images is taken as it is. Its curves are those of its newest checkpoint; of a finished one the answers of the last weights, in
evaluation mode, to the images as they are, training images included, are kept beside it, and so is a record of its curves and errors.
Where a study needs no more than that, run.json and the record are enough: they can be kept, or carried elsewhere, without the weights.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from convatlas import zoo
from convatlas.analysis.cost import total
from convatlas.errors import ConvAtlasError
from convatlas.studies.layers import tape_of
from convatlas.studies.plans import Length
from convatlas.train.checkpoint import Checkpoint, newest
from convatlas.train.config import TrainConfig
from convatlas.train.images import InMemory, digest
from convatlas.train.learner import last_result
from convatlas.train.loop import answers, train
from convatlas.train.overrides import overridden
from convatlas.train.processes import Alone
from convatlas.train.recipes import recipe
from convatlas.train.run import SCHEMA, deciding, open_run

LOGITS = "logits.safetensors"
RECORD = "record.json"


@dataclass(frozen=True, kw_only=True)
class Training:
    """A network to be trained from scratch."""

    name: str  # of the run's folder, before its seed
    recipe: str
    network: str
    source: str
    config: TrainConfig
    build: Callable[[], nn.Module]  # after its seed was set

    @property
    def folder(self) -> str:
        return f"{self.name}-{self.config.seed}"


@dataclass(frozen=True, kw_only=True)
class Counted:
    """What the last weights answer, in evaluation mode, to the images as they are."""

    training: Tensor  # logits (n, classes); (0, 0) where only a record of the run is there
    held_out: Tensor
    training_error: float  # share of the images whose highest logit is not their label
    held_out_error: float


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A training, finished or on its way."""

    name: str
    seed: int
    epochs: tuple[dict[str, Any], ...]  # of `train.learner.Epoch`
    state: Mapping[str, Tensor]  # of the network after them
    counted: Counted | None = None  # None where it is not finished


@dataclass(frozen=True, kw_only=True)
class Laboratory:
    """The images, how long to train on them, and where the runs are."""

    runs: Path
    training: InMemory
    held_out: InMemory
    classes: tuple[str, ...]
    length: Length
    settings: tuple[str, ...] = ()  # that change every training, as optim.warmup_epochs=5
    partial: bool = False  # nothing is trained: what is there is taken, finished or not
    device: str = "cpu"
    version: str = ""  # of this program, for the record
    progress: Callable[[str, int, int], None] = lambda what, done, total: None
    say: Callable[[str], None] = lambda message: None

    def of_recipe(self, name: str, seed: int) -> Training:
        """A network of the zoo by its recipe, for this study's number of epochs."""
        found = recipe(name)
        return Training(
            name=name,
            recipe=name,
            network=found.network,
            source=found.source,
            config=replace(found.config, epochs=self.length.epochs, seed=seed),
            build=lambda: zoo.build(found.network, num_classes=len(self.classes), in_channels=3),
        )

    def changed(self, training: Training) -> Training:
        """The training with this laboratory's settings."""
        return replace(training, config=overridden(training.config, self.settings))

    def trained(self, trainings: Sequence[Training], *, records: bool = False) -> list[Trained]:
        """All of them in turn; those that are there are not trained again. Of `partial` ones those that have been begun.

        With `records` a finished run's record is enough, and what comes back may have no weights and no logits.

        Raises `ConvAtlasError` where a run's folder holds another run, `train.run.Stopped` after Ctrl-C, when the run has saved.
        """
        trainings = [self.changed(training) for training in trainings]
        work = _Work([] if self.partial else trainings, self)
        return [found for training in trainings if (found := self._trained(training, work, records))]

    def logits(self, model: nn.Module, images: InMemory, config: TrainConfig) -> Tensor:
        """What a network answers to images as they are: (n, classes)."""
        model.to(self.device)
        return torch.cat([found.float().cpu() for _, found in answers(model, images, config, Alone(self.device))])

    def described(self, training: Training, model: nn.Module) -> dict[str, Any]:
        """What goes into run.json, as `convatlas train` writes it."""
        images = (self.training, self.held_out)
        return {
            "recipe": training.recipe,
            "network": training.network,
            "source": training.source,
            "config": asdict(training.config),
            "data": {
                "images": len(self.training),
                "held_out": len(self.held_out),
                "classes": list(self.classes),
                "sha256": digest(*(tensor for read in images for tensor in (read.images, read.labels))),
            },
            "weights": {"initial_sha256": digest(*model.state_dict().values())},
            "versions": {
                "convatlas": self.version,
                "torch": torch.__version__,
                "python": sys.version.split()[0],
                "device": self.device,
                "threads": torch.get_num_threads(),
                "processes": 1,
            },
        }

    def _trained(self, training: Training, work: _Work, records: bool) -> Trained | None:
        folder = self.runs / training.folder
        model = initial(training)
        described = self.described(training, model)
        found = _found(folder, described)
        if records and not found and (recorded := _recorded(folder, training)):
            if not self.partial:
                work.over(training)
            return recorded
        whole = training.config.epochs
        if self.partial and not found:
            return None
        if not self.partial and (not found or len(found.state["history"]) < whole):
            with open_run(folder, described, self.say) as run, run.listening():
                train(
                    *(model, self.training, training.config),
                    held_out=self.held_out,
                    together=Alone(self.device),
                    run=run,
                    progress=lambda done, steps: work.at(training, done, steps),
                    say=self.say,
                )
            found = newest(run.checkpoints)
        assert found, "a finished run has a checkpoint"
        epochs = tuple(found.state["history"])
        state = last_result(found.tensors)
        trained = Trained(name=training.name, seed=training.config.seed, epochs=epochs, state=state)
        if len(epochs) < whole:
            return trained
        if not self.partial:
            work.over(training)
        about = f"{described['data']['sha256']} {found.step}"
        counted = self._counted(trained, training, folder / LOGITS, about)
        _record(folder, epochs, counted)
        return replace(trained, counted=counted)

    def _counted(self, trained: Trained, training: Training, file: Path, about: str) -> Counted:
        known = _read(file, about)
        if not known:
            model = initial(training)
            model.load_state_dict(trained.state)
            known = {
                part: self.logits(model, images, training.config)
                for part, images in (("training", self.training), ("held_out", self.held_out))
            }
            with contextlib.suppress(OSError, SafetensorError):  # or it is counted again: the run may only be read
                save_file(known, file, metadata={"of": about})
        return Counted(
            **known,
            training_error=error(known["training"], self.training.labels),
            held_out_error=error(known["held_out"], self.held_out.labels),
        )


def initial(training: Training) -> nn.Module:
    """The network before its first step, the same for the same seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(training.config.seed)
        return training.build()


def skeleton(training: Training) -> nn.Module:
    """The network without numbers, for the analyser. Made with them first: on `meta` initialisation imports a compiler, for seconds."""
    return initial(training).to("meta")


def error(logits: Tensor, labels: Tensor) -> float:
    """Share of the images whose highest logit is not their label."""
    return int((logits.argmax(1) != labels).sum()) / len(labels)


def error_curve(trained: Trained, part: str) -> list[float]:
    """The error after each epoch: `top1` of the training images as they were learned from, `held_out` of the others."""
    return [1 - epoch[part] for epoch in trained.epochs]


class _Work:
    """How much of all trainings is done, in multiplications, and how long the rest will take."""

    def __init__(self, trainings: Sequence[Training], laboratory: Laboratory) -> None:
        self._progress, self._say = laboratory.progress, laboratory.say
        each: dict[str, float] = {}
        for training in trainings:
            if training.name not in each:
                size = (laboratory.training.images.shape[1], *[training.config.image_size] * 2)
                tape = tape_of(skeleton(training), size)
                each[training.name] = total(tape.ops).mult_adds * training.config.epochs
        self._sizes = {training.folder: each[training.name] for training in trainings}
        self._done: dict[str, float] = {}  # shares
        self._found: dict[str, float] = {}  # of them, what earlier commands had done
        self._began = time.perf_counter()

    def at(self, training: Training, step: int, steps: int) -> None:
        self._found.setdefault(training.folder, (step - 1) / steps)
        self._done[training.folder] = step / steps
        self._progress(training.folder, step, steps)
        share = self._sum(self._done) / sum(self._sizes.values())
        self._progress("all trainings, %", round(100 * share), 100)

    def over(self, training: Training) -> None:
        trained = training.folder in self._done
        self._found.setdefault(training.folder, 1.0)
        self._done[training.folder] = 1.0
        here = self._sum(self._done) - self._sum(self._found)
        rest = sum(self._sizes.values()) - self._sum(self._done)
        if trained and rest:
            minutes = (time.perf_counter() - self._began) / here * rest / 60
            told = f"about {minutes:,.0f} minutes" if minutes >= 1 else "less than a minute"
            self._say(f"{training.folder} is trained; the others take {told} more")

    def _sum(self, shares: Mapping[str, float]) -> float:
        return sum(self._sizes[folder] * share for folder, share in shares.items())


def _found(folder: Path, described: Mapping[str, Any]) -> Checkpoint | None:
    """The newest checkpoint of the run, with nothing locked or written, since somebody may be training it.

    Raises `ConvAtlasError` where the run there is of something else.
    """
    file = folder / "run.json"
    if not file.is_file():
        return None
    try:
        there = json.loads(file.read_text(encoding="utf-8"))
    except ValueError:
        there = {}
    if not isinstance(there, dict) or there.get("schema") != SCHEMA:
        raise ConvAtlasError(f"{file} is no description of a run.", remedy="Give another folder with --runs or --out.")
    if differing := deciding(there, json.loads(json.dumps(described))):
        raise ConvAtlasError(
            f"{folder} holds another run:\n  " + "\n  ".join(differing) + "\n",
            remedy="Give the length and the images that it has, or another folder with --runs or --out.",
        )
    return newest(folder / "checkpoints")


def _record(folder: Path, epochs: Sequence[dict[str, Any]], counted: Counted) -> None:
    """What is left of a run when its weights are gone. Its run.json, which is beside it, says of what it is."""
    kept = {"epochs": epochs, "training_error": counted.training_error, "held_out_error": counted.held_out_error}
    with contextlib.suppress(OSError):  # the run may only be read
        partial = folder / f"{RECORD}.partial"
        partial.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
        partial.replace(folder / RECORD)


def _recorded(folder: Path, training: Training) -> Trained | None:
    """A finished run of which the record is there; `_found` has made sure that its run.json is this training's."""
    try:
        kept, nothing = json.loads((folder / RECORD).read_text(encoding="utf-8")), torch.empty(0, 0)
        errors = {key: kept[key] for key in ("training_error", "held_out_error")}
        counted, epochs = Counted(training=nothing, held_out=nothing, **errors), tuple(kept["epochs"])
    except (OSError, ValueError, KeyError):
        return None
    if not (folder / "run.json").is_file() or len(epochs) < training.config.epochs:
        return None
    return Trained(name=training.name, seed=training.config.seed, epochs=epochs, state={}, counted=counted)


def _read(file: Path, about: str) -> dict[str, Tensor] | None:
    """What was counted before, if it was of the same images and weights."""
    try:
        with safe_open(file, "pt") as kept:
            if (kept.metadata() or {}).get("of") == about:
                return {key: kept.get_tensor(key) for key in ("training", "held_out")}
    except (OSError, SafetensorError):
        return None  # not counted yet, or only begun to be written: it is counted again
    return None
