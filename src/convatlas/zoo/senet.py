"""SENet: Hu, Shen, Sun. Squeeze-and-Excitation Networks. CVPR 2018. https://arxiv.org/abs/1709.01507

A block's maps are averaged over space ("squeeze") and two small fully connected layers turn these means into a weight between 0 and 1
for each map ("excitation"), by which it is multiplied: the network tells what matters in this image. Any residual block can carry
such a gate, for a tenth more parameters and almost no work. SENet-154, the winner of ILSVRC 2017, has a deeper stem, twice as wide
grouped 3×3 fed by a halved 1×1, and 3×3 projections.

The nets are the authors' released ones (Caffe): SE-ResNet has its stride on the first 1×1, and pooling is not padded. timm's later
`seresnet50` family, trained anew, is `caffe=False`. SE-ResNet-18 is timm's; the paper has none so small.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from convatlas.zoo.blocks import pooled_classifier, sequence
from convatlas.zoo.convnet import ConvNet

FAMILY, YEAR = "SENet", 2017


@dataclass(frozen=True, kw_only=True)
class SENetConfig:
    """What tells one SENet from another."""

    blocks: tuple[int, int, int, int]  # how many in each stage
    kind: Literal["basic", "bottleneck", "senet154"] = (
        "bottleneck"  # of block and, for the last, of stem and projections
    )
    inner: int = 64  # maps of the 3×3 in a bottleneck of stage1; every stage doubles it
    groups: int = 1  # of that 3×3
    stride_at: Literal["3x3", "1x1"] = "3x3"  # of a bottleneck that strides
    reduction: int = 16  # the gate's hidden layer has this many times fewer units than there are maps
    caffe: bool = True  # pooling rounded up instead of padded
    dropout: float = 0.0  # before the classifier


_50, _101, _152 = (3, 4, 6, 3), (3, 4, 23, 3), (3, 8, 36, 3)
VARIANTS = {
    "se_resnet18": SENetConfig(blocks=(2, 2, 2, 2), kind="basic"),
    "se_resnet50": SENetConfig(blocks=_50, stride_at="1x1"),
    "se_resnet101": SENetConfig(blocks=_101, stride_at="1x1"),
    "se_resnet152": SENetConfig(blocks=_152, stride_at="1x1"),
    "se_resnext50_32x4d": SENetConfig(blocks=_50, inner=128, groups=32),
    "se_resnext101_32x4d": SENetConfig(blocks=_101, inner=128, groups=32),
    "senet154": SENetConfig(blocks=_152, kind="senet154", inner=256, groups=64, dropout=0.2),
}
_LATER = {"caffe": False, "stride_at": "3x3"}  # timm's nets of its own
ELSEWHERE = {
    **{f"timm/legacy_{name.replace('se_', 'se')}": (name, {}) for name in VARIANTS},
    **{f"timm/seresnet{depth}": (f"se_resnet{depth}", _LATER) for depth in (50, 101, 152)},
    **{f"timm/seresnext{depth}_32x4d": (f"se_resnext{depth}_32x4d", _LATER) for depth in (50, 101)},
}


def keys(config: SENetConfig) -> dict[str, dict[str, str]]:
    """How timm names these parameters: `legacy` as the authors' nets came to PyTorch, `timm` in its own nets."""
    block, ours = "layer{s}.{b}", "stages.stage{s}.{b}"
    table = {
        f"{block}.conv{{i}}": f"{ours}.conv{{i}}",
        f"{block}.bn{{i}}": f"{ours}.norm{{i}}",
        f"{block}.downsample.0": f"{ours}.shortcut.conv",
        f"{block}.downsample.1": f"{ours}.shortcut.norm",
    }
    legacy = {
        "layer0.conv{i}": "stages.stem.conv{i}",
        "layer0.bn{i}": "stages.stem.norm{i}",
        "last_linear": "head.fc",
        **table,
        f"{block}.se_module.fc{{i}}": f"{ours}.gate.fc{{i}}",
    }
    timm = {
        "conv{i}": "stages.stem.conv{i}",
        "bn{i}": "stages.stem.norm{i}",
        "fc": "head.fc",
        **table,
        f"{block}.se.fc{{i}}": f"{ours}.gate.fc{{i}}",
    }
    return {"legacy": legacy, "timm": timm}


