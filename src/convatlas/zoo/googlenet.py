"""GoogLeNet: Szegedy et al. Going Deeper with Convolutions. CVPR 2015. https://arxiv.org/abs/1409.4842

An inception module looks at its input at several scales at once (1×1, 3×3, 5×5 and pooling) and stacks what they find. Done naively the
maps grow without end; 1×1 convolutions before the large filters and after the pooling reduce them first, so that 22 layers cost a
twelfth of AlexNet's weights. Two auxiliary classifiers, on 4a and 4d, pass gradient to the middle of the network in training.

`googlenet` is the paper's: local response normalisation, biases, no batch norm. `googlenet_bn` is torchvision's, from the TensorFlow
code: batch norm in every convolution, and 3×3 where the paper has 5×5. The `_aux` variants have the auxiliary classifiers too.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from convatlas.zoo.blocks import pooled_classifier, sequence
from convatlas.zoo.convnet import ConvNet, taps

FAMILY, YEAR = "GoogLeNet", 2014


@dataclass(frozen=True, kw_only=True)
class GoogLeNetConfig:
    """What tells one GoogLeNet from another."""

    torchvision: bool = False  # batch norm and no response normalisation, 3×3 instead of 5×5, no biases
    reduced: bool = True  # False: the naive module of figure 2(a), without the 1×1 convolutions that reduce maps
    auxiliary: bool = False  # the two classifiers on 4a and 4d, used by `all_logits`


VARIANTS = {
    "googlenet": GoogLeNetConfig(),
    "googlenet_aux": GoogLeNetConfig(auxiliary=True),
    "googlenet_bn": GoogLeNetConfig(torchvision=True),
    "googlenet_bn_aux": GoogLeNetConfig(torchvision=True, auxiliary=True),
}
ELSEWHERE = {"torchvision/googlenet": ("googlenet_bn", {})}

# Table 1: maps of the 1×1, of the 3×3 and its reduction before it, of the 5×5 and its reduction, and of the projection after pooling
INCEPTIONS = {
    "stage3": {"3a": (64, 96, 128, 16, 32, 32), "3b": (128, 128, 192, 32, 96, 64)},
    "stage4": {
        "4a": (192, 96, 208, 16, 48, 64),
        "4b": (160, 112, 224, 24, 64, 64),
        "4c": (128, 128, 256, 24, 64, 64),
        "4d": (112, 144, 288, 32, 64, 64),
        "4e": (256, 160, 320, 32, 128, 128),
    },
    "stage5": {"5a": (256, 160, 320, 32, 128, 128), "5b": (384, 192, 384, 48, 128, 128)},
}
AUXILIARY = {"aux1": "stage4.4a", "aux2": "stage4.4d"}  # where the auxiliary classifiers tap


def keys(config: GoogLeNetConfig) -> dict[str, dict[str, str]]:
    """How torchvision names these parameters; its auxiliary classifiers are kept apart where a network has none."""
    if not config.torchvision:
        return {}
    branches = {"1": "one", "2.0": "reduce3", "2.1": "three", "3.0": "reduce5", "3.1": "five", "4.1": "project"}
    table = {f"conv{i + 1}.{leaf}": f"stages.{n}.{leaf}" for i, n in enumerate(_STEM) for leaf in ("conv", "bn")}
    for stage, modules in INCEPTIONS.items():
        for module in modules:
            for theirs, ours in branches.items():
                for leaf in ("conv", "bn"):
                    table[f"inception{module}.branch{theirs}.{leaf}"] = f"stages.{stage}.{module}.{ours}.{leaf}"
    for aux in AUXILIARY:
        for leaf in ("conv.conv", "conv.bn", "fc1", "fc2"):
            table[f"{aux}.{leaf}"] = f"auxiliary.{aux}.{leaf}"
    return {"torchvision": {**table, "fc": "head.fc"}}


_STEM = ("stage1.conv1", "stage2.reduce2", "stage2.conv2")


def native(config: GoogLeNetConfig) -> tuple[tuple[int, int, int], int]:
    """The paper's input (channels, height, width) and number of classes."""
    return (3, 224, 224), 1000


class Conv(nn.Module):
    """A convolution and a rectifier; torchvision's form has batch norm between them instead of a bias."""

    def __init__(self, c_in: int, c_out: int, kernel: int, *, config: GoogLeNetConfig, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, bias=not config.torchvision)
        self.bn = nn.BatchNorm2d(c_out, eps=0.001) if config.torchvision else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)))


