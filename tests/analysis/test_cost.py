"""Costs against torch's own counter and against arithmetic by hand; nothing is counted 0 in silence."""

from __future__ import annotations

from collections import Counter
from operator import attrgetter

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode, flop_registry

from convatlas import catalogue, zoo
from convatlas.analysis import cost
from convatlas.analysis.cost import total
from convatlas.analysis.record import record

QUICK = (
    "lenet5",
    "alexnet",
    "vgg11",
    "googlenet",
    "resnet50",
    "preresnet110_cifar",
    "densenet121",
    "fractalnet20_cifar",
)
QUICK += ("mobilenet_v1_025", "mobilenet_v3_small", "se_resnet50", "nasnet_a_mobile", "nin_imagenet", "senet154")


@pytest.mark.parametrize("name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in zoo.variants()])
def test_the_zoo_s_totals_are_the_catalogue_s_and_complete(name: str) -> None:
    size, classes = zoo.native(name)
    with torch.device("meta"):
        model = zoo.build(name, num_classes=classes, in_channels=size[0])
    tape = record(model, torch.empty(1, *size, device="meta"))
    found, network = total(tape.ops), catalogue.find(name)
    assert found.mult_adds == network.mult_adds
    assert (found.status, dict(found.uncounted)) == ("complete", {})
    assert found.flops > 2 * found.mult_adds


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inside = nn.MultiheadAttention(32, 4, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.inside(x, x, x, need_weights=False)[0]


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        (
            nn.Sequential(nn.Conv2d(3, 8, 5, stride=2, padding=1, groups=1), nn.ConvTranspose2d(8, 4, 3, stride=2)),
            (2, 3, 17, 17),
        ),
        (nn.Sequential(nn.Conv1d(4, 8, 3, dilation=2, groups=2), nn.Flatten(), nn.Linear(8 * 12, 5)), (3, 4, 16)),
        (nn.Conv3d(2, 6, 3, padding=1, bias=False), (1, 2, 5, 6, 7)),
        (Attention(), (2, 9, 32)),
        (nn.TransformerEncoderLayer(16, 2, 32, batch_first=True), (2, 7, 16)),
        (nn.LSTM(5, 6, num_layers=2), (4, 2, 5)),
    ],
)
def test_mult_adds_are_half_of_what_torch_s_counter_says(model: nn.Module, shape: tuple[int, ...]) -> None:
    inputs = torch.randn(*shape)
    found = total(record(model, inputs).ops)
    with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
        model.eval().to("meta")(
            inputs.to("meta")
        )  # on the CPU a transformer takes a fused path that the counter does not see
    assert found.mult_adds == counter.get_total_flops() // 2 > 0
    assert found.status == "complete"


@pytest.mark.parametrize(
    ("module", "flops"),
    [
        (nn.ReLU(), 2 * 4 * 8 * 8),
        (nn.MaxPool2d(3, 2), 9 * 2 * 4 * 3 * 3),
        (nn.AvgPool2d(2), 4 * 2 * 4 * 4 * 4),
        (nn.AdaptiveAvgPool2d(1), 2 * 4 * 8 * 8),
        (nn.BatchNorm2d(4), 2 * 2 * 4 * 8 * 8),
        (nn.Conv2d(4, 6, 3, bias=True), 2 * (2 * 6 * 6 * 6) * (4 * 9)),
        (nn.Flatten(), 0),
        (nn.Dropout(), 0),
        (nn.Identity(), 0),
        (nn.ZeroPad2d(2), 0),
        (nn.Hardswish(), 5 * 2 * 4 * 8 * 8),
        (nn.ReLU(inplace=True), 2 * 4 * 8 * 8),
        (nn.Softmax(dim=1), 5 * 2 * 4 * 8 * 8),
        (nn.InstanceNorm2d(4), 7 * 2 * 4 * 8 * 8),  # in evaluation mode too, its statistics come from the image
        (nn.GroupNorm(2, 4), 7 * 2 * 4 * 8 * 8),
        (nn.AdaptiveAvgPool2d(3), 2 * 4 * 10 * 10),  # along each axis, windows of 3, 4 and 3 cover 10 places
        (nn.AdaptiveMaxPool2d((8, 16)), 2 * 4 * 8 * 16),  # windows of one
        (nn.Upsample(scale_factor=2, mode="nearest"), 0),
        (nn.Upsample(scale_factor=2, mode="bilinear"), 7 * 2 * 4 * 16 * 16),
        (torch.nn.utils.parametrizations.weight_norm(nn.Conv2d(4, 2, 1, bias=False)), 2 * (2 * 64 * 8) + 3 * 8),
        (nn.Fold((9, 9), 2, stride=1), 2 * 4 * 64),  # each value is added to one place
    ],
)
def test_flops_are_those_of_the_definition(module: nn.Module, flops: int) -> None:
    images = torch.empty(2, 4, 64) if isinstance(module, nn.Fold) else torch.empty(2, 4, 8, 8)
    found = total(record(module, images).ops)
    assert found.flops == flops
    assert found.status == "complete"


class Unusual(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.erfinv(x).relu()


def test_what_no_rule_covers_is_listed_and_the_total_is_partial() -> None:
    found = total(record(Unusual(), torch.empty(2, 3)).ops)
    assert found.status == "partial"
    assert dict(found.uncounted) == {"erfinv": 1}
    assert found.flops == 6  # the rectifier
    assert str(found) == "at least 0 mult-adds, 6 FLOPs (partial: no rule for 1 erfinv)"
    assert str(total([])) == "0 mult-adds, 0 FLOPs"


class Indexing(nn.Module):
    """Works with places and masks, then with a vector."""

    def forward(self, x: Tensor, places: Tensor) -> Tensor:
        places = (places * 2 + 1) % 3
        return x[places] @ x[0]


def test_whole_numbers_are_no_floating_point_operations_and_products_with_a_vector_are_mult_adds() -> None:
    found = total(record(Indexing(), torch.empty(3, 5), torch.zeros(7, dtype=torch.long)).ops)
    assert (found.mult_adds, found.flops, found.status) == (35, 70, "complete")


def test_no_operation_has_two_rules() -> None:
    groups = [*cost._OF_OUTPUT.values(), *cost._OF_INPUT.values(), cost._FREE]
    kinds = [kind for group in groups for kind in group.split()]
    kinds += [*cost._POOLING, *cost._ADAPTIVE, *cost._VECTORS]
    assert [kind for kind, number in Counter(kinds).items() if number > 1] == []
    kinds = [kind if "." in kind else f"aten.{kind}" for kind in kinds]
    packets = [attrgetter(kind)(torch.ops) for kind in kinds]  # which exist
    assert [packet for packet in packets if packet in flop_registry] == []
