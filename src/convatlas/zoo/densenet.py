"""DenseNet: Huang, Liu, van der Maaten, Weinberger. Densely Connected Convolutional Networks. CVPR 2017.
https://arxiv.org/abs/1608.06993

A layer reads the maps of all layers before it in its block and adds a few of its own (the growth rate k): features are reused instead of
learned again, so few maps a layer suffice, and every layer is one step from the loss. "BC" nets have a 1×1 bottleneck of 4k maps before
each 3×3 and halve the maps between blocks. Written here as it flows: a layer takes all maps so far and returns them with its own behind.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from convatlas.zoo.blocks import pooled_classifier, sequence
from convatlas.zoo.convnet import ConvNet

FAMILY, YEAR = "DenseNet", 2016


@dataclass(frozen=True, kw_only=True)
class DenseNetConfig:
    """What tells one DenseNet from another."""

    layers: tuple[int, ...]  # how many in each dense block
    growth: int = 32  # maps that each layer adds
    stem: int = 64  # maps of the first convolution
    bottleneck: int = 4  # a 1×1 to this many times `growth` maps before each 3×3; 0 for none
    compression: float = 0.5  # what is left of the maps between blocks
    cifar: bool = False  # 3×3 stem at full resolution instead of 7×7 stride 2 and max pooling
    dropout: float = 0.0  # after every convolution but the first; 0.2 in the paper where data were not augmented


def _cifar(depth: int, growth: int) -> DenseNetConfig:
    return DenseNetConfig(
        layers=((depth - 4) // 3,) * 3, growth=growth, stem=16, bottleneck=0, compression=1.0, cifar=True
    )


def _cifar_bc(depth: int, growth: int) -> DenseNetConfig:
    return DenseNetConfig(layers=((depth - 4) // 6,) * 3, growth=growth, stem=2 * growth, cifar=True)


VARIANTS = {
    "densenet121": DenseNetConfig(layers=(6, 12, 24, 16)),
    "densenet161": DenseNetConfig(layers=(6, 12, 36, 24), growth=48, stem=96),
    "densenet169": DenseNetConfig(layers=(6, 12, 32, 32)),
    "densenet201": DenseNetConfig(layers=(6, 12, 48, 32)),
    "densenet264": DenseNetConfig(layers=(6, 12, 64, 48)),
    **{f"densenet_{depth}_{k}_cifar": _cifar(depth, k) for depth, k in ((40, 12), (100, 12), (100, 24))},
    **{f"densenet_bc_{depth}_{k}_cifar": _cifar_bc(depth, k) for depth, k in ((100, 12), (250, 24), (190, 40))},
}
ELSEWHERE = {
    f"{library}/densenet{depth}": (f"densenet{depth}", {})
    for library in ("torchvision", "timm")
    for depth in (121, 161, 169, 201)
}


def keys(config: DenseNetConfig) -> dict[str, dict[str, str]]:
    """How other libraries name these parameters."""
    if config.cifar:
        return {}
    layer, ours = "features.denseblock{s}.denselayer{b}", "stages.stage{s}.{b-1}"
    table = {
        "features.conv0": "stages.stem.conv",
        "features.norm0": "stages.stem.norm",
        f"{layer}.norm.{{i}}": f"{ours}.norm{{i}}",  # in torchvision's files, which it renames when it loads them
        f"{layer}.conv.{{i}}": f"{ours}.conv{{i}}",
        f"{layer}.norm{{i}}": f"{ours}.norm{{i}}",  # in its networks; behind the above, since the way back takes the last
        f"{layer}.conv{{i}}": f"{ours}.conv{{i}}",
        "features.transition{s}.norm": "stages.stage{s+1}.transition.norm",
        "features.transition{s}.conv": "stages.stage{s+1}.transition.conv",
        "features.norm5": f"stages.stage{len(config.layers)}.norm",
        "classifier": "head.fc",
    }
    return {"torchvision": table, "timm": table}


def native(config: DenseNetConfig) -> tuple[tuple[int, int, int], int]:
    """The paper's input (channels, height, width) and number of classes."""
    return ((3, 32, 32), 10) if config.cifar else ((3, 224, 224), 1000)


class DenseLayer(nn.Module):
    """All maps so far (n, c, h, w) to those and `growth` new ones behind them (n, c + growth, h, w)."""

    def __init__(self, channels: int, config: DenseNetConfig) -> None:
        super().__init__()
        middle = config.bottleneck * config.growth
        kernels = [(channels, middle, 1), (middle, config.growth, 3)] if middle else [(channels, config.growth, 3)]
        self.depth = len(kernels)
        for i, (c_in, c_out, kernel) in enumerate(kernels, start=1):
            self.add_module(f"norm{i}", nn.BatchNorm2d(c_in))
            self.add_module(f"conv{i}", nn.Conv2d(c_in, c_out, kernel, padding=kernel // 2, bias=False))
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for i in range(1, self.depth + 1):
            y = self.dropout(self.get_submodule(f"conv{i}")(F.relu(self.get_submodule(f"norm{i}")(y))))
        return torch.cat([x, y], dim=1)


class Transition(nn.Module):
    """Between blocks: fewer maps, then half the side."""

    def __init__(self, c_in: int, c_out: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(c_in)
        self.conv = nn.Conv2d(c_in, c_out, 1, bias=False)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(self.dropout(self.conv(F.relu(self.norm(x)))), 2)


class DenseNet(ConvNet):
    """A densely connected network; its last norm and rectifier belong to its last stage."""

    def __init__(self, config: DenseNetConfig, *, num_classes: int = 1000, in_channels: int = 3) -> None:
        self.config = config
        channels = config.stem
        if config.cifar:
            stem = sequence(conv=nn.Conv2d(in_channels, channels, 3, padding=1, bias=False))
        else:
            conv = nn.Conv2d(in_channels, channels, 7, 2, 3, bias=False)
            stem = sequence(conv=conv, norm=nn.BatchNorm2d(channels), relu=nn.ReLU())
        stages: dict[str, nn.Module] = {"stem": stem}
        for s, num_layers in enumerate(config.layers):
            layers: OrderedDict[str, nn.Module] = OrderedDict()
            if s:
                kept = int(channels * config.compression)
                layers["transition"] = Transition(channels, kept, config.dropout)
                channels = kept
            elif not config.cifar:
                layers["pool"] = nn.MaxPool2d(3, stride=2, padding=1)
            for b in range(num_layers):
                layers[str(b)] = DenseLayer(channels, config)
                channels += config.growth
            if s == len(config.layers) - 1:
                layers["norm"] = nn.BatchNorm2d(channels)
                layers["relu"] = nn.ReLU()
            stages[f"stage{s + 1}"] = nn.Sequential(layers)
        super().__init__(stages, pooled_classifier(channels, num_classes))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)  # section 4.2, after He et al. 2015
            elif isinstance(module, nn.Linear):
                nn.init.zeros_(module.bias)


MODEL = DenseNet
