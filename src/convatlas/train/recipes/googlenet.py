"""How GoogLeNet was trained: Szegedy et al. Going Deeper with Convolutions. 2014. https://arxiv.org/abs/1409.4842, section 6, and
its replicas in Caffe.

The paper states momentum, a rate that loses 4 % every 8 epochs, averaged weights and crops of 8 to 100 % of the image; what it does
not state (rate, batch, decay, length) is taken from the replica by BVLC. The auxiliary classifiers' losses count 0.3. Departs from
all: of the held-out images the central square is shown, once.
"""

from __future__ import annotations

from dataclasses import replace

from convatlas.train.config import Augment, Optim, TrainConfig
from convatlas.train.recipes.recipe import EARLY_SGD, UNSCALED, Formula, Recipe, side

_AUXILIARY = ("googlenet_aux", "googlenet_bn_aux")
_PLAIN = ("googlenet", "googlenet_bn")


def googlenet_2014(network: str = "googlenet_aux") -> Recipe:
    """`convatlas train googlenet_2014 photos --out run`.

    Departs from the paper: one process, not DistBelief's many at once; of its changes in colour the brightness, contrast and
    saturation, by up to 40 %; bilinear sampling alone. Not in the paper: a rate of 0.01, a decay of 2e-4, a batch of 32, and 250
    epochs, which are the 10 million steps of BVLC's longer solver as far as we remember; an average over about 10,000 steps.

    The paper reports 10.07 % top-5 error for one network and one crop, 7.89 with 144 crops (validation, table 3). Not reproduced here.
    """
    config = TrainConfig(
        epochs=250,
        batch_size=32,
        image_size=side(network),
        optim=Optim(
            lr=0.01,
            lr_batch=32,
            momentum=0.9,
            nesterov=False,
            weight_decay=2e-4,
            warmup_epochs=0,
            schedule="exponential",
            factor=0.96,
            factor_epochs=8,
        ),
        augment=Augment(scale=(0.08, 1.0), flip=0.5, colour=0.4),
        auxiliary=0.3 if network in _AUXILIARY else 0.0,
        ema=0.9999,
        std=UNSCALED,
    )
    source = "Szegedy et al. 2014, sections 5 and 6; rate, batch, decay and length from BVLC's replica"
    return Recipe(network=network, config=config, source=source)


def googlenet_bvlc_quick(network: str = "googlenet_aux") -> Recipe:
    """`convatlas train googlenet_bvlc_quick photos --out run`.

    As BVLC's quick solver: 2.4 million steps of 32, which are 60 epochs of ImageNet, the rate falling as the root of what is left,
    biases at twice the rate and without decay. Departs: see this file's head; a crop of 224 out of 256 is a part of the kept
    square, magnified.

    BVLC reports 31.3 % top-1 and 11.1 % top-5 error (centre crop). Not reproduced here.
    """
    config = TrainConfig(
        epochs=60,
        batch_size=32,
        image_size=side(network),
        optim=replace(EARLY_SGD, lr_batch=32, bias_lr=2, weight_decay=2e-4, schedule="polynomial", power=0.5),
        augment=Augment(sides=(256, 256), flip=0.5),
        auxiliary=0.3 if network in _AUXILIARY else 0.0,
        std=UNSCALED,
    )
    return Recipe(network=network, config=config, source="BVLC's quick_solver and readme of its GoogLeNet")


RECIPES = {
    "googlenet_2014": Formula(make=googlenet_2014, networks=(*_AUXILIARY, *_PLAIN)),
    "googlenet_bvlc_quick": Formula(make=googlenet_bvlc_quick, networks=(*_AUXILIARY, *_PLAIN)),
}
