"""MobileNet V3: Howard et al. Searching for MobileNetV3. ICCV 2019. https://arxiv.org/abs/1905.02244

V2's blocks, chosen one by one by search for a phone's measured latency: kernels of 3 or 5, gates (squeeze-and-excitation) in some, and
hard-swish, x · relu6(x + 3) / 6, where maps are small enough to afford it. The expensive end was redesigned by hand: pooling comes
before the last widening, which then works on one pixel.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Literal, NamedTuple

from torch import Tensor, nn
from torch.nn import functional as F

from convatlas.zoo.blocks import Hidden, SamePadConv2d, sequence
from convatlas.zoo.convnet import ConvNet

FAMILY, YEAR = "MobileNet V3", 2019


class Row(NamedTuple):
    """One block of the paper's tables 1 and 2."""

    kernel: int
    wide: int  # maps inside
    maps: int  # maps going out
    gate: bool
    activation: Literal["relu", "hardswish"]
    stride: int


@dataclass(frozen=True, kw_only=True)
class MobileNetV3Config:
    """What tells one MobileNet V3 from another."""

    size: Literal["large", "small"] = "large"  # which of the paper's two tables
    padding: Literal["symmetric", "tensorflow"] = "symmetric"  # TensorFlow's "same" puts the odd pixel after the image
    norm_eps: float = 1e-3  # timm's own weights have 1e-5


VARIANTS = {"mobilenet_v3_large": MobileNetV3Config(), "mobilenet_v3_small": MobileNetV3Config(size="small")}
ELSEWHERE = {
    **{f"torchvision/{name}": (name, {}) for name in VARIANTS},
    **{f"timm/mobilenetv3_{size}_100": (f"mobilenet_v3_{size}", {"norm_eps": 1e-5}) for size in ("large", "small")},
    **{
        f"timm/tf_mobilenetv3_{size}_100": (f"mobilenet_v3_{size}", {"padding": "tensorflow"})
        for size in ("large", "small")
    },
}

# By stage; inside a stage by the groups that timm's names count.
STAGES: dict[str, tuple[tuple[tuple[Row, ...], ...], ...]] = {
    "large": (
        ((Row(3, 16, 16, False, "relu", 1),),),
        ((Row(3, 64, 24, False, "relu", 2), Row(3, 72, 24, False, "relu", 1)),),
        ((Row(5, 72, 40, True, "relu", 2), Row(5, 120, 40, True, "relu", 1), Row(5, 120, 40, True, "relu", 1)),),
        (
            (
                Row(3, 240, 80, False, "hardswish", 2),
                Row(3, 200, 80, False, "hardswish", 1),
                *(Row(3, 184, 80, False, "hardswish", 1),) * 2,
            ),
            (Row(3, 480, 112, True, "hardswish", 1), Row(3, 672, 112, True, "hardswish", 1)),
        ),
        ((Row(5, 672, 160, True, "hardswish", 2), *(Row(5, 960, 160, True, "hardswish", 1),) * 2),),
    ),
    "small": (
        ((Row(3, 16, 16, True, "relu", 2),),),
        ((Row(3, 72, 24, False, "relu", 2), Row(3, 88, 24, False, "relu", 1)),),
        (
            (Row(5, 96, 40, True, "hardswish", 2), *(Row(5, 240, 40, True, "hardswish", 1),) * 2),
            (Row(5, 120, 48, True, "hardswish", 1), Row(5, 144, 48, True, "hardswish", 1)),
        ),
        ((Row(5, 288, 96, True, "hardswish", 2), *(Row(5, 576, 96, True, "hardswish", 1),) * 2),),
    ),
}
HIDDEN = {"large": 1280, "small": 1024}  # units of the classifier's hidden layer


def keys(config: MobileNetV3Config) -> dict[str, dict[str, str | tuple[str, tuple[int, int]]]]:
    """How other libraries name these parameters: torchvision counts blocks and layers through, timm counts blocks by group."""
    tv: dict[str, str | tuple[str, tuple[int, int]]] = {
        "features.0.0": "stages.stem.conv",
        "features.0.1": "stages.stem.norm",
        "classifier.0": "head.fc1.fc",
        "classifier.3": "head.fc",
    }
    timm: dict[str, str | tuple[str, tuple[int, int]]] = {
        "conv_stem": "stages.stem.conv",
        "bn1": "stages.stem.norm",
        "conv_head": ("head.fc1.fc", (1, 1)),
        "classifier": "head.fc",  # conv_head is a convolution there
    }
    number, group_number, channels = 0, 0, 16
    stages = STAGES[config.size]
    for s, groups in enumerate(stages, start=1):
        b = 0
        for group in groups:
            for r, row in enumerate(group):
                number += 1
                ours, t, m = f"stages.stage{s}.{b}", f"features.{number}.block", f"blocks.{group_number}.{r}"
                expands = row.wide != channels
                names = ("expand", "depthwise", "project") if expands else ("depthwise", "project")
                theirs = ("conv_pw", "conv_dw", "conv_pwl") if expands else ("conv_dw", "conv_pw")
                for i, (name, conv) in enumerate(zip(names, theirs, strict=True)):
                    place = i + (row.gate and name == "project")  # torchvision counts the gate as well
                    tv |= {f"{t}.{place}.0": f"{ours}.{name}.conv", f"{t}.{place}.1": f"{ours}.{name}.norm"}
                    timm |= {f"{m}.{conv}": f"{ours}.{name}.conv", f"{m}.bn{i + 1}": f"{ours}.{name}.norm"}
                if row.gate:
                    tv |= {f"{t}.{len(names) - 1}.fc{i}": f"{ours}.gate.fc{i}" for i in (1, 2)}
                    timm |= {f"{m}.se.conv_reduce": f"{ours}.gate.fc1", f"{m}.se.conv_expand": f"{ours}.gate.fc2"}
                channels = row.maps
                b += 1
            group_number += 1
    end = f"stages.stage{len(stages)}.last"
    tv |= {f"features.{number + 1}.0": f"{end}.conv", f"features.{number + 1}.1": f"{end}.norm"}
    timm |= {f"blocks.{group_number}.0.conv": f"{end}.conv", f"blocks.{group_number}.0.bn1": f"{end}.norm"}
    return {"torchvision": tv, "timm": timm}


