"""A recipe: a network and how to train it."""

from __future__ import annotations

from dataclasses import dataclass

from convatlas.train.config import TrainConfig


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What a function of this package returns."""

    network: str  # a name of the zoo
    config: TrainConfig
    source: str  # the paper, and what was taken from elsewhere
