"""The tools themselves, run on the CPU, against their conventions on a tape: equal to the last unit, or by how much and why not."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import prune

from convatlas import catalogue, zoo
from convatlas.analysis.conventions import CONVENTIONS
from convatlas.analysis.cost import cost, total
from convatlas.analysis.record import record
from convatlas.analysis.tape import Tape
from peers import peer

Ask = Callable[[nn.Module, tuple[int, ...]], float]


def ask_fvcore(model: nn.Module, shape: tuple[int, ...]) -> float:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # at import: it compiles losses with torch.jit
        from fvcore.nn import FlopCountAnalysis
    logging.getLogger("fvcore.nn.jit_analysis").setLevel(logging.ERROR)  # it logs what it skips
    return FlopCountAnalysis(model, torch.zeros(shape)).total()


def ask_ptflops(model: nn.Module, shape: tuple[int, ...], backend: str = "pytorch") -> float:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that timm is imported under an old name
        from ptflops import get_model_complexity_info
    with contextlib.redirect_stdout(io.StringIO()):  # it prints about modules that are used twice
        found, _ = get_model_complexity_info(
            model,
            shape[1:],
            input_constructor=lambda _: torch.zeros(shape),  # pyright: ignore[reportArgumentType] - it takes tensors too
            print_per_layer_stat=False,
            as_strings=False,
            backend=backend,
        )
    assert isinstance(found, int)  # None where it failed
    return found


def ask_torchinfo(model: nn.Module, shape: tuple[int, ...]) -> float:
    from torchinfo import summary

    return summary(model, input_size=shape, verbose=0, device="cpu").total_mult_adds


TOOLS: dict[str, Ask] = {
    "fvcore": ask_fvcore,
    "ptflops": ask_ptflops,
    "ptflops_aten": lambda model, shape: ask_ptflops(model, shape, "aten"),
    "torchinfo": ask_torchinfo,
}


def test_every_convention_of_a_tool_is_compared_with_it() -> None:
    assert set(CONVENTIONS) == {"paper", *TOOLS}


def compare(model: nn.Module, shape: tuple[int, ...]) -> tuple[dict[str, int], dict[str, float], Tape]:
    """Our totals, the tools' totals, and the tape."""
    tape = record(model.eval(), torch.zeros(shape))
    ours = {tool: CONVENTIONS[tool].count(tape, model).total for tool in TOOLS}
    return ours, {tool: ask(model, shape) for tool, ask in TOOLS.items()}, tape


ZOO = ["lenet5", "alexnet", "zfnet", "nin_cifar", "vgg11", "googlenet", "resnet20_cifar", "plain20_cifar"]
ZOO += [
    "cifar_fast",
    "wrn_16_8_cifar",
    "resnext29_8x64d_cifar",
    "preresnet110_cifar",
    "densenet_40_12_cifar",
    "mobilenet_v1_025_128",
]
ZOO += [
    "cifar_fast",
    "fractalnet5_thin_cifar100",
    "se_resnet18",
    "nasnet_a_cifar",
    "mobilenet_v2",
    "mobilenet_v3_small",
]


def test_the_quick_networks_are_one_of_each_family() -> None:
    assert {catalogue.find(name).family for name in ZOO} == {row.family for row in catalogue.networks().values()}


@pytest.mark.parametrize("name", [n if n in ZOO else pytest.param(n, marks=pytest.mark.slow) for n in zoo.variants()])
def test_the_tools_totals_of_the_zoo(name: str) -> None:
    size, classes = zoo.native(name)
    model = zoo.build(name, num_classes=classes, in_channels=size[0])
    ours, theirs, tape = compare(model, (1, *size))
    assert ours == theirs
    assert CONVENTIONS["paper"].count(tape, model).total == catalogue.find(name).mult_adds


def small_convs() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(4, 8, 3, stride=2, groups=2),
        nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False),
        nn.Conv2d(8, 6, 3, dilation=2),
        nn.ConvTranspose2d(6, 4, 3, stride=2, groups=2),
        nn.ConvTranspose2d(4, 4, 2, bias=False),
    )


def small_norms() -> nn.Module:
    layers: list[nn.Module] = [nn.BatchNorm2d(4), nn.BatchNorm2d(4, affine=False), nn.InstanceNorm2d(4)]
    layers += [nn.BatchNorm2d(4, track_running_stats=False), nn.InstanceNorm2d(4, affine=True)]
    layers += [nn.GroupNorm(2, 4), nn.GroupNorm(2, 4, affine=False), nn.LayerNorm(12), nn.LocalResponseNorm(3)]
    return nn.Sequential(*layers, nn.LayerNorm([12, 12], elementwise_affine=False))


