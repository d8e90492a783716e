"""The slides on ResNet, computed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise

import torch
from torch import nn

from convatlas.analysis.depth import depths as depths_of
from convatlas.studies.claims import Computed
from convatlas.studies.layers import Layer, analysed, layers, listed, recorded, tape_of

NAMES = ("resnet34", "resnet50", "resnet101", "resnet152")
MAPS = (256, 28, 28)  # of the slide's drawing of a bottleneck
NARROW = 64


def _depth(name: str, told: str = "") -> Computed:
    tape = recorded(name)
    reached = depths_of(tape)
    found = max(reached[value.number] for value in tape.outputs)
    return Computed(value=found, shown=str(found), sum=told or f"longest path through {name}", numbers={"depth": found})


def _blocks(name: str) -> Iterator[list[Layer]]:
    """The convolutions of each residual block, shortcuts apart."""
    found: dict[str, list[Layer]] = {}
    for layer in listed(name):
        block, _, leaf = layer.path.rpartition(".")
        if layer.kind == "conv" and leaf.startswith("conv") and block.rpartition(".")[2].isdigit():
            found.setdefault(block, []).append(layer)
    yield from found.values()


def block() -> Computed:
    shapes = {tuple(layer.window for layer in found) for found in _blocks("resnet34")}
    number = sum(1 for _ in _blocks("resnet34"))
    value = "two 3x3" if shapes == {("3x3", "3x3")} else " or ".join(", ".join(shape) for shape in shapes)
    bottleneck = " or ".join(", ".join(s) for s in {tuple(x.window for x in b) for b in _blocks("resnet50")})
    return Computed(
        value=value,
        shown=value,
        sum=f"in all {number} blocks of ResNet-34",
        why=f"From ResNet-50 on a block has three convolutions: {bottleneck}.",
    )


def doubling() -> Computed:
    maps = [row.output_shapes[-1][1:] for row in analysed("resnet34").stages if len(row.output_shapes[-1]) == 4][1:]
    doubles = all(b[0] == 2 * a[0] and 2 * b[1] == a[1] for a, b in pairwise(maps))
    told = "filters x2, side /2" if doubles else "otherwise"
    return Computed(value=told, shown=told, sum=", ".join(f"{side}x{side}x{channels}" for channels, side, _ in maps))


def fully_connected() -> Computed:
    found = [f"FC {layer.made[0]}" for layer in listed("resnet152") if layer.kind == "fc"]
    return Computed(value=", ".join(found), shown=", ".join(found))


def depths() -> Computed:
    found = {name: analysed(name).whole.depth for name in NAMES}
    told = ", ".join(map(str, found.values()))
    blocks = ", ".join(f"{len(list(_blocks(name)))}" for name in NAMES)
    return Computed(
        value=told,
        shown=told,
        sum="1 + " + "; ".join(f"{sum(map(len, _blocks(name)))} + 1 = {depth}" for name, depth in found.items()),
        why=f"In {blocks} blocks. The convolutions on shortcuts lie beside the longest path.",
        numbers=dict(found),
    )


def _weights(*widths: tuple[int, int, int]) -> int:
    """Of convolutions (maps in, maps out, side of the filter) one after the other on the slide's maps, by the analyser."""
    with torch.device("meta"):
        module = nn.Sequential(*(nn.Conv2d(a, b, k, padding=k // 2, bias=False) for a, b, k in widths))
    return sum(layer.weights for layer in layers(tape_of(module, (widths[0][0], *MAPS[1:]))))


def bottleneck_weights() -> dict[str, int]:
    """Three blocks that read maps, by what they are."""
    wide = MAPS[0]
    return {
        f"bottleneck, {wide} maps": _weights((wide, NARROW, 1), (NARROW, NARROW, 3), (NARROW, wide, 1)),
        f"two 3x3, {NARROW} maps": _weights((NARROW, NARROW, 3), (NARROW, NARROW, 3)),
        f"two 3x3, {wide} maps": _weights((wide, wide, 3), (wide, wide, 3)),
    }


def bottleneck() -> Computed:
    has = [name for name in NAMES if {x.window for b in _blocks(name) for x in b} == {"1x1", "3x3"}]
    counts = bottleneck_weights()
    own, narrow, wide = counts.values()
    real = sum(layer.weights for layer in list(_blocks("resnet50"))[1])
    return Computed(
        value=f"ResNet-{has[0].removeprefix('resnet')}+" if tuple(has) == NAMES[1:] else ", ".join(has),
        shown=", ".join(has),
        sum=f"256*64 + 3*3*64*64 + 64*256 = {own:,} weights; two 3x3 of 256 maps: {wide:,}; of 64 maps: {narrow:,}",
        why=f"{wide / own:.0f} times fewer weights than two 3x3 on as many maps, fewer even than two on a quarter of them. "
        f"The second block of our ResNet-50 has {real:,}.",
        numbers={"bottleneck": own, "two_3x3_64": narrow, "two_3x3_256": wide, "resnet50_block": real},
    )


def batch_norm() -> Computed:
    tape = analysed("resnet50").tape
    convolutions = [op.makes[0].number for op in tape.ops if op.kind == "aten.convolution"]
    normed = {op.reads[0].number for op in tape.ops if "batch_norm" in op.kind}
    number = sum(made in normed for made in convolutions)
    return Computed(
        value="every" if number == len(convolutions) else f"{number} of {len(convolutions)}",
        shown=f"{number} of {len(convolutions)}",
        numbers={"convolutions": len(convolutions), "normed": number},
    )


COMPUTED: dict[str, Callable[[], Computed]] = {
    "resnet-152": lambda: _depth("resnet152"),
    "resnet-plain-depth": lambda: _depth("plain56_cifar", "6 * 9 + 2 = 56, counted"),
    "resnet-block": block,
    "resnet-double": doubling,
    "resnet-fc": fully_connected,
    "resnet-depths": depths,
    "resnet-bottleneck": bottleneck,
    "resnet-bn": batch_norm,
    "resnet-1202": lambda: _depth("resnet1202_cifar", "6 * 200 + 2 = 1202, counted"),
}
