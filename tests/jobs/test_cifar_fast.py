"""The recipe `cifar_fast`: its first layer comes from the images that are trained on, it learns, and it goes on bit for bit."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

import convatlas
from convatlas.errors import Stopped
from convatlas.jobs.train import train_recipe
from convatlas.train.recipes import recipe
from convatlas.zoo.airbench import VARIANTS
from tiny import CLASSES, write_split

RECIPE = "cifar_fast_025"
QUICK = ("epochs=4", "batch_size=9", "optim.lr=0.1")
STEPS = 4 * (3 * len(CLASSES) * 3 // 9)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_split(tmp_path_factory.mktemp("data"), {"train": 9, "test": 8})


@pytest.fixture(scope="module")
def alone(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> convatlas.TrainResult:
    return train_recipe(RECIPE, photos, out=tmp_path_factory.mktemp("runs") / "alone", settings=QUICK, device="cpu")


def weights(result: convatlas.TrainResult) -> dict[str, Tensor]:
    return load_file(result.model / "model.safetensors")


def test_it_learns(alone: convatlas.TrainResult) -> None:
    assert alone.json["accuracy"] >= 0.9


def test_the_first_layer_whitens_the_images_it_was_trained_on(alone: convatlas.TrainResult) -> None:
    filters = weights(alone)["stages.stem.whiten.weight"]
    assert torch.equal(filters[:12], -filters[12:])
    norms = filters[:12].flatten(1).norm(dim=1)
    assert (norms.diff() > 0).all()  # the strongest direction has the smallest filter
    directions = filters[:12].flatten(1) / norms[:, None]
    torch.testing.assert_close(directions @ directions.T, torch.eye(12), atol=1e-4, rtol=0)


@pytest.mark.parametrize("step", [1, STEPS // 2])
def test_stopped_it_goes_on_to_the_same(photos: Path, alone: convatlas.TrainResult, tmp_path: Path, step: int) -> None:
    def go(stop_after: int = 0) -> convatlas.TrainResult:
        def progress(what: str, done: int, total: int) -> None:
            if what == "train" and done == stop_after * 9:  # images
                signal.raise_signal(signal.SIGTERM)

        out = tmp_path / "run"
        return train_recipe(RECIPE, photos, out=out, settings=QUICK, device="cpu", progress=progress)

    with pytest.raises(Stopped, match=f"after step {step} of {STEPS}"):
        go(stop_after=step)
    mine, theirs = weights(go()), weights(alone)
    assert all(torch.equal(mine[key], x) for key, x in theirs.items())


@pytest.mark.parametrize("name", VARIANTS)
def test_there_is_a_recipe_for_each_width(name: str) -> None:
    assert recipe(name).network == name and recipe(name).prepare
