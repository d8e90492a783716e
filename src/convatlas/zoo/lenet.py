"""LeNet-5: LeCun, Bottou, Bengio, Haffner. Gradient-Based Learning Applied to Document Recognition. Proc. IEEE 1998.
http://yann.lecun.com/exdb/publis/pdf/lecun-98.pdf

Two convolutions, each followed by sub-sampling, then a convolution that sees the whole map and two fully connected layers: the pattern
CONV-POOL-CONV-POOL-FC-FC from which every later network descends. `lenet5` is the paper's net, to the parameter (60,000): C3 reads
chosen subsets of S2's maps, sub-sampling has a trainable gain and bias, units squash with 1.7159 tanh(2x/3), and the output compares F6
with a fixed ±1 code for each class. `lenet5_modern` is what textbooks draw: dense C3, plain pooling, a linear output.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from convatlas.zoo.blocks import sequence
from convatlas.zoo.convnet import ConvNet

FAMILY, YEAR = "LeNet", 1998


@dataclass(frozen=True, kw_only=True)
class LeNetConfig:
    """What tells one LeNet from another."""

    original: bool = False  # the 1998 net: sparse C3, trainable sub-sampling, scaled tanh, fixed output codes


VARIANTS = {"lenet5": LeNetConfig(original=True), "lenet5_modern": LeNetConfig()}

ELSEWHERE: dict[str, tuple[str, dict[str, object]]] = {}


def keys(config: LeNetConfig) -> dict[str, dict[str, str]]:
    """No published weights in another layout."""
    return {}


def native(config: LeNetConfig) -> tuple[tuple[int, int, int], int]:
    """The paper's input (channels, height, width) and number of classes: digits padded to 32×32."""
    return (1, 32, 32), 10


# Table I of the paper: the S2 maps (one digit each) that each of the sixteen C3 maps reads; 60 of 96 pairs.
C3_READS = (
    *("012", "123", "234", "345", "450", "501"),
    *("0123", "1234", "2345", "3450", "4501", "5012", "0134", "1245", "0235"),
    "012345",
)


class ScaledTanh(nn.Module):
    """1.7159 tanh(2x/3): its gain is near 1 over the useful range and f(±1) = ±1 (appendix A of the paper)."""

    def forward(self, x: Tensor) -> Tensor:
        return 1.7159 * torch.tanh(x * (2 / 3))


class Subsampling(nn.Module):
    """S2, S4: the sum of each 2×2 patch times a trainable coefficient plus a trainable bias, one pair a map."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((channels,), 0.25))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        summed = 4 * F.avg_pool2d(x, 2)
        return summed * self.weight[:, None, None] + self.bias[:, None, None]


class SparseConv2d(nn.Module):
    """C3: each output map reads its own subset of the input maps, so symmetry between the maps is broken."""

    def __init__(self, reads: tuple[str, ...], kernel_size: int) -> None:
        super().__init__()
        self.reads = [[int(digit) for digit in row] for row in reads]
        self.maps = nn.ModuleList(nn.Conv2d(len(row), 1, kernel_size) for row in reads)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([conv(x[:, rows]) for conv, rows in zip(self.maps, self.reads, strict=True)], dim=1)


class ClassCodes(nn.Module):
    """The output layer: minus the squared distance between F6 and each class's fixed ±1 code, so that larger is likelier.

    The paper draws its ten codes as 7×12 bitmaps of the digits and names random ±1 codes as the alternative; for any number of
    classes only the alternative exists, so it is used here (fixed seed). Nothing in it is trained.
    """

    codes: Tensor

    def __init__(self, features: int, num_classes: int) -> None:
        super().__init__()
        signs = torch.randint(
            0, 2, (num_classes, features), generator=torch.Generator().manual_seed(1998), device="cpu"
        )
        self.register_buffer("codes", (signs.float() * 2 - 1).to(torch.get_default_device()))

    def forward(self, x: Tensor) -> Tensor:
        # |x - c|² written out, so that no (n, classes, features) tensor is made
        return 2 * x @ self.codes.T - x.square().sum(1, keepdim=True) - self.codes.square().sum(1)


class LeNet(ConvNet):
    """LeNet-5 for images of 32×32: `create("lenet5", num_classes=10, in_channels=1)` is the paper's."""

    def __init__(self, config: LeNetConfig, *, num_classes: int = 1000, in_channels: int = 3) -> None:
        self.config = config
        squash = ScaledTanh if config.original else nn.Tanh

        def subsample(channels: int) -> dict[str, nn.Module]:
            if config.original:
                return {"pool": Subsampling(channels), "squash": ScaledTanh()}
            return {"pool": nn.AvgPool2d(2)}

        conv3 = SparseConv2d(C3_READS, 5) if config.original else nn.Conv2d(6, 16, 5)
        stages = {
            "stem": sequence(c1=nn.Conv2d(in_channels, 6, 5), squash=squash()),  # 28×28, 6
            "stage1": sequence(**subsample(6), c3=conv3, squash3=squash()),  # 10×10, 16
            "stage2": sequence(**subsample(16), c5=nn.Conv2d(16, 120, 5), squash5=squash()),  # 1×1, 120
        }
        head: dict[str, nn.Module] = {"flatten": nn.Flatten(), "f6": sequence(fc=nn.Linear(120, 84), squash=squash())}
        if num_classes:
            head["fc"] = ClassCodes(84, num_classes) if config.original else nn.Linear(84, num_classes)
        super().__init__(stages, head)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                fan_in = module.weight[0].numel()
                nn.init.uniform_(module.weight, -2.4 / fan_in, 2.4 / fan_in)  # appendix A
                if module.bias is not None:
                    nn.init.zeros_(module.bias)


MODEL = LeNet
