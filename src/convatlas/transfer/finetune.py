"""Fine-tuning from a cut: what is before it stays frozen and is run once an image, what is after it trains, its head begun as a probe.

Linear probing, then fine-tuning (Kumar et al. Fine-Tuning Can Distort Pretrained Features and Underperform Out-of-Distribution. 2022.
https://arxiv.org/abs/2202.10054): a head that starts at random sends large gradients into good features. Earlier stages, more general,
learn more slowly (Howard, Ruder. Universal Language Model Fine-tuning for Text Classification. 2018. https://arxiv.org/abs/1801.06146).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import closing, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import nn

from convatlas.mapped import Unmappable
from convatlas.train.augment import standardised
from convatlas.train.config import Augment, Optim, TrainConfig
from convatlas.train.images import Images
from convatlas.train.learner import Epoch
from convatlas.train.loop import answers, train
from convatlas.train.processes import Alone
from convatlas.train.run import Run
from convatlas.transfer.frozen import Audit, Norms, Tuned, parted
from convatlas.transfer.maps import Maps, Precision, Squares, TooLarge, cached_maps
from convatlas.transfer.plans import ALL, Plan
from convatlas.transfer.probe import Probe
from convatlas.zoo import ConvNet, feature
from convatlas.zoo.inference import apart, by_image, for_inference, stacked
from convatlas.zoo.joined import Pairs, followed, joined

STEPS = 400  # of a fine-tuning, within these epochs
LEAST_EPOCHS, MOST_EPOCHS = 4, 20
SCRATCH = 5  # times the epochs of a fine-tuning: nothing is there to start from
BATCH = 32
AUGMENT = Augment(scale=(0.35, 1.0), flip=0.5)  # of training from scratch, and of tuning where it is asked for


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """How a plan that trains is trained."""

    plan: Plan
    config: TrainConfig
    norms: Norms = "frozen"
    views: int = 1  # ways in which an image is shown; 1 is as it is in use
    maps: Precision = "float32"  # in which maps that are trained on are kept; those that judge are exact
    crops: int = 1  # squares of an image, one under the other

    @property
    def cut(self) -> str | None:
        """The first stage or block that trains; None for all."""
        return None if self.plan.kind == "scratch" or self.plan.at == (ALL,) else self.plan.at[0]


def tuning(
    plan: Plan, images: int, size: int, mean: tuple[float, ...], std: tuple[float, ...], *, seed: int = 0
) -> Tuning:
    """The settings for so many training images, shown at `size` pixels: sized for some tens to some ten thousands.

    Epochs fall as images grow, as in BiT's rule (Kolesnikov et al. Big Transfer. 2019. https://arxiv.org/abs/1912.11370).
    """
    scratch = plan.kind == "scratch"
    batch = min(BATCH, max(2, images // 4))
    epochs = min(max(-(-STEPS * batch // images), LEAST_EPOCHS), MOST_EPOCHS)
    optim = Optim(
        name="adamw",
        lr=1e-3,
        weight_decay=0.05,
        warmup_epochs=1.0 if scratch else 0.5,
        stage_decay=1.0 if scratch else 0.7,
    )
    config = TrainConfig(
        epochs=epochs * SCRATCH if scratch else epochs,
        batch_size=batch,
        image_size=size,
        optim=optim,
        augment=AUGMENT if scratch else Augment(),
        mean=mean,
        std=std,
        seed=seed,
    )
    return Tuning(plan=plan, config=config, norms="train" if scratch else "frozen")


def begin_as_probe(model: ConvNet, probe: Probe) -> bool:
    """Makes the classifier of `model` the probe on its last rung, calibrated; False, and nothing done, where it cannot be one."""
    layer = model.get_submodule(model.classifiers[0])
    if not isinstance(layer, nn.Linear) or layer.weight.shape != probe.weight.T.shape or layer.bias is None:
        return False
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(probe.scale * probe.weight.T))
        layer.bias.copy_(torch.from_numpy(probe.scale * probe.bias))
    return True


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What a network makes of images."""

    logits: np.ndarray  # (n, classes) float64
    maps: np.ndarray  # (n, maps) float32: the means of the maps that its head reads
    read: np.ndarray  # (n, d) float32: what its classifier reads, which in a head of several layers is something else


