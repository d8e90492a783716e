"""The inception module of the slides, naive and with 1×1 convolutions before the large filters; and nine of them in a row.

The modules are the zoo's own, with the widths of the slides' example: 28×28×256 in, 128 maps of 1×1, 192 of 3×3, 96 of 5×5 and, where
they reduce, 64 of each 1×1. What every edge carries and costs is read off the tape.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import torch
from torch import nn

from convatlas.analysis.tape import Call
from convatlas.studies.layers import layers, tape_of
from convatlas.zoo.googlenet import INCEPTIONS, GoogLeNet, GoogLeNetConfig, Inception

GIVEN = (256, 28, 28)
ONE, THREE, FIVE, BOTTLENECK = 128, 192, 96, 64
MODULES = 9  # as many as GoogLeNet has


@dataclass(frozen=True, kw_only=True)
class Edge:
    """One convolution or pooling of a module, and the maps that it hands on."""

    name: str  # as the zoo calls it: one, reduce3, three, reduce5, five, pool, project
    layer: str  # "3x3 conv, 192"
    given: tuple[int, ...]
    made: tuple[int, ...]
    mult_adds: int
    weights: int


@dataclass(frozen=True, kw_only=True)
class Module:
    """A recorded inception module."""

    reduced: bool
    given: tuple[int, ...]
    made: tuple[int, ...]
    edges: dict[str, Edge]

    @property
    def mult_adds(self) -> int:
        """What the slides call ops."""
        return sum(edge.mult_adds for edge in self.edges.values())

    def to_json(self) -> dict[str, object]:
        edges = {name: asdict(edge) for name, edge in self.edges.items()}
        return {"reduced": self.reduced, "given": self.given, "made": self.made, "ops": self.mult_adds, "edges": edges}


def build(c_in: int, *, reduced: bool) -> Inception:
    """One module of the slides' widths, on the `meta` device."""
    widths = (ONE, BOTTLENECK, THREE, BOTTLENECK, FIVE, BOTTLENECK)
    with torch.device("meta"):
        return Inception(c_in, widths, GoogLeNetConfig(reduced=reduced))


def module(*, reduced: bool) -> Module:
    """The slides' example."""
    tape = tape_of(build(GIVEN[0], reduced=reduced), GIVEN)
    edges: dict[str, Edge] = {}
    for layer in layers(tape):
        name = "pool" if layer.kind == "pool" else layer.path.partition(".")[0]
        told = f"{layer.window} pool" if layer.kind == "pool" else f"{layer.window} conv, {layer.made[0]}"
        edges[name] = Edge(
            name=name,
            layer=told,
            given=layer.given,
            made=layer.made,
            mult_adds=layer.mult_adds,
            weights=layer.weights,
        )
    return Module(reduced=reduced, given=GIVEN, made=tape.outputs[0].shape[1:], edges=edges)


def depths_of_slide(*, reduced: bool) -> list[int]:
    """The maps before the first and after each of nine modules of the slides' widths, one on the other."""
    modules: list[nn.Module] = []
    channels = GIVEN[0]
    for _ in range(MODULES):
        modules.append(found := build(channels, reduced=reduced))
        channels = found.width
    return _depths(tape_of(nn.Sequential(*modules), GIVEN).calls)


def depths_of_googlenet(*, reduced: bool) -> list[int]:
    """The same of GoogLeNet's own nine modules, with or without their reductions."""
    with torch.device("meta"):
        model = GoogLeNet(GoogLeNetConfig(reduced=reduced))
    return _depths(tape_of(model, (3, 224, 224)).calls)


def names_of_googlenet() -> list[str]:
    """`3a` to `5b`."""
    return [name for stage in INCEPTIONS.values() for name in stage]


def _depths(calls: Sequence[Call]) -> list[int]:
    found = [call for call in calls if call.kind == "Inception"]
    return [found[0].inputs[0].shape[1], *(call.outputs[0].shape[1] for call in found)]
