"""MobileNet V1: Howard et al. MobileNets: Efficient Convolutional Neural Networks for Mobile Vision Applications. 2017.
https://arxiv.org/abs/1704.04861

A convolution does two things at once, filtering in space and mixing maps; a depthwise 3×3 followed by a pointwise 1×1 does them one
after the other for an eighth to a ninth of the mult-adds. A width multiplier thins every layer alike, a resolution multiplier shrinks
the image: `mobilenet_v1_050_160` is half as wide at 160 pixels. `conv_mobilenet` is the paper's control, with full 3×3 convolutions.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from convatlas.zoo.blocks import SamePadConv2d, pooled_classifier, sequence
from convatlas.zoo.convnet import ConvNet

FAMILY, YEAR = "MobileNet", 2017


@dataclass(frozen=True, kw_only=True)
class MobileNetV1Config:
    """What tells one MobileNet V1 from another."""

    width: float = 1.0  # the multiplier on every layer's number of maps
    resolution: int = 224  # the side of its images; the network itself is the same for all
    separable: bool = True  # False: full 3×3 convolutions
    padding: Literal["symmetric", "tensorflow"] = "symmetric"  # TensorFlow's "same" puts the odd pixel after the image
    norm_eps: float = 1e-5  # 1e-3 in weights that come from TensorFlow


def _name(width: float, resolution: int) -> str:
    return f"mobilenet_v1_{round(100 * width):03d}" + (f"_{resolution}" if resolution != 224 else "")


VARIANTS = {
    **{
        _name(width, resolution): MobileNetV1Config(width=width, resolution=resolution)
        for resolution in (224, 192, 160, 128)
        for width in (1.0, 0.75, 0.5, 0.25)
    },
    "conv_mobilenet": MobileNetV1Config(separable=False),
}
ELSEWHERE = {"timm/mobilenetv1_100": ("mobilenet_v1_100", {})}

# Table 1 of the paper, by resolution: maps going out, number of separable blocks. The first block of each but the first strides.
STAGES = ((64, 1), (128, 2), (256, 2), (512, 6), (1024, 2))


def keys(config: MobileNetV1Config) -> dict[str, dict[str, str]]:
    """How timm names these parameters."""
    if not config.separable:
        return {}
    block, ours = "blocks.{s}.{b}", "stages.stage{s+1}.{b}"
    return {
        "timm": {
            "conv_stem": "stages.stem.conv",
            "bn1": "stages.stem.norm",
            f"{block}.conv_dw": f"{ours}.depthwise",
            f"{block}.bn1": f"{ours}.norm1",
            f"{block}.conv_pw": f"{ours}.pointwise",
            f"{block}.bn2": f"{ours}.norm2",
            "classifier": "head.fc",
        }
    }


def native(config: MobileNetV1Config) -> tuple[tuple[int, int, int], int]:
    """The paper's input (channels, height, width) and number of classes."""
    return (3, config.resolution, config.resolution), 1000


def _conv(
    config: MobileNetV1Config, c_in: int, c_out: int, *, kernel: int, stride: int = 1, groups: int = 1
) -> nn.Conv2d:
    if stride > 1 and config.padding == "tensorflow":  # at stride 1 both paddings are the same
        return SamePadConv2d(c_in, c_out, kernel, stride, groups=groups, bias=False)
    return nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, groups=groups, bias=False)


class Separable(nn.Module):
    """Depthwise 3×3 then pointwise 1×1, each with batch norm and ReLU6 (the paper writes ReLU; its released weights use ReLU6)."""

    def __init__(self, c_in: int, c_out: int, *, stride: int, config: MobileNetV1Config) -> None:
        super().__init__()
        self.depthwise = _conv(config, c_in, c_in, kernel=3, stride=stride, groups=c_in)
        self.norm1 = nn.BatchNorm2d(c_in, eps=config.norm_eps)
        self.pointwise = _conv(config, c_in, c_out, kernel=1)
        self.norm2 = nn.BatchNorm2d(c_out, eps=config.norm_eps)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu6(self.norm1(self.depthwise(x)))
        return F.relu6(self.norm2(self.pointwise(x)))


def _full(c_in: int, c_out: int, *, stride: int, config: MobileNetV1Config) -> nn.Module:
    conv, norm = _conv(config, c_in, c_out, kernel=3, stride=stride), nn.BatchNorm2d(c_out, eps=config.norm_eps)
    return sequence(conv=conv, norm=norm, relu=nn.ReLU6())


class MobileNetV1(ConvNet):
    """MobileNet V1; `create("mobilenet_v1_075")` is the net of width 0.75."""

    def __init__(self, config: MobileNetV1Config, *, num_classes: int = 1000, in_channels: int = 3) -> None:
        self.config = config
        channels = int(32 * config.width)
        stem = _conv(config, in_channels, channels, kernel=3, stride=2)
        norm = nn.BatchNorm2d(channels, eps=config.norm_eps)
        stages: dict[str, nn.Module] = {"stem": sequence(conv=stem, norm=norm, relu=nn.ReLU6())}  # 1/2
        block = Separable if config.separable else _full
        for s, (maps, num_blocks) in enumerate(STAGES):
            blocks: OrderedDict[str, nn.Module] = OrderedDict()
            for b in range(num_blocks):
                out = int(maps * config.width)
                blocks[str(b)] = block(channels, out, stride=2 if s and not b else 1, config=config)
                channels = out
            stages[f"stage{s + 1}"] = nn.Sequential(blocks)
        super().__init__(stages, pooled_classifier(channels, num_classes))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.trunc_normal_(module.weight, std=0.09)  # as the authors' TensorFlow code has it


MODEL = MobileNetV1