def native(config: SENetConfig) -> tuple[tuple[int, int, int], int]:
    """The paper's input (channels, height, width) and number of classes."""
    return (3, 224, 224), 1000


class Gate(nn.Module):
    """Each map of x (n, c, h, w) times a weight in (0, 1) that all maps' means decide. 1×1 convolutions are its fully connected layers."""

    def __init__(self, channels: int, reduction: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, channels // reduction, 1)
        self.fc2 = nn.Conv2d(channels // reduction, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        squeezed = x.mean((2, 3), keepdim=True)
        return x * self.fc2(F.relu(self.fc1(squeezed))).sigmoid()


class GatedResidual(nn.Module):
    """y = relu(gate(F(x)) + shortcut(x))."""

    def __init__(self, in_width: int, width: int, inner: int, *, stride: int, config: SENetConfig) -> None:
        super().__init__()
        out_width = width if config.kind == "basic" else 4 * width
        first, second = (stride, 1) if config.stride_at == "1x1" else (1, stride)
        if config.kind == "basic":
            shapes = [(in_width, width, 3, stride, 1), (width, width, 3, 1, 1)]
        else:
            squeezed = inner // 2 if config.kind == "senet154" else inner
            shapes = [(in_width, squeezed, 1, first, 1), (squeezed, inner, 3, second, config.groups)]
            shapes.append((inner, out_width, 1, 1, 1))
        self.depth = len(shapes)
        # the one basic net that was ever trained has a rectifier before the gate as well
        self.rectified = self.depth if config.kind == "basic" else self.depth - 1
        for i, (c_in, c_out, kernel, step, groups) in enumerate(shapes, start=1):
            conv = nn.Conv2d(c_in, c_out, kernel, step, kernel // 2, groups=groups, bias=False)
            self.add_module(f"conv{i}", conv)
            self.add_module(f"norm{i}", nn.BatchNorm2d(c_out))
        self.gate = Gate(out_width, config.reduction)
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or in_width != out_width:
            kernel = 3 if config.kind == "senet154" and stride > 1 else 1
            conv = nn.Conv2d(in_width, out_width, kernel, stride, kernel // 2, bias=False)
            self.shortcut = sequence(conv=conv, norm=nn.BatchNorm2d(out_width))

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for i in range(1, self.depth + 1):
            y = self.get_submodule(f"norm{i}")(self.get_submodule(f"conv{i}")(y))
            if i <= self.rectified:
                y = F.relu(y)
        return F.relu(self.gate(y) + self.shortcut(x))


class SENet(ConvNet):
    """A residual network whose blocks carry squeeze-and-excitation gates."""

    def __init__(self, config: SENetConfig, *, num_classes: int = 1000, in_channels: int = 3) -> None:
        self.config = config
        deep = config.kind == "senet154"
        widths = (64, 64, 128) if deep else (64,)
        stem: OrderedDict[str, nn.Module] = OrderedDict()
        channels = in_channels
        for i, width in enumerate(widths, start=1):
            kernel = 3 if deep else 7
            stem[f"conv{i}"] = nn.Conv2d(channels, width, kernel, 2 if i == 1 else 1, kernel // 2, bias=False)
            stem[f"norm{i}"] = nn.BatchNorm2d(width)
            stem[f"relu{i}"] = nn.ReLU()
            channels = width
        stages: dict[str, nn.Module] = {"stem": nn.Sequential(stem)}
        for s, num_blocks in enumerate(config.blocks):
            blocks: OrderedDict[str, nn.Module] = OrderedDict()
            if s == 0:
                blocks["pool"] = nn.MaxPool2d(3, 2, ceil_mode=True) if config.caffe else nn.MaxPool2d(3, 2, padding=1)
            for b in range(num_blocks):
                width, inner, stride = 64 * 2**s, config.inner * 2**s, 2 if s and not b else 1
                blocks[str(b)] = GatedResidual(channels, width, inner, stride=stride, config=config)
                channels = width if config.kind == "basic" else 4 * width
            stages[f"stage{s + 1}"] = nn.Sequential(blocks)
        super().__init__(stages, pooled_classifier(channels, num_classes, dropout=config.dropout))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)


MODEL = SENet
