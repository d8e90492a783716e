"""Several networks whose probabilities are averaged: Hansen, Salamon. Neural network ensembles. 1990. https://doi.org/10.1109/34.58871

Averaged after the softmax, as by AlexNet (Krizhevsky et al. 2012), whose five and seven networks are the first on ImageNet. Each member
sees the image in its own way, so there is one batch for each, and may have its outputs in another order.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from jaxtyping import Float


class Ensemble(nn.Module):
    """Logarithms of the mean probabilities (n, num_classes): the softmax leaves these means as they are, as it must with logits.

    `orders` gives for each member where each of the common classes stands among its outputs.
    """

    def __init__(self, members: Sequence[nn.Module], orders: Sequence[Sequence[int]]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.orders = tuple(tuple(order) for order in orders)

    def forward(self, images: Sequence[Float[Tensor, "n c h w"]]) -> Float[Tensor, "n k"]:
        """`images` is one batch for each member, of the same images, each of that member's size and standardisation."""
        return averaged(self.each(images))

    def each(self, images: Sequence[Tensor]) -> list[Float[Tensor, "n k"]]:
        """The logits of each member in the common order of classes."""
        parts = zip(self.members, images, self.orders, strict=True)
        return [member(x)[:, list(order)] for member, x, order in parts]


def averaged(logits: Sequence[Float[Tensor, "n k"]]) -> Float[Tensor, "n k"]:
    """Logarithms of the mean of the members' probabilities; finite whatever the logits, since no probability is ever formed."""
    shares = torch.stack([each.log_softmax(dim=1) for each in logits])
    return shares.logsumexp(dim=0) - math.log(len(logits))
