"""The learning rate range test: Smith. Cyclical Learning Rates for Training Neural Networks. 2015.
https://arxiv.org/abs/1506.01186, as fastai made it usual.

A copy of the model is trained for a few steps while the rate grows exponentially. The loss falls while the rate is useful and
explodes where it is too high; a good rate is where it falls the fastest, or a tenth of where it was least. One batch tells little,
so what counts is the average of the losses, the newer ones weighing more.
"""

from __future__ import annotations

import copy
import math
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import nn

from convatlas.errors import ConvAtlasError
from convatlas.train.allocator import freed_memory_kept
from convatlas.train.augment import alternating, changed, colour_axes
from convatlas.train.config import TrainConfig
from convatlas.train.faults import NoRoom, norm_of_gradients, room
from convatlas.train.images import Images, some_of
from convatlas.train.loop import as_read
from convatlas.train.losses import Objective, ensure_auxiliary
from convatlas.train.optim import clip, constrain, for_batch, optimiser, set_rate
from convatlas.train.order import Order, balanced, seed_of

SMOOTHING = 0.9  # how much of the average of losses stays at a step
EXPLODED = 4.0  # times the least loss so far, where it stops


@dataclass(frozen=True, kw_only=True)
class LrFind:
    """What a range test found. Rates and losses are a pair a step."""

    rates: tuple[float, ...]  # values of `optim.lr`, which is the rate of a step unless `optim.lr_batch` says otherwise
    losses: tuple[float, ...]  # averaged
    steepest: float | None  # the rate at which the loss falls the fastest; None where it falls nowhere
    tenth: float  # a tenth of the rate at which the loss was least
    exploded: bool  # whether it ended with a loss that was far above the least, or not finite; else the highest rate was not high enough

    @property
    def suggestion(self) -> float:
        """The smaller of the two, which is the safer."""
        return min(self.tenth, self.steepest or self.tenth)

    def to_json(self) -> dict[str, Any]:
        """Plain data, the suggestion too."""
        return {"schema": "convatlas.lr_find/1", **asdict(self), "suggestion": self.suggestion}


def lr_find(
    model: nn.Module,
    images: Images,
    config: TrainConfig,
    *,
    low: float = 1e-6,
    high: float = 10.0,
    steps: int = 100,
    device: torch.device | str = "cpu",
) -> LrFind:
    """Tries `steps` values of `optim.lr` from `low` to `high` on a copy of `model`, with the images, optimiser, batches and augmentation
    that `config` trains with.

    The model, and the random numbers of the process, stay as they are.

    Raises `ValueError` for a range or a number of steps that means nothing, `ConvAtlasError` where memory does not suffice.
    """
    if not 0 < low < high or steps < 10:
        raise ValueError(f"low={low}, high={high}, steps={steps}: give 0 < low < high and at least 10 steps")
    if len(images) < 2:
        raise ValueError(f"{len(images)} images; at least two are needed")
    ensure_auxiliary(model, config)
    config = as_read(config, images)
    device = torch.device(device)
    tried = copy.deepcopy(model).to(device).train()
    optim = optimiser(tried, config.optim)
    weights = balanced(images.labels).to(device) if config.balance == "weights" else None
    objective = Objective(tried, config, weights)
    axes = colour_axes(some_of(images, 1000)).to(device) if config.augment.pca else None
    order = Order(images.labels, config)

    rates: list[float] = []
    losses: list[float] = []
    average, exploded = 0.0, False
    per_lr = for_batch(replace(config.optim, lr=1.0), order.batch_size).lr
    at_once = min(config.micro_batch or order.batch_size, order.batch_size)
    plan, wanted = (order.micro_batches(0, at_once, until=steps) for _ in range(2))
    with (
        torch.random.fork_rng([device] if device.type == "cuda" else []),
        freed_memory_kept(),
        closing(images.batches(wanted)) as read,
    ):
        parts = zip(plan, read, strict=True)

        def forth_and_back(step: int) -> float:
            loss, done = 0.0, 0
            while done < order.batch_size:
                (indices, seed), x = next(parts)
                torch.manual_seed(seed_of(seed, "dropout", 0))  # which takes no generator
                mirrored = None
                if config.augment.flip_mode == "alternate":
                    mirrored = alternating(indices, step // order.steps, config.seed).to(device)
                labels = images.labels[indices].to(device)
                part, _ = objective(*changed(x.to(device), labels, config, seed, mirrored=mirrored, axes=axes))
                part = part * (len(indices) / order.batch_size)
                part.backward()
                loss, done = loss + part.item(), done + len(indices)
            return loss

        for step in range(steps):
            rate = low * (high / low) ** (step / (steps - 1))
            optim.zero_grad()
            try:
                with room():
                    loss = forth_and_back(step)
            except NoRoom as error:
                raise ConvAtlasError(
                    f"memory does not suffice for {at_once} images at once.", remedy=f"Set micro_batch below {at_once}."
                ) from error
            average = SMOOTHING * average + (1 - SMOOTHING) * loss
            smooth = average / (1 - SMOOTHING ** (step + 1))  # as if there had been no beginning at 0
            if not math.isfinite(smooth) or (losses and smooth > EXPLODED * min(losses)):
                exploded = True
                break
            rates.append(rate)
            losses.append(smooth)
            set_rate(optim, rate * per_lr)
            clip(tried, config.optim, norm_of_gradients(tried))
            optim.step()
            constrain(tried, config.optim)
    return told(rates, losses, exploded=exploded)


def told(rates: list[float], losses: list[float], *, exploded: bool) -> LrFind:
    """What the losses at these rates, which grow by one factor, say.

    Raises `ValueError` where there are none: then the loss was not finite before the first step.
    """
    if not losses:
        raise ValueError(
            "the loss is not finite at the lowest rate, before any step; is a weight or an image already NaN?"
        )
    least = min(range(len(losses)), key=losses.__getitem__)
    begin = min(least, len(losses) // 10)  # the first averages are of a batch or two, and say nothing
    slopes = {i: losses[i + 1] - losses[i] for i in range(begin, least)}
    fastest = min(slopes, key=slopes.__getitem__, default=0)
    falls = bool(slopes) and slopes[fastest] < 0
    return LrFind(
        rates=tuple(rates),
        losses=tuple(losses),
        steepest=rates[fastest] if falls else None,
        tenth=rates[least] / 10,
        exploded=exploded,
    )
