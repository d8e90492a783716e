"""How MobileNets were trained: V1 (Howard et al. 2017. https://arxiv.org/abs/1704.04861), V2 (Sandler et al. 2018.
https://arxiv.org/abs/1801.04381), V3 (Howard et al. 2019. https://arxiv.org/abs/1905.02244), all with TensorFlow's RMSprop on many
machines.

One process here, not sixteen at their own pace. TensorFlow's RMSprop has its eps inside the root; the papers do not say how large,
and TF-Slim's scripts, with which the authors trained, have 1. "Inception-style" images are crops of 8 to 100 %, flips, and colours
changed by up to 40 %.
"""

from __future__ import annotations

from dataclasses import replace

from convatlas import catalogue
from convatlas.train.config import Augment, Optim, TrainConfig
from convatlas.train.recipes.recipe import Formula, Recipe, side

INCEPTION = Augment(scale=(0.08, 1.0), flip=0.5, colour=0.4)
_V2 = TrainConfig(
    epochs=300,
    batch_size=96,
    optim=Optim(
        name="rmsprop",
        lr=0.045,
        lr_batch=96,
        momentum=0.9,
        nesterov=False,
        squares=0.9,
        eps=1.0,
        weight_decay=4e-5,
        warmup_epochs=0,
        schedule="exponential",
        factor=0.98,
        factor_epochs=1,
    ),
    augment=INCEPTION,
    label_smoothing=0.1,
    ema=0.9999,
    mean=(0.5,) * 3,  # TensorFlow's: pixels in −1 … 1
    std=(0.5,) * 3,
)


def mobilenet_v1_2017(network: str = "mobilenet_v1_100") -> Recipe:
    """`convatlas train mobilenet_v1_2017 photos --network mobilenet_v1_050_160 --out run`.

    The paper has RMSprop, little or no decay of the depthwise filters (here none), milder augmentation than Inception's and no
    label smoothing, and not a number. The numbers are V2's: rate, batch, decay, length; crops keep 35 to 100 % and colours change
    by up to 20 %, which is ours.

    The paper reports 70.6 % top-1 accuracy for the whole network at 224 pixels, 50.6 for a quarter of it (validation). Not
    reproduced here.
    """
    config = replace(
        _V2,
        image_size=side(network),
        optim=replace(_V2.optim, decay_depthwise=False),
        augment=Augment(scale=(0.35, 1.0), flip=0.5, colour=0.2),
        label_smoothing=0.0,
    )
    source = "Howard et al. 2017, section 3.2, which gives no numbers; those are V2's"
    return Recipe(network=network, config=config, source=source)


def mobilenet_v2_2018(network: str = "mobilenet_v2") -> Recipe:
    """`convatlas train mobilenet_v2_2018 photos --out run`.

    Batches of 96, the rate of 0.045 times 0.98 every epoch, decay 4e-5; label smoothing of 0.1 and averaged weights as in the authors'
    script. Departs: see this file's head; 300 epochs are torchvision's, as the paper states none. Dropout of 0.2 is in the network.

    The paper reports 72.0 % top-1 accuracy (validation, one crop). Not reproduced here.
    """
    source = "Sandler et al. 2018, section 6.1, and TensorFlow's README; eps from TF-Slim, epochs from torchvision"
    return Recipe(network=network, config=replace(_V2, image_size=side(network)), source=source)


def mobilenet_v3_2019(network: str = "mobilenet_v3_large") -> Recipe:
    """`convatlas train mobilenet_v3_2019 photos --set batch_size=128 --out run`.

    Batches of 4096 at a rate of 0.1 (with another batch in proportion), which loses a hundredth every 3 epochs, as we read its
    "decay 0.01"; decay 1e-5, averaged weights. Departs: its dropout of 0.8 is read as the share that is kept, as torchvision does,
    and is 0.2 in the network; batch norm's averages keep torch's 0.9 a step, not 0.99; 600 epochs are torchvision's; an eps of
    0.001 is EfficientNet's code's. And see this file's head.

    The paper reports 75.2 % top-1 accuracy for the large network, 67.4 for the small one (validation, one crop). Not reproduced here.
    """
    optim = replace(_V2.optim, lr=0.1, lr_batch=4096, eps=1e-3, weight_decay=1e-5, factor=0.99, factor_epochs=3)
    config = replace(_V2, epochs=600, batch_size=4096, image_size=side(network), optim=optim, label_smoothing=0.0)
    source = "Howard et al. 2019, section 6.1; epochs from torchvision, eps from EfficientNet's code"
    return Recipe(network=network, config=config, source=source)


_FIRST = tuple(name for name in catalogue.names("*mobilenet*") if catalogue.find(name).family == "MobileNet")
RECIPES = {
    "mobilenet_v1_2017": Formula(make=mobilenet_v1_2017, networks=_FIRST),
    "mobilenet_v2_2018": Formula(make=mobilenet_v2_2018, networks=("mobilenet_v2",)),
    "mobilenet_v3_2019": Formula(make=mobilenet_v3_2019, networks=("mobilenet_v3_large", "mobilenet_v3_small")),
}
