"""The optimiser over the parameters of a network, and the learning rate as a function of where the run is.

Steps as in He et al. (Deep Residual Learning. 2015. https://arxiv.org/abs/1512.03385), cosine decay (Loshchilov, Hutter. SGDR. 2017.
https://arxiv.org/abs/1608.03983), one cycle (Smith, Topin. Super-Convergence. 2018. https://arxiv.org/abs/1708.07120) and what else the
papers used, after a linear warm-up (Goyal et al. Accurate, Large Minibatch SGD. 2017. https://arxiv.org/abs/1706.02677, which also leaves
biases and norms without weight decay, and scales the rate with the batch).

Nothing here remembers anything: the rate is computed from the step and, for the plateau, from the accuracies of the epochs that are
done. So a run that goes on has the rates it would have had.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm  # SyncBatchNorm too

from convatlas.errors import ConvAtlasError
from convatlas.train.config import Optim, TrainConfig
from convatlas.train.optimisers import Lamb, RMSprop, StepSGD

_IS_PART = re.compile(r"stem|stage\d+|head").fullmatch


def optimiser(model: nn.Module, optim: Optim) -> torch.optim.Optimizer:
    """The optimiser over all parameters, in groups that are decayed alike and learn at the same `scale` times the rate."""
    found: dict[tuple[float, float], list[nn.Parameter]] = {}
    for key, parameter in _grouped(model, optim):
        found.setdefault(key, []).append(parameter)
    groups: list[dict[str, Any]] = [
        {"params": parameters, "weight_decay": decay, "scale": scale} for (decay, scale), parameters in found.items()
    ]
    match optim.name:
        case "adamw":
            return torch.optim.AdamW(groups, lr=optim.lr, eps=optim.eps)
        case "lamb":
            return Lamb(groups, lr=optim.lr, eps=optim.eps)
        case "rmsprop":
            return RMSprop(groups, lr=optim.lr, momentum=optim.momentum, squares=optim.squares, eps=optim.eps)
        case "sgd" if optim.velocity == "steps":
            if optim.nesterov:
                raise ConvAtlasError(
                    "optim.velocity=steps has no Nesterov form here;", remedy="set optim.nesterov=false with it."
                )
            return StepSGD(groups, lr=optim.lr, momentum=optim.momentum)
        case "sgd":
            nesterov = optim.nesterov and optim.momentum > 0
            return torch.optim.SGD(groups, lr=optim.lr, momentum=optim.momentum, nesterov=nesterov)


def _grouped(model: nn.Module, optim: Optim) -> Iterator[tuple[tuple[float, float], nn.Parameter]]:
    """Each parameter with its weight decay and what its rate is multiplied by."""
    seen: set[nn.Parameter] = set()
    above = stages_above(model) if optim.stage_decay < 1 else {}
    for path, module in model.named_modules():
        filters = isinstance(module, nn.Conv2d | nn.Linear)
        depthwise = isinstance(module, nn.Conv2d) and module.groups == module.in_channels > 1
        for name, p in module.named_parameters(recurse=False):
            if p in seen or not p.requires_grad:  # shared, as a tied layer's, or set once and for all
                continue
            seen.add(p)
            decayed = (p.ndim > 1 or optim.decay_all) and (optim.decay_depthwise or not depthwise)
            decay, scale = optim.weight_decay if decayed else 0.0, 1.0
            if name == "bias" and filters:
                scale = optim.bias_lr
            elif name == "bias" and isinstance(module, _BatchNorm):  # as airbench has it: see recipes/cifar_fast.py
                decay, scale = decay / optim.norm_bias_lr, optim.norm_bias_lr
            yield (decay, scale * optim.stage_decay ** above.get(path, 0)), p


def stages_above(model: nn.Module) -> dict[str, int]:
    """For every module of a network of the zoo, or of a part of one, by its path: how many parts of the chain `stem, stage1 … head` are
    above it; 0 in the head.

    Raises `ValueError` for a model whose modules are in no such chain.
    """
    part = {path: next((word for word in path.split(".") if _IS_PART(word)), "") for path, _ in model.named_modules()}
    chain = [word for word in dict.fromkeys(part.values()) if word]  # in the order of the network
    if chain[-1:] != ["head"]:
        raise ValueError(f"optim.stage_decay needs a network of stages and a head, not {type(model).__name__}")
    return {path: len(chain) - 1 - chain.index(word) for path, word in part.items() if word}


def set_rate(optimiser: torch.optim.Optimizer, lr: float) -> None:
    """The learning rate of the next step, for every group at its own scale."""
    for group in optimiser.param_groups:
        group["lr"] = lr * group["scale"]


def clip(model: nn.Module, optim: Optim, norm: float) -> None:
    """Scales all gradients, of this `norm` together, down where it is above `optim.clip_norm`."""
    if optim.clip_norm:
        nn.utils.clip_grads_with_norm_(model.parameters(), optim.clip_norm, torch.tensor(norm))


@torch.no_grad()
def constrain(model: nn.Module, optim: Optim) -> None:
    """ZFNet's rule: first-layer filters whose root mean square is above `optim.filter_rms` are scaled back to it.

    Zeiler, Fergus. Visualizing and Understanding Convolutional Networks. 2013. https://arxiv.org/abs/1311.2901, section 3, where a few
    first-layer filters would dominate otherwise.
    """
    if optim.filter_rms:
        first = next((module for module in model.modules() if isinstance(module, nn.Conv2d)), None)
        if first is not None:
            rms = first.weight.square().mean((1, 2, 3), keepdim=True).sqrt()
            first.weight.mul_((optim.filter_rms / rms).clamp(max=1.0))


def averaging(decay: float) -> Callable[[Sequence[Tensor], Sequence[Tensor], Tensor | int], None]:
    """The step of an exponential average of weights, as TensorFlow's: after n steps no more than (1 + n) / (10 + n) of it stays.

    So a decay of 0.9999, which remembers ten thousand steps, does not remember the random beginning of a run of a thousand.
    """

    def step(averages: Sequence[Tensor], now: Sequence[Tensor], steps: Tensor | int) -> None:
        new = (9 / (10 + torch.as_tensor(steps))).clamp(min=1 - decay)  # no number leaves the device
        for average, value in zip(averages, now, strict=True):
            if average.is_floating_point():
                average.lerp_(value.to(average.dtype), new.to(average.dtype))
            else:  # a count, such as batch norm's of batches
                average.copy_(value)

    return torch.no_grad()(step)


def for_batch(optim: Optim, batch_size: int) -> Optim:
    """`optim` with its rate for this batch: in proportion where `lr_batch` says what it is for (Goyal et al. 2017)."""
    return replace(optim, lr=optim.lr * batch_size / optim.lr_batch, lr_batch=0) if optim.lr_batch else optim


def ensure_watched(config: TrainConfig, part: str | None) -> None:
    """Raises `ConvAtlasError` where patience or a plateau has nothing that it may look at; `part` is the held-out part's name, None
    without one."""
    plateau = config.optim.schedule == "plateau" and config.optim.watch == "validation"
    if part == "val" or not (plateau or config.patience):
        return
    only = "there is only a test part, which nothing may be chosen by" if part == "test" else "there is none"
    if not plateau:
        raise ConvAtlasError(
            f"patience looks at a validation part, and {only}.", remedy="Give a val part, or set patience=0."
        )
    raise ConvAtlasError(
        f"the learning rate drops when the error on a validation part stops falling, and {only}.",
        remedy="Give a val part; or --set optim.watch=training, or --set optim.schedule=cosine.",
    )


def learning_rate(optim: Optim, epoch: float, epochs: int, accuracies: Sequence[float] = ()) -> float:
    """The learning rate when `epoch` (a fraction counts) of `epochs` are done: linear warm-up, then the schedule.

    `accuracies` are those that a plateau watches, one an epoch that is done.
    """
    warmup = 0.0 if optim.schedule in ("onecycle", "triangle") else min(optim.warmup_epochs, epochs / 2)
    if epoch < warmup:
        return optim.lr * (0.01 + 0.99 * epoch / warmup)
    done = (epoch - warmup) / (epochs - warmup)
    match optim.schedule:
        case "step":
            return _dropped(optim, sum(epoch >= share * epochs for share in optim.drops))
        case "plateau":
            return _dropped(optim, plateaus(accuracies, optim.patience, optim.most_drops))
        case "halving":  # whole epochs, or the drops of the last one would have no end
            return _dropped(optim, int(math.log2(epochs / (epochs - min(int(epoch), epochs - 1)))))
        case "exponential":
            return optim.lr * optim.factor ** int((epoch - warmup) / optim.factor_epochs + 1e-9)
        case "polynomial":
            return optim.lr * (optim.final_lr + (1 - optim.final_lr) * max(1 - done, 0.0) ** optim.power)
        case "onecycle":
            if done < optim.rise:
                return optim.lr * (1 / 25 + (1 - 1 / 25) * (1 - math.cos(math.pi * done / optim.rise)) / 2)
            done = (done - optim.rise) / (1 - optim.rise)
        case "triangle":
            if done < optim.rise:
                return optim.lr * (0.2 + 0.8 * done / optim.rise)
            return optim.lr * (1 + (optim.final_lr - 1) * (done - optim.rise) / (1 - optim.rise))
        case "cosine":
            pass
    return optim.lr * (optim.final_lr + (1 - optim.final_lr) * (1 + math.cos(math.pi * done)) / 2)


def plateaus(accuracies: Sequence[float], patience: int, most: int) -> int:
    """How often `patience` epochs in a row brought no accuracy above the best before them; after each the count begins anew."""
    best, since, drops = -math.inf, 0, 0
    for accuracy in accuracies:
        best, since = (accuracy, 0) if accuracy > best else (best, since + 1)
        if since == patience:
            drops, since = drops + 1, 0
    return min(drops, most)


def _dropped(optim: Optim, drops: int) -> float:
    if optim.levels and drops:
        return optim.lr * optim.levels[min(drops, len(optim.levels)) - 1]
    return optim.lr / optim.divisor**drops
