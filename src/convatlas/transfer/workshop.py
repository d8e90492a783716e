"""Plans that train, tried on some of the images and judged on others: one frozen pass for all folds, one way to time a plan.

The maps before a cut are the same whatever is trained on them, so they are made once for all images and every fold takes its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch

from convatlas import zoo
from convatlas.train.images import Images, Part
from convatlas.transfer.finetune import Finetune, Tuning, begin_as_probe, tuning
from convatlas.transfer.plans import Plan
from convatlas.transfer.probe import fit_probe
from convatlas.transfer.ridge import Array, Index
from convatlas.weights.load import load_network
from convatlas.weights.source import WeightsSource

TIMED = 16  # images of a timed step
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How long a plan takes on this machine, in seconds."""

    frozen: float  # an image, once
    step: float  # an image, each time it is trained on
    epochs: int

    def seconds(self, images: int, *, frozen: int | None = None) -> float:
        """Of one training on so many images, of which `frozen` are still to go through the frozen part (all by default)."""
        return self.frozen * (images if frozen is None else frozen) + self.step * self.epochs * images


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A network after a plan, and what it says of images that it was not trained on."""

    model: zoo.ConvNet
    logits: Array  # (m, K) of those
    settings: Tuning
    audited: int  # parameters and buffers that were compared, bit by bit, after every epoch
    losses: tuple[float, ...]  # an epoch each
    seconds: float


class Workshop:
    """The labelled images of one data set, and the network that is to be adapted to them."""

    def __init__(
        self,
        source: WeightsSource,
        images: Images,
        top: np.ndarray,
        num_classes: int,
        *,
        weights_sha256: str,
        device: str = "cpu",
        seed: int = 0,
        balance: Literal["none", "weights"] = "none",
        progress: Progress = lambda what, done, total: None,
        say: Callable[[str], None] = lambda message: None,
    ) -> None:
        """`images` as `source` prepares them; `top` (n, d) are their features on the last rung, from which a head begins. `balance` makes
        classes count alike in the loss, and in the probe that a head begins as."""
        self.source, self.images, self.num_classes = source, images, num_classes
        self._top, self._labels = top, images.labels.numpy()
        self._weights, self._device, self._seed = weights_sha256, device, seed
        self._balance: Literal["none", "weights"] = balance
        self._progress, self._say = progress, say
        self._shown: dict[tuple[str | None, int], Images] = {}  # by cut and views

    def settings(self, plan: Plan, images: int) -> Tuning:
        """How a plan is trained on so many images."""
        p = self.source.preprocessing
        found = tuning(plan, images, p.size, p.mean, p.std, seed=self._seed)
        return replace(found, config=replace(found.config, balance=self._balance))

    def train(self, plan: Plan, rows: Index, others: Index) -> Trained:
        """Trains on `rows` of the images; the logits are those of `others`."""
        started = time.perf_counter()
        fine = self._begun(plan, rows)
        training = Part(self._seen(fine, training=True), torch.from_numpy(rows))
        history = fine.train(training, progress=lambda done, total: self._progress(str(plan), done, total))
        judged = Part(self._seen(fine, training=False), torch.from_numpy(others))
        logits = fine.logits(judged) if len(others) else np.empty((0, self.num_classes))
        return Trained(
            model=fine.model,
            logits=logits,
            settings=fine.tuning,
            audited=fine.audit.tensors,
            losses=tuple(epoch.loss for epoch in history),
            seconds=time.perf_counter() - started,
        )

    def pace(self, plan: Plan, images: int) -> Pace:
        """Timed on a few images: two steps, of which the faster counts, since the first is also the one that sets things up."""
        rows = np.linspace(0, len(self.images) - 1, min(TIMED, len(self.images))).astype(np.int64)  # of all classes
        fine = self._begun(plan, np.arange(len(self.images)))
        few = Part(self.images, torch.from_numpy(rows))
        config = replace(fine.tuning.config, epochs=2, batch_size=len(rows))
        timed = Finetune(
            fine.model, replace(fine.tuning, config=config, views=1), key="", cached=False, device=self._device
        )
        epochs = timed.train(few)
        step = min(epoch.seconds for epoch in epochs) / len(rows)
        frozen = timed.seconds_of_frozen(few) / len(rows)
        return Pace(frozen=frozen, step=max(step - frozen, step / 20), epochs=self.settings(plan, images).config.epochs)

    def _begun(self, plan: Plan, rows: Index) -> Finetune:
        """The network at the start: pretrained, its head a probe on those rows; or new."""
        source, channels = self.source, self.source.preprocessing.channels
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self._seed)
            if plan.kind == "scratch":
                config = replace(zoo.config_of(source.name), **source.config)
                model = zoo.build(source.name, num_classes=self.num_classes, in_channels=channels, config=config)
            else:
                model, _ = load_network(source, num_classes=self.num_classes, in_channels=channels)
                weights = "balanced" if self._balance == "weights" else None
                probe = fit_probe(self._top, self._labels, self.num_classes, class_weights=weights, rows=rows)
                begin_as_probe(model, probe)
        return Finetune(
            model,
            self.settings(plan, len(rows)),
            key=self._weights,
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
