"""How residual and dense networks were trained on CIFAR and SVHN: ResNet (He et al. 2015. https://arxiv.org/abs/1512.03385),
pre-activation (He et al. 2016. https://arxiv.org/abs/1603.05027), wide (Zagoruyko, Komodakis. 2016.
https://arxiv.org/abs/1605.07146), ResNeXt (Xie et al. 2016. https://arxiv.org/abs/1611.05431), DenseNet (Huang et al. 2016.
https://arxiv.org/abs/1608.06993).

One recipe in five versions: SGD from a rate of 0.1 with two or three drops, weight decay on all parameters, images padded by 4
pixels, cropped back and mirrored. What all depart in: the mean is of a channel, where ResNet's is of a pixel.
"""

from __future__ import annotations

from dataclasses import replace

from convatlas.train.config import Augment, Optim, TrainConfig
from convatlas.train.recipes.recipe import CIFAR_MEAN, CIFAR_STD, Formula, Recipe

CONFIG = TrainConfig(
    epochs=182,  # 64,000 steps of 128 on 45,000 images, which leaves 5,000 to validate on; with all 50,000 it would be 164
    batch_size=128,
    image_size=32,
    optim=Optim(
        lr=0.1, weight_decay=1e-4, nesterov=False, decay_all=True, warmup_epochs=0, schedule="step", drops=(0.5, 0.75)
    ),
    augment=Augment(pad=4, flip=0.5),
    mean=CIFAR_MEAN,  # of a channel; the paper's is of a pixel
    std=CIFAR_STD,
)


def resnet_cifar_2015(network: str = "resnet20_cifar") -> Recipe:
    """`convatlas train resnet20_cifar cifar10 --out run`, or `resnet_cifar_2015` with `--network`.

    64,000 steps of 128 images, the rate divided by 10 after 32,000 and 48,000. Departs: ResNet-110 warms up for an epoch, where the
    paper held 0.01 for about 400 steps, until the training error was below 80 %.

    The paper has 8.75 % error for ResNet-20 on CIFAR-10, 7.51 for ResNet-32, 6.97 for ResNet-56, 6.43 for ResNet-110 (best of five runs,
    6.61 ± 0.16); plain-20 and plain-56 are in its figure 6 alone. Not reproduced here at this length: a ResNet-20 takes hours on two
    cores.
    """
    config = CONFIG
    if network.startswith("resnet110"):
        config = replace(config, optim=replace(config.optim, warmup_epochs=1))
    return Recipe(
        network=network, config=config, source="He et al. 2015, section 4.2; batch, steps, decay and padding as there"
    )


def preresnet_2016(network: str = "preresnet110_cifar") -> Recipe:
    """`convatlas train preresnet164_cifar cifar10 --out run`, or `preresnet_2016` with `--network`.

    As ResNet's, on all 50,000 images. Departs: an epoch of warm-up, where the paper held 0.01 for the first 400 steps.

    The paper reports 6.37 % error on CIFAR-10 for 110 layers, 5.46 for 164 (medians of five runs). Not reproduced here.
    """
    config = replace(CONFIG, epochs=164, optim=replace(CONFIG.optim, warmup_epochs=1))
    return Recipe(network=network, config=config, source="He et al. 2016, appendix: as ResNet's, with a warm-up")


def wrn_cifar_2016(network: str = "wrn_28_10_cifar") -> Recipe:
    """`convatlas train wrn_cifar_2016 cifar10 --out run`.

    200 epochs, the rate divided by 5 after 60, 120 and 160; shifted images show themselves mirrored at the border. Without dropout,
    as most of the paper's; it had 0.3 between the convolutions for one result.

    The paper reports 4.0 % error on CIFAR-10 and 19.25 on CIFAR-100 for WRN-28-10 (medians of five runs). Not reproduced here.
    """
    optim = replace(CONFIG.optim, nesterov=True, weight_decay=5e-4, drops=(0.3, 0.6, 0.8), divisor=5)
    augment = Augment(pad=4, padding="reflect", flip=0.5)
    config = replace(CONFIG, epochs=200, optim=optim, augment=augment)
    return Recipe(network=network, config=config, source="the authors' train.lua and scripts/train_cifar.sh")


