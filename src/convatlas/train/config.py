"""What a training run is: frozen dataclasses, every field with its meaning, so that a run can be printed, compared and repeated."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from typing import Any, Literal

Schedule = Literal["cosine", "step", "plateau", "exponential", "onecycle", "triangle", "polynomial", "halving"]


def _ensure_finite(config: Any, prefix: str) -> None:
    for field_ in fields(config):
        value = getattr(config, field_.name)
        numbers = value if isinstance(value, tuple) else (value,)
        if any(isinstance(number, float) and not math.isfinite(number) for number in numbers):
            raise ValueError(f"{prefix}{field_.name} is a finite number, not {value}")


def _ensure_within(config: Any, prefix: str, *names: str, most: float = math.inf) -> None:
    for name in names:
        value = getattr(config, name)
        if not 0 <= value <= most:
            up_to = "" if most == math.inf else f" and at most {most:g}"
            raise ValueError(f"{prefix}{name} is at least 0{up_to}, not {value}")


@dataclass(frozen=True, kw_only=True)
class Optim:
    """The optimiser and its learning rate over time."""

    name: Literal["sgd", "adamw", "rmsprop", "lamb"] = "sgd"
    lr: float = 0.1  # the highest it gets, for the whole batch
    lr_batch: int = 0  # the batch that `lr` is for, others get it in proportion; 0: `lr` is for any
    bias_lr: float = 1.0  # biases of convolutions and fully connected layers learn at this times the rate
    norm_bias_lr: float = 1.0  # those of batch norms at this times, their decay a step staying what it is
    stage_decay: float = (
        1.0  # every stage learns at this times the rate of the one after it, the last at this times the head's
    )
    momentum: float = 0.9  # SGD's and RMSprop's; AdamW and LAMB keep their usual (0.9, 0.999)
    nesterov: bool = True  # SGD's
    velocity: Literal["gradients", "steps"] = "gradients"  # what SGD's momentum sums; steps have the rate inside
    squares: float = 0.9  # RMSprop's: how much of its mean of squared gradients stays at a step
    eps: float = 1e-8  # RMSprop's is inside the root, as TensorFlow's; the others' outside
    weight_decay: float = 5e-4  # added to the gradient; AdamW and LAMB have it beside
    decay_all: bool = False  # biases and norms too, as was usual until 2017; else filters and matrices alone
    decay_depthwise: bool = True  # the filters of depthwise convolutions too
    clip_norm: float = 0.0  # all gradients together are scaled down to this norm where theirs is larger; 0 for never
    filter_rms: float = 0.0  # first-layer filters whose root mean square grows past this are scaled back; 0 for never
    warmup_epochs: float = 5.0  # linear, from a hundredth of `lr`
    schedule: Schedule = "cosine"  # after the warm-up
    final_lr: float = 0.0  # where cosine, one cycle, triangle and polynomial end, as a share of `lr`
    drops: tuple[float, ...] = ()  # shares of the run after which the steps divide the learning rate
    divisor: float = 10.0  # by this: steps, plateau, halving
    levels: tuple[float, ...] = ()  # or the rate after each drop, as a share of `lr`
    patience: int = 5  # plateau: epochs without a new best before it drops
    most_drops: int = 3  # plateau
    watch: Literal["validation", "training"] = "validation"  # plateau: by the accuracy of this part; never a test part
    factor: float = 0.97  # exponential: times this …
    factor_epochs: float = 1.0  # … every so many epochs, at once
    power: float = 1.0  # polynomial: of the share of the run that is left; 1 is a straight line
    rise: float = 0.25  # one cycle and triangle: share of the run in which it rises, from a 25th or a fifth of `lr`

    def __post_init__(self) -> None:
        _ensure_finite(self, "optim.")
        _ensure_within(self, "optim.", "lr", "momentum", "weight_decay", "warmup_epochs", "final_lr")
        _ensure_within(self, "optim.", "momentum", "squares", most=1)
        if any(not 0 < share < 1 for share in self.drops):
            raise ValueError(f"optim.drops are shares of the run, between 0 and 1, not {self.drops}")
        if self.divisor <= 1 or not 0 < self.factor <= 1 or not 0 < self.rise < 1:
            found = f"{self.divisor}, {self.factor} and {self.rise}"
            raise ValueError(f"optim.divisor is above 1, optim.factor in (0, 1] and optim.rise in (0, 1), not {found}")
        if self.patience < 1 or self.most_drops < 0 or self.factor_epochs <= 0 or self.power <= 0:
            found = f"{self.patience}, {self.most_drops}, {self.factor_epochs} and {self.power}"
            raise ValueError(f"optim.patience, most_drops, factor_epochs and power count from above 0, not {found}")
        if min(self.clip_norm, self.filter_rms, self.lr_batch, self.bias_lr) < 0 or self.eps <= 0:
            raise ValueError("optim.clip_norm, filter_rms, lr_batch and bias_lr are at least 0, and eps is above 0")
        if not 0 < self.stage_decay <= 1:
            raise ValueError(f"optim.stage_decay is in (0, 1], not {self.stage_decay}")
        if self.norm_bias_lr <= 0:  # their decay is divided by it
            raise ValueError(f"optim.norm_bias_lr is above 0, not {self.norm_bias_lr}")


@dataclass(frozen=True, kw_only=True)
class Augment:
    """Random changes of each training image; the defaults change nothing but the size."""

    scale: tuple[float, float] = (1.0, 1.0)  # share of the image's area that a random resized crop keeps
    ratio: tuple[float, float] = (3 / 4, 4 / 3)  # of the crop's width to its height
    sides: tuple[int, int] = (0, 0)  # or a crop as if it were scaled to a side in between; ResNet has (256, 480)
    pad: int = 0  # pixels of the mean colour put around the image, of which a part of the image's size is then cut out
    padding: Literal["mean", "reflect"] = "mean"  # or those pixels mirrored
    flip: float = 0.0  # probability of a left-right flip
    flip_mode: Literal["random", "alternate"] = "random"  # alternate: a half in one epoch, the others in the next
    rotate: float = 0.0  # degrees either way, at the most
    colour: float = 0.0  # brightness, contrast and saturation times a factor in 1 ± this
    pca: float = 0.0  # AlexNet's colour noise: standard deviation along the axes of the images' colours; 0.1 there
    grey: float = 0.0  # probability of losing all colour
    randaugment: float = 0.0  # magnitude, to 10, of two changes drawn out of fourteen: see `train/randaugment.py`
    mixup: float = 0.0  # probability that a batch is blended with itself in another order
    mixup_alpha: float = 1.0  # the weight's distribution is Beta(this, this); uniform with 1, near 0 or 1 with less
    cutmix: float = 0.0  # probability that a batch gets rectangles from itself in another order; area uniform in (0, 1)
    erase: float = 0.0  # probability that a rectangle of 2 to 33 % of the image becomes the mean colour
    cutout: int = 0  # side in pixels of a square anywhere, also half outside, that becomes the mean colour

    def __post_init__(self) -> None:
        _ensure_finite(self, "augment.")
        _ensure_within(self, "augment.", "flip", "grey", "mixup", "cutmix", "erase", most=1)
        _ensure_within(self, "augment.", "rotate", "colour", "pca")
        if not 0 < self.scale[0] <= self.scale[1] <= 1 or not 0 < self.ratio[0] <= self.ratio[1]:
            found = f"{self.scale} and {self.ratio}"
            raise ValueError(f"augment.scale is two shares above 0 and up to 1, augment.ratio two above 0, not {found}")
        if self.pad < 0 or self.cutout < 0:
            raise ValueError(f"augment.pad is {self.pad} and augment.cutout {self.cutout}; give pixels, from 0")
        if self.flip_mode == "alternate" and self.flip not in (0.0, 0.5):
            raise ValueError(
                f"augment.flip is {self.flip}; flips that alternate are of one half, so give 0.5, or 0 for none"
            )
        if not 0 < self.mixup_alpha <= 1:
            raise ValueError(f"augment.mixup_alpha is {self.mixup_alpha}; give a number above 0 and up to 1")
        if not 0 <= self.randaugment <= 10:
            raise ValueError(f"augment.randaugment is {self.randaugment}; magnitudes go from 0 to 10")
        if self.sides[0] > self.sides[1] or self.sides[0] < 0:
            raise ValueError(f"augment.sides is {self.sides}; give the least side and the largest, in pixels")

    @property
    def crops(self) -> bool:
        """Whether part of an image is shown instead of the whole."""
        return self.scale != (1.0, 1.0) or bool(self.sides[1])


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """One run of `train`: with the model's initial weights and the images, this decides everything."""

    epochs: int
    batch_size: int = 256
    image_size: int = 224  # side in pixels of what the network sees in training
    eval_size: int = 0  # side in pixels on the held-out part, and in use; 0 for `image_size`
    optim: Optim = field(default_factory=Optim)
    augment: Augment = field(default_factory=Augment)
    micro_batch: int = 0  # images that a process works on at once, gradients being added up; 0 for all its part
    loss: Literal["cross_entropy", "binary"] = "cross_entropy"  # binary: each class by itself, yes or no
    label_smoothing: float = 0.0
    auxiliary: float = 0.0  # weight of the losses of a network's auxiliary classifiers; 0 leaves them out
    balance: Literal["none", "weights", "sampling"] = "none"  # makes classes count alike: in the loss, or as drawn
    ema: float = 0.0  # decay per step of an averaged copy of the weights, which is then the result; 0 for none
    patience: int = 0  # epochs without a better validation accuracy after which the best weights are it; 0 for never
    retries: int = 0  # times that an epoch may begin again at a tenth of the rate when numbers are not finite
    precision: Literal["float32", "bfloat16", "float16"] = "float32"  # autocast: weights and their updates stay float32
    sync_batchnorm: bool = False  # statistics of a batch over all processes (on GPUs) instead of over each one's part
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)  # per channel, of pixels in 0 … 1; ImageNet's
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    seed: int = 0  # order of the images, augmentation, dropout

    def __post_init__(self) -> None:
        _ensure_finite(self, "")
        _ensure_within(self, "", "auxiliary")
        _ensure_within(self, "", "label_smoothing", "ema", most=1)
        if self.augment.padding == "reflect" and self.augment.pad >= self.image_size:
            raise ValueError(
                f"augment.pad is {self.augment.pad}; an image of {self.image_size} cannot be mirrored so far"
            )
        if min(self.std, default=1) <= 0:
            raise ValueError(f"std is above 0, not {self.std}")
        if self.epochs < 1 or self.image_size < 1:
            raise ValueError(f"epochs and image_size must be at least 1, not {self.epochs} and {self.image_size}")
        if self.batch_size < 1 or self.eval_size < 0:
            raise ValueError(
                f"batch_size is {self.batch_size} and eval_size {self.eval_size}; give images, from 1, and pixels, from 0"
            )
        if not 0 <= self.micro_batch <= self.batch_size:
            raise ValueError(f"micro_batch is {self.micro_batch}; give images, up to batch_size ({self.batch_size})")
        if self.patience < 0 or self.retries < 0:
            raise ValueError(f"patience and retries are counted from 0, not {self.patience} and {self.retries}")
        if len(self.mean) != len(self.std):
            raise ValueError(
                f"mean has {len(self.mean)} channels and std has {len(self.std)}; give one of each per channel"
            )

    @property
    def shown_size(self) -> int:
        """Side in pixels of what the trained network is shown."""
        return self.eval_size or self.image_size
