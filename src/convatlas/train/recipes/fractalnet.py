"""How FractalNet was trained: Larsson, Maire, Shakhnarovich. 2016. https://arxiv.org/abs/1605.07648, section 4.

The rate is divided by 10 whenever the number of epochs that are left has halved: after 200, 300, 350 … of 400. Drop-path is in the
networks: half of the mini-batches drop each input of a join with probability 0.15, the other half train one column alone.
"""

from __future__ import annotations

from convatlas.train.config import Augment, Optim, TrainConfig
from convatlas.train.recipes.recipe import CIFAR_MEAN, CIFAR_STD, Formula, Recipe, side

_OPTIM = Optim(lr=0.02, momentum=0.9, nesterov=False, weight_decay=0.0, warmup_epochs=0, schedule="halving", divisor=10)


def fractalnet_cifar_2016(network: str = "fractalnet20_cifar") -> Recipe:
    """`convatlas train fractalnet_cifar_2016 cifar10 --out run`.

    400 epochs of batches of 100; dropout of 0 to 40 % after the five blocks is in the network; images shifted by up to 4 pixels and
    mirrored. Departs: the paper states no weight decay, and none is used; the last drops, of which there would be ever more, come
    with whole epochs. On SVHN it trained for 20 epochs (`--set epochs=20`).

    The paper reports 4.6 % error on CIFAR-10 with shifts and flips, drop-path and dropout. Not reproduced here.
    """
    config = TrainConfig(
        epochs=400,
        batch_size=100,
        image_size=side(network),
        optim=_OPTIM,
        augment=Augment(pad=4, flip=0.5),
        mean=CIFAR_MEAN,
        std=CIFAR_STD,
    )
    source = "Larsson et al. 2016, section 4; no weight decay, as none is stated"
    return Recipe(network=network, config=config, source=source)


def fractalnet_imagenet_2016(network: str = "fractalnet34") -> Recipe:
    """`convatlas train fractalnet_imagenet_2016 photos --out run`.

    70 epochs of batches of 32 from a rate of 0.001. Not in the paper, as far as we know it: how images were changed, here crops of
    224 out of 256 and flips; weight decay, here none.

    The paper reports 24.12 % top-1 and 7.39 % top-5 error (validation, ten crops). Not reproduced here.
    """
    config = TrainConfig(
        epochs=70,
        batch_size=32,
        image_size=side(network),
        optim=Optim(
            lr=0.001, lr_batch=32, momentum=0.9, nesterov=False, weight_decay=0.0, warmup_epochs=0, schedule="halving"
        ),
        augment=Augment(sides=(256, 256), flip=0.5),
    )
    source = "Larsson et al. 2016, section 4; crops and flips are AlexNet's, no weight decay, as neither is known"
    return Recipe(network=network, config=config, source=source)


_THIN = tuple(f"fractalnet{depth}_thin_cifar100" for depth in (5, 10, 20, 40, 80, 160))
RECIPES = {
    "fractalnet_cifar_2016": Formula(
        make=fractalnet_cifar_2016, networks=("fractalnet20_cifar", "fractalnet40_cifar", *_THIN)
    ),
    "fractalnet_imagenet_2016": Formula(make=fractalnet_imagenet_2016, networks=("fractalnet34",)),
}
