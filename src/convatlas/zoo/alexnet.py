"""AlexNet: Krizhevsky, Sutskever, Hinton. ImageNet Classification with Deep Convolutional Neural Networks. NIPS 2012.
https://papers.nips.cc/paper/4824 · ZFNet: Zeiler, Fergus. Visualizing and Understanding Convolutional Networks. ECCV 2014.
https://arxiv.org/abs/1311.2901

Five convolutions and three fully connected layers, with rectifiers that do not saturate, dropout, and much data: the network that
won ILSVRC 2012 by ten points. It was cut in two halves for two GPUs, which exchange maps at conv3 and in the classifier only: that is
what `groups` means here. ZFNet looked at what the layers had learned, found dead and aliased filters in conv1, and made it finer.

`alexnet` is the paper's; `caffenet` pools before it normalises; `alexnet_lecture` is the ungrouped list that courses show, in that order
too; `alexnet_owt` is torchvision's single tower, from Krizhevsky's "One weird trick" (2014). `zfnet_wide` widens conv3 to conv5.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import nn

from convatlas.zoo.blocks import Hidden, sequence
from convatlas.zoo.convnet import ConvNet

FAMILY, YEAR = "AlexNet", 2012


@dataclass(frozen=True, kw_only=True)
class AlexNetConfig:
    """What tells one AlexNet from another."""

    maps: tuple[int, int, int, int, int] = (96, 256, 384, 384, 256)  # of conv1 to conv5
    groups: int = 1  # 2: conv2, conv4 and conv5 see only their own half of the maps
    layout: Literal["alexnet", "owt", "zfnet"] = "alexnet"  # the geometry of conv1 and conv2, see GEOMETRY
    norm: Literal["relu", "pool", "none"] = "relu"  # local response normalisation follows the rectifier or the pooling
    caffe_norm: bool = (
        False  # Caffe's constants: k = 1 and α divided by n, where the paper has k = 2 and α as it stands
    )


VARIANTS = {
    "alexnet": AlexNetConfig(groups=2),
    "caffenet": AlexNetConfig(groups=2, norm="pool", caffe_norm=True),
    "alexnet_lecture": AlexNetConfig(norm="pool"),
    "alexnet_owt": AlexNetConfig(maps=(64, 192, 384, 256, 256), layout="owt", norm="none"),
    "zfnet": AlexNetConfig(layout="zfnet", norm="pool"),
    "zfnet_wide": AlexNetConfig(maps=(96, 256, 512, 1024, 512), layout="zfnet", norm="pool"),
}
PAPERS = {"zfnet": ("ZFNet", 2013), "zfnet_wide": ("ZFNet", 2013)}
ELSEWHERE = {"torchvision/alexnet": ("alexnet_owt", {})}

# conv1 and conv2 as (kernel, stride, padding), and the padding of the first two poolings (3×3, stride 2)
GEOMETRY = {
    "alexnet": ((11, 4, 0), (5, 1, 2), 0),
    "owt": ((11, 4, 2), (5, 1, 2), 0),
    "zfnet": ((7, 2, 1), (5, 2, 0), 1),  # padded so that the sizes of the paper's figure 3 come out: 110, 55, 26, 13
}


def keys(config: AlexNetConfig) -> dict[str, dict[str, str]]:
    """How other libraries name these parameters."""
    if config.layout != "owt":
        return {}
    convolutions = {0: "stage1.conv1", 3: "stage2.conv2", 6: "stage3.conv3", 8: "stage3.conv4", 10: "stage3.conv5"}
    layers = {1: "fc6.fc", 4: "fc7.fc", 6: "fc8"}
    return {
        "torchvision": {f"features.{i}": f"stages.{name}" for i, name in convolutions.items()}
        | {f"classifier.{i}": f"head.{name}" for i, name in layers.items()}
    }


def native(config: AlexNetConfig) -> tuple[tuple[int, int, int], int]:
    """The input (channels, height, width) and number of classes. The paper writes 224, but its arithmetic needs 227."""
    side = 227 if config.layout == "alexnet" else 224
    return (3, side, side), 1000


def _normalisation(config: AlexNetConfig) -> nn.Module:
    """x / (k + α Σ x²)^β over n = 5 neighbouring maps, β = 0.75 (section 3.3); PyTorch divides α by n, so the paper's is multiplied."""
    if config.caffe_norm:
        return nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=1.0)
    return nn.LocalResponseNorm(5, alpha=5 * 1e-4, beta=0.75, k=2.0)


class AlexNet(ConvNet):
    """AlexNet or ZFNet. Except for `alexnet_owt` the classifier takes maps of 6×6 only: other sizes need `dense`."""

    classifiers = ("head.fc8",)

    def __init__(self, config: AlexNetConfig, *, num_classes: int = 1000, in_channels: int = 3) -> None:
        self.config = config
        first, second, pool_padding = GEOMETRY[config.layout]
        m1, m2, m3, m4, m5 = config.maps
        g = config.groups

        def pooled(number: int) -> dict[str, nn.Module]:
            norm = {f"norm{number}": _normalisation(config)} if config.norm == "pool" else {}
            return {f"pool{number}": nn.MaxPool2d(3, 2, pool_padding), **norm}

        def normed(number: int) -> dict[str, nn.Module]:
            return {f"norm{number}": _normalisation(config)} if config.norm == "relu" else {}

        conv1 = nn.Conv2d(in_channels, m1, *first)
        conv2 = nn.Conv2d(m1, m2, *second, groups=g)
        third = {
            "conv3": nn.Conv2d(m2, m3, 3, padding=1),  # reads all maps, of both halves
            "relu3": nn.ReLU(),
            "conv4": nn.Conv2d(m3, m4, 3, padding=1, groups=g),
            "relu4": nn.ReLU(),
            "conv5": nn.Conv2d(m4, m5, 3, padding=1, groups=g),
            "relu5": nn.ReLU(),
        }
        stages = {
            "stage1": sequence(conv1=conv1, relu1=nn.ReLU(), **normed(1)),
            "stage2": sequence(**pooled(1), conv2=conv2, relu2=nn.ReLU(), **normed(2)),
            "stage3": sequence(**pooled(2), **third),
        }
        owt = config.layout == "owt"
        head: dict[str, nn.Module] = {
            "pool5": nn.MaxPool2d(3, 2),
            **({"resize": nn.AdaptiveAvgPool2d(6)} if owt else {}),
            "flatten": nn.Flatten(),
            # dropout at a hidden layer's output as the papers have it; torchvision has it at the input
            "fc6": Hidden(m5 * 6 * 6, 4096, dropout=0.5, dropout_first=owt),
            "fc7": Hidden(4096, 4096, dropout=0.5, dropout_first=owt),
        }
        if num_classes:
            head["fc8"] = nn.Linear(4096, num_classes)
        super().__init__(stages, head)
        self.initialise()

    def initialise(self) -> None:
        """Section 5: weights from N(0, 0.01²); biases 1 in conv2, conv4, conv5 and the hidden layers, so that rectifiers start alive."""
        for name, module in self.named_modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.normal_(module.weight, std=0.01)
                alive = name.split(".")[-1] in ("conv2", "conv4", "conv5", "fc")
                assert module.bias is not None
                nn.init.constant_(module.bias, 1.0 if alive and self.config.layout == "alexnet" else 0.0)


MODEL = AlexNet
