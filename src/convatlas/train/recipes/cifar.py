"""How the residual networks for CIFAR were trained: He et al. Deep Residual Learning. 2015. https://arxiv.org/abs/1512.03385, section 4.2.

64,000 steps of 128 images, the learning rate divided by 10 after 32,000 and 48,000; weight decay on all parameters; images padded by 4
pixels, cropped back and mirrored. The plain networks of the comparison and the pre-activation ones (He et al. Identity Mappings in Deep
Residual Networks. 2016. https://arxiv.org/abs/1603.05027, appendix) were trained alike.
"""

from __future__ import annotations

from dataclasses import replace

from convatlas.train.config import Augment, Optim, TrainConfig
from convatlas.train.recipes.recipe import Recipe

CONFIG = TrainConfig(
    epochs=182,  # 64,000 steps of 128 on 45,000 images, which leaves 5,000 to validate on; with all 50,000 it would be 164
    batch_size=128,
    image_size=32,
    optim=Optim(
        lr=0.1, weight_decay=1e-4, nesterov=False, decay_all=True, warmup_epochs=0, schedule="step", drops=(0.5, 0.75)
    ),
    augment=Augment(pad=4, flip=0.5),
    mean=(0.4914, 0.4822, 0.4465),  # of a channel; the paper's is of a pixel
    std=(0.2470, 0.2435, 0.2616),
)
_WARMED_UP = ("resnet110_cifar", "preresnet110_cifar", "preresnet164_cifar")  # as the papers did with these


def residual(network: str) -> Recipe:
    """`convatlas train resnet20_cifar cifar10 --out run`.

    The paper has 8.75 % error for ResNet-20 on CIFAR-10, 7.51 for ResNet-32, 6.97 for ResNet-56, 6.43 for ResNet-110 (best of five runs,
    6.61 ± 0.16); plain-20 and plain-56 are in its figure 6 alone. Not reproduced here at this length: a ResNet-20 takes hours on two
    cores. The deepest warm up for an epoch, where the paper held 0.01 for about 400 steps.
    """
    config = CONFIG
    if network in _WARMED_UP:
        config = replace(config, optim=replace(config.optim, warmup_epochs=1))
    return Recipe(
        network=network, config=config, source="He et al. 2015, section 4.2; batch, steps, decay and padding as there"
    )
