"""Settings come from the fields of the config, all of them, and say what is wrong with a value."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest

from convatlas.errors import ConvAtlasError
from convatlas.train import TrainConfig
from convatlas.train.overrides import overridden, settable
from convatlas.train.recipes import recipe

CONFIG = TrainConfig(epochs=3)


def value(config: Any, path: str) -> Any:
    for part in path.split("."):
        config = getattr(config, part)
    return config


@pytest.mark.parametrize("path", list(settable(CONFIG)))
def test_every_field_can_be_set_to_what_it_is(path: str) -> None:
    now = value(CONFIG, path)
    text = ",".join(map(str, now)) if isinstance(now, tuple) else str(now)
    assert overridden(CONFIG, [f"{path}={text}"]) == CONFIG


def test_settings_apply_in_order() -> None:
    config = overridden(
        CONFIG,
        [
            "optim.lr=0.5",
            "optim.lr = 0.05",
            "augment.scale=0.2,1",
            "optim.nesterov=False",
            "optim.drops=0.5,.75",
            "seed=7",
        ],
    )
    optim = replace(CONFIG.optim, lr=0.05, nesterov=False, drops=(0.5, 0.75))
    assert config == replace(CONFIG, optim=optim, augment=replace(CONFIG.augment, scale=(0.2, 1.0)), seed=7)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("epochs", "sets nothing"),
        ("optim.rl=1", "did you mean 'optim.lr'"),
        ("optim=1", "there is no setting 'optim'"),
        ("lr.optim=1", "there is no setting"),
        ("epochs=many", "it is a whole number"),
        ("epochs=0", "must be at least 1"),
        ("optim.name=lion", "one of sgd, adamw, rmsprop, lamb"),
        ("optim.nesterov=2", "it is true or false"),
        ("optim.lr=fast", "it is a number"),
        ("augment.scale=1", "1 values where there are 2"),
        ("optim.drops=0.5,1.5", "shares of the run"),
        ("augment.pad=-1", "give pixels, from 0"),
        ("augment.sides=256,224", "the least side and the largest"),
        ("augment.sides=0.5,1", "numbers with commas"),
        ("augment.padding=zero", "one of mean, reflect"),
        ("augment.mixup_alpha=2", "above 0 and up to 1"),
        ("augment.randaugment=11", "from 0 to 10"),
        ("optim.schedule=linear", "one of cosine, step, plateau"),
        ("optim.divisor=1", "optim.divisor is above 1"),
        ("optim.patience=0", "optim.patience"),
        ("optim.clip_norm=-1", "at least 0"),
        ("optim.watch=test", "one of validation, training"),
        ("batch_size=0", "batch_size is 0"),
        ("mean=1", "mean has 1 channels"),
    ],
)
def test_what_cannot_be_set_says_why(setting: str, message: str) -> None:
    with pytest.raises(ConvAtlasError, match=message):
        overridden(CONFIG, [setting])


def test_an_unknown_recipe_names_the_nearest() -> None:
    with pytest.raises(ConvAtlasError, match="did you mean resnet20_cifar"):
        recipe("resnet20_cifra")


def test_the_residual_recipe_is_the_papers() -> None:
    """He et al. 2015, section 4.2: 64,000 steps of 128 on 45,000 images, divided by 10 at 32,000 and 48,000."""
    config = recipe("resnet56_cifar").config
    steps = config.epochs * (45_000 // config.batch_size)
    assert steps == pytest.approx(64_000, rel=0.005)
    assert [round(share * steps, -3) for share in config.optim.drops] == [32_000, 48_000]
    assert (config.optim.lr, config.optim.momentum, config.optim.weight_decay) == (0.1, 0.9, 1e-4)
    assert config.optim.decay_all and not config.optim.nesterov


def test_what_is_only_right_together_may_be_set_together() -> None:
    """In any order: grey images have one mean and one deviation, and a micro-batch is part of the batch that is set."""
    grey = overridden(CONFIG, ["mean=0.5", "std=0.25"])
    assert (grey.mean, grey.std) == ((0.5,), (0.25,))
    for settings in (["micro_batch=512", "batch_size=1024"], ["batch_size=1024", "micro_batch=512"]):
        assert overridden(CONFIG, settings).micro_batch == 512
    with pytest.raises(ConvAtlasError, match=r"mean=0.5: mean has 1 channels and std has 3"):
        overridden(CONFIG, ["mean=0.5"])


@pytest.mark.parametrize(
    "setting",
    [
        *("optim.lr=-1", "optim.lr=nan", "optim.momentum=-1", "optim.momentum=2", "optim.weight_decay=-1", "ema=2"),
        *("label_smoothing=5", "auxiliary=-1", "augment.flip=7", "augment.mixup=3", "augment.scale=0,1", "std=0,1,1"),
        *("augment.scale=0.5,2", "augment.ratio=0,1", "augment.rotate=inf", "optim.warmup_epochs=-1"),
    ],
)
def test_numbers_that_mean_nothing_are_refused(setting: str) -> None:
    with pytest.raises(ConvAtlasError, match=re.escape(setting.partition("=")[0].rpartition(".")[2])):
        overridden(CONFIG, [setting])
    with pytest.raises(ConvAtlasError, match="cannot be mirrored so far"):
        overridden(CONFIG, ["augment.pad=40", "augment.padding=reflect", "image_size=32"])
