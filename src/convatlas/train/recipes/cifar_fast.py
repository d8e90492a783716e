"""A good network for CIFAR-10 in little arithmetic: Jordan. 94% on CIFAR-10 in 3.29 Seconds on a Single GPU. 2024.
https://arxiv.org/abs/2404.00498

The network's first layer is whitened from training images and stays; images are moved by up to two pixels, mirrored at their border, and
turned in every second epoch; labels are smoothed by 0.2; the learning rate is a triangle, and the biases of the norms learn 64 times as
fast. In the paper's terms a rate of 11.5 for 1024 images is decoupled from momentum: 11.5 / (1 + 1 / (1 - 0.85)) = 1.5 for the mean loss of
a batch of 1024, with a weight decay of 0.0153 / 11.5 = 0.00133 in torch's sense. So the rate goes with the batch, and the decay stays.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from convatlas.train.config import Augment, Optim, TrainConfig
from convatlas.train.recipes.recipe import Formula, Recipe

if TYPE_CHECKING:
    from torch import Tensor

    from convatlas.zoo import ConvNet

CONFIG = TrainConfig(
    epochs=8,
    batch_size=512,
    image_size=32,
    optim=Optim(
        lr=0.75,
        norm_bias_lr=64.0,
        momentum=0.85,
        weight_decay=1.33e-3,
        decay_all=True,
        schedule="triangle",
        rise=0.23,
        final_lr=0.07,
    ),
    augment=Augment(pad=2, padding="reflect", flip=0.5, flip_mode="alternate"),
    label_smoothing=0.2,
    mean=(0.4914, 0.4822, 0.4465),
    std=(0.2470, 0.2435, 0.2616),
)


def fast(network: str) -> Recipe:
    """`convatlas train cifar_fast_050 cifar10 --out run`."""
    return Recipe(network=network, config=CONFIG, source="Jordan 2024, airbench94", prepare=_whitened)


def _whitened(model: ConvNet, images: Tensor) -> None:
    from convatlas.zoo.airbench import Airbench, whiten

    assert isinstance(model, Airbench)
    whiten(model, images)


RECIPES = {name: Formula(make=fast, networks=(name,)) for name in ("cifar_fast", "cifar_fast_050", "cifar_fast_025")}
