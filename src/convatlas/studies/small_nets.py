"""Networks small enough to be trained many times, each a pair or a family that differs in the one thing that its study is about.

They are for 32×32 pixels and belong to no paper, so they are no variants of the zoo; the inception module is the zoo's own.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Literal

from torch import nn

from convatlas.zoo.googlenet import GoogLeNetConfig, Inception

Norm = Literal["response", "batch", "none"]


def filters(kernels: tuple[int, ...], *, classes: int, width: int = 32) -> nn.Sequential:
    """Two stages of convolutions with these kernels, one after the other, so that (3, 3, 3) sees as much as (7,)."""
    layers: list[nn.Module] = [_conv(3, width, 3, stride=2)]  # 1/2
    for _ in range(2):
        layers += [_conv(width, width, kernel) for kernel in kernels]
        layers.append(nn.MaxPool2d(2))  # 1/4, 1/8
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, classes))


def inception(*, reduced: bool, classes: int, width: int = 8) -> nn.Sequential:
    """Two inception modules with the slides' widths to scale, where 128 maps are 4 `width`; naive ones hand on what pooling gives them."""
    widths = (4 * width, 2 * width, 6 * width, 2 * width, 3 * width, 2 * width)
    config = GoogLeNetConfig(reduced=reduced)
    layers: list[nn.Module] = [_conv(3, 8 * width, 3, stride=2)]  # 1/2
    maps = 8 * width
    for _ in range(2):
        module = Inception(maps, widths, config)
        maps = module.width
        layers += [module, nn.BatchNorm2d(maps), nn.MaxPool2d(2)]  # 1/4, 1/8
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(maps, classes))


def four_layers(activation: type[nn.Module], *, classes: int, width: int = 32) -> nn.Sequential:
    """Three 5×5 convolutions and a classifier: Krizhevsky's network of four layers for CIFAR-10, with an activation of choice."""
    layers: list[nn.Module] = []
    maps = 3
    for out in (width, width, 2 * width):
        layers += [nn.Conv2d(maps, out, 5, padding=2), activation(), nn.MaxPool2d(2)]  # 1/2, 1/4, 1/8
        maps = out
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(maps * 4 * 4, classes))


def like_alexnet(*, norm: Norm, dropout: float, classes: int, width: int = 32) -> nn.Sequential:
    """Four convolutions and two fully connected layers in AlexNet's order, normalised after the first two rectifiers; batch norm stands
    before every rectifier instead."""
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    maps = 3
    for i, (out, kernel, pooled) in enumerate(
        ((width, 5, True), (width, 5, True), (2 * width, 3, False), (2 * width, 3, True)), start=1
    ):
        layers[f"conv{i}"] = nn.Conv2d(maps, out, kernel, padding=kernel // 2, bias=norm != "batch")
        if norm == "batch":
            layers[f"bn{i}"] = nn.BatchNorm2d(out)
        layers[f"relu{i}"] = nn.ReLU()
        if pooled:
            layers[f"pool{i}"] = nn.MaxPool2d(3, 2, padding=1)  # 1/2, 1/4, 1/8
        if norm == "response" and i <= 2:
            layers[f"norm{i}"] = nn.LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2.0)
        maps = out
    units = 8 * width
    layers |= {"flat": nn.Flatten(), "drop5": nn.Dropout(dropout), "fc5": nn.Linear(maps * 4 * 4, units)}
    layers |= {"relu5": nn.ReLU(), "drop6": nn.Dropout(dropout), "fc6": nn.Linear(units, classes)}
    model = nn.Sequential(layers)
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")  # so that a few epochs tell something
    return model


def _conv(maps: int, out: int, kernel: int, *, stride: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(maps, out, kernel, stride, kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(out), nn.ReLU())
