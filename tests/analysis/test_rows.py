"""Rows of layers, blocks and stages: each part of the tape is in exactly one."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from convatlas import catalogue, zoo
from convatlas.analysis.analysis import analyse
from convatlas.analysis.outline import outline
from convatlas.analysis.record import record
from convatlas.analysis.rows import Row, Rows
from convatlas.analysis.tape import Tape

QUICK = ("lenet5", "alexnet", "vgg11", "googlenet", "resnet50", "densenet121", "fractalnet20_cifar", "se_resnet50")
QUICK += ("mobilenet_v3_small", "nasnet_a_mobile", "preresnet110_cifar", "nin_imagenet")


def layers_of(tape: Tape) -> list[Row]:
    return list(Rows(tape).layers())


@pytest.mark.parametrize("name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in zoo.variants()])
def test_layers_blocks_and_stages_sum_to_the_network(name: str) -> None:
    size, classes = zoo.native(name)
    with torch.device("meta"):
        model = zoo.build(name, num_classes=classes, in_channels=size[0])
    tape = record(model, torch.empty(1, *size, device="meta"))
    rows = Rows(tape)
    told = outline(tape)
    reached = None
    for parts in (list(rows.layers()), rows.blocks(told), rows.stages(told)):
        assert sum(row.cost.mult_adds for row in parts) == rows.whole.cost.mult_adds
        assert sum(row.cost.flops for row in parts) == rows.whole.cost.flops
        assert sum(row.activation_bytes for row in parts) == rows.whole.activation_bytes
        assert sum(row.moved_bytes for row in parts) == rows.whole.moved_bytes
        count = sum(row.parameters for row in parts)
        assert reached in (None, count)
        reached = count
    unreached = sum(p.numel() for path, p in model.named_parameters() if path.startswith("auxiliary"))
    assert rows.whole.parameters == catalogue.find(name).parameters
    assert rows.whole.parameters - (reached or 0) == unreached


def test_a_shared_module_is_one_layer_with_its_parameters_once_and_its_work_twice() -> None:
    conv = nn.Conv2d(4, 4, 3, padding=1, bias=False)
    rows = layers_of(record(nn.Sequential(conv, conv), torch.empty(1, 4, 8, 8)))
    assert [(row.path, row.calls, row.parameters) for row in rows] == [("0", 2, 144)]
    assert rows[0].cost.mult_adds == 2 * 144 * 64
    assert rows[0].activations == 2 * 4 * 64


def test_layers_say_what_is_trainable_and_what_is_a_buffer() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    model[0].weight.requires_grad_(False)
    rows = layers_of(record(model, torch.empty(1, 3, 5, 5)))
    assert [(row.parameters, row.trainable, row.buffers) for row in rows] == [(16, 4, 0), (8, 8, 9)]
    assert rows[0].input_shapes == ((1, 3, 5, 5),) and rows[0].output_shapes == ((1, 4, 5, 5),)
    assert rows[0].activation_bytes == 4 * 4 * 25


def test_weights_of_a_layer_that_is_not_called_are_those_of_who_reads_them() -> None:
    model = nn.MultiheadAttention(8, 2, batch_first=True)  # calls `out_proj` by its weights
    x = torch.empty(1, 5, 8)
    found = analyse(model, x, x, x)
    assert [(row.path, row.parameters) for row in found.layers] == [("", 4 * 8 * 8 + 4 * 8)]
    assert (found.unreached, found.notes) == (0, ())
