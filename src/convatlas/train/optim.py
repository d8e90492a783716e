"""The optimiser over the parameters of a network, and the learning rate as a function of the step.

Steps as in He et al. (Deep Residual Learning. 2015. https://arxiv.org/abs/1512.03385), or cosine decay (Loshchilov, Hutter. SGDR. 2017.
https://arxiv.org/abs/1608.03983), after a linear warm-up (Goyal et al. Accurate, Large Minibatch SGD. 2017. https://arxiv.org/abs/1706.02677,
which also leaves biases and norms without weight decay).
"""

from __future__ import annotations

import math

import torch
from torch import nn

from convatlas.train.config import Optim


def optimiser(model: nn.Module, optim: Optim) -> torch.optim.Optimizer:
    """SGD or AdamW over all parameters; unless all are decayed, only those of two or more dimensions are."""
    rest = optim.weight_decay if optim.decay_all else 0.0
    groups = [
        {"params": [p for p in model.parameters() if p.ndim > 1], "weight_decay": optim.weight_decay},
        {"params": [p for p in model.parameters() if p.ndim <= 1], "weight_decay": rest},
    ]
    if optim.name == "adamw":
        return torch.optim.AdamW(groups, lr=optim.lr)
    return torch.optim.SGD(groups, lr=optim.lr, momentum=optim.momentum, nesterov=optim.nesterov and optim.momentum > 0)


def learning_rate(optim: Optim, epoch: float, epochs: int) -> float:
    """The learning rate when `epoch` (a fraction counts) of `epochs` are done: linear warm-up, then steps or half a cosine."""
    warmup = min(optim.warmup_epochs, epochs / 2)
    if epoch < warmup:
        return optim.lr * (0.01 + 0.99 * epoch / warmup)
    if optim.schedule == "step":
        return optim.lr / 10 ** sum(epoch >= share * epochs for share in optim.drops)
    done = (epoch - warmup) / (epochs - warmup)
    return optim.lr * (optim.final_lr + (1 - optim.final_lr) * (1 + math.cos(math.pi * done)) / 2)