def native(config: MobileNetV3Config) -> tuple[tuple[int, int, int], int]:
    """The paper's input (channels, height, width) and number of classes."""
    return (3, 224, 224), 1000


_ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "hardswish": nn.Hardswish}


def _conv(
    c_in: int,
    c_out: int,
    kernel: int,
    *,
    config: MobileNetV3Config,
    activation: Literal["relu", "hardswish", "none"],
    stride: int = 1,
    groups: int = 1,
) -> nn.Sequential:
    if stride > 1 and config.padding == "tensorflow":
        conv: nn.Conv2d = SamePadConv2d(c_in, c_out, kernel, stride, groups=groups, bias=False)
    else:
        conv = nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, groups=groups, bias=False)
    norm = nn.BatchNorm2d(c_out, eps=config.norm_eps, momentum=0.01)
    if activation == "none":
        return sequence(conv=conv, norm=norm)
    return sequence(conv=conv, norm=norm, activation=_ACTIVATIONS[activation]())


class Gate(nn.Module):
    """Each map of x (n, c, h, w) times a weight in [0, 1] that all maps' means decide, through a hidden layer of a quarter of the maps."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = max(8, (channels // 4 + 4) // 8 * 8)
        hidden += 8 * (hidden < 0.9 * (channels // 4))  # a multiple of 8, never more than a tenth too small
        self.fc1 = nn.Conv2d(channels, hidden, 1)
        self.fc2 = nn.Conv2d(hidden, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        squeezed = F.adaptive_avg_pool2d(x, 1)
        return F.hardsigmoid(self.fc2(F.relu(self.fc1(squeezed)))) * x


class Bneck(nn.Module):
    """1×1 up, depthwise, gate, linear 1×1 down; the input is added where shapes allow. The paper's name for it."""

    def __init__(self, c_in: int, row: Row, config: MobileNetV3Config) -> None:
        super().__init__()
        wide, act = row.wide, row.activation
        self.expand = _conv(c_in, wide, 1, activation=act, config=config) if wide != c_in else nn.Identity()
        self.depthwise = _conv(wide, wide, row.kernel, stride=row.stride, groups=wide, activation=act, config=config)
        self.gate = Gate(wide) if row.gate else nn.Identity()
        self.project = _conv(wide, row.maps, 1, activation="none", config=config)
        self.residual = row.stride == 1 and c_in == row.maps

    def forward(self, x: Tensor) -> Tensor:
        y = self.project(self.gate(self.depthwise(self.expand(x))))
        return x + y if self.residual else y


class MobileNetV3(ConvNet):
    """MobileNet V3, large or small, of width 1."""

    def __init__(self, config: MobileNetV3Config, *, num_classes: int = 1000, in_channels: int = 3) -> None:
        self.config = config
        channels = 16
        stem = _conv(in_channels, channels, 3, stride=2, activation="hardswish", config=config)  # 1/2
        stages: dict[str, nn.Module] = {"stem": stem}
        table = STAGES[config.size]
        for s, groups in enumerate(table, start=1):
            blocks: OrderedDict[str, nn.Module] = OrderedDict()
            for row in (row for group in groups for row in group):
                blocks[str(len(blocks))] = Bneck(channels, row, config)
                channels = row.maps
            if s == len(table):
                blocks["last"] = _conv(channels, 6 * channels, 1, activation="hardswish", config=config)
            stages[f"stage{s}"] = nn.Sequential(blocks)
        hidden = Hidden(6 * channels, HIDDEN[config.size], dropout=0.2, activation=nn.Hardswish())
        head: dict[str, nn.Module] = {"pool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten(), "fc1": hidden}
        if num_classes:
            head["fc"] = nn.Linear(HIDDEN[config.size], num_classes)
        super().__init__(stages, head)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.trunc_normal_(module.weight, std=0.09)  # as the authors' TensorFlow code has it
            elif isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.01)
            if isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)


MODEL = MobileNetV3
