"""A recipe: a network and how to train it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from convatlas import catalogue
from convatlas.train.config import Optim, TrainConfig

if TYPE_CHECKING:
    from torch import Tensor

    from convatlas.zoo import ConvNet

CIFAR_MEAN, CIFAR_STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)  # of a channel
UNSCALED = (1 / 255,) * 3  # a std that leaves pixels in units of 1 to 255
# AlexNet's, and Caffe's after it: the rate inside the momentum, no warm-up
EARLY_SGD = Optim(lr=0.01, momentum=0.9, nesterov=False, velocity="steps", weight_decay=5e-4, warmup_epochs=0)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What a function of this package returns."""

    network: str  # a name of the zoo
    config: TrainConfig
    source: str  # the paper, and what was taken from elsewhere
    changes: Mapping[str, Any] = field(default_factory=dict)  # of the network's own config, as auxiliary classifiers
    prepare: Callable[[ConvNet, Tensor], None] | None = (
        None  # sets weights from training images (n, c, h, w), standardised
    )

    @property
    def rests(self) -> bool:
        """Whether parts of the network are left out in some steps, as drop-path does."""
        from convatlas import zoo

        config = zoo.config_of(self.network)
        return bool(self.changes.get("drop_path", getattr(config, "drop_path", 0.0)))

    def build(self, *, num_classes: int, in_channels: int) -> ConvNet:
        """The network, with its paper's initialisation."""
        from dataclasses import replace

        from convatlas import zoo

        config = replace(zoo.config_of(self.network), **self.changes)
        return zoo.build(self.network, num_classes=num_classes, in_channels=in_channels, config=config)


@dataclass(frozen=True, kw_only=True)
class Formula:
    """A recipe for any of several networks."""

    make: Callable[[str], Recipe]
    networks: tuple[str, ...]  # the first where none is asked for

    def __call__(self, network: str | None = None) -> Recipe:
        return self.make(network or self.networks[0])


def side(network: str) -> int:
    """Side in pixels of the images that a network's paper trained it on."""
    return catalogue.find(network).input_size[1]
