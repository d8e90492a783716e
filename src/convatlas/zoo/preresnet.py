"""Pre-activation ResNet: He, Zhang, Ren, Sun. Identity Mappings in Deep Residual Networks. ECCV 2016.
https://arxiv.org/abs/1603.05027 · Wide ResNet: Zagoruyko, Komodakis. BMVC 2016. https://arxiv.org/abs/1605.07146

Norm and rectifier move in front of the convolutions, so that nothing stands in the sum: signal and gradient pass from any block to any
other unchanged, and a thousand layers train. Wide nets on CIFAR are such nets of two 3×3 a block, k times wider and far shallower:
wider is faster than deeper for the same accuracy.

Where a block changes shapes, its projection reads the activated input, as in both papers' code. The ImageNet nets are arranged as timm's
`resnetv2`: the stem's maps are pooled before their first norm, where Facebook's code has norm, rectifier, pooling.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from convatlas.zoo.blocks import pooled_classifier, sequence
from convatlas.zoo.convnet import ConvNet
from convatlas.zoo.resnet import ZeroPadShortcut

FAMILY, YEAR = "Pre-activation ResNet", 2016


@dataclass(frozen=True, kw_only=True)
class PreResNetConfig:
    """What tells one pre-activation network from another."""

    blocks: tuple[int, ...]  # how many in each stage
    bottleneck: bool = False  # 1×1, 3×3, 1×1 with four times the width going out, instead of two 3×3
    width: int = 64  # maps of the stem; of stage1 too, times `widen`; every stage doubles it
    widen: int = 1  # the k of a wide ResNet
    cifar: bool = False  # 3×3 stem at full resolution instead of 7×7 stride 2 and max pooling
    shortcut: Literal["A", "B"] = "B"  # where shapes change: zero padding (no parameters) or a 1×1 projection
    dropout: float = 0.0  # between the two 3×3 of a wide block


def _wide(depth: int, widen: int) -> PreResNetConfig:
    n = (depth - 4) // 6
    return PreResNetConfig(blocks=(n, n, n), width=16, widen=widen, cifar=True)


_BOTTLENECKS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3), 200: (3, 24, 36, 3)}
VARIANTS = {
    **{f"preresnet{d}": PreResNetConfig(blocks=blocks, bottleneck=True) for d, blocks in _BOTTLENECKS.items()},
    "preresnet110_cifar": PreResNetConfig(blocks=(18, 18, 18), width=16, cifar=True, shortcut="A"),
    "preresnet164_cifar": PreResNetConfig(blocks=(18, 18, 18), bottleneck=True, width=16, cifar=True),
    "preresnet1001_cifar": PreResNetConfig(blocks=(111, 111, 111), bottleneck=True, width=16, cifar=True),
    **{f"wrn_{d}_{k}_cifar": _wide(d, k) for d, k in ((16, 8), (28, 10), (40, 4), (40, 10))},
}
PAPERS = {name: ("Wide ResNet", 2016) for name in VARIANTS if name.startswith("wrn")}
ELSEWHERE = {f"timm/resnetv2_{d}": (f"preresnet{d}", {}) for d in (50, 101, 152)}


def keys(config: PreResNetConfig) -> dict[str, dict[str, str | tuple[str, tuple[int, int]]]]:
    """How timm names these parameters."""
    if config.cifar:
        return {}
    block, ours = "stages.{s}.blocks.{b}", "stages.stage{s+1}.{b}"
    return {
        "timm": {
            "stem.conv": "stages.stem.conv",
            f"{block}.conv{{i}}": f"{ours}.conv{{i}}",
            f"{block}.norm{{i}}": f"{ours}.norm{{i}}",
            f"{block}.downsample.conv": f"{ours}.shortcut",
            "norm": f"stages.stage{len(config.blocks)}.norm",
            "head.fc": ("head.fc", (1, 1)),  # a convolution there
        }
    }


def native(config: PreResNetConfig) -> tuple[tuple[int, int, int], int]:
    """The paper's input (channels, height, width) and number of classes."""
    return ((3, 32, 32), 10) if config.cifar else ((3, 224, 224), 1000)


class PreActivation(nn.Module):
    """y = F(x) + x, F being norm, rectifier and convolution, twice or three times."""

    def __init__(self, in_width: int, width: int, *, stride: int, first: bool, config: PreResNetConfig) -> None:
        super().__init__()
        out_width = 4 * width if config.bottleneck else width
        if config.bottleneck:
            shapes = [(in_width, width, 1, 1), (width, width, 3, stride), (width, out_width, 1, 1)]
        else:
            shapes = [(in_width, width, 3, stride), (width, out_width, 3, 1)]
        self.depth = len(shapes)
        for i, (c_in, c_out, kernel, step) in enumerate(shapes, start=1):
            self.add_module(f"norm{i}", nn.BatchNorm2d(c_in))
            self.add_module(f"conv{i}", nn.Conv2d(c_in, c_out, kernel, step, kernel // 2, bias=False))
        self.dropout = nn.Dropout(config.dropout)
        self.shortcut: nn.Module = nn.Identity()
        changes = stride > 1 or in_width != out_width
        self.shares = changes or first  # the shortcut reads the activated input; of the very first block too (appendix)
        if changes and config.shortcut == "A":
            self.shortcut = ZeroPadShortcut(in_width, out_width, stride)
        elif changes:
            self.shortcut = nn.Conv2d(in_width, out_width, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = active = F.relu(self.get_submodule("norm1")(x))
        for i in range(1, self.depth + 1):
            if i > 1:
                y = F.relu(self.get_submodule(f"norm{i}")(y))
            if i == self.depth:
                y = self.dropout(y)
            y = self.get_submodule(f"conv{i}")(y)
        return y + self.shortcut(active if self.shares else x)


class PreResNet(ConvNet):
    """A pre-activation residual network; the last norm and rectifier belong to its last stage."""

    def __init__(self, config: PreResNetConfig, *, num_classes: int = 1000, in_channels: int = 3) -> None:
        self.config = config
        kernel, stride = (3, 1) if config.cifar else (7, 2)
        stem = nn.Conv2d(in_channels, config.width, kernel, stride, kernel // 2, bias=False)
        stages: dict[str, nn.Module] = {"stem": sequence(conv=stem)}
        channels = config.width
        for s, num_blocks in enumerate(config.blocks):
            width = config.width * config.widen * 2**s
            blocks: OrderedDict[str, nn.Module] = OrderedDict()
            if s == 0 and not config.cifar:
                blocks["pool"] = nn.MaxPool2d(3, stride=2, padding=1)
            for b in range(num_blocks):
                step = 2 if s and not b else 1
                blocks[str(b)] = PreActivation(channels, width, stride=step, first=not s and not b, config=config)
                channels = 4 * width if config.bottleneck else width
            if s == len(config.blocks) - 1:
                blocks["norm"] = nn.BatchNorm2d(channels)
                blocks["relu"] = nn.ReLU()
            stages[f"stage{s + 1}"] = nn.Sequential(blocks)
        super().__init__(stages, pooled_classifier(channels, num_classes))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


MODEL = PreResNet
