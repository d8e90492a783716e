"""Network in Network: Lin, Chen, Yan. ICLR 2014. https://arxiv.org/abs/1312.4400

A convolution is followed by two 1×1 convolutions with rectifiers: a small fully connected network that slides over the maps ("mlpconv").
The last one gives a map for each class, whose mean is the logit, so there is no fully connected layer to over-fit: global average
pooling starts here. The ImageNet net is the authors' release, not in the paper.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from torch import nn

from convatlas.zoo.convnet import ConvNet

FAMILY, YEAR = "NiN", 2013


@dataclass(frozen=True, kw_only=True)
class NiNConfig:
    """What tells one Network in Network from another."""

    blocks: tuple[
        tuple[int, int, int], ...
    ]  # maps of each block's convolution and two 1×1; the last of all is one map a class
    kernels: tuple[int, ...]  # of each block's convolution
    imagenet: bool = False  # stride 4 in the first convolution and max pooling throughout


VARIANTS = {
    "nin_cifar": NiNConfig(blocks=((192, 160, 96), (192, 192, 192), (192, 192, 10)), kernels=(5, 5, 3)),
    "nin_imagenet": NiNConfig(
        blocks=((96, 96, 96), (256, 256, 256), (384, 384, 384), (1024, 1024, 1000)),
        kernels=(11, 5, 3, 3),
        imagenet=True,
    ),
}
ELSEWHERE: dict[str, tuple[str, dict[str, object]]] = {}


def keys(config: NiNConfig) -> dict[str, dict[str, str]]:
    """No published weights in another layout."""
    return {}


def native(config: NiNConfig) -> tuple[tuple[int, int, int], int]:
    """The input (channels, height, width) and number of classes."""
    return ((3, 224, 224), 1000) if config.imagenet else ((3, 32, 32), 10)


class NiN(ConvNet):
    """Network in Network, for CIFAR or ImageNet."""

    classifiers = ("head.cccp",)

    def __init__(self, config: NiNConfig, *, num_classes: int = 1000, in_channels: int = 3) -> None:
        self.config = config
        stages: dict[str, nn.Module] = {}
        channels, last = in_channels, len(config.blocks) - 1
        for s, ((first, second, third), kernel) in enumerate(zip(config.blocks, config.kernels, strict=True)):
            layers: OrderedDict[str, nn.Module] = OrderedDict()
            if s:  # Caffe rounds the size of what pooling gives up
                average = s == 2 and not config.imagenet
                layers["pool"] = nn.AvgPool2d(3, 2, ceil_mode=True) if average else nn.MaxPool2d(3, 2, ceil_mode=True)
                if s == last or not config.imagenet:
                    layers["dropout"] = nn.Dropout(0.5)
            stride, padding = (4, 0) if config.imagenet and not s else (1, kernel // 2)
            layers["conv"] = nn.Conv2d(channels, first, kernel, stride, padding)
            layers["relu"] = nn.ReLU()
            layers["cccp1"] = nn.Conv2d(first, second, 1)  # "cascaded cross channel parametric pooling"
            layers["relu1"] = nn.ReLU()
            if s < last:
                layers["cccp2"] = nn.Conv2d(second, third, 1)
                layers["relu2"] = nn.ReLU()
            stages[f"stage{s + 1}"] = nn.Sequential(layers)
            channels = third if s < last else second
        head: dict[str, nn.Module] = {}
        if num_classes:
            head = {"cccp": nn.Conv2d(channels, num_classes, 1), "relu": nn.ReLU()}
        super().__init__(stages, {**head, "pool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten()})
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=0.05 if not config.imagenet else 0.01)  # the authors' definitions
                assert module.bias is not None
                nn.init.zeros_(module.bias)


MODEL = NiN
