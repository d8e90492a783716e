"""How residual and dense networks were trained on ImageNet, from ResNet (He et al. 2015. https://arxiv.org/abs/1512.03385) over
Facebook's fb.resnet.torch, which ResNeXt (Xie et al. 2016. https://arxiv.org/abs/1611.05431), DenseNet (Huang et al. 2016.
https://arxiv.org/abs/1608.06993) and torchvision followed, and SENet (Hu et al. 2017. https://arxiv.org/abs/1709.01507) to ResNet
Strikes Back (Wightman, Touvron, Jégou. 2021. https://arxiv.org/abs/2110.00476).

The rates are for the batch that is said; with another one (`--set batch_size=64`, or fewer images than that) they go in proportion
to it. What all depart in: of the held-out images the whole central square is shown, not 224 pixels out of 256.
"""

from __future__ import annotations

from dataclasses import replace

from convatlas import catalogue
from convatlas.train.config import Augment, Optim, TrainConfig
from convatlas.train.recipes.recipe import Formula, Recipe, side

_CROPS = Augment(scale=(0.08, 1.0), flip=0.5)  # GoogLeNet's
_FACEBOOK = TrainConfig(
    epochs=90,
    batch_size=256,
    optim=Optim(
        lr=0.1,
        lr_batch=256,
        momentum=0.9,
        nesterov=True,
        weight_decay=1e-4,
        decay_all=True,
        warmup_epochs=0,
        schedule="step",
        drops=(30 / 90, 60 / 90),
    ),
    augment=replace(_CROPS, colour=0.4, pca=0.1),
)


def resnet_imagenet_2015(network: str = "resnet50_v1") -> Recipe:
    """`convatlas train resnet_imagenet_2015 photos --network resnet18_v1 --out run`, where photos has a val part: the rate follows
    its error.

    600,000 steps of 256, which are 120 epochs of ImageNet; crops as out of images scaled to between 256 and 480 pixels. Departs:
    three drops at the most, after five epochs without a better one, as the paper says neither; the mean is of a channel; and see
    this file's head.

    The paper reports 22.85 % top-1 and 6.71 % top-5 error for ResNet-50 (validation, ten crops). Not reproduced here.
    """
    optim = replace(_FACEBOOK.optim, nesterov=False, schedule="plateau", drops=())
    augment = Augment(sides=(256, 480), flip=0.5, pca=0.1)
    config = replace(_FACEBOOK, epochs=120, image_size=side(network), optim=optim, augment=augment)
    source = "He et al. 2015, section 3.4; the patience of five epochs is ours"
    return Recipe(network=network, config=config, source=source)


def resnet_fb(network: str = "resnet50") -> Recipe:
    """`convatlas train resnet_fb photos --out run`.

    fb.resnet.torch: Nesterov's momentum, the rate divided by 10 every 30 of 90 epochs, crops of 8 to 100 %, brightness, contrast
    and saturation by up to 40 %, AlexNet's noise in colour, decay of all parameters. Departs: see this file's head.

    They report 24.01 % top-1 and 7.02 % top-5 error for ResNet-50 (centre crop). Not reproduced here.
    """
    config = replace(_FACEBOOK, image_size=side(network))
    return Recipe(network=network, config=config, source="fb.resnet.torch, its README and code")


def resnext_imagenet_2016(network: str = "resnext50_32x4d") -> Recipe:
    """`convatlas train resnext_imagenet_2016 photos --out run`.

    As fb.resnet.torch, for 100 epochs, so that the rate falls a third time. Departs: see this file's head.

    The authors report 22.2 % top-1 error for ResNeXt-50 32×4d (centre crop). Not reproduced here.
    """
    optim = replace(_FACEBOOK.optim, drops=(0.3, 0.6, 0.9))
    config = replace(_FACEBOOK, epochs=100, image_size=side(network), optim=optim)
    return Recipe(network=network, config=config, source="the authors' README, opts.lua and train.lua")


def densenet_imagenet_2016(network: str = "densenet121") -> Recipe:
    """`convatlas train densenet_imagenet_2016 photos --out run`.

    As fb.resnet.torch: 90 epochs, the rate divided by 10 after 30 and 60. Departs: see this file's head.

    The paper reports 25.02 % top-1 and 7.71 % top-5 error for DenseNet-121 (validation, centre crop). Not reproduced here.
    """
    config = replace(_FACEBOOK, image_size=side(network))
    return Recipe(network=network, config=config, source="the authors' README, opts.lua and train.lua")


