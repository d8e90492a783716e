"""The optimiser over the parameters of a network, and the learning rate as a function of the step.

Steps as in He et al. (Deep Residual Learning. 2015. https://arxiv.org/abs/1512.03385), or cosine decay (Loshchilov, Hutter. SGDR. 2017.
https://arxiv.org/abs/1608.03983), after a linear warm-up (Goyal et al. Accurate, Large Minibatch SGD. 2017. https://arxiv.org/abs/1706.02677,
which also leaves biases and norms without weight decay).
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from convatlas.train.config import Optim


def optimiser(model: nn.Module, optim: Optim) -> torch.optim.Optimizer:
    """SGD or AdamW over the parameters that train; unless all are decayed, only those of two or more dimensions are.

    Biases of batch norms make a group of their own where `norm_bias_lr` is not 1: `scale` of a group multiplies the learning rate.
    """
    rest = optim.weight_decay if optim.decay_all else 0.0
    trained = [p for p in model.parameters() if p.requires_grad]
    quick: set[nn.Parameter] = set()
    if optim.norm_bias_lr != 1:
        quick = {module.bias for module in model.modules() if isinstance(module, nn.BatchNorm2d) and module.affine}
    groups: list[dict[str, Any]] = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": optim.weight_decay, "scale": 1.0},
        {"params": [p for p in trained if p.ndim <= 1 and p not in quick], "weight_decay": rest, "scale": 1.0},
    ]
    if quick:
        few = [p for p in trained if p in quick]
        groups.append({"params": few, "weight_decay": rest / optim.norm_bias_lr, "scale": optim.norm_bias_lr})
    if optim.name == "adamw":
        return torch.optim.AdamW(groups, lr=optim.lr)
    return torch.optim.SGD(groups, lr=optim.lr, momentum=optim.momentum, nesterov=optim.nesterov and optim.momentum > 0)


def learning_rate(optim: Optim, epoch: float, epochs: int) -> float:
    """The learning rate when `epoch` (a fraction counts) of `epochs` are done: linear warm-up, then steps or half a cosine, or a triangle
    (Jordan. 2024. https://arxiv.org/abs/2404.00498), whose two sides are shares of the run however long that is."""
    if optim.schedule == "triangle":
        done = epoch / epochs
        if done < optim.rise:
            return optim.lr * (0.2 + 0.8 * done / optim.rise)
        return optim.lr * (1 + (optim.final_lr - 1) * (done - optim.rise) / (1 - optim.rise))
    warmup = min(optim.warmup_epochs, epochs / 2)
    if epoch < warmup:
        return optim.lr * (0.01 + 0.99 * epoch / warmup)
    if optim.schedule == "step":
        return optim.lr / 10 ** sum(epoch >= share * epochs for share in optim.drops)
    done = (epoch - warmup) / (epochs - warmup)
    return optim.lr * (optim.final_lr + (1 - optim.final_lr) * (1 + math.cos(math.pi * done)) / 2)
