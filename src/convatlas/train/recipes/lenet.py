"""How LeNet-5 was trained: LeCun, Bottou, Bengio, Haffner. Gradient-Based Learning Applied to Document Recognition. Proc. IEEE 1998.
http://yann.lecun.com/exdb/publis/pdf/lecun-98.pdf

Twenty passes over the 60,000 digits, one at a time, with a rate for each pass. The rate was divided for every weight by an estimate
of the loss's curvature along it (stochastic diagonal Levenberg–Marquardt, appendix C); what that leaves for us to do is said below.
"""

from __future__ import annotations

from convatlas.train.config import Augment, Optim, TrainConfig
from convatlas.train.recipes.recipe import Formula, Recipe, side


def lenet5_1998(network: str = "lenet5") -> Recipe:
    """`convatlas train lenet5_1998 mnist --out run`.

    Departs from the paper: plain gradients of one image at a time, at the paper's global rates, without the division by curvature,
    which gave each weight a rate of its own, in the first pass between about 0.00007 and 0.016; cross entropy over the distances to
    the codes instead of the paper's loss; digits of 28 pixels are scaled to 32, not put into the middle of 32. Momentum and weight
    decay are not stated and not used.

    One digit at a time is 60,000 steps a pass; with `--set batch_size=16` the rate goes in proportion, for a run of a fraction of the time.

    The paper reports 0.95 % error on MNIST's test digits, 0.8 with distorted ones in training (section III). Not reproduced here.
    """
    config = TrainConfig(
        epochs=20,
        batch_size=1,
        image_size=side(network),
        optim=Optim(
            lr=0.0005,
            lr_batch=1,
            momentum=0.0,
            nesterov=False,
            weight_decay=0.0,
            warmup_epochs=0,
            schedule="step",
            drops=(2 / 20, 5 / 20, 8 / 20, 12 / 20),  # passes 3, 6, 9 and 13 begin
            levels=(0.4, 0.2, 0.1, 0.02),  # 0.0002, 0.0001, 0.00005, 0.00001
        ),
        augment=Augment(),
        mean=(0.1 / 1.275,),  # so that the ground is −0.1 and ink 1.175, as there
        std=(1 / 1.275,),
    )
    source = "LeCun et al. 1998, section III: passes and rates; plain SGD instead of its second-order rule"
    return Recipe(network=network, config=config, source=source)


RECIPES = {"lenet5_1998": Formula(make=lenet5_1998, networks=("lenet5", "lenet5_modern"))}
