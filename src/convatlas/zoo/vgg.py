"""VGG: Simonyan, Zisserman. Very Deep Convolutional Networks for Large-Scale Image Recognition. ICLR 2015.
https://arxiv.org/abs/1409.1556

Only 3×3 convolutions: two of them see 5×5 and three see 7×7, with fewer weights and more rectifiers than one large filter. Depth grows
from 11 to 19 layers in five groups, each at half the side and (to 512) twice the maps of the one before. Most of the weights are in the
first fully connected layer. Configuration C has a 1×1 convolution where D has a third 3×3. Batch norm came after the paper.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from torch import nn

from convatlas.zoo.blocks import Hidden
from convatlas.zoo.convnet import ConvNet

FAMILY, YEAR = "VGG", 2014


@dataclass(frozen=True, kw_only=True)
class VGGConfig:
    """What tells one VGG from another."""

    convolutions: tuple[int, int, int, int, int]  # how many in each stage
    batch_norm: bool = False  # after every convolution; not in the paper
    pointwise_third: bool = False  # configuration C: the third convolution of a stage is 1×1


_DEPTHS = {"vgg11": (1, 1, 2, 2, 2), "vgg13": (2, 2, 2, 2, 2), "vgg16": (2, 2, 3, 3, 3), "vgg19": (2, 2, 4, 4, 4)}
VARIANTS = {
    **{name: VGGConfig(convolutions=depth) for name, depth in _DEPTHS.items()},
    **{f"{name}_bn": VGGConfig(convolutions=depth, batch_norm=True) for name, depth in _DEPTHS.items()},
    "vgg16_c": VGGConfig(convolutions=_DEPTHS["vgg16"], pointwise_third=True),
}
ELSEWHERE = {
    f"{library}/{name}": (name, {}) for library in ("torchvision", "timm") for name in VARIANTS if name != "vgg16_c"
}
WIDTHS = (64, 128, 256, 512, 512)


def keys(config: VGGConfig) -> dict[str, dict[str, str | tuple[str, tuple[int, int]]]]:
    """How other libraries name these parameters: their `features` number every module, poolings and rectifiers too."""
    features: dict[str, str] = {}
    index = 0
    for s, count in enumerate(config.convolutions, start=1):
        for b in range(1, count + 1):
            features[f"features.{index}"] = f"stages.stage{s}.conv{b}"
            if config.batch_norm:
                features[f"features.{index + 1}"] = f"stages.stage{s}.norm{b}"
            index += 3 if config.batch_norm else 2
        index += 1
    return {
        "torchvision": {**features, **{f"classifier.{3 * i}": f"head.{n}" for i, n in enumerate(_CLASSIFIER)}},
        "timm": {
            **features,
            "pre_logits.fc1": ("head.fc6.fc", (7, 7)),  # a convolution there
            "pre_logits.fc2": ("head.fc7.fc", (1, 1)),
            "head.fc": "head.fc8",
        },
    }


_CLASSIFIER = ("fc6.fc", "fc7.fc", "fc8")


def native(config: VGGConfig) -> tuple[tuple[int, int, int], int]:
    """The paper's input (channels, height, width) and number of classes."""
    return (3, 224, 224), 1000


class VGG(ConvNet):
    """VGG in one of the paper's configurations A (11), B (13), C, D (16) and E (19)."""

    classifiers = ("head.fc8",)

    def __init__(self, config: VGGConfig, *, num_classes: int = 1000, in_channels: int = 3) -> None:
        self.config = config
        stages: dict[str, nn.Module] = {}
        channels = in_channels
        for s, (width, count) in enumerate(zip(WIDTHS, config.convolutions, strict=True), start=1):
            layers: OrderedDict[str, nn.Module] = OrderedDict()
            if s > 1:
                layers[f"pool{s - 1}"] = nn.MaxPool2d(2)
            for b in range(1, count + 1):
                kernel = 1 if b == 3 and config.pointwise_third else 3
                layers[f"conv{b}"] = nn.Conv2d(channels, width, kernel, padding=kernel // 2)
                if config.batch_norm:
                    layers[f"norm{b}"] = nn.BatchNorm2d(width)
                layers[f"relu{b}"] = nn.ReLU()
                channels = width
            stages[f"stage{s}"] = nn.Sequential(layers)
        head: dict[str, nn.Module] = {
            "pool5": nn.MaxPool2d(2),
            "resize": nn.AdaptiveAvgPool2d(7),  # nothing to do at 224; torchvision's way to take other sizes
            "flatten": nn.Flatten(),
            "fc6": Hidden(512 * 7 * 7, 4096, dropout=0.5),
            "fc7": Hidden(4096, 4096, dropout=0.5),
        }
        if num_classes:
            head["fc8"] = nn.Linear(4096, num_classes)
        super().__init__(stages, head)
        # The paper drew from N(0, 0.01²) after pre-training shallower nets, and notes that Glorot and Bengio's rule needs no such start.
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                assert module.bias is not None
                nn.init.zeros_(module.bias)


MODEL = VGG
