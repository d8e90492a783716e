"""What stages see: the patch of a unit is what it sees, selective channels are those that tell classes apart, the page stands alone."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from typer.testing import CliRunner

import convatlas
from convatlas.cli.verbs import app
from convatlas.data import Preprocessing
from convatlas.errors import ConvAtlasError
from convatlas.jobs import sees as job
from convatlas.jobs.fit import FitResult
from convatlas.jobs.layout import layouts, neighbours_agree, principal
from convatlas.jobs.selectivity import most_selective, selectivity
from convatlas.weights.load import load_network
from convatlas.weights.source import find_weights
from convatlas.zoo.inference import normalised
from tiny import CLASSES, STAGES, photo


@pytest.fixture(scope="module")
def seen(fitted: FitResult, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    out = tmp_path_factory.mktemp("seen") / "out"
    found = convatlas.sees(fitted.bundle, photos, out=out, images=18)
    assert found.page == out / "stages.html"
    return found.json, out


def test_every_stage_is_looked_at(seen: tuple[dict[str, Any], Path]) -> None:
    result, out = seen
    assert json.loads((out / "sees.json").read_text(encoding="utf-8")) == result
    assert result["schema"] == "convatlas.sees/1" and result["classes"] == list(CLASSES)
    labels = [image["label"] for image in result["images"]]
    assert [labels.count(name) for name in CLASSES] == [6, 6, 6]
    assert {Path(image["path"]).parts[-3] for image in result["images"]} == {"train"}
    names = [stage["name"] for stage in result["stages"]]
    assert names == list(STAGES)[: len(names)] and len(names) >= 1
    for stage in result["stages"]:
        assert len(stage["map"]) == 18 and np.abs(stage["map"]).max() == pytest.approx(1, abs=1e-3)
        assert 0 <= stage["neighbours_agree"] <= 1
        chosen = [channel["selectivity"] for channel in stage["channels"]]
        assert chosen == sorted(chosen, reverse=True) and len({c["channel"] for c in stage["channels"]}) == len(chosen)
        for channel in stage["channels"]:
            values = [patch["value"] for patch in channel["patches"]]
            assert values == sorted(values, reverse=True)
            assert len({patch["image"] for patch in channel["patches"]}) == len(values)


def test_the_page_stands_alone(seen: tuple[dict[str, Any], Path]) -> None:
    result, out = seen
    page = (out / "stages.html").read_text(encoding="utf-8")
    assert not re.findall(r'(?:src|href)="(?!data:|#|https://(?:doi|arxiv))[^"]*"', page)
    patches = sum(len(channel["patches"]) for stage in result["stages"] for channel in stage["channels"])
    assert page.count("data:image/jpeg") == 18 + patches and page.count("data:image/png") == 1
    assert page.count("<g data-i=") == 18 * len(result["stages"])


@pytest.mark.parametrize("stage", STAGES)
def test_what_lies_outside_a_patch_does_not_move_its_unit(backbone: Path, stage: str) -> None:
    """Everything but the patch is replaced by noise, and the value that was shown for it stays; inside it, it does not."""
    source = find_weights(backbone)
    network, _ = load_network(source, num_classes=0)
    p = source.preprocessing
    pixels = np.stack([p.pixels(photo(CLASSES[i % 3], i)) for i in range(3)])
    found = job._run(network, pixels, p, lambda what, done, total: None)[stage]
    generator = np.random.default_rng(0)
    for image in range(3):
        place = found.places[image, 5].tolist()
        top, bottom, left, right = job._window(found, place, pixels.shape[1:3])
        noise = generator.integers(0, 256, pixels[image].shape, dtype=np.uint8)
        outside, inside = noise.copy(), pixels[image].copy()
        patch = slice(top, bottom + 1), slice(left, right + 1)
        outside[patch], inside[patch] = pixels[image][patch], noise[patch]
        for changed, same in ((outside, True), (inside, False)):
            value = at(network, changed, p, stage, 5, place)
            assert (value == pytest.approx(float(found.largest[image, 5]), rel=1e-4, abs=1e-5)) is same


def at(network: nn.Module, pixels: np.ndarray, p: Preprocessing, stage: str, channel: int, place: list[int]) -> float:
    with torch.inference_mode():
        maps = convatlas.prefix(network, stage)(normalised(torch.from_numpy(pixels[None]), p.mean, p.std))  # type: ignore[arg-type] - a ConvNet
    return float(maps[0, channel, place[0], place[1]])


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 5))
def test_selectivity_is_between_classes_and_nought_by_chance(seed: int, classes: int) -> None:
    generator = np.random.default_rng(seed)
    labels = np.repeat(np.arange(classes), 30)
    answers = generator.normal(size=(len(labels), 40))
    answers[:, 0] = labels
    answers[:, 1] = labels + 0.01 * generator.normal(size=len(labels))  # tells the same
    answers[:, 2] = 3.0  # dead
    found = selectivity(answers, labels)
    assert found[0] == pytest.approx(1) and found[2] == 0
    assert abs(found[3:].mean()) < 0.02 and (found <= 1 + 1e-9).all()
    chosen = most_selective(answers, labels, 4)
    assert chosen[0] == 0 and 1 not in chosen and 2 not in chosen and len(chosen) == 4
    shuffled = generator.permutation(len(labels))
    assert selectivity(answers[shuffled], labels[shuffled]) == pytest.approx(found)


def test_layouts_keep_neighbours_and_are_the_same_again() -> None:
    generator = np.random.default_rng(1)
    labels = np.repeat(np.arange(3), 20)
    apart = generator.normal(size=(60, 30)) + 8 * np.eye(30)[labels]
    mixed = generator.normal(size=(60, 10))
    found = dict(layouts({"early": mixed, "late": apart}))
    again = dict(layouts({"early": mixed, "late": apart}))
    assert all(np.array_equal(found[stage], again[stage]) for stage in found)
    distance = np.linalg.norm(found["late"][:, None] - found["late"], axis=-1) + 1e9 * np.eye(60)
    assert (labels[distance.argmin(axis=1)] == labels).mean() > 0.95
    assert neighbours_agree(apart, labels) == 1.0
    assert neighbours_agree(mixed, labels) < 0.7
    axes = principal(apart, 5)
    assert (np.diff(axes.var(axis=0)) <= 1e-9).all() and axes.shape == (60, 5)
    assert principal(np.ones((4, 1)), 5).shape == (4, 2)


def test_networks_by_name_and_few_images(backbone: Path, photos: Path, tmp_path: Path) -> None:
    arguments = [
        "show",
        "resnet20_cifar",
        "--weights",
        str(backbone),
        "--sees",
        str(photos),
        "--out",
        str(tmp_path / "o"),
    ]
    outcome = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert outcome.exit_code == 0 and "stage3" in outcome.stdout
    found = convatlas.sees("resnet20_cifar", photos, weights=backbone, images=4)
    assert found.page is None and len(found.json["images"]) == 4
    assert [stage["field"] for stage in found.json["stages"]] == [[15, 15], [37, 37], [81, 81]]


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        ("resnet20_cifar", {"images": 1}, "fewer than two images"),
        ("resnet_20", {}, "unknown model 'resnet_20'"),
        (None, {"weights": True}, "is a model folder, which has its weights"),
    ],
)
def test_what_cannot_be_looked_at_is_said(
    fitted: FitResult, backbone: Path, photos: Path, model: str | None, options: dict[str, Any], message: str
) -> None:
    weights = backbone if model == "resnet20_cifar" or options.pop("weights", None) else None
    with pytest.raises(ConvAtlasError, match=re.escape(message)):
        convatlas.sees(model or fitted.bundle, photos, weights=weights, **options)
    with pytest.raises(ConvAtlasError, match="--sees makes pictures"):
        CliRunner().invoke(app, ["show", "resnet20_cifar", "--sees", str(photos)], catch_exceptions=False)
