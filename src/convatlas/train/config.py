"""What a training run is: frozen dataclasses, every field with its meaning, so that a run can be printed, compared and repeated."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Optim:
    """The optimiser and its learning rate over time."""

    name: Literal["sgd", "adamw"] = "sgd"
    lr: float = 0.1  # the highest it gets, for the whole batch
    norm_bias_lr: float = 1.0  # batch norms' biases learn at this times the rate; their decay a step stays what it is
    momentum: float = 0.9  # SGD's; AdamW keeps its usual (0.9, 0.999)
    nesterov: bool = True  # SGD's
    weight_decay: float = 5e-4
    decay_all: bool = False  # biases and norms too, as was usual until 2017; else filters and matrices alone
    warmup_epochs: float = 5.0  # linear, from a hundredth of `lr`
    schedule: Literal["cosine", "step", "triangle"] = "cosine"  # after the warm-up; the triangle has its own
    final_lr: float = 0.0  # where cosine and triangle end, as a share of `lr`
    rise: float = 0.25  # triangle: share of the run in which it rises, from a fifth of `lr`
    drops: tuple[float, ...] = ()  # shares of the run after which the steps divide the learning rate by 10


@dataclass(frozen=True, kw_only=True)
class Augment:
    """Random changes of each training image; the defaults change nothing but the size."""

    scale: tuple[float, float] = (1.0, 1.0)  # share of the image's area that a random resized crop keeps
    ratio: tuple[float, float] = (3 / 4, 4 / 3)  # of the crop's width to its height
    pad: int = 0  # pixels put around the image, of which a part of the image's size is then cut out
    padding: Literal["mean", "reflect"] = "mean"  # those pixels: the mean colour, or the image mirrored at its border
    flip: float = 0.0  # probability of a left-right flip
    flip_mode: Literal["random", "alternate"] = "random"  # drawn each time, or each image in every second epoch
    colour: float = 0.0  # brightness, contrast and saturation times a factor in 1 ± this
    grey: float = 0.0  # probability of losing all colour
    mixup: float = 0.0  # probability that a batch is blended with itself in another order; weight uniform in (0, 1)
    cutmix: float = 0.0  # probability that a batch gets rectangles from itself in another order; area uniform in (0, 1)
    erase: float = 0.0  # probability that a rectangle of 2 to 33 % of the image becomes the mean colour


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """One run of `train`: with the model's initial weights and the images, this decides everything."""

    epochs: int
    batch_size: int = 256
    image_size: int = 224  # side in pixels of what the network sees, in training and on the held-out part
    optim: Optim = field(default_factory=Optim)
    augment: Augment = field(default_factory=Augment)
    micro_batch: int = (
        0  # images that a process works on at once, their gradients added up to the batch's; 0 for all its part
    )
    label_smoothing: float = 0.0
    balance: Literal["none", "weights", "sampling"] = (
        "none"  # makes classes count alike: in the loss, or by how often they are drawn
    )
    ema: float = 0.0  # decay per step of an averaged copy of the weights, which is then the result; 0 for none
    patience: int = (
        0  # epochs without a better validation accuracy, after which it ends; the best weights are the result. 0: never
    )
    retries: int = (
        0  # times that it may go on from the last epoch at a tenth of the learning rate when numbers are not finite
    )
    precision: Literal["float32", "bfloat16", "float16"] = "float32"  # autocast: weights and their updates stay float32
    sync_batchnorm: bool = False  # statistics of a batch over all processes (on GPUs) instead of over each one's part
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)  # per channel, of pixels in 0 … 1; ImageNet's
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    seed: int = 0  # order of the images, augmentation, dropout

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.image_size < 1:
            raise ValueError(f"epochs and image_size must be at least 1, not {self.epochs} and {self.image_size}")
        if self.batch_size < 2:
            raise ValueError(f"batch_size is {self.batch_size}; batch norm needs at least 2 images to train")
        if not 0 < self.optim.rise < 1 or self.optim.norm_bias_lr <= 0:
            found = f"{self.optim.rise} and {self.optim.norm_bias_lr}"
            raise ValueError(f"optim.rise is between 0 and 1 and optim.norm_bias_lr above 0, not {found}")
        if not 0 <= self.micro_batch <= self.batch_size:
            raise ValueError(f"micro_batch is {self.micro_batch}; give images, up to batch_size ({self.batch_size})")
        if self.patience < 0 or self.retries < 0:
            raise ValueError(f"patience and retries are counted from 0, not {self.patience} and {self.retries}")
        if any(not 0 < share < 1 for share in self.optim.drops):
            raise ValueError(f"optim.drops are shares of the run, between 0 and 1, not {self.optim.drops}")
        if self.augment.flip_mode == "alternate" and self.augment.flip != 0.5:
            raise ValueError(
                f"augment.flip_mode alternate flips a half of the images; augment.flip is {self.augment.flip}, not 0.5"
            )
        if self.augment.pad < 0:
            raise ValueError(f"augment.pad is {self.augment.pad}; give pixels, from 0")
        if len(self.mean) != len(self.std):
            raise ValueError(
                f"mean has {len(self.mean)} channels and std has {len(self.std)}; give one of each per channel"
            )
