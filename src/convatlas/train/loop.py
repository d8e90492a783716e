"""The one training loop: images in memory, augmented in batches on the device, one optimiser step a batch, one line of history an epoch.

Small data (30,000 images of 64 pixels are 370 MB) lives on the device as uint8, so nothing waits for files or workers.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from convatlas.errors import ConvAtlasError
from convatlas.train.augment import augmented, erased, mixed
from convatlas.train.config import TrainConfig
from convatlas.train.optim import learning_rate, optimiser


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """What one pass over the training images did."""

    epoch: int  # counted from 1
    loss: float  # mean over the epoch's batches, with augmentation and label smoothing in it
    lr: float  # of its last step
    seconds: float  # without the evaluation
    held_out: float | None  # top-1 accuracy on the held-out images after it


def train(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    config: TrainConfig,
    *,
    held_out: tuple[Tensor, Tensor] | None = None,
    device: torch.device | str = "cpu",
    progress: Callable[[int, int], None] | None = None,
    log: Callable[[Epoch], None] | None = None,
) -> tuple[Epoch, ...]:
    """Trains `model` in place on `images` (n, c, h, w), uint8, and `labels` (n,), int64; returns the history.

    The model ends on `device`, in evaluation mode, with the averaged weights where `config.ema` asks for them. `held_out` is a second
    pair of images and labels, measured after every epoch and used for nothing else. Every epoch shuffles the images and leaves out the
    last n modulo `batch_size`. `progress(step, steps)` is called after every step, `log(epoch)` after every epoch. On the CPU the seed
    decides the result bit for bit for one number of threads; GPU kernels may add in another order.

    Raises `ValueError` for fewer than two images or pairs that do not fit, `ConvAtlasError` when the loss is not finite: the
    weights are then those before that step.
    """
    if len(images) < 2 or len(images) != len(labels):
        raise ValueError(
            f"{len(images)} images with {len(labels)} labels; training needs at least two, and one label each"
        )
    device = torch.device(device)
    batch_size = min(config.batch_size, len(images))
    steps = len(images) // batch_size
    images, labels = images.to(device), labels.to(device)
    # torch takes both together; its stubs have no such overload
    model.to(device, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    average = (
        AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(config.ema), use_buffers=True) if config.ema else None
    )
    optim = optimiser(model, config.optim)
    shuffle = torch.Generator().manual_seed(config.seed)
    draws = torch.Generator(device).manual_seed(config.seed)
    history: list[Epoch] = []

    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(config.seed)  # for dropout, which takes no generator
        for epoch in range(config.epochs):
            model.train()
            started, total, lr = time.perf_counter(), 0.0, 0.0
            order = torch.randperm(len(images), generator=shuffle).to(device)
            for step, chosen in enumerate(order.split(batch_size)[:steps]):
                lr = learning_rate(config.optim, epoch + step / steps, config.epochs)
                for group in optim.param_groups:
                    group["lr"] = lr
                loss = _loss(model, images[chosen], labels[chosen], config, draws)
                value = loss.item()
                if not math.isfinite(value):
                    raise ConvAtlasError(
                        f"the loss is {value} in epoch {epoch + 1}, step {step + 1} of {steps}, at learning rate {lr:.3g}.",
                        remedy="Lower optim.lr or lengthen optim.warmup_epochs; check that no image or weight is already NaN.",
                    )
                optim.zero_grad()
                loss.backward()
                optim.step()
                if average:
                    average.update_parameters(model)
                total += value
                if progress:
                    progress(epoch * steps + step + 1, config.epochs * steps)
            seconds = time.perf_counter() - started
            top1 = accuracy(average or model, *held_out, config, device=device) if held_out else None
            history.append(Epoch(epoch=epoch + 1, loss=total / steps, lr=lr, seconds=seconds, held_out=top1))
            if log:
                log(history[-1])

    if average:
        model.load_state_dict(average.module.state_dict())
    model.eval()
    return tuple(history)


def _loss(model: nn.Module, images: Tensor, labels: Tensor, config: TrainConfig, draws: torch.Generator) -> Tensor:
    x = standardised(augmented(images.float() / 255, config.image_size, config.augment, draws), config)
    x, others, own = mixed(erased(x, config.augment, draws), labels, config.augment, draws)
    with torch.autocast(x.device.type, torch.bfloat16, enabled=config.precision == "bfloat16"):
        logits = model(x.contiguous(memory_format=torch.channels_last)).float()
    first = F.cross_entropy(logits, labels, label_smoothing=config.label_smoothing, reduction="none")
    second = F.cross_entropy(logits, others, label_smoothing=config.label_smoothing, reduction="none")
    return (own * first + (1 - own) * second).mean()


@torch.no_grad()
def accuracy(
    model: nn.Module, images: Tensor, labels: Tensor, config: TrainConfig, *, device: torch.device | str = "cpu"
) -> float:
    """Share of `images` (n, c, h, w), uint8, whose highest logit is their label, each whole and resized to `config.image_size`."""
    training = model.training
    model.eval()
    correct = 0
    for chosen in torch.arange(len(images)).split(config.batch_size):
        x = images[chosen].to(device).float() / 255
        x = F.interpolate(x, [config.image_size] * 2, mode="bilinear", antialias=True)
        with torch.autocast(x.device.type, torch.bfloat16, enabled=config.precision == "bfloat16"):
            logits = model(standardised(x, config).contiguous(memory_format=torch.channels_last))
        correct += int((logits.argmax(1) == labels[chosen].to(device)).sum())
    model.train(training)
    return correct / len(images)


def standardised(images: Tensor, config: TrainConfig) -> Tensor:
    """`images` (n, c, h, w) in 0 … 1 less the mean and over the standard deviation of each channel."""
    mean, std = (torch.tensor(values, device=images.device)[:, None, None] for values in (config.mean, config.std))
    return (images - mean) / std
