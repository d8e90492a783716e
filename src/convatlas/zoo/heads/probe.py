"""A linear classifier on a frozen network's stages: Alain, Bengio. Understanding intermediate layers using linear classifier probes. 2016.
https://arxiv.org/abs/1610.01644

Each map of a stage is averaged over space, as the network's own classifier has it. Where several stages stand side by side, late ones
give these means (what is there) and early ones each map's standard deviation (texture, which a mean loses). One fully connected
layer follows. Only as much of the network is kept as the last stage needs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from convatlas.zoo.convnet import ConvNet, taps

if TYPE_CHECKING:
    from jaxtyping import Float


@dataclass(frozen=True, kw_only=True)
class ProbeConfig:
    """Where a probe taps its network, and what it takes there."""

    means: tuple[str, ...]  # the cuts of whose maps it takes the mean
    deviations: tuple[str, ...] = ()  # the cuts of whose maps it takes the standard deviation
    features: int  # what these give together


class ProbeNet(nn.Module):
    """Logits (n, num_classes) from images (n, c, h, w) through the pooled activations of `network`: all means, then all deviations."""

    def __init__(self, network: ConvNet, config: ProbeConfig, *, num_classes: int) -> None:
        super().__init__()
        self.config = config
        self.taps = taps(network, {*config.means, *config.deviations})
        self.fc = nn.Linear(config.features, num_classes)

    def forward(self, image: Float[Tensor, "n c h w"]) -> Float[Tensor, "n k"]:
        found = {cut: pooled(activation) for cut, activation in self.taps(image).items()}
        means = [found[cut][0] for cut in self.config.means]
        deviations = [found[cut][1] for cut in self.config.deviations]
        return self.fc(torch.cat([*means, *deviations], dim=1))


def pooled(activation: Tensor) -> tuple[Float[Tensor, "n c"], Float[Tensor, "n c"]]:
    """The mean and the standard deviation (of the population) of each map of (n, c, h, w); hidden units (n, c) as they are, and 0.

    Centred before squaring: E[x²] - E[x]² would lose the digits of maps that hardly vary, which weak regularisation then amplifies.
    `torch.std` is as exact and takes five times as long.
    """
    if activation.ndim == 2:
        return activation, torch.zeros_like(activation)
    mean = activation.mean((2, 3))
    return mean, (activation - mean[:, :, None, None]).square().mean((2, 3)).sqrt()
