"""The optimiser over the parameters of a network, and the learning rate as a function of the step.

Cosine decay after a linear warm-up: Loshchilov, Hutter. SGDR. 2017. https://arxiv.org/abs/1608.03983; Goyal et al. Accurate, Large
Minibatch SGD. 2017. https://arxiv.org/abs/1706.02677, which also leaves biases and norms without weight decay.
"""

from __future__ import annotations

import math

import torch
from torch import nn

from convatlas.train.config import Optim


def optimiser(model: nn.Module, optim: Optim) -> torch.optim.Optimizer:
    """SGD with Nesterov momentum or AdamW over all parameters; only those of two or more dimensions are decayed."""
    groups = [
        {"params": [p for p in model.parameters() if p.ndim > 1], "weight_decay": optim.weight_decay},
        {"params": [p for p in model.parameters() if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if optim.name == "adamw":
        return torch.optim.AdamW(groups, lr=optim.lr)
    return torch.optim.SGD(groups, lr=optim.lr, momentum=optim.momentum, nesterov=optim.momentum > 0)


def learning_rate(optim: Optim, epoch: float, epochs: int) -> float:
    """The learning rate when `epoch` (a fraction counts) of `epochs` are done: linear warm-up, then half a cosine."""
    warmup = min(optim.warmup_epochs, epochs / 2)
    if epoch < warmup:
        return optim.lr * (0.01 + 0.99 * epoch / warmup)
    done = (epoch - warmup) / (epochs - warmup)
    return optim.lr * (optim.final_lr + (1 - optim.final_lr) * (1 + math.cos(math.pi * done)) / 2)
