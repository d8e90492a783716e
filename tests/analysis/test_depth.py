"""Depth as the papers count it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from convatlas import zoo
from convatlas.analysis.depth import depths
from convatlas.analysis.record import record
from convatlas.cards import card


def depth_of(name: str) -> int:
    size, classes = zoo.native(name)
    with torch.device("meta"):
        model = zoo.build(name, num_classes=classes, in_channels=size[0])
    tape = record(model, torch.empty(1, *size, device="meta"))
    return depths(tape)[tape.outputs[0].number]


OTHERWISE = {  # where papers count differently: by family, what they count less what is on the longest path
    "lenet": 1,  # the output layer, distances to fixed codes: no weights are learned there
    "wrn": 2,  # 6 n + 4 counts the projections of the shortcuts, which lie beside the longest path
    "fractalnet34": 0,
    "fractalnet": -1,  # of those for CIFAR the classifier is not counted
    "densenet264": -1,  # 1 + 2 (6 + 12 + 64 + 48) + 3 + 1 is 265
}
QUICK = (
    "lenet5",
    "alexnet",
    "vgg19",
    "googlenet",
    "resnet152",
    "wrn_16_8_cifar",
    "densenet_40_12_cifar",
    "se_resnet50",
)


@pytest.mark.parametrize("name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in zoo.variants()])
def test_depth_is_what_the_paper_counts(name: str) -> None:
    printed = card(name).depth
    if printed is not None:
        assert printed - depth_of(name) == next((d for start, d in OTHERWISE.items() if is_of(name, start)), 0)


def is_of(name: str, start: str) -> bool:
    return name.startswith(start) and name != "lenet5_modern"


def test_branches_count_as_the_longest_and_shared_weights_each_time() -> None:
    conv = nn.Conv2d(3, 3, 3, padding=1)

    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = conv
            self.other = nn.Conv2d(3, 3, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.conv(self.conv(x)) + self.other(x)

    tape = record(Twice(), torch.empty(1, 3, 8, 8))
    assert depths(tape)[tape.outputs[0].number] == 2