def senet_2017(network: str = "se_resnet50") -> Recipe:
    """`convatlas train senet_2017 photos --set batch_size=256 --out run`.

    Batches of 1024 at a rate of 0.6, divided by 10 every 30 of 100 epochs. SENet-154, the challenge's network, was trained with
    rotations by up to 10 degrees and pixels changed by up to 20 as well; here the latter is brightness, contrast and saturation by
    up to 8 %. Departs: see this file's head.

    The paper reports 23.29 % top-1 and 6.62 % top-5 error for SE-ResNet-50 (validation, centre crop). Not reproduced here.
    """
    optim = replace(_FACEBOOK.optim, lr=0.6, lr_batch=1024, nesterov=False, drops=(0.3, 0.6, 0.9))
    augment = replace(_CROPS, rotate=10.0, colour=0.08) if network == "senet154" else _CROPS
    config = replace(_FACEBOOK, epochs=100, batch_size=1024, image_size=side(network), optim=optim, augment=augment)
    source = "the authors' README for batch, rate and augmentation; decay and epochs from the paper"
    return Recipe(network=network, config=config, source=source)


def torchvision_v1(network: str = "resnet50") -> Recipe:
    """`convatlas train torchvision_v1 photos --network resnet18 --out run`.

    The defaults of torchvision's reference script: eight processes of 32 images, 90 epochs, the rate of 0.1 divided by 10 every 30;
    0.01 for AlexNet and VGG, 100 epochs for ResNeXt. Departs: see this file's head.

    torchvision reports 23.87 % top-1 and 7.138 % top-5 error for ResNet-50 (IMAGENET1K_V1, centre crop). Not reproduced here.
    """
    optim = replace(_FACEBOOK.optim, nesterov=False)
    if network.startswith(("alexnet", "vgg")):
        optim = replace(optim, lr=0.01)
    epochs = 100 if network.startswith("resnext") else 90
    optim = replace(optim, drops=tuple(n / epochs for n in (30, 60, 90) if n < epochs))
    config = replace(_FACEBOOK, epochs=epochs, image_size=side(network), optim=optim, augment=_CROPS)
    return Recipe(network=network, config=config, source="pytorch/vision, references/classification, its defaults")


def resnet_strikes_back_a3(network: str = "resnet50") -> Recipe:
    """`convatlas train resnet_strikes_back_a3 photos --out run`.

    A3, the cheapest of its three: 100 epochs at 160 pixels, tested at 224; LAMB at 0.008 for batches of 2048, decay 0.02, a half
    cosine after five epochs of warm-up; a yes or no for each class; mixup of alpha 0.1 or cutmix, a half each; RandAugment of
    magnitude 6. Gradients are clipped at a norm of 1, as timm's LAMB does by itself. Departs: fourteen of timm's fifteen changes
    (see `train/randaugment.py`); images are kept at 160 pixels. With a smaller batch the rate stays: LAMB's does not go in
    proportion.

    The paper reports 78.1 % top-1 accuracy for ResNet-50 at 224 pixels (table 1, from memory). Not reproduced here.
    """
    config = TrainConfig(
        epochs=100,
        batch_size=2048,
        image_size=160,
        eval_size=side(network),
        optim=Optim(name="lamb", lr=8e-3, eps=1e-6, weight_decay=0.02, clip_norm=1.0, warmup_epochs=5),
        augment=replace(_CROPS, randaugment=6.0, mixup=0.5, mixup_alpha=0.1, cutmix=0.5),
        loss="binary",
    )
    return Recipe(network=network, config=config, source="Wightman et al. 2021, table 2, A3; LAMB as timm has it")


_RESNETS = ("resnet50", "resnet18", "resnet34", "resnet101", "resnet152")
_FIRST = tuple(f"{name}_v1" for name in _RESNETS)
_SE = (
    "se_resnet50",
    "se_resnet18",
    "se_resnet101",
    "se_resnet152",
    "se_resnext50_32x4d",
    "se_resnext101_32x4d",
    "senet154",
)
_RESNEXTS = ("resnext50_32x4d", "resnext101_32x4d", "resnext101_32x8d", "resnext101_64x4d")
_DENSENETS = ("densenet121", "densenet161", "densenet169", "densenet201", "densenet264")
_PREACTIVATED = ("preresnet50", "preresnet101", "preresnet152", "preresnet200")
_TORCHVISION = tuple(  # those of its networks that it trained so: MobileNets have recipes of their own
    network.name
    for network in catalogue.networks().values()
    if any(name.startswith("torchvision/") for name in network.elsewhere) and "mobilenet" not in network.name
)
RECIPES = {
    "resnet_imagenet_2015": Formula(
        make=resnet_imagenet_2015, networks=("resnet50_v1", *(n for n in _FIRST if "50" not in n), "plain18", "plain34")
    ),
    "resnet_fb": Formula(make=resnet_fb, networks=(*_RESNETS, *_PREACTIVATED, "wide_resnet50_2", "wide_resnet101_2")),
    "resnext_imagenet_2016": Formula(make=resnext_imagenet_2016, networks=_RESNEXTS),
    "densenet_imagenet_2016": Formula(make=densenet_imagenet_2016, networks=_DENSENETS),
    "senet_2017": Formula(make=senet_2017, networks=_SE),
    "torchvision_v1": Formula(
        make=torchvision_v1, networks=("resnet50", *(n for n in _TORCHVISION if n != "resnet50"))
    ),
    "resnet_strikes_back_a3": Formula(make=resnet_strikes_back_a3, networks=_RESNETS),
}
