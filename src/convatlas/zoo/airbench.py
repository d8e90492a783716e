"""The network of airbench: Jordan. 94% on CIFAR-10 in 3.29 Seconds on a Single GPU. 2024. https://arxiv.org/abs/2404.00498

What is left of a residual network when only the time to a given accuracy counts: two 3×3 convolutions in each of three stages and no
shortcuts, since filters that start as the identity pass their input on as well. The first layer is not learned: its filters are the
principal directions of the training images' 2×2 patches, each over the spread that the patches have along it, so that the network sees
uncorrelated inputs of one size (`whiten`; until it was called they are as they were drawn). GELU takes everything, and the negative of
every filter is there as well, so that it loses no half of them.

`cifar_fast` is the paper's network of 94 %; the others are as wide as their names say, for budgets below the paper's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from convatlas.zoo.blocks import sequence
from convatlas.zoo.convnet import ConvNet

if TYPE_CHECKING:
    from jaxtyping import Float

FAMILY, YEAR = "Airbench", 2024

PATCH = 2  # pixels a side of what the first layer sees
EPSILON = 5e-4  # added to a variance before its root: directions in which images hardly vary are not blown up to size
SCALE = 1 / 9  # of the logits, which would begin too large without


@dataclass(frozen=True, kw_only=True)
class AirbenchConfig:
    """What tells one of these networks from another."""

    widths: tuple[int, ...]  # maps of each stage


VARIANTS = {
    "cifar_fast": AirbenchConfig(widths=(64, 256, 256)),
    "cifar_fast_050": AirbenchConfig(widths=(32, 128, 128)),
    "cifar_fast_025": AirbenchConfig(widths=(16, 64, 64)),
}
ELSEWHERE: dict[str, tuple[str, dict[str, object]]] = {}


def keys(config: AirbenchConfig) -> dict[str, dict[str, str]]:
    """No published weights in another layout."""
    return {}


def native(config: AirbenchConfig) -> tuple[tuple[int, int, int], int]:
    """The input (channels, height, width) and number of classes of CIFAR-10."""
    return (3, 32, 32), 10


class BiasNorm(nn.BatchNorm2d):
    """Batch norm whose gain stays 1, since the next layer can have it. Its running statistics follow within a few steps, as short runs
    want it."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=1e-12, momentum=0.4)
        self.weight.requires_grad = False


class Scale(nn.Module):
    """The logits times a constant."""

    def forward(self, x: Tensor) -> Tensor:
        return x * SCALE


class Airbench(ConvNet):
    """The network of airbench, for images of about 32 pixels; call `whiten` before training it."""

    def __init__(self, config: AirbenchConfig, *, num_classes: int = 1000, in_channels: int = 3) -> None:
        self.config = config
        channels = 2 * in_channels * PATCH**2  # every direction and its negative
        whitening = nn.Conv2d(in_channels, channels, PATCH)
        whitening.weight.requires_grad = False
        stages: dict[str, nn.Module] = {"stem": sequence(whiten=whitening, gelu=nn.GELU())}  # 31×31
        for s, width in enumerate(config.widths):
            stages[f"stage{s + 1}"] = sequence(  # 15×15, 7×7, 3×3
                conv1=nn.Conv2d(channels, width, 3, padding=1, bias=False),
                pool=nn.MaxPool2d(2),  # the paper's order: the stage has its downsampling after the first convolution
                norm1=BiasNorm(width),
                gelu1=nn.GELU(),
                conv2=nn.Conv2d(width, width, 3, padding=1, bias=False),
                norm2=BiasNorm(width),
                gelu2=nn.GELU(),
            )
            channels = width
        head: dict[str, nn.Module] = {"pool": nn.MaxPool2d(3), "flatten": nn.Flatten()}
        if num_classes:
            head |= {"fc": nn.Linear(channels, num_classes, bias=False), "scale": Scale()}
        super().__init__(stages, head)
        assert whitening.bias is not None
        nn.init.zeros_(whitening.bias)
        for module in self.modules():
            if isinstance(module, nn.Conv2d) and module is not whitening:
                nn.init.dirac_(module.weight[: module.in_channels])  # the rest as torch draws them


@torch.no_grad()
def whiten(model: Airbench, images: Float[Tensor, "n c h w"]) -> None:
    """Sets the first layer of `model` from training `images`, standardised as the network will see them; some thousand are enough.

    Raises `ValueError` for images with other channels than the network's.
    """
    layer = model.get_submodule("stages.stem.whiten")
    assert isinstance(layer, nn.Conv2d)
    if images.shape[1] != layer.in_channels:
        raise ValueError(f"images with {images.shape[1]} channels cannot whiten a network of {layer.in_channels}")
    filters = whitening_filters(images, PATCH).to(layer.weight)
    layer.weight.copy_(torch.cat([filters, -filters]))


def whitening_filters(images: Float[Tensor, "n c h w"], side: int) -> Float[Tensor, "k c side side"]:
    """The k = c · side² filters whose responses on the patches of `images` are uncorrelated and have a mean square of 1, or less where
    that of the patches comes near `EPSILON`; the strongest direction first."""
    n, channels, height, width = images.shape
    patches = images.unfold(2, side, 1).unfold(3, side, 1).permute(1, 4, 5, 0, 2, 3)  # c, side, side, n, rows, columns
    flat = patches.reshape(channels * side**2, n * (height - side + 1) * (width - side + 1))
    strengths, directions = torch.linalg.eigh((flat @ flat.T / flat.shape[1]).double())
    filters = directions / (strengths + EPSILON).sqrt()  # a column each, the weakest first
    return filters.T.flip(0).reshape(-1, channels, side, side).to(images.dtype)


MODEL = Airbench
