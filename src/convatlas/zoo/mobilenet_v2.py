"""MobileNet V2: Sandler et al. MobileNetV2: Inverted Residuals and Linear Bottlenecks. CVPR 2018. https://arxiv.org/abs/1801.04381

A block widens its few maps by 1×1, filters them depthwise and projects them down again, and the residual joins the thin ends. The
projection has no rectifier: on few maps it would destroy what they carry. What flows between blocks stays small, which is what memory
on a phone allows.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from convatlas.zoo.blocks import SamePadConv2d, pooled_classifier, sequence
from convatlas.zoo.convnet import ConvNet

FAMILY, YEAR = "MobileNet V2", 2018


@dataclass(frozen=True, kw_only=True)
class MobileNetV2Config:
    """What tells one MobileNet V2 from another."""

    padding: Literal["symmetric", "tensorflow"] = "symmetric"  # TensorFlow's "same" puts the odd pixel after the image
    norm_eps: float = 1e-5  # 1e-3 in weights that come from TensorFlow


VARIANTS = {"mobilenet_v2": MobileNetV2Config()}
ELSEWHERE = {"torchvision/mobilenet_v2": ("mobilenet_v2", {}), "timm/mobilenetv2_100": ("mobilenet_v2", {})}

# Table 2 of the paper, by stage: rows of expansion, maps going out, repeats, stride of the first
STAGES = (
    ((1, 16, 1, 1),),
    ((6, 24, 2, 2),),
    ((6, 32, 3, 2),),
    ((6, 64, 4, 2), (6, 96, 3, 1)),
    ((6, 160, 3, 2), (6, 320, 1, 1)),
)
LAST = 1280  # maps of the 1×1 convolution at the end of the last stage


def keys(config: MobileNetV2Config) -> dict[str, dict[str, str]]:
    """How other libraries name these parameters: torchvision counts blocks through, timm counts them by row of table 2."""
    tv = {"features.0.0": "stages.stem.conv", "features.0.1": "stages.stem.norm", "classifier.1": "head.fc"}
    timm = {"conv_stem": "stages.stem.conv", "bn1": "stages.stem.norm", "classifier": "head.fc"}
    number = row_number = 0
    for s, rows in enumerate(STAGES, start=1):
        b = 0
        for expansion, _, repeats, _ in rows:
            for r in range(repeats):
                number += 1
                ours, t, m = f"stages.stage{s}.{b}", f"features.{number}.conv", f"blocks.{row_number}.{r}"
                names = ("expand", "depthwise", "project") if expansion > 1 else ("depthwise", "project")
                theirs = ("conv_pw", "conv_dw", "conv_pwl") if expansion > 1 else ("conv_dw", "conv_pw")
                for i, (name, conv) in enumerate(zip(names, theirs, strict=True)):
                    last = i == len(names) - 1
                    tv |= {
                        (f"{t}.{i}" if last else f"{t}.{i}.0"): f"{ours}.{name}.conv",
                        (f"{t}.{i + 1}" if last else f"{t}.{i}.1"): f"{ours}.{name}.norm",
                    }
                    timm |= {f"{m}.{conv}": f"{ours}.{name}.conv", f"{m}.bn{i + 1}": f"{ours}.{name}.norm"}
                b += 1
            row_number += 1
    end = f"stages.stage{len(STAGES)}.last"
    tv |= {f"features.{number + 1}.0": f"{end}.conv", f"features.{number + 1}.1": f"{end}.norm"}
    timm |= {"conv_head": f"{end}.conv", "bn2": f"{end}.norm"}
    return {"torchvision": tv, "timm": timm}


def native(config: MobileNetV2Config) -> tuple[tuple[int, int, int], int]:
    """The paper's input (channels, height, width) and number of classes."""
    return (3, 224, 224), 1000


def _conv(
    c_in: int,
    c_out: int,
    kernel: int,
    *,
    config: MobileNetV2Config,
    stride: int = 1,
    groups: int = 1,
    linear: bool = False,
) -> nn.Sequential:
    if stride > 1 and config.padding == "tensorflow":
        conv: nn.Conv2d = SamePadConv2d(c_in, c_out, kernel, stride, groups=groups, bias=False)
    else:
        conv = nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, groups=groups, bias=False)
    norm = nn.BatchNorm2d(c_out, eps=config.norm_eps)
    return sequence(conv=conv, norm=norm) if linear else sequence(conv=conv, norm=norm, relu=nn.ReLU6())


class InvertedResidual(nn.Module):
    """1×1 up, depthwise 3×3, linear 1×1 down; the input is added where shapes allow."""

    def __init__(self, c_in: int, c_out: int, *, expansion: int, stride: int, config: MobileNetV2Config) -> None:
        super().__init__()
        wide = expansion * c_in
        self.expand = _conv(c_in, wide, 1, config=config) if expansion > 1 else nn.Identity()
        self.depthwise = _conv(wide, wide, 3, stride=stride, groups=wide, config=config)
        self.project = _conv(wide, c_out, 1, linear=True, config=config)
        self.residual = stride == 1 and c_in == c_out

    def forward(self, x: Tensor) -> Tensor:
        y = self.project(self.depthwise(self.expand(x)))
        return x + y if self.residual else y


class MobileNetV2(ConvNet):
    """MobileNet V2 of width 1."""

    def __init__(self, config: MobileNetV2Config, *, num_classes: int = 1000, in_channels: int = 3) -> None:
        self.config = config
        channels = 32
        stages: dict[str, nn.Module] = {"stem": _conv(in_channels, channels, 3, stride=2, config=config)}  # 1/2
        for s, rows in enumerate(STAGES, start=1):
            blocks: OrderedDict[str, nn.Module] = OrderedDict()
            for expansion, maps, repeats, stride in rows:
                for r in range(repeats):
                    step = stride if r == 0 else 1
                    blocks[str(len(blocks))] = InvertedResidual(
                        channels, maps, expansion=expansion, stride=step, config=config
                    )
                    channels = maps
            if s == len(STAGES):
                blocks["last"] = _conv(channels, LAST, 1, config=config)
            stages[f"stage{s}"] = nn.Sequential(blocks)
        super().__init__(stages, pooled_classifier(LAST, num_classes, dropout=0.2))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.trunc_normal_(module.weight, std=0.09)  # as the authors' TensorFlow code has it
            elif isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.01)
                nn.init.zeros_(module.bias)


MODEL = MobileNetV2
