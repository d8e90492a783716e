"""Training: a config, one loop, recipes."""

from convatlas.train.config import Augment, Optim, TrainConfig
from convatlas.train.loop import Epoch, accuracy, train

__all__ = ["Augment", "Epoch", "Optim", "TrainConfig", "accuracy", "train"]