class Inception(nn.Module):
    """Four views of the same maps side by side: 1×1, 3×3, 5×5 and pooling."""

    def __init__(self, c_in: int, widths: tuple[int, int, int, int, int, int], config: GoogLeNetConfig) -> None:
        super().__init__()
        one, reduce3, three, reduce5, five, project = widths
        self.one = Conv(c_in, one, 1, config=config)
        self.reduce3 = Conv(c_in, reduce3, 1, config=config) if config.reduced else nn.Identity()
        self.three = Conv(reduce3 if config.reduced else c_in, three, 3, config=config)
        self.reduce5 = Conv(c_in, reduce5, 1, config=config) if config.reduced else nn.Identity()
        kernel = 3 if config.torchvision else 5
        self.five = Conv(reduce5 if config.reduced else c_in, five, kernel, config=config)
        self.project = Conv(c_in, project, 1, config=config) if config.reduced else nn.Identity()
        self.width = one + three + five + (project if config.reduced else c_in)

    def forward(self, x: Tensor) -> Tensor:
        pooled = F.max_pool2d(x, 3, stride=1, padding=1)
        views = (self.one(x), self.three(self.reduce3(x)), self.five(self.reduce5(x)), self.project(pooled))
        return torch.cat(views, dim=1)


class Auxiliary(nn.Module):
    """A small classifier on maps (n, c, h, w) in the middle of the network; its loss counts 0.3 (section 5)."""

    def __init__(self, c_in: int, num_classes: int, config: GoogLeNetConfig) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(4) if config.torchvision else nn.AvgPool2d(5, 3)
        self.conv = Conv(c_in, 128, 1, config=config)
        self.fc1 = nn.Linear(128 * 4 * 4, 1024)
        self.dropout = nn.Dropout(0.7)
        self.fc2 = nn.Linear(1024, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.dropout(F.relu(self.fc1(self.conv(self.pool(x)).flatten(1)))))


class GoogLeNet(ConvNet):
    """GoogLeNet. `forward` gives the main classifier's logits, in training too; `all_logits` gives the auxiliary ones as well."""

    classifiers = ("head.fc", "auxiliary.aux1.fc2", "auxiliary.aux2.fc2")
    optional = ("auxiliary.",)

    def __init__(self, config: GoogLeNetConfig, *, num_classes: int = 1000, in_channels: int = 3) -> None:
        self.config = config

        def normalised(name: str) -> dict[str, nn.Module]:
            return {} if config.torchvision else {name: nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=1.0)}

        stages: dict[str, nn.Module] = {
            "stage1": sequence(conv1=Conv(in_channels, 64, 7, stride=2, config=config)),
            "stage2": sequence(
                pool1=nn.MaxPool2d(3, 2, ceil_mode=True),
                **normalised("norm1"),
                reduce2=Conv(64, 64, 1, config=config),
                conv2=Conv(64, 192, 3, config=config),
                **normalised("norm2"),
            ),
        }
        channels, tapped = 192, dict[str, int]()
        for stage, modules in INCEPTIONS.items():
            # torchvision, like TensorFlow's, pools 2×2 before stage5
            kernel = 2 if config.torchvision and stage == "stage5" else 3
            layers: OrderedDict[str, nn.Module] = OrderedDict(pool=nn.MaxPool2d(kernel, 2, ceil_mode=True))
            for name, widths in modules.items():
                layers[name] = module = Inception(channels, widths, config)
                channels = tapped[f"{stage}.{name}"] = module.width
            stages[stage] = nn.Sequential(layers)
        dropout = 0.2 if config.torchvision else 0.4
        super().__init__(stages, pooled_classifier(channels, num_classes, dropout=dropout))
        heads = AUXILIARY if config.auxiliary and num_classes else {}
        self.auxiliary = nn.ModuleDict({a: Auxiliary(tapped[cut], num_classes, config) for a, cut in heads.items()})
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.xavier_uniform_(module.weight)  # as in Caffe's replica; the paper does not say
                if module.bias is not None:
                    nn.init.constant_(module.bias, 0.2 if isinstance(module, nn.Conv2d) else 0.0)

    def all_logits(self, image: Tensor) -> tuple[Tensor, ...]:
        """The main logits (n, num_classes) and, for a network with auxiliary classifiers, theirs: aux1's, aux2's."""
        found = taps(self, [*AUXILIARY.values(), "stage5"])(image)
        auxiliary = (head(found[AUXILIARY[name]]) for name, head in self.auxiliary.items())
        return (self.head(found["stage5"]), *auxiliary)


MODEL = GoogLeNet
