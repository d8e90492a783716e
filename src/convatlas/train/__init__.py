"""Training: a config, one loop, recipes. Imported when it is first used: configs and recipes are data, and need no torch."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from convatlas.train.config import Augment, Optim, TrainConfig
    from convatlas.train.images import Images, InMemory
    from convatlas.train.learner import Epoch
    from convatlas.train.loop import accuracy, train
    from convatlas.train.lr_find import LrFind, lr_find

__all__ = ["Augment", "Epoch", "Images", "InMemory", "LrFind", "Optim", "TrainConfig", "accuracy", "lr_find", "train"]

_HOMES = {
    "config": ("Augment", "Optim", "TrainConfig"),
    "images": ("Images", "InMemory"),
    "learner": ("Epoch",),
    "loop": ("accuracy", "train"),
    "lr_find": ("LrFind", "lr_find"),
}


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(f"convatlas.train.{module}"), name)
    raise AttributeError(f"module 'convatlas.train' has no attribute {name!r}")
