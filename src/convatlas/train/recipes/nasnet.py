"""How NASNet-A was trained: Zoph, Vasudevan, Shlens, Le. 2017. https://arxiv.org/abs/1707.07012, appendix, and the authors' code
(slim's nasnet.py).

Drop-path grows linearly over the training and from cell to cell; an auxiliary classifier before the last reduction counts 0.4;
gradients are clipped by their global norm.
"""

from __future__ import annotations

from dataclasses import replace

from convatlas.train.config import Augment, Optim, TrainConfig
from convatlas.train.recipes.mobile import INCEPTION
from convatlas.train.recipes.recipe import CIFAR_MEAN, CIFAR_STD, Formula, Recipe, side

_AUXILIARY = {"auxiliary": True}
_IMAGENET = TrainConfig(
    epochs=312,  # its 250,000 steps of 1600 on ImageNet
    batch_size=1600,
    optim=Optim(
        name="rmsprop",
        lr=2.0,
        lr_batch=1600,
        momentum=0.9,
        nesterov=False,
        squares=0.9,
        eps=1.0,
        weight_decay=4e-5,
        clip_norm=10.0,
        warmup_epochs=0,
        schedule="exponential",
        factor=0.97,
        factor_epochs=2.4,
    ),
    augment=INCEPTION,
    label_smoothing=0.1,
    auxiliary=0.4,
    ema=0.9999,
    mean=(0.5,) * 3,  # TensorFlow's: pixels in −1 … 1
    std=(0.5,) * 3,
)


def nasnet_cifar_2017(network: str = "nasnet_a_cifar") -> Recipe:
    """`convatlas train nasnet_cifar_2017 cifar10 --out run`.

    600 epochs of batches of 32, half a cosine from 0.025, drop-path up to 0.4, clipped at 5. Without cutout, which the paper has
    for one result: `--set augment.cutout=16`. Departs: weights start with fan-in, the authors' with fan-out; decay is of filters
    and matrices.

    The paper reports 3.41 % error on CIFAR-10, 2.65 with cutout. Not reproduced here.
    """
    config = TrainConfig(
        epochs=600,
        batch_size=32,
        image_size=side(network),
        optim=Optim(
            lr=0.025,
            momentum=0.9,
            nesterov=False,
            weight_decay=5e-4,
            clip_norm=5.0,
            warmup_epochs=0,
            schedule="cosine",
        ),
        augment=Augment(pad=4, flip=0.5),
        auxiliary=0.4,
        mean=CIFAR_MEAN,
        std=CIFAR_STD,
    )
    source = "the authors' slim/nasnet.py; momentum from the paper as we remember it"
    return Recipe(network=network, config=config, source=source, changes=_AUXILIARY)


def nasnet_mobile_2017(network: str = "nasnet_a_mobile") -> Recipe:
    """`convatlas train nasnet_mobile_2017 photos --set batch_size=64 --out run`.

    Fifty replicas of 32 images in step, so batches of 1600 at a rate of 50 × 0.04 (with another batch in proportion), times 0.97
    every 2.4 epochs; dropout of 0.5 before the classifier, no drop-path. Departs: weights start
    with fan-in; 0.9999 is TF-Slim's usual average, as theirs is not stated.

    The paper reports 74.0 % top-1 and 91.6 % top-5 accuracy (validation, one crop). Not reproduced here.
    """
    source = "the authors' slim/nasnet.py; optimiser from the paper as we remember it"
    config = replace(_IMAGENET, image_size=side(network))
    return Recipe(network=network, config=config, source=source, changes=_AUXILIARY)


def nasnet_large_2017(network: str = "nasnet_a_large") -> Recipe:
    """`convatlas train nasnet_large_2017 photos --set batch_size=16 --out run`.

    As the mobile one: a hundred replicas of 16 images of 331 pixels at a rate of 100 × 0.015, decay 5e-5, and drop-path up to 0.3.

    The paper reports 82.7 % top-1 and 96.2 % top-5 accuracy (validation, one crop of 331). Not reproduced here.
    """
    config = replace(_IMAGENET, image_size=side(network), optim=replace(_IMAGENET.optim, lr=1.5, weight_decay=5e-5))
    source = "the authors' slim/nasnet.py; optimiser from the paper as we remember it"
    return Recipe(network=network, config=config, source=source, changes=_AUXILIARY)


RECIPES = {
    "nasnet_cifar_2017": Formula(make=nasnet_cifar_2017, networks=("nasnet_a_cifar",)),
    "nasnet_mobile_2017": Formula(make=nasnet_mobile_2017, networks=("nasnet_a_mobile",)),
    "nasnet_large_2017": Formula(make=nasnet_large_2017, networks=("nasnet_a_large",)),
}
