"""The one training loop: images augmented in batches on the device, gradients added up over micro-batches and processes, one optimiser
step a batch, one line of history an epoch.

Whatever is random is a function of the seed and of where the run is (see `order`), so a run that was stopped after any step goes on bit for
bit as it would have, on the same machine with the same number of threads and processes.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Iterable
from contextlib import closing
from dataclasses import asdict, dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from convatlas.errors import ConvAtlasError, Stopped
from convatlas.train.allocator import freed_memory_kept
from convatlas.train.augment import alternating, changed, colour_axes, standardised
from convatlas.train.config import TrainConfig
from convatlas.train.faults import NoRoom, NotFinite, first_not_finite, norm_of_gradients, room
from convatlas.train.images import Images, some_of
from convatlas.train.learner import Epoch, Learner
from convatlas.train.losses import Objective, autocast, ensure_auxiliary
from convatlas.train.optim import clip, ensure_watched
from convatlas.train.order import Order, balanced, seed_of
from convatlas.train.processes import Alone
from convatlas.train.progress import set_progress
from convatlas.train.run import Run

# images, labels, seed, and which are mirrored if that is not drawn
MicroBatch = tuple[Tensor, Tensor, int, Tensor | None]


def train(
    model: nn.Module,
    images: Images,
    config: TrainConfig,
    *,
    held_out: Images | None = None,
    part: str | None = None,
    together: Alone | None = None,
    run: Run | None = None,
    save_every: int = 0,
    progress: Callable[[int, int], None] = lambda step, steps: None,
    log: Callable[[Epoch], None] = lambda epoch: None,
    say: Callable[[str], None] = lambda message: None,
) -> tuple[Epoch, ...]:
    """Trains `model` in place on `images`; returns the history.

    The model ends on the device of `together`, in evaluation mode, with the averaged weights where `config.ema` asks for them, those of
    the best epoch where `config.patience` does. `held_out` is measured after every epoch, and used for nothing, unless `config.patience`
    or a plateau of the learning rate ask for it: then `part` must say that it is "val", for nothing is chosen by a test part. Every epoch
    shuffles the images and leaves out the last n modulo `batch_size`. `progress(step, steps)` is called after every step, `log(epoch)`
    after every epoch, `say` with what somebody should know. On the CPU the seed decides the result bit for bit for one number of threads;
    GPU kernels may add in another order.

    With a `run` everything is kept there: a checkpoint after every epoch, every `save_every` steps if that is not 0, and when the run is
    asked to stop; rarer if the run is sparing. What a checkpoint of it holds is taken up first.

    Where memory does not suffice for a micro-batch it is halved, the batch staying what it was. Raises `ValueError` for what cannot be
    trained on, `ConvAtlasError` when the loss or a gradient is not finite, with the layer and the images: the weights are then those
    before that step; `Stopped` when the run was asked to stop.
    """
    together = together or Alone()
    _ensure_trainable(model, images, config, together)
    ensure_watched(config, part if held_out else None)
    config = as_read(config, images)
    ensure_auxiliary(model, config)
    order = Order(images.labels, config, rank=together.rank, count=together.count)
    if config.sync_batchnorm and together.count > 1:
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    # torch takes both together; its stubs have no such overload
    model.to(together.device, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue] - no such overload
    micro_batch = min(config.micro_batch or order.part, order.part)
    if order.smallest(micro_batch) < _least(model):
        raise ConvAtlasError(
            f"{order.part} images, {micro_batch} at once, leave one alone, and batch norm needs at least 2 images to train.",
            remedy="Set another batch_size, or micro_batch.",
        )
    learner = Learner(model, config, steps=order.steps, batch_size=order.batch_size, micro_batch=micro_batch)
    weights = balanced(images.labels).to(together.device) if config.balance == "weights" else None
    objective = together.together(Objective(model, config, weights))
    if run:
        learner.ensure_room(run)
        learner.take_up(run)

    training = _Training(
        learner=learner,
        objective=objective,
        images=images,
        held_out=held_out,
        order=order,
        axes=colour_axes(some_of(images, 1000)).to(together.device) if config.augment.pca else None,
        together=together,
        run=run,
        save_every=save_every,
        progress=progress,
        log=log,
        say=say,
    )
    with torch.random.fork_rng([together.device] if together.device.type == "cuda" else []), freed_memory_kept():
        while not learner.done:
            try:
                training.go_on()
            except NotFinite as found:
                training.slow_down(found)
            except NoRoom as error:
                training.make_room(error)
    learner.finish()
    return tuple(learner.history)


@dataclass(frozen=True, kw_only=True)
class _Training:
    """What `train` was given, and what it does between one fault and the next."""

    learner: Learner
    objective: nn.Module
    images: Images
    held_out: Images | None
    order: Order
    axes: Tensor | None  # of the images' colours, for colour noise
    together: Alone
    run: Run | None
    save_every: int
    progress: Callable[[int, int], None]
    log: Callable[[Epoch], None]
    say: Callable[[str], None]

    @property
    def end(self) -> int:
        """Steps of all epochs."""
        return self.learner.config.epochs * self.order.steps

    def go_on(self) -> None:
        """Step after step, epoch after epoch, to the end."""
        learner, began = self.learner, time.perf_counter()
        with closing(self.read(learner.step, self.end)) as micro_batches:
            while not learner.done:
                if learner.step % learner.steps == 0:
                    learner.begin_epoch()
                    began = time.perf_counter()
                lr = learner.lr
                stop = self.step(micro_batches)
                self.progress(learner.step, self.end)
                if self.run and self.together.count == 1:  # nobody else has to agree
                    stop = self.run.stop
                if learner.step % learner.steps == 0:
                    self.end_epoch(lr, time.perf_counter() - began)
                if self.run and (stop or self.run.is_due(self.is_asked_for())):
                    learner.save(self.run)
                if stop and not learner.done:
                    raise Stopped(f"stopped after step {learner.step} of {self.end}")

    def read(self, step: int, until: int) -> Generator[MicroBatch]:
        """This process's micro-batches of those steps, one after the other."""
        config = self.learner.config
        plan, wanted = (self.order.micro_batches(step, self.learner.micro_batch, until=until) for _ in range(2))
        with closing(self.images.batches(wanted)) as pixels:
            for (indices, seed), x in zip(plan, pixels, strict=True):
                x, labels, mirrored = x.to(self.together.device), self.images.labels[indices], None
                if config.augment.flip_mode == "alternate":
                    mirrored = alternating(indices, self.learner.step // self.learner.steps, config.seed).to(x.device)
                yield x, labels.to(x.device), seed, mirrored

    def step(self, micro_batches: Iterable[MicroBatch]) -> bool:
        """One optimiser step along the gradient of a batch; whether this process or another was asked to stop.

        Raises `NotFinite` and `NoRoom` before a weight has changed.
        """
        learner, together = self.learner, self.together
        set_progress(learner.model, learner.step / self.end)
        learner.model.train()
        learner.optim.zero_grad()
        told = torch.zeros(3, device=together.device)  # loss, images classified right, asked to stop
        told[2] = bool(self.run and self.run.stop)
        with room(), learner.unspoilt():
            done = 0
            for micro_batch in micro_batches:
                size = len(micro_batch[0])
                done += size
                with together.apart(self.objective, done < self.order.part):
                    loss, correct = self.loss(*micro_batch)
                    loss = loss * (size / self.order.part)
                    together.backward(learner.scaler.scale(loss))
                told[:2] += torch.stack([loss.detach(), correct])
                if done == self.order.part:
                    break
            learner.scaler.unscale_(learner.optim)
            together.average([told, *learner.running_statistics()])
            loss, correct, stop = told.tolist()
            norm = norm_of_gradients(learner.model)
            if not math.isfinite(loss) or (not math.isfinite(norm) and learner.scaler.get_scale() <= 1):
                raise NotFinite(loss)
            clip(learner.model, learner.config.optim, norm)
        learner.learn()
        learner.loss += loss
        learner.correct += round(correct * together.count)
        return stop > 0

    def loss(self, images: Tensor, labels: Tensor, seed: int, mirrored: Tensor | None) -> tuple[Tensor, Tensor]:
        """The mean loss of the images as the seed changes them, and how many are classified right."""
        torch.manual_seed(seed_of(seed, "dropout", 0))  # which takes no generator
        if self.images.prepared:
            return self.objective(images.float(), labels, labels, torch.ones(len(labels), device=labels.device))
        return self.objective(*changed(images, labels, self.learner.config, seed, mirrored=mirrored, axes=self.axes))

    def end_epoch(self, lr: float, seconds: float) -> None:
        """Measures and tells what the epoch did."""
        learner = self.learner
        top1 = accuracy(learner.result, self.held_out, learner.config, self.together) if self.held_out else None
        done = Epoch(
            epoch=learner.step // learner.steps,
            loss=learner.loss / learner.steps,
            lr=lr,
            seconds=seconds,
            top1=learner.correct / (learner.steps * self.order.batch_size),
            held_out=top1,
        )
        learner.end_epoch(done)
        if self.run:
            self.run.log(**asdict(done))
        self.log(done)

    def is_asked_for(self) -> bool:
        """A checkpoint, after this step."""
        step = self.learner.step
        return step % self.learner.steps == 0 or bool(self.save_every and step % self.save_every == 0)

    def slow_down(self, found: NotFinite) -> None:
        """Goes back to where the epoch began and on at a tenth of the learning rate, or raises what was wrong."""
        learner, names = self.learner, self.images.names
        epoch, within = divmod(learner.step, learner.steps)

        def again() -> None:
            for micro_batch in self.read(learner.step, learner.step + 1):
                self.loss(*micro_batch)

        layers = self.together.all(first_not_finite(learner.model, again))
        layer = max(layers, key=lambda found: "layer" in found)  # who had a sound part knows but the gradients
        batch = ", ".join(names[int(i)] for i in self.order.batch(learner.step)) if names else ""
        message = (
            f"the loss is {found.loss:.4g} in epoch {epoch + 1}, step {within + 1} of {learner.steps}, "
            f"at learning rate {learner.lr:.3g}{layer}." + (f" The batch was {batch}." if batch else "")
        )
        if not learner.begin_again():
            if self.run:  # the last good weights
                learner.save(self.run)
            remedy = "Lower optim.lr or lengthen optim.warmup_epochs; check that no image or weight is already NaN."
            raise ConvAtlasError(message, remedy=remedy) from None
        self.say(f"{message} Going on from where the epoch began, at a tenth of the learning rate")

    def make_room(self, error: NoRoom) -> None:
        """Halves the micro-batch, or raises where that cannot help."""
        size = self.learner.micro_batch
        half = (size + 1) // 2
        message = f"memory does not suffice for {size} images at once"
        if half == size or self.order.smallest(half) < _least(self.learner.model):
            least = " Batch norm needs at least 2." if size > 1 else ""
            remedy = "Train on smaller images, or a smaller network."
            raise ConvAtlasError(f"{message}.{least}", remedy=remedy) from error
        if self.together.count > 1:  # the others are waiting for gradients, and cannot be told
            raise ConvAtlasError(f"{message}.", remedy=f"Set micro_batch below {size}.") from error
        self.learner.micro_batch = half
        self.learner.abandon_step()
        self.say(f"{message}; going on with {half}, batches as before")


def as_read(config: TrainConfig, images: Images) -> TrainConfig:
    """`config` for images that are cropped where they are read, if these are: what is left to be changed of them."""
    if images.crops:
        return replace(config, augment=replace(config.augment, scale=(1.0, 1.0), sides=(0, 0)))
    return config


@torch.no_grad()
def accuracy(model: nn.Module, images: Images, config: TrainConfig, together: Alone | None = None) -> float:
    """Share of `images` whose highest logit is their label, each whole and resized to `config.shown_size`; each counted once, whoever of
    the processes sees it."""
    return int(rights(model, images, config, together).sum()) / len(images)


@torch.no_grad()
def rights(model: nn.Module, images: Images, config: TrainConfig, together: Alone | None = None) -> Tensor:
    """(n,) bool, on the CPU: which of `images` have their label as the highest logit; otherwise as `accuracy`."""
    together = together or Alone()
    right = torch.zeros(len(images), device=together.device)
    for chosen, logits in answers(model, images, config, together):
        right[chosen.to(right.device)] = (logits.argmax(1) == images.labels[chosen].to(logits.device)).float()
    together.average([right])
    return right.cpu() > 0


@torch.no_grad()
def answers(model: nn.Module, images: Images, config: TrainConfig, together: Alone) -> Generator[tuple[Tensor, Tensor]]:
    """The logits (b, classes), in evaluation mode, of images as they are, with their indices (b,): this process's, batch by batch.

    Where memory does not suffice for a batch it is run in parts. Raises `ConvAtlasError` where it does not for one image.
    """
    training = model.training
    model.eval()
    at_once = config.micro_batch or config.batch_size
    mine = [
        indices for indices in torch.arange(len(images))[together.rank :: together.count].split(at_once) if len(indices)
    ]

    def given(pixels: Tensor) -> Tensor:
        x = pixels.to(together.device).float()
        if not images.prepared:
            x = F.interpolate(x / 255, [config.shown_size] * 2, mode="bilinear", antialias=True)
            x = standardised(x, config)
        with autocast(x, config):
            return model(x.contiguous(memory_format=torch.channels_last))

    for chosen, pixels in zip(mine, images.batches((indices, 0) for indices in mine), strict=True):
        logits: list[Tensor] = []
        rest = pixels
        while len(rest):
            try:
                with room():
                    logits.append(given(rest[:at_once]))
            except NoRoom as error:
                if at_once == 1:
                    raise ConvAtlasError(
                        f"memory does not suffice for one image of {config.shown_size} pixels.",
                        remedy="Set eval_size smaller, or take a smaller network.",
                    ) from error
                at_once = (at_once + 1) // 2
                continue
            rest = rest[len(logits[-1]) :]
        yield chosen, torch.cat(logits)
    model.train(training)


def _least(model: nn.Module) -> int:
    """Images that the model can train on at once: batch norm, unless it is frozen, takes a variance over them."""
    training = model.training
    norms = [module for module in model.train().modules() if isinstance(module, nn.BatchNorm2d)]
    least = 2 if any(norm.training for norm in norms) else 1
    model.train(training)
    return least


def _ensure_trainable(model: nn.Module, images: Images, config: TrainConfig, together: Alone) -> None:
    batch = min(config.batch_size, len(images))
    if len(images) < 2:
        raise ValueError(f"{len(images)} images; training needs at least two")
    if batch < _least(model):
        raise ConvAtlasError(
            "batch_size is 1, and batch norm needs at least 2 images to train.", remedy="Set batch_size=2 or more."
        )
    if batch % together.count:
        raise ConvAtlasError(
            f"a batch of {batch} cannot be parted among {together.count} processes;", remedy="set another batch_size."
        )
    if config.sync_batchnorm and together.count > 1 and together.device.type != "cuda":
        raise ConvAtlasError(
            "batch norm over processes needs GPUs;", remedy="set sync_batchnorm=false: each then sees its own part."
        )
