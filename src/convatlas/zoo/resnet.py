"""ResNet: He, Zhang, Ren, Sun. Deep Residual Learning for Image Recognition. CVPR 2016. https://arxiv.org/abs/1512.03385
ResNeXt: Xie et al. Aggregated Residual Transformations. CVPR 2017. https://arxiv.org/abs/1611.05431
Wide ResNet on ImageNet: Zagoruyko, Komodakis. Wide Residual Networks. BMVC 2016. https://arxiv.org/abs/1605.07146

A block learns the difference between its output and its input, y = F(x) + x, so that depth costs nothing when it is not needed and the
gradient has a path past every layer. ImageNet nets have four stages behind a 7×7 stem; CIFAR nets (section 4.2) have three stages of
16, 32 and 64 maps behind a 3×3 stem, 6n + 2 layers deep, with parameter-free shortcuts. Plain nets are the same without the sum: the
paper's control, which gets worse with depth. ResNeXt splits the 3×3 into groups, wide nets only widen it.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from convatlas.zoo.blocks import pooled_classifier, sequence
from convatlas.zoo.convnet import ConvNet

FAMILY, YEAR = "ResNet", 2015


@dataclass(frozen=True, kw_only=True)
class ResNetConfig:
    """What tells one ResNet from another."""

    blocks: tuple[int, ...]  # how many in each stage
    bottleneck: bool = False  # 1×1, 3×3, 1×1 with four times the width going out, instead of two 3×3
    width: int = 64  # maps of the stem and, before expansion, of stage1; every stage doubles it
    inner: int = 64  # maps inside a bottleneck of stage1, doubled likewise; ResNeXt and wide nets have more
    groups: int = 1  # of the bottleneck's 3×3: ResNeXt's cardinality
    cifar: bool = False  # 3×3 stem at full resolution instead of 7×7 stride 2 and max pooling
    shortcut: Literal["A", "B", "none"] = (
        "B"  # where shapes change: zero padding or a 1×1 projection; none: a plain net
    )
    stride_at: Literal["3x3", "1x1"] = "3x3"  # of a bottleneck: v1.5, as in the released weights, or the paper's v1


_18, _34, _50, _101, _152 = (2, 2, 2, 2), (3, 4, 6, 3), (3, 4, 6, 3), (3, 4, 23, 3), (3, 8, 36, 3)


def _deep(blocks: tuple[int, ...], *, inner: int = 64, groups: int = 1, cifar: bool = False) -> ResNetConfig:
    return ResNetConfig(blocks=blocks, bottleneck=True, inner=inner, groups=groups, cifar=cifar)


def _cifar(depth: int, shortcut: Literal["A", "B", "none"]) -> ResNetConfig:
    n = (depth - 2) // 6
    return ResNetConfig(blocks=(n, n, n), width=16, cifar=True, shortcut=shortcut)


_BOTTLENECKS = {"resnet50": _50, "resnet101": _101, "resnet152": _152}
_CIFAR_DEPTHS = (20, 32, 44, 56, 110, 1202)
VARIANTS = {
    "resnet18": ResNetConfig(blocks=_18),
    "resnet34": ResNetConfig(blocks=_34),
    **{name: _deep(blocks) for name, blocks in _BOTTLENECKS.items()},
    "resnet18_v1": ResNetConfig(blocks=_18, shortcut="A"),
    "resnet34_v1": ResNetConfig(blocks=_34, shortcut="A"),
    **{
        f"{name}_v1": ResNetConfig(blocks=blocks, bottleneck=True, stride_at="1x1")
        for name, blocks in _BOTTLENECKS.items()
    },
    **{f"resnet{depth}_cifar": _cifar(depth, "A") for depth in _CIFAR_DEPTHS},
    **{f"resnet{depth}_b_cifar": _cifar(depth, "B") for depth in _CIFAR_DEPTHS},
    "plain18": ResNetConfig(blocks=_18, shortcut="none"),
    "plain34": ResNetConfig(blocks=_34, shortcut="none"),
    "plain20_cifar": _cifar(20, "none"),
    "plain56_cifar": _cifar(56, "none"),
    "wide_resnet50_2": _deep(_50, inner=128),
    "wide_resnet101_2": _deep(_101, inner=128),
    "resnext50_32x4d": _deep(_50, inner=128, groups=32),
    "resnext101_32x4d": _deep(_101, inner=128, groups=32),
    "resnext101_32x8d": _deep(_101, inner=256, groups=32),
    "resnext101_64x4d": _deep(_101, inner=256, groups=64),
    "resnext29_8x64d_cifar": _deep((3, 3, 3), inner=512, groups=8, cifar=True),
    "resnext29_16x64d_cifar": _deep((3, 3, 3), inner=1024, groups=16, cifar=True),
}
PAPERS = {
    **{name: ("Plain", 2015) for name in VARIANTS if name.startswith("plain")},
    **{name: ("Wide ResNet", 2016) for name in VARIANTS if name.startswith("wide")},
    **{name: ("ResNeXt", 2016) for name in VARIANTS if name.startswith("resnext")},
}
_TORCHVISION = (
    *("resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "wide_resnet50_2", "wide_resnet101_2"),
    *("resnext50_32x4d", "resnext101_32x8d", "resnext101_64x4d"),
)
ELSEWHERE = {
    **{f"{library}/{name}": (name, {}) for library in ("torchvision", "timm") for name in _TORCHVISION},
    "timm/resnext101_32x4d": ("resnext101_32x4d", {}),
}

_BLOCKS = {
    "conv1": "stages.stem.conv",
    "bn1": "stages.stem.norm",
    "layer{s}.{b}.conv{i}": "stages.stage{s}.{b}.conv{i}",
    "layer{s}.{b}.bn{i}": "stages.stage{s}.{b}.norm{i}",
    "layer{s}.{b}.downsample.0": "stages.stage{s}.{b}.shortcut.conv",
    "layer{s}.{b}.downsample.1": "stages.stage{s}.{b}.shortcut.norm",
}


def keys(config: ResNetConfig) -> dict[str, dict[str, str]]:
    """How other libraries name these parameters; `cifar` is Idelbayev's pytorch_resnet_cifar10, the CIFAR weights people have."""
    if config.cifar:
        return {"cifar": {**_BLOCKS, "linear": "head.fc"}}
    table = {**_BLOCKS, "fc": "head.fc"}
    return {"torchvision": table, "timm": table}


