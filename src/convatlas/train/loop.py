"""The one training loop: images in memory, augmented in batches on the device, one optimiser step a batch, one line of history an epoch.

Small data (30,000 images of 64 pixels are 370 MB) lives on the device as uint8, so nothing waits for files or workers.

Whatever is random is a function of the seed and of where the run is: the order of the images of the seed and the epoch, augmentation and
dropout of the seed and the step. So there is no state of random numbers to keep, and a run that was stopped after any step goes on bit for
bit as it would have, on the same machine with the same number of threads.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel

from convatlas.errors import ConvAtlasError
from convatlas.train.augment import alternating, colour_axes, standardised
from convatlas.train.config import TrainConfig
from convatlas.train.faults import first_not_finite, gradients_are_finite
from convatlas.train.losses import batch_loss, ensure_auxiliary
from convatlas.train.optim import (
    averaging,
    clip,
    constrain,
    ensure_watched,
    for_batch,
    learning_rate,
    optimiser,
    set_rate,
)
from convatlas.train.progress import set_progress
from convatlas.train.run import Run, Stopped


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """What one pass over the training images did."""

    epoch: int  # counted from 1
    loss: float  # mean over the epoch's batches, with augmentation and label smoothing in it
    lr: float  # of its last step
    seconds: float  # without the evaluation
    top1: float  # share of its images whose highest logit was their label, as they were seen: augmented, the weights still changing
    held_out: float | None  # top-1 accuracy on the held-out images after it


def train(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    config: TrainConfig,
    *,
    held_out: tuple[Tensor, Tensor] | None = None,
    part: str | None = None,
    names: Sequence[str] = (),
    device: torch.device | str = "cpu",
    run: Run | None = None,
    save_every: int = 0,
    progress: Callable[[int, int], None] | None = None,
    log: Callable[[Epoch], None] | None = None,
) -> tuple[Epoch, ...]:
    """Trains `model` in place on `images` (n, c, h, w), uint8, and `labels` (n,), int64; returns the history.

    The model ends on `device`, in evaluation mode, with the averaged weights where `config.ema` asks for them. `held_out` is a second
    pair of images and labels, measured after every epoch and used for nothing else, unless the rate drops on a plateau: then `part` must
    say that they are "val" and no test part. `names` says what the images are called, for errors.
    Every epoch shuffles the images and leaves out the last n modulo `batch_size`. `progress(step, steps)` is called after every step,
    `log(epoch)` after every epoch. On the CPU the seed decides the result bit for bit for one number of threads; GPU kernels may add in
    another order.

    With a `run` everything is kept there: a checkpoint after every epoch, every `save_every` steps if that is not 0, and when the run is
    asked to stop; what a checkpoint of it holds is taken up first.

    Raises `ValueError` for fewer than two images or pairs that do not fit, `ConvAtlasError` when the loss or a gradient is not finite, with
    the layer and the images: the weights are then those before that step; `Stopped` when the run was asked to stop.
    """
    if len(images) < 2 or len(images) != len(labels):
        raise ValueError(
            f"{len(images)} images with {len(labels)} labels; training needs at least two, and one label each"
        )
    ensure_watched(config.optim, part if held_out else None)
    ensure_auxiliary(model, config)
    device = torch.device(device)
    batch_size = min(config.batch_size, len(images))
    if batch_size == 1 and any(isinstance(module, nn.BatchNorm2d) for module in model.modules()):
        raise ConvAtlasError(
            "batch_size is 1, and batch norm needs at least 2 images to train.", remedy="Set batch_size=2 or more."
        )
    optim = for_batch(config.optim, batch_size)
    steps = len(images) // batch_size  # of an epoch
    images, labels = images.to(device), labels.to(device)
    # torch takes both together; its stubs have no such overload
    model.to(device, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    learner = _Learner(model, config)
    if run:
        run.ensure_room(sum(x.nbytes for x in learner.tensors().values()) + learner.optimiser_bytes)
        learner.take_up(run)

    axes = colour_axes(images) if config.augment.pca else None
    draws = torch.Generator(device)
    order = _order(len(images), config.seed, learner.step // steps, device)
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        while learner.step < config.epochs * steps:
            epoch, within = divmod(learner.step, steps)
            if within == 0:
                order = _order(len(images), config.seed, epoch, device)
                learner.total, learner.correct = 0.0, 0
                learner.started = time.perf_counter()
            chosen = order[within * batch_size : (within + 1) * batch_size]
            lr = learning_rate(optim, learner.step / steps, config.epochs, learner.accuracies)
            set_progress(model, learner.step / (config.epochs * steps))

            def forward(chosen: Tensor = chosen, epoch: int = epoch) -> tuple[Tensor, Tensor]:
                draws.manual_seed(_seed(config.seed, "draws", learner.step))
                torch.manual_seed(_seed(config.seed, "dropout", learner.step))  # which takes no generator
                mirrored = alternating(chosen, epoch, config.seed) if config.augment.flip_mode == "alternate" else None
                return batch_loss(model, images[chosen], labels[chosen], config, draws, mirrored=mirrored, axes=axes)

            model.train()
            loss, correct = forward()
            value = loss.item()
            learner.optim.zero_grad()
            loss.backward()
            if not math.isfinite(value) or not gradients_are_finite(model):
                where = f"in epoch {epoch + 1}, step {within + 1} of {steps}, at learning rate {lr:.3g}"
                batch = f" The batch was {', '.join(names[int(i)] for i in chosen)}." if names else ""
                raise ConvAtlasError(
                    f"the loss is {value} {where}{first_not_finite(model, forward)}.{batch}",
                    remedy="Lower optim.lr or lengthen optim.warmup_epochs; check that no image or weight is already NaN.",
                )
            learner.learn(lr)
            learner.total += value
            learner.correct += int(correct)
            if progress:
                progress(learner.step, config.epochs * steps)
            if within + 1 == steps:
                seconds = time.perf_counter() - learner.started
                top1 = accuracy(learner.result, *held_out, config, device=device) if held_out else None
                done = Epoch(
                    epoch=epoch + 1,
                    loss=learner.total / steps,
                    lr=lr,
                    seconds=seconds,
                    top1=learner.correct / (steps * batch_size),
                    held_out=top1,
                )
                learner.history.append(done)
                if run:
                    run.log(**asdict(done))
                if log:
                    log(done)
            if run:
                last = learner.step == config.epochs * steps
                due = within + 1 == steps or (save_every and learner.step % save_every == 0)
                if due or run.stop:
                    learner.save(run)
                if run.stop and not last:
                    raise Stopped(f"stopped after step {learner.step} of {config.epochs * steps}")

    if learner.average:
        model.load_state_dict(learner.average.module.state_dict())
    model.eval()
    return tuple(learner.history)


class _Learner:
    """What changes while a model is trained, and so what a checkpoint holds."""

    def __init__(self, model: nn.Module, config: TrainConfig) -> None:
        self.model = model
        self.config = config
        self.average: AveragedModel | None = None
        if config.ema:
            self.average = AveragedModel(model, multi_avg_fn=averaging(config.ema), use_buffers=True)
        self.optim = optimiser(model, config.optim)
        self.step = 0
        self.total = 0.0  # of the losses of the epoch so far
        self.correct = 0  # images of the epoch so far
        self.started = time.perf_counter()  # the epoch, or going on with it
        self.history: list[Epoch] = []

    @property
    def result(self) -> nn.Module:
        """The model whose accuracy counts."""
        return self.average or self.model

    @property
    def accuracies(self) -> list[float]:
        """Of the epochs that are done, on the part that a plateau of the learning rate watches."""
        if self.config.optim.watch == "training":
            return [epoch.top1 for epoch in self.history]
        return [epoch.held_out for epoch in self.history if epoch.held_out is not None]

    @property
    def optimiser_bytes(self) -> int:
        """At the most, of what it will keep."""
        return 2 * sum(p.nbytes for p in self.model.parameters())

    def learn(self, lr: float) -> None:
        """One step along the gradients."""
        set_rate(self.optim, lr)
        clip(self.model, self.config.optim)
        self.optim.step()
        constrain(self.model, self.config.optim)
        if self.average:
            self.average.update_parameters(self.model)
        self.step += 1

    def tensors(self) -> dict[str, Tensor]:
        """Parameters and buffers, of the average too, and the optimiser's state by the names of the parameters."""
        average = self.average.state_dict() if self.average else {}
        return {
            **{f"model.{key}": x for key, x in self.model.state_dict().items()},
            **{f"average.{key}": x for key, x in average.items()},
            **{f"optim.{name}:{slot}": x for name, slot, x in self._slots()},
        }

    def save(self, run: Run) -> None:
        """A checkpoint of the run."""
        history = [asdict(epoch) for epoch in self.history]
        run.save(self.step, self.tensors(), {"total": self.total, "correct": self.correct, "history": history})

    def take_up(self, run: Run) -> None:
        """What the newest checkpoint of the run holds, if there is one."""
        found = run.resume()
        if found is None:
            return
        self.step, self.total, self.correct = found.step, found.state["total"], found.state["correct"]
        self.history = [Epoch(**epoch) for epoch in found.state["history"]]
        self.model.load_state_dict(_under("model.", found.tensors))
        if self.average:
            self.average.load_state_dict(_under("average.", found.tensors))
        parameters = dict(self.model.named_parameters())
        for key, x in _under("optim.", found.tensors).items():
            name, _, slot = key.rpartition(":")
            parameter = parameters[name]
            self.optim.state[parameter][slot] = x if not x.ndim else torch.empty_like(parameter).copy_(x)

    def _slots(self) -> Iterator[tuple[str, str, Tensor]]:
        for name, parameter in self.model.named_parameters():
            for slot, x in self.optim.state.get(parameter, {}).items():
                if isinstance(x, Tensor):
                    yield name, slot, x


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    return {key.removeprefix(prefix): x for key, x in tensors.items() if key.startswith(prefix)}


