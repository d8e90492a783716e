"""torchvision's and timm's networks with random weights, and norms that do something."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor, nn


def peer(counterpart: str, **fields: Any) -> nn.Module:
    """The network that `library/name` names, in evaluation mode, always with the same weights."""
    library, name = counterpart.split("/")
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # their own, at import
        if library == "torchvision":
            import torchvision

            model = torchvision.models.get_model(name, weights=None, **fields)
        else:
            import timm

            model = timm.create_model(name, pretrained=False, **fields)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None and module.running_var is not None
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.001, 0.02)  # small, so that another epsilon shows
            nn.init.uniform_(module.weight, 0.05, 0.1)
            nn.init.normal_(module.bias, std=0.1)
    return model.eval()


def largest_difference(first: Tensor, second: Tensor) -> float:
    """Of the largest value."""
    return float((first - second).abs().max() / second.abs().max())
