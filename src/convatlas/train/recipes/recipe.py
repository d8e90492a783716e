"""A recipe: a network and how to train it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from convatlas.train.config import TrainConfig

if TYPE_CHECKING:
    from torch import Tensor

    from convatlas.zoo import ConvNet

    Prepare = Callable[[ConvNet, Tensor], None]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What a function of this package returns."""

    network: str  # a name of the zoo
    config: TrainConfig
    source: str  # the paper, and what was taken from elsewhere
    prepare: Prepare | None = None  # sets weights of the new network from training images (n, c, h, w), standardised