def _seed(seed: int, what: str, where: int) -> int:
    """Seeds that have nothing to do with one another."""
    return int.from_bytes(hashlib.blake2b(f"{seed} {what} {where}".encode(), digest_size=7).digest(), "big")


def _order(images: int, seed: int, epoch: int, device: torch.device) -> Tensor:
    return torch.randperm(images, generator=torch.Generator().manual_seed(_seed(seed, "order", epoch))).to(device)


@torch.no_grad()
def accuracy(
    model: nn.Module, images: Tensor, labels: Tensor, config: TrainConfig, *, device: torch.device | str = "cpu"
) -> float:
    """Share of `images` (n, c, h, w), uint8, whose highest logit is their label, each whole and resized to `config.shown_size`."""
    training = model.training
    model.eval()
    correct = 0
    for chosen in torch.arange(len(images)).split(config.batch_size):
        x = images[chosen].to(device).float() / 255
        x = F.interpolate(x, [config.shown_size] * 2, mode="bilinear", antialias=True)
        with torch.autocast(x.device.type, torch.bfloat16, enabled=config.precision == "bfloat16"):
            logits = model(standardised(x, config).contiguous(memory_format=torch.channels_last))
        correct += int((logits.argmax(1) == labels[chosen].to(device)).sum())
    model.train(training)
    return correct / len(images)