class Finetune:
    """A network, parted at a plan's cut. It learns from images, or from the maps that its frozen part has made of them: whichever it is
    given, the same weights train."""

    def __init__(
        self,
        model: ConvNet,
        tuning: Tuning,
        *,
        key: str,
        device: str = "cpu",
        progress: Callable[[int, int], None] = lambda done, total: None,
        say: Callable[[str], None] = lambda message: None,
    ) -> None:
        """`key` tells what decides the numbers of the frozen part: network and weights."""
        self.model, self.tuning = model, tuning
        self._device, self._key, self._progress, self._say = device, f"{key} {tuning.cut}", progress, say
        whole = parted(model, tuning.cut, tuning.norms)
        self.frozen = whole.frozen
        self.audit = Audit(whole.frozen)
        size, channels = tuning.config.shown_size, len(tuning.config.mean)
        self._seen: nn.Module | None = None  # the frozen part as it is run: norms folded, channels last
        if any(True for _ in whole.frozen.parameters()):
            self._seen = for_inference(whole.frozen, (1, channels, size, size)).to(device)
        self._of_images = Tuned(self._seen, whole.trained, tuning.norms)
        self._of_maps = Tuned(None, whole.trained, tuning.norms)
        self._pairs: Pairs = self._followed((1, channels, size, size)) if tuning.norms == "frozen" else ()

    def shown(self, images: Images, *, training: bool) -> Images:
        """What the frozen part makes of `images`, from the cache; the images themselves where nothing is frozen, or nothing can be kept.

        With maps in float16 those that are not for `training` are the images too: the network that is judged is the one that is used.
        """
        maps = self.tuning.maps
        if self._seen is None or (maps == "float16" and not training):
            return images
        try:
            try:
                return self._kept(images, maps, training)
            except TooLarge as why:
                self._say(f"the maps before {self.tuning.cut} are kept in float32: {why.message}")
                return self._kept(images, "float32", training)
        except Unmappable as why:
            self._say(f"the frozen part is run anew in every step: {why}")
            return images

    def _kept(self, images: Images, dtype: Precision, training: bool) -> Maps:
        assert self._seen
        return cached_maps(
            self._seen,
            images,
            self.tuning.config,
            key=self._key,
            views=self.tuning.views if training else 1,
            dtype=dtype,
            device=self._device,
            progress=self._progress,
            say=self._say,
        )

    def train(
        self,
        images: Images,
        *,
        run: Run | None = None,
        progress: Callable[[int, int], None] = lambda step, steps: None,
    ) -> tuple[Epoch, ...]:
        """Trains on `images` or, as `shown` gives them, on their maps; the history. The frozen part is audited after every epoch.

        With a `run` it goes on where that stopped, and raises `Stopped` when it is asked to stop.
        """
        config = self.tuning.config
        taking, shown = self._taking(images), self._squares(images, config)
        if shown.prepared:  # augmented already, where that was asked for
            config = replace(config, augment=Augment())

        def audited(epoch: Epoch) -> None:
            self.audit.check()

        with joined(self._pairs), run.listening() if run else nullcontext():
            history = train(
                *(taking, shown, config),
                together=Alone(self._device),
                run=run,
                log=audited,
                progress=progress,
            )
        self.audit.check()  # a run that is taken up at its end has no epoch left
        self.model.eval()
        return history

    def trained(self) -> dict[str, torch.Tensor]:
        """The numbers of the part that trains."""
        return self._of_maps.trained.state_dict()

    def put(self, trained: Mapping[str, torch.Tensor]) -> None:
        """Makes the part that trains what it was after a training."""
        self._of_maps.to(self._device, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue] - as `train`
        self._of_maps.trained.load_state_dict(trained)
        self.audit.check()
        self.model.eval()

    def tried(self, images: Images) -> tuple[Images, float]:
        """What training sees of a few images, in memory, and the seconds that the frozen part takes to make it, once."""
        if self._seen is None:
            return images, 0.0
        with closing(images.batches([(torch.arange(len(images)), 0)])) as read, torch.inference_mode():
            x = standardised(apart(next(read)).to(self._device).float() / 255, self.tuning.config)
            x = x.contiguous(memory_format=torch.channels_last)
            self._seen(x)
            started = time.perf_counter()
            maps = self._seen(x)
            seconds = time.perf_counter() - started
        if not isinstance(maps, torch.Tensor):  # then it is run anew in every step
            return images, 0.0
        return Maps(stacked(maps, len(images)).cpu().numpy(), 1, images.labels, images.names, "tried"), seconds

    def seen(self, images: Images) -> Seen:
        """What the network makes of images, or of their maps, in evaluation mode."""
        maps, read = list[torch.Tensor](), list[torch.Tensor]()
        handles = [
            self.model.head.register_forward_pre_hook(_keeper(maps)),
            self.model.get_submodule(self.model.classifiers[0]).register_forward_pre_hook(_keeper(read)),
        ]
        try:  # one process has them in order
            with joined(self._pairs):
                shown = self._squares(images, replace(self.tuning.config, augment=Augment()))
                given = answers(self._taking(images), shown, self.tuning.config, Alone(self._device))
                logits = [logits for _, logits in given]
        finally:
            for handle in handles:
                handle.remove()
        return Seen(
            logits=torch.cat(logits).cpu().double().numpy(),
            maps=by_image(torch.cat(maps), len(images)).float().cpu().numpy(),
            read=by_image(torch.cat(read), len(images)).float().cpu().numpy(),
        )

    def _followed(self, shape: tuple[int, ...]) -> Pairs:
        """Convolutions and norms in the part that trains, seen with an image of `shape` (1, c, h, w)."""
        whole = self._of_images.to(self._device).eval()
        image = torch.rand(*shape, generator=torch.Generator().manual_seed(0)).to(self._device)
        with torch.no_grad():
            pairs = followed(whole.trained, whole.frozen(image))
        whole.train()
        return pairs

    def _squares(self, images: Images, config: TrainConfig) -> Images:
        """`images` as the network takes them, where each has several squares; else, and of maps, themselves."""
        return images if images.prepared or self.tuning.crops == 1 else Squares(images, config)

    def _taking(self, images: Images) -> Tuned:
        return self._of_maps if images.prepared else self._of_images


def _keeper(kept: list[torch.Tensor]) -> Callable[[nn.Module, tuple[Any, ...]], None]:
    """A hook that keeps what a layer is given, of maps their means."""

    def keep(_: nn.Module, given: tuple[Any, ...]) -> None:
        maps = feature(given[0])
        kept.append(maps.mean((2, 3)) if maps.ndim == 4 else maps)

    return keep
