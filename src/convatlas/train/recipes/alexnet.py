"""How the networks with large classifiers were trained on ImageNet: AlexNet (Krizhevsky, Sutskever, Hinton. 2012.
https://papers.nips.cc/paper/4824), its replica CaffeNet, ZFNet (Zeiler, Fergus. 2013. https://arxiv.org/abs/1311.2901) and VGG (Simonyan,
Zisserman. 2014. https://arxiv.org/abs/1409.1556).

They have no norms that would make them indifferent to the scale of their input, so their pixels are ±128 around the mean, as theirs were:
`std` is 1/255. The rate of 0.01 was divided by 10 whenever the error on validation images stopped falling, three times; how long they
waited is nowhere said, and here it is five epochs. With another batch than is said, as of fewer images than that, the rate goes in
proportion to it. What all of them depart in: a crop may come from anywhere in the photo, not from its central square alone; the mean is
of a channel, not of a pixel; of the held-out images the central square is shown once, not ten crops.
"""

from __future__ import annotations

from dataclasses import replace

from convatlas.train.config import Augment, TrainConfig
from convatlas.train.recipes.recipe import EARLY_SGD, UNSCALED, Formula, Recipe, side

_OPTIM = replace(EARLY_SGD, lr_batch=128, schedule="plateau", divisor=10, most_drops=3)
_CROPS = Augment(sides=(256, 256), flip=0.5)


def alexnet_2012(network: str = "alexnet") -> Recipe:
    """`convatlas train alexnet_2012 photos --out run`, where photos has a val part: the rate follows its error.

    Departs from the paper: crops of 227, which the network needs for its 55 positions, not the printed 224; and see this file's
    head. The decay is inside the momentum and on filters and matrices alone. Dropout of 0.5 is in the network.

    The paper reports 40.7 % top-1 and 18.2 % top-5 error for one network (validation, ten crops). Not reproduced here.
    """
    config = TrainConfig(
        epochs=90,
        batch_size=128,
        image_size=side(network),
        optim=_OPTIM,
        augment=Augment(sides=(256, 256), flip=0.5, pca=0.1),
        std=UNSCALED,
    )
    source = "Krizhevsky et al. 2012, sections 3 to 5; the patience of five epochs is ours"
    return Recipe(network=network, config=config, source=source)


def caffenet_bvlc(network: str = "caffenet") -> Recipe:
    """`convatlas train caffenet_bvlc photos --out run`.

    As its solver has it: 450,000 steps of 256, which are 90 epochs of ImageNet, the rate divided by 10 every 100,000, biases at twice
    the rate and without decay. Departs: see this file's head; weights start as the paper's, not with the replica's 0.005 and 0.1 in the
    hidden layers.

    BVLC reports 42.6 % top-1 and 19.6 % top-5 error (centre crop). Not reproduced here.
    """
    config = TrainConfig(
        epochs=90,
        batch_size=256,
        image_size=side(network),
        optim=replace(
            EARLY_SGD, lr_batch=256, bias_lr=2, schedule="step", drops=(100 / 450, 200 / 450, 300 / 450, 400 / 450)
        ),
        augment=_CROPS,
        std=UNSCALED,
    )
    return Recipe(network=network, config=config, source="BVLC's solver and train_val of the CaffeNet model")


def zfnet_2013(network: str = "zfnet") -> Recipe:
    """`convatlas train zfnet_2013 photos --out run`, where photos has a val part: the rate follows its error.

    First-layer filters whose root mean square is above 0.1 are scaled back to it after every step. Departs from the paper: it can
    be read as doing so in all convolutions, and says that the first is where it matters; crops are drawn, where it had ten fixed
    ones an image; the weight decay is AlexNet's, as the paper states none; and see this file's head.

    The paper reports 38.4 % top-1 and 16.5 % top-5 error for one network (validation). Not reproduced here.
    """
    config = TrainConfig(
        epochs=70,
        batch_size=128,
        image_size=side(network),
        optim=replace(_OPTIM, filter_rms=0.1),
        augment=_CROPS,
        std=UNSCALED,
    )
    source = (
        "Zeiler, Fergus 2013, section 3; weight decay from Krizhevsky et al. 2012, the patience of five epochs is ours"
    )
    return Recipe(network=network, config=config, source=source)


def vgg_2014(network: str = "vgg16") -> Recipe:
    """`convatlas train vgg_2014 photos --network vgg11 --out run`, where photos has a val part: the rate follows its error.

    Crops as out of images scaled to between 256 and 512 pixels, the paper's scale jitter. Departs from the paper: no network starts
    with a shallower one's weights, but all by Glorot and Bengio's rule, which the paper found to do as well; the noise in colour is
    AlexNet's, of sigma 0.1; and see this file's head. The `_bn` networks, which are not the paper's, are trained alike.

    The paper reports 27.0 % top-1 and 8.8 % top-5 error for 16 layers at one scale, 24.4 and 7.2 at its best (tables 3 and 5). Not
    reproduced here.
    """
    config = TrainConfig(
        epochs=74,  # its 370,000 steps of 256
        batch_size=256,
        image_size=side(network),
        optim=replace(_OPTIM, lr_batch=256),
        augment=Augment(sides=(256, 512), flip=0.5, pca=0.1),
        std=UNSCALED,
    )
    source = "Simonyan, Zisserman 2014, section 3; the patience of five epochs is ours"
    return Recipe(network=network, config=config, source=source)


_VGGS = ("vgg16", "vgg11", "vgg13", "vgg19", "vgg16_c", "vgg11_bn", "vgg13_bn", "vgg16_bn", "vgg19_bn")
RECIPES = {
    "alexnet_2012": Formula(make=alexnet_2012, networks=("alexnet", "alexnet_lecture", "alexnet_owt")),
    "caffenet_bvlc": Formula(make=caffenet_bvlc, networks=("caffenet", "alexnet")),
    "zfnet_2013": Formula(make=zfnet_2013, networks=("zfnet", "zfnet_wide")),
    "vgg_2014": Formula(make=vgg_2014, networks=_VGGS),
}
