"""A linear classifier on a frozen network's stages: Alain, Bengio. Understanding intermediate layers using linear classifier probes. 2016.
https://arxiv.org/abs/1610.01644

The map of each stage is averaged over space, the averages stand side by side, and their signed square roots (which tame channels that are
very large for a few images) go through one fully connected layer. Only as much of the network is kept as the last stage needs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from convatlas.zoo.convnet import ConvNet, taps

if TYPE_CHECKING:
    from jaxtyping import Float


class ProbeNet(nn.Module):
    """Logits (n, num_classes) from images (n, c, h, w) through the pooled activations of `network` at `cuts`."""

    def __init__(self, network: ConvNet, cuts: Sequence[str], *, features: int, num_classes: int) -> None:
        super().__init__()
        self.taps = taps(network, cuts)
        self.fc = nn.Linear(features, num_classes)

    def forward(self, image: Float[Tensor, "n c h w"]) -> Float[Tensor, "n k"]:
        pooled = torch.cat([activation.mean((2, 3)) for activation in self.taps(image).values()], dim=1)
        return self.fc(pooled.sign() * pooled.abs().sqrt())
