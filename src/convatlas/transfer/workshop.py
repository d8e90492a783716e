"""Plans that train, tried on some of the images and judged on others: one frozen pass for all folds, one way to time a plan.

The maps before a cut are the same whatever is trained on them, so they are made once for all images and every fold takes its own.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch

from convatlas import zoo
from convatlas.train.images import Images, Part
from convatlas.transfer.finetune import AUGMENT, Finetune, Seen, Tuning, begin_as_probe, tuning
from convatlas.transfer.frozen import Norms
from convatlas.transfer.plans import Plan
from convatlas.transfer.probe import fit_probe
from convatlas.transfer.ridge import Array, Index
from convatlas.weights.load import load_network
from convatlas.weights.source import WeightsSource

TIMED = 2  # steps
Progress = Callable[[str, int, int], None]


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
        balance: Literal["none", "weights"] = "none",
        device: str = "cpu",
        seed: int = 0,
        progress: Progress = lambda what, done, total: None,
        say: Callable[[str], None] = lambda message: None,
    ) -> None:
        """`images` as `source` prepares them; `top` (n, d) are their features on the last rung, from which a head begins. `norms` says what
        batch norms do in the part that trains. With `augment` a tuning sees images cropped and mirrored at random, through a frozen part
        that many draws of each, which are cached; without, as they are in use. `balance` makes classes count alike in the loss and in the
        probe that a head begins as.
        """
        self.source, self.images, self.num_classes = source, images, num_classes
        self.labels, self._top = images.labels.numpy(), top
        self._key = json.dumps([source.name, source.config, source.sha256()], sort_keys=True, default=str)
        self._device, self._seed = device, seed
        self._norms: Norms = norms
        self._augment = augment
        self._balance: Literal["none", "weights"] = balance
        self._progress, self._say = progress, say
        self._shown: dict[tuple[str | None, int], Images] = {}  # by cut and views

    def settings(self, plan: Plan, images: int) -> Tuning:
        """How a plan is trained on so many images."""
        p = self.source.preprocessing
        found = tuning(plan, images, p.size, p.mean, p.std, seed=self._seed)
        config = replace(found.config, balance=self._balance)
        if plan.kind == "scratch":  # whose images are always augmented
            return replace(found, config=config)
        if self._augment:
            config = replace(config, augment=AUGMENT)
        views = self._augment if self._augment and found.cut else 1
        return replace(found, norms=self._norms, views=views, config=config)

    def train(self, plan: Plan, rows: Index, others: Index, *, remember: bool = False) -> Trained:
        """Trains on `rows` of the images; the logits are those of `others`. With `remember` what it makes of `rows` comes back, too."""
        started = time.perf_counter()
        fine = self._parted(self._begun(plan, rows), self.settings(plan, len(rows)))
        training = Part(self._seen(fine, training=True), torch.from_numpy(rows))
        history = fine.train(training, progress=lambda done, total: self._progress(str(plan), done, total))
        seconds = time.perf_counter() - started
        shown = self._seen(fine, training=False)
        judged = fine.seen(Part(shown, torch.from_numpy(others))) if len(others) else None
        return Trained(
            model=fine.model,
            logits=judged.logits if judged else np.empty((0, self.num_classes)),
            settings=fine.tuning,
            audited=fine.audit.tensors,
            losses=tuple(epoch.loss for epoch in history),
            read=judged.read if judged else np.empty((0, 0), np.float32),
            own=fine.seen(Part(shown, torch.from_numpy(rows))) if remember else None,
            seconds=seconds,
        )

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
            probe = fit_probe(self._top, self.labels, self.num_classes, class_weights=weights, rows=rows)
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
        place = fine.tuning.cut, fine.tuning.views if training else 1
        if place not in self._shown:
            self._shown[place] = fine.shown(self.images, training=training)
        return self._shown[place]
