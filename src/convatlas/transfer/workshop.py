"""Plans that train, tried on some of the images and judged on others: one frozen pass for all folds, one way to time a plan.

The maps before a cut are the same whatever is trained on them, so they are made once for all images and every fold takes its own.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from convatlas import zoo
from convatlas.cache import code_sha256
from convatlas.data import left_out
from convatlas.errors import Stopped
from convatlas.train.images import Images, Part, digest
from convatlas.train.learner import Epoch
from convatlas.train.run import Run
from convatlas.transfer.confidence import Among
from convatlas.transfer.finetune import AUGMENT, Finetune, Seen, Tuning, begin_as_probe, tuning
from convatlas.transfer.frozen import Norms
from convatlas.transfer.kept import CODE, Kept
from convatlas.transfer.maps import Precision
from convatlas.transfer.plans import Plan
from convatlas.transfer.probe import fit_probe
from convatlas.transfer.ridge import Array, Index
from convatlas.weights.load import load_network
from convatlas.weights.source import WeightsSource

TIMED = 2  # steps
FOUND = "Trainings that the cache had were not repeated; the seconds told of them are those of when they were done."
Progress = Callable[[str, int, int], None]
_Keeps = Literal["network", "network and own", "leverages"]  # of what comes of a training


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How long a plan takes on this machine, in seconds."""

    frozen: float  # an image, once
    step: float  # an image, each time it is trained on
    epochs: int

    def seconds(self, images: int) -> float:
        """Of one training on so many images."""
        return (self.frozen + self.step * self.epochs) * images


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A network after a plan, and what it says of images that it was not trained on."""

    model: zoo.ConvNet
    logits: Array  # (m, K) of those
    settings: Tuning
    audited: int  # parameters and buffers that were compared, bit by bit, after every epoch
    losses: tuple[float, ...]  # an epoch each
    read: np.ndarray  # (m, d) float32: what its classifier reads of those
    own: Seen | None  # what it makes of what it was trained on; None where that was not asked for
    seconds: float  # of the training, the frozen part's pass with it where it was not cached


@dataclass(frozen=True, kw_only=True)
class Judged:
    """What a network after a plan says of images that it was not trained on."""

    logits: Array  # (m, K)
    leverages: Array  # (m,) by what its classifier reads of them, see `confidence.Among`
    seconds: float  # of all that it took, whenever that was done


class Workshop:
    """The labelled images of one data set, and the network that is to be adapted to them."""

    def __init__(
        self,
        source: WeightsSource,
        images: Images,
        top: np.ndarray,
        num_classes: int,
        *,
        norms: Norms = "frozen",
        augment: int = 0,
        maps: Precision = "float32",
        balance: Literal["none", "weights"] = "none",
        together: Index | None = None,
        device: str = "cpu",
        seed: int = 0,
        keep: bool = False,
        progress: Progress = lambda what, done, total: None,
        say: Callable[[str], None] = lambda message: None,
    ) -> None:
        """`images` as `source` prepares them; `top` (n, d) are their features on the last rung, from which a head begins. `norms` says what
        batch norms do in the part that trains. With `augment` a tuning sees images cropped and mirrored at random, through a frozen part
        that many draws of each, which are cached; without, as they are in use. `maps` is how cached maps are kept. `balance` makes classes
        count alike in the loss and in the probe that a head begins as. `together` (n,) is equal where images must be held out together:
        copies, groups. With `keep` trainings are kept in the cache: one that was done is not repeated, one that was stopped goes on.
        """
        self.source, self.images, self.num_classes = source, images, num_classes
        self.labels, self._top = images.labels.numpy(), top
        self._key = json.dumps([source.name, source.config, source.sha256()], sort_keys=True, default=str)
        self._device, self._seed = device, seed
        self._norms: Norms = norms
        self._augment = augment
        self._maps: Precision = maps
        self._balance: Literal["none", "weights"] = balance
        self.together = np.arange(len(images)) if together is None else together
        self._progress, self._say = progress, say
        self._kept = Kept(self._heard) if keep else None
        self._ahead = 0.0  # seconds that others spent on what was found
        self._shown: dict[tuple[str | None, int, Precision, int], Images] = {}  # by cut and views

    def clock(self) -> float:
        """Seconds, as if all that was found had been done now: what was paid for once counts in a budget as it did then."""
        return time.perf_counter() + self._ahead

    def held_out(self, rows: Index) -> Index | None:
        """What is held out at once, (n,), while a probe on some of the images is chosen; see `left_out`."""
        return left_out(self.labels, self.together, rows)

    def settings(self, plan: Plan, images: int) -> Tuning:
        """How a plan is trained on so many images."""
        p = self.source.preprocessing
        found = replace(tuning(plan, images, p.size, p.mean, p.std, seed=self._seed), crops=p.crops)
        config = replace(found.config, balance=self._balance)
        if plan.kind == "scratch":  # whose images are always augmented
            return replace(found, config=config)
        if self._augment:
            config = replace(config, augment=AUGMENT)
        views = self._augment if self._augment and found.cut else 1
        maps = self._maps if found.cut else found.maps  # without a frozen part there are none
        return replace(found, norms=self._norms, views=views, maps=maps, config=config)

    def train(self, plan: Plan, rows: Index, others: Index, *, remember: bool = False) -> Trained:
        """Trains on `rows` of the images; the logits are those of `others`. With `remember` what it makes of `rows` comes back, too."""
        fine, tensors, told = self._done(plan, rows, others, "network and own" if remember else "network")
        own = {name: tensors[f"own.{name}"].numpy() for name in ("logits", "maps", "read")} if remember else None
        return Trained(
            model=fine.model,
            logits=tensors["logits"].numpy(),
            settings=fine.tuning,
            audited=fine.audit.tensors,
            losses=tuple(told["losses"]),
            read=tensors["read"].numpy(),
            own=Seen(**own) if own else None,
            seconds=told["seconds"],
        )

    def judge(self, plan: Plan, rows: Index, others: Index) -> Judged:
        """Trains on `rows` of the images, and says what it makes of `others`."""
        _, tensors, told = self._done(plan, rows, others, "leverages")
        return Judged(logits=tensors["logits"].numpy(), leverages=tensors["leverages"].numpy(), seconds=told["took"])

    def _done(
        self, plan: Plan, rows: Index, others: Index, keeps: _Keeps
    ) -> tuple[Finetune, Mapping[str, Tensor], Mapping[str, Any]]:
        """A training, found or carried out: its network (as it begins, where a training was found without), its tensors, and the rest."""
        started = time.perf_counter()
        fine = self._parted(self._begun(plan, rows), self.settings(plan, len(rows)))
        described = self._described(fine, rows, others, keeps)
        found = self._kept.found(described) if self._kept else None
        if found:
            tensors, told = found.tensors, found.state
            self._say(FOUND)
            if keeps != "leverages":
                fine.put({key.removeprefix("model."): x for key, x in tensors.items() if key.startswith("model.")})
        else:
            tensors, told = self._carried_out(fine, rows, others, described, started)
        self._ahead += max(0.0, told["took"] - (time.perf_counter() - started))
        return fine, tensors, told

    def _carried_out(
        self, fine: Finetune, rows: Index, others: Index, described: Mapping[str, Any], started: float
    ) -> tuple[Mapping[str, Tensor], Mapping[str, Any]]:
        seen = self._seen(fine, training=True)
        with self._kept.run(described, type(seen).__name__) if self._kept else nullcontext() as run:
            before = run.before if run else 0.0
            if run:
                run.began = started
            history = self._trained(fine, Part(seen, torch.from_numpy(rows)), run)
            seconds = before + time.perf_counter() - started
            tensors = self._said(fine, rows, others, described["keeps"])
            took = before + time.perf_counter() - started
            told = {"losses": [epoch.loss for epoch in history], "seconds": seconds, "took": took}
            if self._kept and run:
                weights = {} if described["keeps"] == "leverages" else fine.trained()
                self._kept.finish(run, described, tensors | {f"model.{key}": x for key, x in weights.items()}, told)
        return tensors, told

    def _said(self, fine: Finetune, rows: Index, others: Index, keeps: _Keeps) -> dict[str, Tensor]:
        """What the network makes of `others`, and of what it was trained on as far as that is kept."""
        shown = self._seen(fine, training=False)
        logits, read = np.empty((0, self.num_classes)), np.empty((0, 0), np.float32)
        if len(others):
            judged = fine.seen(Part(shown, torch.from_numpy(others)))
            logits, read = judged.logits, judged.read
        if keeps == "network":
            said = {"logits": logits, "read": read}
        else:
            own = fine.seen(Part(shown, torch.from_numpy(rows)))
            if keeps == "leverages":
                said = {"logits": logits, "leverages": Among.of(own.read).leverages(read)}
            else:
                said = {
                    "logits": logits,
                    "read": read,
                    "own.logits": own.logits,
                    "own.maps": own.maps,
                    "own.read": own.read,
                }
        return {name: torch.from_numpy(values) for name, values in said.items()}

    def _trained(self, fine: Finetune, images: Images, run: Run | None) -> tuple[Epoch, ...]:
        """Trains; leaves where it was asked to stop."""
        plan = str(fine.tuning.plan)
        try:
            history = fine.train(images, run=run, progress=lambda done, total: self._progress(plan, done, total))
            if run and run.stop:  # in the very last step
                raise Stopped("stopped after the last step")
        except Stopped as stopped:
            if run and run.lost:
                raise KeyboardInterrupt from None
            raise Stopped(f"{plan} {stopped}") from None
        return history

    def _described(self, fine: Finetune, rows: Index, others: Index, keeps: _Keeps) -> dict[str, Any]:
        """All that decides what comes of a training, and what of it is kept."""
        tuned, device = fine.tuning, self._device
        return {
            "network": f"{self.source.name} {tuned.plan}",
            "config": asdict(tuned.config),
            "tuned": {
                "plan": str(tuned.plan),
                "norms": tuned.norms,
                "views": tuned.views,
                "maps": tuned.maps,
                "crops": tuned.crops,
            },
            "data": {"images": self._sha256, "rows": digest(torch.from_numpy(rows), torch.from_numpy(others))},
            "weights": {"initial": digest(*fine.model.state_dict().values()), "frozen": fine.audit.sha256()},
            "keeps": keeps,
            "versions": {
                "code": code_sha256(*CODE),
                "torch": torch.__version__,
                "device": torch.cuda.get_device_name() if device.startswith("cuda") else device,
                "cpu": torch.backends.cpu.get_cpu_capability(),
                "threads": torch.get_num_threads(),
            },
        }

    @cached_property
    def _sha256(self) -> str:
        return self.images.sha256()

    def keep(self, plan: Plan) -> None:
        """Makes the maps that a plan trains on, where there are any; later trainings find them."""
        fine = self._parted(self._begun(plan), self.settings(plan, len(self.images)))
        for training in (True, False):
            self._seen(fine, training=training)

    def pace(self, plan: Plan, images: int) -> Pace:
        """Timed on a few images: steps as large as the plan's own, of which the first, which sets things up, does not count."""
        settings = self.settings(plan, images)
        few = Part(self.images, torch.arange(min(settings.config.batch_size, len(self.images))))
        brief = replace(settings, config=replace(settings.config, epochs=1 + TIMED, batch_size=len(few)))
        timed = self._parted(self._begun(plan), brief)
        seen, frozen = timed.tried(few)
        step = statistics.median(epoch.seconds for epoch in timed.train(seen)[1:])
        return Pace(frozen=settings.views * frozen / len(few), step=step / len(few), epochs=settings.config.epochs)

    def _heard(self, message: str) -> None:
        """Of a training: for the result, and for whoever watches now."""
        self._say(message)
        self._progress(message, 0, 1)

    def _begun(self, plan: Plan, rows: Index | None = None) -> zoo.ConvNet:
        """The network at the start: new, or pretrained and its head a probe on those rows, where there are any."""
        source, channels = self.source, self.source.preprocessing.channels
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self._seed)
            if plan.kind == "scratch":
                config = replace(zoo.config_of(source.name), **source.config)
                return zoo.build(source.name, num_classes=self.num_classes, in_channels=channels, config=config)
            model, _ = load_network(source, num_classes=self.num_classes, in_channels=channels)
        if rows is not None:
            weights = "balanced" if self._balance == "weights" else None
            folds = self.held_out(rows)
            probe = fit_probe(self._top, self.labels, self.num_classes, class_weights=weights, folds=folds, rows=rows)
            begin_as_probe(model, probe)
        return model

    def _parted(self, model: zoo.ConvNet, settings: Tuning) -> Finetune:
        return Finetune(
            model,
            settings,
            key=self._key,
            device=self._device,
            progress=lambda done, total: self._progress("frozen part", done, total),
            say=self._say,
        )

    def _seen(self, fine: Finetune, *, training: bool) -> Images:
        """All images as the part that trains sees them."""
        tuned = fine.tuning
        views, maps = (tuned.views, tuned.maps) if training else (1, "float32")
        place = tuned.cut, views, maps, tuned.config.batch_size  # what is judged is never in half
        if place not in self._shown:
            self._shown[place] = fine.shown(self.images, training=training)
        return self._shown[place]