def native(config: ResNetConfig) -> tuple[tuple[int, int, int], int]:
    """The paper's input (channels, height, width) and number of classes."""
    return ((3, 32, 32), 10) if config.cifar else ((3, 224, 224), 1000)


class ZeroPadShortcut(nn.Module):
    """Option A: every second pixel, and zeros for the maps that are new, half on each side as the CIFAR weights expect."""

    def __init__(self, in_width: int, out_width: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.before = (out_width - in_width) // 2
        self.after = out_width - in_width - self.before

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.before, self.after))


class Residual(nn.Module):
    """y = relu(F(x) + shortcut(x)), F being two 3×3 convolutions or the bottleneck's three; a plain block has no sum."""

    def __init__(self, in_width: int, width: int, inner: int, *, stride: int, config: ResNetConfig) -> None:
        super().__init__()
        out_width = 4 * width if config.bottleneck else width
        if config.bottleneck:
            first, second = (stride, 1) if config.stride_at == "1x1" else (1, stride)
            shapes = [(in_width, inner, 1, first, 1), (inner, inner, 3, second, config.groups)]
            shapes.append((inner, out_width, 1, 1, 1))
        else:
            shapes = [(in_width, width, 3, stride, 1), (width, out_width, 3, 1, 1)]
        self.depth = len(shapes)
        for i, (c_in, c_out, kernel, step, groups) in enumerate(shapes, start=1):
            conv = nn.Conv2d(c_in, c_out, kernel, step, kernel // 2, groups=groups, bias=False)
            self.add_module(f"conv{i}", conv)
            self.add_module(f"norm{i}", nn.BatchNorm2d(c_out))
        self.shortcut: nn.Module | None
        if config.shortcut == "none":
            self.shortcut = None
        elif stride == 1 and in_width == out_width:
            self.shortcut = nn.Identity()
        elif config.shortcut == "A":
            self.shortcut = ZeroPadShortcut(in_width, out_width, stride)
        else:
            conv = nn.Conv2d(in_width, out_width, 1, stride, bias=False)
            self.shortcut = sequence(conv=conv, norm=nn.BatchNorm2d(out_width))

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for i in range(1, self.depth + 1):
            y = self.get_submodule(f"norm{i}")(self.get_submodule(f"conv{i}")(y))
            if i < self.depth:
                y = F.relu(y)
        return F.relu(y if self.shortcut is None else y + self.shortcut(x))


class ResNet(ConvNet):
    """A residual network; `ResNet(VARIANTS["resnet50"])` or, by name, `convatlas.create("resnet50")`."""

    def __init__(self, config: ResNetConfig, *, num_classes: int = 1000, in_channels: int = 3) -> None:
        self.config = config
        kernel, stride = (3, 1) if config.cifar else (7, 2)
        stem = nn.Conv2d(in_channels, config.width, kernel, stride, kernel // 2, bias=False)
        stages: dict[str, nn.Module] = {"stem": sequence(conv=stem, norm=nn.BatchNorm2d(config.width), relu=nn.ReLU())}
        channels = config.width
        for s, num_blocks in enumerate(config.blocks):
            width, inner = config.width * 2**s, config.inner * 2**s
            blocks: OrderedDict[str, nn.Module] = OrderedDict()
            if s == 0 and not config.cifar:
                blocks["pool"] = nn.MaxPool2d(3, stride=2, padding=1)
            for b in range(num_blocks):
                blocks[str(b)] = Residual(channels, width, inner, stride=2 if s and not b else 1, config=config)
                channels = 4 * width if config.bottleneck else width
            stages[f"stage{s + 1}"] = nn.Sequential(blocks)
        super().__init__(stages, pooled_classifier(channels, num_classes))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")  # section 3.4, after [13]


MODEL = ResNet
