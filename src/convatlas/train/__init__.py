"""Training: a config, one loop, recipes."""

from convatlas.train.cached import Cached
from convatlas.train.config import Augment, Optim, TrainConfig
from convatlas.train.images import Images, InMemory
from convatlas.train.loop import Epoch, accuracy, train
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
