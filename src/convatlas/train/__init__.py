"""Training: a config, one loop, recipes. Imported when it is first used: configs and recipes are data, and need no torch."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from convatlas.train.cached import Cached
    from convatlas.train.config import Augment, Optim, TrainConfig
    from convatlas.train.images import Images, InMemory
    from convatlas.train.learner import Epoch
    from convatlas.train.loop import accuracy, train
    from convatlas.train.streamed import Streamed

__all__ = [
    "Augment",
    "Cached",
    "Epoch",
    "Images",
    "InMemory",
    "Optim",
    "Streamed",
    "TrainConfig",
    "accuracy",
    "train",
]

_HOMES = {
    "cached": ("Cached",),
    "config": ("Augment", "Optim", "TrainConfig"),
    "images": ("Images", "InMemory"),
    "learner": ("Epoch",),
    "loop": ("accuracy", "train"),
    "streamed": ("Streamed",),
}


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(f"convatlas.train.{module}"), name)
    raise AttributeError(f"module 'convatlas.train' has no attribute {name!r}")
