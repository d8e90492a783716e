"""Every recipe: what the papers' facts say, or a reason why not; a network that is built and takes a step; a line in the documentation."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from convatlas import catalogue, zoo
from convatlas.errors import ConvAtlasError
from convatlas.train import InMemory, TrainConfig, train
from convatlas.train.optim import for_batch, learning_rate
from convatlas.train.recipes import RECIPES, recipe
from convatlas.train.recipes.recipe import Recipe
from convatlas.train.recipes.table import PAGE, described, page

FIELDS = ("lr", "momentum", "nesterov", "batch_size", "weight_decay", "epochs", "dropout", "image_size")
# Where ours is not what the facts print, or they print nothing: ours, and why.
DEPARTURES: dict[tuple[str, str], tuple[Any, str]] = {
    ("lenet5_1998", "momentum"): (0.0, "not stated: none"),
    ("lenet5_1998", "weight_decay"): (0.0, "not stated: none"),
    ("alexnet_2012", "image_size"): (227, "its 55 positions need 227 pixels; 224 is printed"),
    ("caffenet_bvlc", "epochs"): (90, "450,000 steps of 256 on 1,281,167 images"),
    ("zfnet_2013", "weight_decay"): (5e-4, "not stated: AlexNet's"),
    ("nin_cifar_2013", "lr"): (0.1, "not stated: the authors' Caffe solver's"),
    ("nin_cifar_2013", "weight_decay"): (1e-4, "not stated: the authors' Caffe solver's"),
    ("nin_cifar_2013", "epochs"): (300, "not stated: 120,000 steps of 128 in the authors' Caffe solver"),
    ("nin_imagenet_zoo", "epochs"): (22, "450,000 steps of 64 on 1,281,167 images"),
    ("googlenet_2014", "lr"): (0.01, "not stated: BVLC's replica's"),
    ("googlenet_2014", "batch_size"): (32, "not stated: BVLC's replica's"),
    ("googlenet_2014", "weight_decay"): (2e-4, "not stated: BVLC's replica's"),
    ("googlenet_2014", "epochs"): (250, "not stated: 10 million steps of 32 in BVLC's replica"),
    ("wrn_cifar_2016", "dropout"): ([], "optional there; most of the paper's results are without"),
    ("densenet_cifar_2016", "dropout"): ([], "only without augmentation, and this recipe augments"),
    ("fractalnet_cifar_2016", "weight_decay"): (0.0, "not stated: none"),
    ("fractalnet_cifar_2016", "dropout"): ([0.1, 0.2, 0.3, 0.4], "the first block's 0 is no layer; drop-path is no dropout"),
    ("fractalnet_imagenet_2016", "weight_decay"): (0.0, "not stated: none"),
    ("fractalnet_imagenet_2016", "dropout"): ([], "not stated: none"),
    ("mobilenet_v1_2017", "momentum"): (0.9, "not stated: V2's"),
    ("mobilenet_v1_2017", "lr"): (0.045, "not stated: V2's"),
    ("mobilenet_v1_2017", "batch_size"): (96, "not stated: V2's"),
    ("mobilenet_v1_2017", "weight_decay"): (4e-5, "no number: V2's, and none on depthwise filters"),
    ("mobilenet_v1_2017", "epochs"): (300, "not stated: V2's"),
    ("mobilenet_v1_2017", "dropout"): ([], "not stated: none in the network"),
    ("mobilenet_v2_2018", "epochs"): (300, "not stated: torchvision's"),
    ("mobilenet_v3_2019", "epochs"): (600, "not stated: torchvision's"),
    ("mobilenet_v3_2019", "dropout"): ([0.2], "the printed 0.8 is read as what is kept"),
    ("nasnet_cifar_2017", "dropout"): ([], "drop-path keeps 0.6, which is no dropout: the network's 0.4"),
    ("nasnet_mobile_2017", "epochs"): (312, "250,000 steps of 1600 on 1,281,167 images"),
    ("nasnet_large_2017", "epochs"): (312, "250,000 steps of 1600 on 1,281,167 images"),
    ("nasnet_large_2017", "dropout"): ([0.5], "the other number, 0.7, is what drop-path keeps: the network's 0.3"),
    ("lenet5_1998", "dropout"): ([], "not stated: there was none"),
    ("senet_2017", "dropout"): ([], "SENet-154's alone; its network has it"),
}  # fmt: skip
OTHERS = {"resnet_strikes_back_a3"}  # recipes that the facts do not have


@pytest.fixture(scope="module")
def facts(shared: Path) -> dict[str, dict[str, Any]]:
    return {entry["name"]: entry for entry in json.loads((shared / "facts/recipes.json").read_text(encoding="utf-8"))}


def printed(entry: dict[str, Any], field: str) -> Any:
    """What the facts print for a field, as ours would be; None where they know nothing."""
    if field == "image_size":
        shown = (
            re.search(r"crop (\d{3})|(227) crop", f"{entry['test_time']}; {entry['augmentation']}")
            if entry["dataset"] == "ImageNet"
            else None
        )
        return int(shown[1] or shown[2]) if shown else {"ImageNet": 224}.get(entry["dataset"], 32)
    value = entry[field]
    if value is None or isinstance(value, bool):
        return value
    numbers = [float(number) for number in re.findall(r"\d+(?:\.\d+)?(?:e-?\d+)?", str(value))]
    if field == "dropout":
        return sorted({number for number in numbers if 0 < number < 1})
    if isinstance(value, str) and not numbers:
        return None
    return math.prod(numbers) if re.fullmatch(r"[\d.]+ x \d+( replicas)?", str(value)) else numbers[0]


def dropouts(found: Recipe) -> list[float]:
    """The rates of dropout in its network, on the `meta` device."""
    with torch.device("meta"):
        model = found.build(num_classes=10, in_channels=len(found.config.mean))
    rates = {module.p for module in model.modules() if isinstance(module, torch.nn.Dropout)}
    return sorted(rate for rate in rates if rate)


def ours(found: Recipe, field: str) -> Any:
    if field == "dropout":
        return dropouts(found)
    return getattr(found.config if hasattr(found.config, field) else found.config.optim, field)


def test_every_recipe_of_the_facts_is_here(facts: dict[str, dict[str, Any]]) -> None:
    named_for_a_network = {name for name, formula in RECIPES.items() if formula.networks == (name,)}
    assert set(RECIPES) == set(facts) | OTHERS | named_for_a_network


@pytest.mark.parametrize("name", [name for name in RECIPES if RECIPES[name].networks != (name,) and name not in OTHERS])
def test_recipes_are_the_facts_or_say_why_not(facts: dict[str, dict[str, Any]], name: str) -> None:
    found = recipe(name)
    for field in FIELDS:
        mine, theirs = ours(found, field), printed(facts[name], field)
        if (name, field) in DEPARTURES:
            said, reason = DEPARTURES[name, field]
            assert mine == pytest.approx(said) and reason, field
            assert theirs is None or theirs != pytest.approx(mine), f"{field} does not depart"
        else:
            assert theirs is not None and mine == pytest.approx(theirs), field


def drops(schedule: str, epochs: int) -> list[tuple[float, float]]:
    """When the rate falls, in epochs, and to what share of what it was, as far as the facts say so in such words."""
    if found := re.search(r"(?:x([\d.]+)|divide by (\d+)) every ([\d.]+) epochs", schedule):
        share, divisor, period = found.groups()
        return [(n * float(period), float(share or 1 / float(divisor))) for n in range(1, int(epochs / float(period)))]
    if found := re.search(r"x([\d.]+) at (?:epochs )?((?:\d+%?(?:, | and )?)+)", schedule):
        at = [(float(number), percent) for number, percent in re.findall(r"(\d+)(%?)", found[2])]
        return [(number / 100 * epochs if percent else number, float(found[1])) for number, percent in at]
    if found := re.search(r"x([\d.]+) per epoch", schedule):
        return [(n, float(found[1])) for n in range(1, epochs)]
    return []


def test_rates_fall_when_the_facts_say(facts: dict[str, dict[str, Any]]) -> None:
    checked = set[str]()
    for name in set(facts) & set(RECIPES):
        config = recipe(name).config
        for epoch, share in drops(facts[name]["schedule"] or "", config.epochs):
            before, after = (learning_rate(config.optim, epoch + off, config.epochs) for off in (-0.01, 0.01))
            assert after == pytest.approx(share * before, rel=1e-3), (name, epoch)
            checked.add(name)
    assert len(checked) >= 12, checked


def test_departures_are_of_recipes_there_are() -> None:
    assert {name for name, _ in DEPARTURES} <= set(RECIPES) and {field for _, field in DEPARTURES} <= set(FIELDS)


def every() -> Iterator[tuple[str, str]]:
    for name, formula in RECIPES.items():
        for network in formula.networks:
            yield name, network


@pytest.mark.parametrize(("name", "network"), list(every()), ids=lambda value: value)
def test_a_recipe_fits_each_of_its_networks(name: str, network: str) -> None:
    found = recipe(name, network)
    channels, height, width = catalogue.find(network).input_size
    config = found.config
    assert found.network == network and height == width
    assert config.shown_size == height and len(config.mean) == channels
    assert config.image_size == height or name == "resnet_strikes_back_a3"
    assert found.source and json.dumps(dict(found.changes))
    assert replace(config) == config  # valid, all of it
    assert set(found.changes) <= set(vars(zoo.config_of(network)))


def test_a_recipe_says_what_it_is_for() -> None:
    with pytest.raises(ConvAtlasError, match="did you mean vgg16"):
        recipe("vgg_2014", "vg16")
    with pytest.raises(ConvAtlasError, match="vgg_2014 is no recipe for 'lenet5'"):
        recipe("vgg_2014", "lenet5")


@pytest.mark.parametrize("name", [name for name in RECIPES if RECIPES[name].networks != (name,)])
def test_docstrings_give_the_command_and_promise_nothing(name: str) -> None:
    text = " ".join((RECIPES[name].make.__doc__ or "").split())
    assert re.match(r"`convatlas train \w+ \w+ .*--out run`", text)
    assert "Not reproduced here" in text


def smallest(found: Recipe) -> int:
    """A side that its network takes, with auxiliary classifiers too."""
    if found.config.auxiliary and "google" in found.network:
        return 224  # whose classifiers are for 4×4 positions
    return max(catalogue.find(found.network).sides[0], 32)


def heavy(name: str, network: str) -> bool:
    """Whether a step on four of the smallest images takes more than a second or so."""
    found = catalogue.find(network)
    mult_adds = 12 * found.mult_adds * (smallest(recipe(name, network)) / found.input_size[1]) ** 2
    return mult_adds > 2e9 or found.parameters > 20e6


def steps() -> Iterator[Any]:
    """Each recipe with its usual network, and with its cheapest."""
    for name, formula in RECIPES.items():
        cheapest = min(formula.networks, key=lambda network: catalogue.find(network).mult_adds)
        for network in dict.fromkeys([formula.networks[0], cheapest]):
            yield pytest.param(name, network, marks=pytest.mark.slow if heavy(name, network) else ())


@pytest.mark.parametrize(("name", "network"), list(steps()))
def test_a_recipe_takes_a_step(name: str, network: str) -> None:
    found = recipe(name, network)
    side = smallest(found)
    config = replace(found.config, epochs=1, batch_size=4, image_size=side, eval_size=0)
    channels = len(config.mean)
    images = torch.randint(
        0, 256, (4, channels, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    labels = torch.tensor([0, 1, 0, 1])
    torch.manual_seed(0)
    model = found.build(num_classes=2, in_channels=channels)
    before = [p.detach().clone() for p in model.parameters()]
    part = "val" if needs_part(config) else None
    held_out = InMemory(images[:1], labels[:1]) if part else None
    history = train(model, InMemory(images, labels), config, held_out=held_out, part=part)
    assert math.isfinite(history[0].loss) and 0 < history[0].lr <= for_batch(config.optim, 4).lr
    assert all(p.isfinite().all() for p in model.parameters())
    assert any(not torch.equal(p, old) for p, old in zip(model.parameters(), before, strict=True))


def needs_part(config: TrainConfig) -> bool:
    return config.optim.schedule == "plateau" and config.optim.watch == "validation"


def test_the_documentation_has_them_all() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert page(text) == text, "python -m convatlas.train.recipes.table"
    for name in RECIPES:
        assert name in text or name.removesuffix("_cifar")[-2:] in text, name


def test_the_table_says_what_the_config_is() -> None:
    rows = {row["name"]: row for row in described()}
    assert list(rows) == list(RECIPES)
    assert rows["wrn_cifar_2016"]["schedule"] == "÷ 5 after 60, 120 and 160"
    assert rows["lenet5_1998"]["schedule"] == "0.0002, 0.0001, 5e-05, 1e-05 after 2, 5, 8 and 12"
    assert (
        rows["resnet_strikes_back_a3"]["augmentation"] == "crops of 8 to 100 %, flips, RandAugment 6, mixup 0.1, cutmix"
    )
    assert rows["nasnet_cifar_2017"]["optimiser"] == "SGD 0.9, decay 0.0005, clipped at 5"
    assert [row["name"] for row in described("nasnet*")] == [name for name in RECIPES if name.startswith("nasnet")]
    assert all(json.loads(json.dumps(row)) for row in rows.values())