def wrn_svhn_2016(network: str = "wrn_16_8_cifar") -> Recipe:
    """`convatlas train wrn_svhn_2016 svhn --out run`.

    160 epochs from a rate of 0.01, divided by 10 after 80 and 120; dropout of 0.4 between the convolutions; pixels in 0 … 1 and
    nothing else.

    The paper reports 1.54 % error on SVHN for WRN-16-8 with dropout. Not reproduced here.
    """
    optim = replace(CONFIG.optim, lr=0.01, nesterov=True, weight_decay=5e-4, drops=(80 / 160, 120 / 160))
    config = replace(CONFIG, epochs=160, optim=optim, augment=Augment(), mean=(0.0,) * 3, std=(1.0,) * 3)
    source = "the authors' train.lua and scripts/train_svhn.sh"
    return Recipe(network=network, config=config, source=source, changes={"dropout": 0.4})


def resnext_cifar_2016(network: str = "resnext29_8x64d_cifar") -> Recipe:
    """`convatlas train resnext_cifar_2016 cifar10 --out run`.

    300 epochs of batches of 128, the rate divided by 10 at a half and three quarters: the released code, which has the original
    blocks. The paper's table was made with pre-activated ones and batches of 256, as its README says.

    The paper reports 3.65 % error on CIFAR-10 (mean of ten runs) and 17.77 on CIFAR-100 for 8 × 64d. Not reproduced here.
    """
    config = replace(CONFIG, epochs=300, optim=replace(CONFIG.optim, nesterov=True, weight_decay=5e-4))
    return Recipe(network=network, config=config, source="the authors' README and train.lua")


def densenet_cifar_2016(network: str = "densenet_bc_100_12_cifar") -> Recipe:
    """`convatlas train densenet_cifar_2016 cifar10 --out run`.

    300 epochs of batches of 64, the rate divided by 10 at a half and three quarters, images shifted and mirrored. Without dropout:
    the paper's 0.2 was for images that were not augmented.

    The paper reports 4.51 % error on CIFAR-10 and 22.27 on CIFAR-100 for DenseNet-BC-100-12. Not reproduced here.
    """
    config = replace(CONFIG, epochs=300, batch_size=64, optim=replace(CONFIG.optim, nesterov=True))
    return Recipe(network=network, config=config, source="the authors' README and train.lua")


_DEPTHS = (20, 32, 44, 56, 110, 1202)
_RESNETS = (*(f"resnet{d}_cifar" for d in _DEPTHS), "plain20_cifar", "plain56_cifar")
_PROJECTED = tuple(f"resnet{d}_b_cifar" for d in _DEPTHS)
_PRERESNETS = ("preresnet110_cifar", "preresnet164_cifar", "preresnet1001_cifar")
_WIDE = ("wrn_28_10_cifar", "wrn_16_8_cifar", "wrn_40_4_cifar", "wrn_40_10_cifar")
_RESNEXTS = ("resnext29_8x64d_cifar", "resnext29_16x64d_cifar")
_DENSE = ("100_12", "250_24", "190_40")
_DENSENETS = (
    *(f"densenet_bc_{d}_cifar" for d in _DENSE),
    *(f"densenet_{d}_cifar" for d in ("40_12", "100_12", "100_24")),
)
RECIPES = {
    "resnet_cifar_2015": Formula(make=resnet_cifar_2015, networks=(*_RESNETS, *_PROJECTED)),
    **{name: Formula(make=resnet_cifar_2015, networks=(name,)) for name in _RESNETS},
    "preresnet_2016": Formula(make=preresnet_2016, networks=_PRERESNETS),
    **{name: Formula(make=preresnet_2016, networks=(name,)) for name in _PRERESNETS},
    "wrn_cifar_2016": Formula(make=wrn_cifar_2016, networks=_WIDE),
    "wrn_svhn_2016": Formula(make=wrn_svhn_2016, networks=("wrn_16_8_cifar", *(n for n in _WIDE if "16_8" not in n))),
    "resnext_cifar_2016": Formula(make=resnext_cifar_2016, networks=_RESNEXTS),
    "densenet_cifar_2016": Formula(make=densenet_cifar_2016, networks=_DENSENETS),
}
