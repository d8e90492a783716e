"""Stages and blocks: nothing is lost or told twice, and a network's own stages are found without their names."""

from __future__ import annotations

import pytest
import torch
import torchvision
from torch import Tensor, nn

from convatlas import zoo
from convatlas.analysis.outline import Outline, links, outline
from convatlas.analysis.record import record
from convatlas.analysis.tape import Tape

QUICK = ("lenet5", "alexnet", "vgg11", "googlenet", "resnet18", "preresnet110_cifar", "densenet121", "nasnet_a_mobile")
QUICK += ("fractalnet20_cifar", "mobilenet_v1_025", "mobilenet_v2", "mobilenet_v3_small", "se_resnet18", "nin_imagenet")


def taped(name: str) -> tuple[zoo.ConvNet, Tape]:
    size, classes = zoo.native(name)
    with torch.device("meta"):
        model = zoo.build(name, num_classes=classes, in_channels=size[0])
    return model, record(model, torch.empty(1, *size, device="meta"))


def own_stages(model: zoo.ConvNet) -> dict[str, list[str]]:
    """The paths of a network's blocks by stage."""
    parts = {f"stages.{name}": stage for name, stage in model.stages.named_children()} | {"head": model.head}
    return {path: [f"{path}.{name}" for name, _ in stage.named_children()] for path, stage in parts.items()}


def assert_whole(found: Outline, tape: Tape) -> None:
    """Every operation is in one block, in its order, and every call that makes no others too."""
    assert [i for block in found.blocks for i in block.ops] == list(range(len(tape.ops)))
    calls = [i for block in found.blocks for i in block.calls]
    assert len(calls) == len(set(calls))
    assert {i for i in range(len(tape.calls)) if i not in {c.parent for c in tape.calls}} - {0} <= set(calls)


@pytest.mark.parametrize("name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in zoo.variants()])
def test_named_stages_have_the_network_s_blocks_and_are_also_found(name: str) -> None:
    model, tape = taped(name)
    stages = own_stages(model)
    named = outline(tape, tuple(stages))
    assert {stage.name: [block.path for block in stage.blocks] for stage in named.stages} == stages
    assert_whole(named, tape)
    found = outline(tape)
    assert_whole(found, tape)
    if not name.startswith(("lenet", "nin", "fractalnet", "resnet1202", "mobilenet_v1", "conv_mobilenet")):
        ends = {stage.blocks[-1].ops.stop for stage in found.stages}  # most of them: a head's pooling is no landmark
        own = {stage.blocks[-1].ops.stop for stage in named.stages}
        assert len(own - ends) <= 1, (ends, own)


FOREIGN = {
    "resnet50": ["conv1–relu", "layer1", "layer2", "layer3", "layer4", "avgpool–fc"],
    "vgg16": [
        *("features.0–3", "features.4–8", "features.9–15", "features.16–22", "features.23–29"),
        "features.30–classifier.6",
    ],
    "densenet121": [
        "features.conv0–relu0",
        *(f"features.denseblock{i}" for i in (1, 2, 3, 4)),
        "classifier",
    ],
    "convnext_tiny": ["features.1", "features.3", "features.5", "features.7", "avgpool–classifier"],
    "vit_b_16": ["conv_proj", "encoder", "heads"],
}


@pytest.mark.parametrize("name", FOREIGN)
def test_stages_of_foreign_networks_are_found(name: str) -> None:
    with torch.device("meta"):
        model = torchvision.models.get_model(name, weights=None)
    tape = record(model, torch.empty(1, 3, 224, 224, device="meta"))
    found = outline(tape)
    assert [stage.name for stage in found.stages] == FOREIGN[name]
    assert_whole(found, tape)


def test_links_follow_values_and_not_the_order_of_calls() -> None:
    """A NASNet cell reads the two cells before it."""
    model, tape = taped("nasnet_a_mobile")
    found = outline(tape, tuple(own_stages(model)))
    place = {block.path: i for i, block in enumerate(found.blocks)}
    sources = {link.source for link in links(tape, found) if link.target == place["stages.stage3.2"]}
    assert sources == {place["stages.stage3.0"], place["stages.stage3.1"]}
    assert [link.source for link in links(tape, found) if link.target == 0] == [-1]
    assert [link.value for link in links(tape, found) if link.target == len(found.blocks)] == list(tape.outputs)


def test_a_stage_that_is_not_there_is_named_with_the_nearest() -> None:
    tape = record(nn.Sequential(nn.Sequential(nn.Linear(2, 2))), torch.empty(1, 2))
    with pytest.raises(ValueError, match=r"no module '0\.1' was called; did you mean '0\.0'\?"):
        outline(tape, ["0.1"])


class Sums(nn.Module):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return (x + y).relu()


class Around(nn.Module):
    """Operations before, between and after its one module, which is called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Conv2d(3, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.inner((self.inner(x * 2) + 1).relu()).mean((2, 3))


def test_a_module_without_modules_is_a_block() -> None:
    tape = record(Sums(), torch.empty(1, 3), torch.empty(1, 3))
    found = outline(tape)
    assert [(block.path, block.kind, len(block.ops)) for block in found.blocks] == [("", "Sums", 2)]
    assert [(link.source, link.target) for link in links(tape, found)] == [(-1, 0), (-1, 0), (0, 1)]


def test_operations_between_calls_are_blocks_of_the_module_that_ran_them() -> None:
    tape = record(Around(), torch.empty(1, 3, 4, 4))
    found = outline(tape)
    assert_whole(found, tape)
    assert [(b.path, b.kind) for b in found.blocks] == [("", ""), ("inner", "Conv2d")] * 2 + [("", "")]
    assert [(link.source, link.target) for link in links(tape, found)] == [(i - 1, i) for i in range(6)]