def small_activations() -> nn.Module:
    layers: list[nn.Module] = [nn.ReLU(), nn.ReLU(inplace=True), nn.PReLU(), nn.ELU(), nn.GELU(), nn.SiLU(), nn.ReLU6()]
    return nn.Sequential(*layers, nn.LeakyReLU(), nn.Hardswish(), nn.Hardsigmoid(), nn.Sigmoid(), nn.Softmax(dim=1))


def small_pools() -> nn.Module:
    layers: list[nn.Module] = [nn.MaxPool2d(2, 1), nn.AvgPool2d(2, 1), nn.AdaptiveAvgPool2d(7), nn.AdaptiveMaxPool2d(5)]
    layers += [nn.Upsample(scale_factor=2), nn.Upsample(scale_factor=2, mode="bilinear"), nn.AdaptiveAvgPool2d(1)]
    return nn.Sequential(*layers, nn.Flatten(2), nn.AdaptiveAvgPool1d(1))


class Shared(nn.Module):
    """A convolution that is called twice and has two parents, one of whose other children is empty."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.Sequential())
        self.second = nn.Sequential(self.first[0], nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x)) + x


class Functions(nn.Module):
    """What has no module: functions of torch, operators, parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.kernel = nn.Parameter(torch.randn(4, 4, 3, 3))
        self.gain = nn.Parameter(torch.ones(4, 1, 1))
        self.fc = nn.Parameter(torch.randn(3, 12))

    def forward(self, x: Tensor) -> Tensor:
        x = F.conv2d(x, self.kernel, padding=1)
        x = F.relu(x) + torch.relu(x) * F.gelu(x)
        x = torch.mul(x, self.gain) + torch.add(x, 1)  # axes from the first on: 4 × 1 × 1 beside 2 × 4 × 12 × 12
        x = x + F.interpolate(F.max_pool2d(x, 2), size=(12, 12), mode="bilinear")
        x = x + F.adaptive_avg_pool2d(x, 1) + x.mean((2, 3), keepdim=True) + F.interpolate(F.avg_pool2d(x, 3), (12, 12))
        rows = F.softmax(x.flatten(0, 1), dim=-1)
        rows = torch.bmm(rows, rows) + torch.baddbmm(rows, rows, rows) + torch.matmul(rows, rows) + rows @ rows
        rows = rows + torch.einsum("abc,abd->acd", rows, rows) + F.scaled_dot_product_attention(rows, rows, rows)
        flat = F.linear(rows, self.fc).flatten(1)
        return torch.addmm(flat, flat, torch.mm(flat.t(), flat))


class Attention(nn.Module):
    def __init__(self, weights: bool, mask: bool = False) -> None:
        super().__init__()
        self.inside = nn.MultiheadAttention(12, 3, batch_first=True)
        self.weights = weights
        self.mask = nn.Buffer(torch.zeros(7, 7)) if mask else None

    def forward(self, x: Tensor) -> Tensor:
        return self.inside(x, x, x, need_weights=self.weights, attn_mask=self.mask)[0]


class Recurrent(nn.Module):
    def __init__(self, layer: type[nn.Module]) -> None:
        super().__init__()
        self.layer = layer(12, 5, num_layers=2, bidirectional=True, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)[0]


