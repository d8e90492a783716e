"""Training: a config, one loop, recipes."""

from convatlas.train.config import Augment, Optim, TrainConfig
from convatlas.train.images import Images, InMemory
from convatlas.train.learner import Epoch
from convatlas.train.loop import accuracy, train

__all__ = ["Augment", "Epoch", "Images", "InMemory", "Optim", "TrainConfig", "accuracy", "train"]
