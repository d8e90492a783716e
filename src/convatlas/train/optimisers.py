"""Optimisers that torch has in another form: SGD with the rate inside its momentum, TensorFlow's RMSprop, and LAMB.

They keep what they remember as torch's do, tensors by name for each parameter, so that checkpoints hold them without knowing them.
A group's `weight_decay` and `lr` may differ, as in torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer


class StepSGD(Optimizer):
    """v ← momentum · v + lr · (gradient + decay · w), w ← w − v: AlexNet's rule (section 5) and Caffe's.

    torch's sums gradients and multiplies by the rate outside. The two are one while the rate stays; after a drop this one still
    moves at the old rate for about 1 / (1 − momentum) steps.
    """

    def __init__(self, groups: Iterable[dict[str, Any]], *, lr: float, momentum: float) -> None:
        super().__init__(groups, {"lr": lr, "momentum": momentum, "weight_decay": 0.0})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride] - torch's has overloads for closures
        """One step along the gradients."""
        for group, w, gradient in _moving(self):
            velocity = _slot(self, w, "velocity")
            velocity.mul_(group["momentum"]).add_(gradient.add(w, alpha=group["weight_decay"]), alpha=group["lr"])
            w.sub_(velocity)


class RMSprop(Optimizer):
    """TensorFlow's: s ← squares · s + (1 − squares) · g², v ← momentum · v + lr · g / √(s + eps), w ← w − v, where g has the weight
    decay in it.

    eps is inside the root and s begins at 1, where torch adds eps to the root and begins at 0; with the eps of 1 that NASNet was trained
    with that is another optimiser, nearer to SGD.
    """

    def __init__(
        self, groups: Iterable[dict[str, Any]], *, lr: float, momentum: float, squares: float, eps: float
    ) -> None:
        defaults = {"lr": lr, "momentum": momentum, "squares": squares, "eps": eps, "weight_decay": 0.0}
        super().__init__(groups, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride] - torch's has overloads for closures
        """One step along the gradients."""
        for group, w, gradient in _moving(self):
            gradient = gradient.add(w, alpha=group["weight_decay"])
            mean, velocity = _slot(self, w, "squares", start=1.0), _slot(self, w, "velocity")
            mean.lerp_(gradient.square(), 1 - group["squares"])
            velocity.mul_(group["momentum"]).add_(gradient / (mean + group["eps"]).sqrt(), alpha=group["lr"])
            w.sub_(velocity)


class Lamb(Optimizer):
    """LAMB: You et al. Large Batch Optimization for Deep Learning. ICLR 2020. https://arxiv.org/abs/1904.00962, algorithm 2.

    Adam's step with the weight decay beside it, made as long for each tensor as lr times the tensor itself. As in timm, biases and norms,
    which are not decayed, take Adam's step as it is: a bias that begins at 0 would stay there otherwise.
    """

    def __init__(
        self, groups: Iterable[dict[str, Any]], *, lr: float, eps: float, betas: tuple[float, float] = (0.9, 0.999)
    ) -> None:
        super().__init__(groups, {"lr": lr, "eps": eps, "betas": betas, "weight_decay": 0.0})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride] - torch's has overloads for closures
        """One step along the gradients."""
        for group, w, gradient in _moving(self):
            first, second = group["betas"]
            mean, squares = _slot(self, w, "mean"), _slot(self, w, "squares")
            steps = self.state[w].setdefault("step", torch.zeros((), device="cpu"))
            steps += 1
            mean.lerp_(gradient, 1 - first)
            squares.lerp_(gradient.square(), 1 - second)
            mean_now = mean / (1 - first ** float(steps))
            move = mean_now / ((squares / (1 - second ** float(steps))).sqrt() + group["eps"])
            if group["weight_decay"]:
                move = move.add(w, alpha=group["weight_decay"])
                weight, step = w.norm(), move.norm()
                move = move * torch.where((weight > 0) & (step > 0), weight / step, 1.0)
            w.sub_(move, alpha=group["lr"])


def _moving(optimiser: Optimizer) -> Iterable[tuple[dict[str, Any], Tensor, Tensor]]:
    """Each parameter that has a gradient, with its group."""
    for group in optimiser.param_groups:
        for w in group["params"]:
            if w.grad is not None:
                yield group, w, w.grad


def _slot(optimiser: Optimizer, w: Tensor, name: str, start: float = 0.0) -> Tensor:
    state = optimiser.state[w]
    if name not in state:
        state[name] = torch.full_like(w, start)
    return state[name]