class Cells(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.gru, self.lstm = nn.RNNCell(7, 7), nn.GRUCell(7, 7, bias=False), nn.LSTMCell(7, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.lstm(self.gru(self.rnn(x)))[0]


class ScaledConv(nn.Module):
    """A leaf that is no convolution, whatever its name says; of its own weights, one has a name that says so."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(4, 1, 1))
        self.gamma = nn.Parameter(torch.ones(4, 1, 1))
        self.position_bias = nn.Parameter(torch.ones(12, 12))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight * self.gamma + self.position_bias


def pruned() -> nn.Module:
    model = nn.Sequential(nn.Conv2d(4, 8, 3), nn.Flatten(), nn.Linear(800, 5))
    for i, name in ((0, "weight"), (2, "weight"), (2, "bias")):
        prune.random_unstructured(model[i], name, amount=0.4)
    return model


class Deformable(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        from torchvision.ops import DeformConv2d

        self.places = nn.Conv2d(4, 18, 3)
        self.inside = DeformConv2d(4, 6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.inside(x, self.places(x))


MAP, ROWS, LINE = (2, 4, 12, 12), (2, 7, 12), (2, 7)  # two images: a part of ptflops' total is a mean over them
SMALL: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "convolutions": (small_convs, MAP),
    "one axis": (lambda: nn.Sequential(nn.Conv1d(7, 4, 3), nn.MaxPool1d(2), nn.ConvTranspose1d(4, 2, 3)), ROWS),
    "three axes": (lambda: nn.Sequential(nn.Conv3d(1, 4, 3), nn.BatchNorm3d(4), nn.MaxPool3d(2)), (2, 1, 6, 6, 6)),
    "norms": (small_norms, MAP),
    "activations": (small_activations, MAP),
    "pooling": (small_pools, MAP),
    "layers over tokens": (lambda: nn.Sequential(nn.Linear(12, 5), nn.ReLU(), nn.Linear(5, 4, bias=False)), ROWS),
    "shared": (Shared, MAP),
    "functions": (Functions, MAP),
    "attention": (lambda: Attention(weights=False), ROWS),
    "attention that gives its weights": (lambda: Attention(weights=True), ROWS),
    "attention with a mask": (lambda: Attention(weights=True, mask=True), ROWS),
    "transformer": (lambda: nn.TransformerEncoderLayer(12, 3, 24, batch_first=True), ROWS),
    "lstm": (lambda: Recurrent(nn.LSTM), ROWS),
    "gru": (lambda: Recurrent(nn.GRU), ROWS),
    "rnn": (lambda: Recurrent(nn.RNN), ROWS),
    "cells": (Cells, LINE),
    "names": (ScaledConv, MAP),
    "pruned": (pruned, MAP),
    "deformable": (Deformable, MAP),
}


# By how much the tool's total is larger than ours, from the tape, where a tape does not hold what the tool goes by
DIFFERENT: dict[tuple[str, str], Callable[[Tape], int]] = {
    # the layer holds F.relu from before ptflops put its own in its place
    ("transformer", "ptflops"): lambda tape: -sum(op.makes[0].elements for op in tape.ops if op.function is F.relu),
    # with the batch first, the CPU multiplies all steps of the first layer at once and adds the biases afterwards
    ("gru", "ptflops_aten"): lambda tape: -2 * 2 * 7 * 15,
    ("rnn", "ptflops_aten"): lambda tape: -2 * 2 * 7 * 5,
    # ptflops counts methods, which look to the tape like operators
    ("torchvision/swin_t", "ptflops"): lambda tape: of_methods(tape, Tensor.matmul),
    ("timm/convnext_atto", "ptflops"): lambda tape: of_methods(tape, Tensor.mul, "ConvNeXtBlock"),
    # fvcore reads numpy's estimate of an einsum, which is printed in four digits
    ("torchvision/maxvit_t", "fvcore"): lambda tape: sum(
        int(float(f"{2 * product:.3e}") / 2) - product
        for product in (cost(op).mult_adds for op in tape.ops if op.function is torch.einsum)
    ),
}


def of_methods(tape: Tape, function: object, module: str = "") -> int:
    """What ptflops counts of a method, where a kind of module calls it."""
    ops = [op for op in tape.ops if op.function == function and module in ("", tape.calls[op.call].kind)]
    return sum(cost(op).mult_adds or op.makes[0].elements for op in ops if cost(op).flops)


def with_differences(name: str, ours: dict[str, int], tape: Tape) -> dict[str, int]:
    return {tool: number + DIFFERENT.get((name, tool), lambda tape: 0)(tape) for tool, number in ours.items()}


@pytest.mark.parametrize("name", SMALL)
def test_the_tools_totals_of_small_modules(name: str) -> None:
    build, shape = SMALL[name]
    ours, theirs, tape = compare(build(), shape)
    assert with_differences(name, ours, tape) == theirs


# Networks of other libraries, at sides that are quick: squeeze-and-excitation, hard-swish, depthwise and grouped convolutions, layer
# norm, attention of several kinds, weights that are computed, and the two whose totals differ.
PEERS = {
    "torchvision/convnext_tiny": 64,
    "torchvision/efficientnet_b0": 64,
    "torchvision/maxvit_t": 224,
    "torchvision/mobilenet_v3_small": 64,
    "torchvision/regnet_y_400mf": 64,
    "torchvision/shufflenet_v2_x0_5": 64,
    "torchvision/swin_t": 64,
    "torchvision/vit_b_32": 224,
    "timm/botnet26t_256": 256,
    "timm/coat_tiny": 224,
    "timm/convnext_atto": 64,
    "timm/crossvit_9_240": 240,
    "timm/dm_nfnet_f0": 64,
    "timm/efficientnet_cc_b0_4e": 64,
    "timm/halonet26t": 256,
    "timm/hrnet_w18_small": 64,
    "timm/resnetv2_50x1_bit": 64,
    "timm/seresnet50": 64,
    "timm/tresnet_m": 64,
    "timm/vit_tiny_patch16_224": 224,
    "timm/xcit_nano_12_p16_224": 224,
}
QUICK = {
    "torchvision/mobilenet_v3_small",
    "torchvision/swin_t",
    "torchvision/vit_b_32",
    "timm/convnext_atto",
    "timm/seresnet50",
}


@pytest.mark.parametrize("name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in PEERS])
def test_the_tools_totals_of_other_libraries_networks(name: str) -> None:
    side = PEERS[name]
    ours, theirs, tape = compare(peer(name), (1, 3, side, side))
    assert with_differences(name, ours, tape) == theirs


def test_a_paper_s_count_leaves_products_of_activations_out_and_names_them() -> None:
    model = Attention(weights=False)
    tape = record(model, torch.zeros(ROWS))
    found = CONVENTIONS["paper"].count(tape, model)
    assert found.total == 2 * 7 * 4 * 12 * 12  # queries, keys, values and the projection
    assert total(tape.ops).mult_adds - found.total == 2 * 2 * 7 * 7 * 12
    assert found.skipped["bmm"] == 2


class Mixed(nn.Module):
    """Has modules, and calls functions and an operator beside them."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(3, 1, 1))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.kernel = nn.Parameter(torch.ones(2, 4, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.pool(F.conv2d(F.relu(self.body(x) + x), self.kernel))


@pytest.mark.parametrize(
    ("tool", "skipped"),
    [
        ("paper", {"native_batch_norm": 1, "relu": 2, "max_pool2d_with_indices": 1, "add": 1, "mean": 1}),
        ("fvcore", {"relu": 2, "max_pool2d_with_indices": 1, "add": 1}),
        ("ptflops", {"add": 1, "convolution": 1}),
        ("ptflops_aten", {"native_batch_norm": 1, "relu": 2, "max_pool2d_with_indices": 1, "add": 1, "mean": 1}),
        ("torchinfo", {"relu": 2, "max_pool2d_with_indices": 1, "add": 1, "convolution": 1, "mean": 1}),
    ],
)
def test_what_a_tool_passes_over_is_named(tool: str, skipped: dict[str, int]) -> None:
    model = Mixed()
    found = CONVENTIONS[tool].count(record(model, torch.zeros(MAP)), model)
    assert found.skipped == skipped


@pytest.mark.parametrize(
    ("name", "in_billions"),
    [
        ("resnet152", {"paper": 11.514, "torchinfo": 11.514, "fvcore": 11.559, "ptflops": 11.603}),
        ("vgg16", {"paper": 15.470, "torchinfo": 15.484, "fvcore": 15.470, "ptflops": 15.523}),
    ],
)
def test_one_network_has_as_many_totals_as_there_are_conventions(name: str, in_billions: dict[str, float]) -> None:
    from torchvision.models import get_model

    with torch.device("meta"):
        model = get_model(name, weights=None)
    tape = record(model, torch.empty(1, 3, 224, 224, device="meta"))
    found = {tool: CONVENTIONS[tool].count(tape, model).total for tool in in_billions}
    assert {tool: round(number / 1e9, 3) for tool, number in found.items()} == in_billions


def test_ptflops_total_depends_on_how_a_network_is_written() -> None:
    """A rectifier counts twice as a module, once as a function and never as a method; elsewhere these are one operation."""

    class Method(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.relu()

    class Function(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return F.relu(x)

    models = (nn.ReLU(), Function(), Method())
    counts = [CONVENTIONS["ptflops"].count(record(model, torch.zeros(1, 3, 4, 4)), model).total for model in models]
    assert counts == [2 * 48, 48, 0]
    assert counts == [ask_ptflops(model, (1, 3, 4, 4)) for model in models]
