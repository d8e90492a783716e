"""ResNet: He, Zhang, Ren, Sun. Deep Residual Learning for Image Recognition. CVPR 2016. https://arxiv.org/abs/1512.03385

A block learns the difference between its output and its input, y = F(x) + x, so that depth costs nothing when it is not needed and the
gradient has a path past every layer. ImageNet nets have four stages behind a 7×7 stem; CIFAR nets (section 4.2) have three stages of
16, 32 and 64 maps behind a 3×3 stem, 6n + 2 layers deep, with parameter-free shortcuts.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from convatlas.zoo.convnet import ConvNet

FAMILY, YEAR = "ResNet", 2015


@dataclass(frozen=True, kw_only=True)
class ResNetConfig:
    """What tells one ResNet from another."""

    blocks: tuple[int, ...]  # how many in each stage
    bottleneck: bool = False  # 1×1, 3×3, 1×1 with four times the width going out, instead of two 3×3
    width: int = 64  # maps of the stem and, before expansion, of stage1; every stage doubles it
    cifar: bool = False  # 3×3 stem at full resolution instead of 7×7 stride 2 and max pooling
    shortcut: Literal["A", "B"] = "B"  # where shapes change: zero padding (no parameters) or a 1×1 projection


VARIANTS = {
    "resnet18": ResNetConfig(blocks=(2, 2, 2, 2)),
    "resnet34": ResNetConfig(blocks=(3, 4, 6, 3)),
    "resnet50": ResNetConfig(blocks=(3, 4, 6, 3), bottleneck=True),
    "resnet101": ResNetConfig(blocks=(3, 4, 23, 3), bottleneck=True),
    "resnet152": ResNetConfig(blocks=(3, 8, 36, 3), bottleneck=True),
    **{
        f"resnet{6 * n + 2}_cifar": ResNetConfig(blocks=(n, n, n), width=16, cifar=True, shortcut="A")
        for n in (3, 5, 7, 9, 18, 200)
    },
}

_BLOCKS = {
    "conv1": "stages.stem.conv",
    "bn1": "stages.stem.norm",
    "layer{s}.{b}.conv{i}": "stages.stage{s}.{b}.conv{i}",
    "layer{s}.{b}.bn{i}": "stages.stage{s}.{b}.norm{i}",
    "layer{s}.{b}.downsample.0": "stages.stage{s}.{b}.shortcut.conv",
    "layer{s}.{b}.downsample.1": "stages.stage{s}.{b}.shortcut.norm",
}
KEYS = {
    "torchvision": {**_BLOCKS, "fc": "head.fc"},  # timm has the same
    "cifar": {**_BLOCKS, "linear": "head.fc"},  # Idelbayev's pytorch_resnet_cifar10, the CIFAR weights people have
}


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
    """y = relu(F(x) + shortcut(x)), F being two 3×3 convolutions or the bottleneck's three."""

    def __init__(self, in_width: int, width: int, *, stride: int, config: ResNetConfig) -> None:
        super().__init__()
        out_width = 4 * width if config.bottleneck else width
        if config.bottleneck:
            # v1.5: the stride sits on the 3×3, as in the released weights; the paper has it on the first 1×1
            shapes = [(in_width, width, 1, 1), (width, width, 3, stride), (width, out_width, 1, 1)]
        else:
            shapes = [(in_width, width, 3, stride), (width, out_width, 3, 1)]
        self.depth = len(shapes)
        for i, (c_in, c_out, kernel, step) in enumerate(shapes, start=1):
            self.add_module(f"conv{i}", nn.Conv2d(c_in, c_out, kernel, step, kernel // 2, bias=False))
            self.add_module(f"norm{i}", nn.BatchNorm2d(c_out))
        self.shortcut: nn.Module
        if stride == 1 and in_width == out_width:
            self.shortcut = nn.Identity()
        elif config.shortcut == "A":
            self.shortcut = ZeroPadShortcut(in_width, out_width, stride)
        else:
            conv = nn.Conv2d(in_width, out_width, 1, stride, bias=False)
            self.shortcut = nn.Sequential(OrderedDict(conv=conv, norm=nn.BatchNorm2d(out_width)))

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for i in range(1, self.depth + 1):
            y = self.get_submodule(f"norm{i}")(self.get_submodule(f"conv{i}")(y))
            if i < self.depth:
                y = F.relu(y)
        return F.relu(y + self.shortcut(x))


class ResNet(ConvNet):
    """A residual network; `ResNet(VARIANTS["resnet50"])` or, by name, `convatlas.create("resnet50")`."""

    def __init__(self, config: ResNetConfig, *, num_classes: int = 1000, in_channels: int = 3) -> None:
        self.config = config
        kernel, stride = (3, 1) if config.cifar else (7, 2)
        stem = nn.Conv2d(in_channels, config.width, kernel, stride, kernel // 2, bias=False)
        stages: dict[str, nn.Module] = {
            "stem": nn.Sequential(OrderedDict(conv=stem, norm=nn.BatchNorm2d(config.width), relu=nn.ReLU())),
        }
        channels = config.width
        for s, num_blocks in enumerate(config.blocks):
            width = config.width * 2**s
            blocks: OrderedDict[str, nn.Module] = OrderedDict()
            if s == 0 and not config.cifar:
                blocks["pool"] = nn.MaxPool2d(3, stride=2, padding=1)
            for b in range(num_blocks):
                blocks[str(b)] = Residual(channels, width, stride=2 if s and not b else 1, config=config)
                channels = 4 * width if config.bottleneck else width
            stages[f"stage{s + 1}"] = nn.Sequential(blocks)
        head: dict[str, nn.Module] = {"pool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten()}
        if num_classes:
            head["fc"] = nn.Linear(channels, num_classes)
        super().__init__(stages, head)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")  # section 3.4, after [13]


MODEL = ResNet
