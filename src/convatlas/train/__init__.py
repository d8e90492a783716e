"""Training: a config, one loop, recipes. Imported when it is first used: configs and recipes are data, and need no torch."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from convatlas.train.config import Augment, Optim, TrainConfig
    from convatlas.train.loop import Epoch, accuracy, train

__all__ = ["Augment", "Epoch", "Optim", "TrainConfig", "accuracy", "train"]

_HOMES = {"config": ("Augment", "Optim", "TrainConfig"), "loop": ("Epoch", "accuracy", "train")}


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(f"convatlas.train.{module}"), name)
    raise AttributeError(f"module 'convatlas.train' has no attribute {name!r}")
