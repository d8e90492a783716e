"""A network's layers as a lecturer lists them: convolutions, poolings, normalisations, fully connected layers, read off the tape.

A filter's size, stride and padding are the arguments of the recorded operation, not of a module's fields; rectifiers, views and poolings
that change nothing are no rows of their own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import torch
from torch import nn

from convatlas import catalogue, zoo
from convatlas.analysis.analysis import Analysis, analyse
from convatlas.analysis.cost import cost
from convatlas.analysis.record import record
from convatlas.analysis.tape import Op, Tape

Kind = Literal["conv", "pool", "norm", "fc"]
BYTES = 4  # of a number in float32


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One row of a list. Sizes are without the batch: (channels, height, width) or (units,)."""

    kind: Kind
    path: str  # of the module that ran it
    given: tuple[int, ...]
    made: tuple[int, ...]
    kernel: int = 0  # side of the window
    stride: int = 0
    pad: int = 0
    groups: int = 1
    weights: int = 0  # without biases
    mult_adds: int = 0

    @property
    def elements(self) -> int:
        """Numbers in its output: the lecture's "memory"."""
        return math.prod(self.made)

    @property
    def window(self) -> str:
        """`3x3`."""
        return f"{self.kernel}x{self.kernel}"


def layers(tape: Tape) -> list[Layer]:
    """In the order in which they ran."""
    found: list[Layer] = []
    normed: set[int] = set()
    for op in tape.ops:
        call = tape.calls[op.call]
        if call.kind == "LocalResponseNorm":
            if op.call not in normed:  # several operations, one layer
                normed.add(op.call)
                found.append(
                    Layer(kind="norm", path=call.path, given=call.inputs[0].shape[1:], made=call.outputs[0].shape[1:])
                )
            continue
        kind = op.kind.removeprefix("aten.")
        if kind == "convolution":
            found.append(_convolution(op, call.path))
        elif kind in ("max_pool2d_with_indices", "avg_pool2d"):
            found.append(_pooling(op, call.path))
        elif kind == "addmm":
            found.append(_fully_connected(op, call.path, found))
    return found


def _convolution(op: Op, path: str) -> Layer:
    x, weight, _, stride, pad, *_ = op.args
    return Layer(
        kind="conv",
        path=path,
        given=x.shape[1:],
        made=op.makes[0].shape[1:],
        kernel=weight.shape[-1],
        stride=stride[-1],
        pad=pad[-1],
        groups=op.args[8],
        weights=weight.elements,
        mult_adds=cost(op).mult_adds,
    )


def _pooling(op: Op, path: str) -> Layer:
    kernel: Any = op.args[1]
    stride = op.args[2] if len(op.args) > 2 and op.args[2] else kernel
    pad = op.args[3] if len(op.args) > 3 else [0]
    given, made = op.reads[0].shape[1:], op.makes[0].shape[1:]
    return Layer(kind="pool", path=path, given=given, made=made, kernel=kernel[-1], stride=stride[-1], pad=pad[-1])


def _fully_connected(op: Op, path: str, before: list[Layer]) -> Layer:
    """What it reads is told as the maps that were flattened for it."""
    _, x, weight = op.args
    given = x.shape[1:]
    if before and math.prod(before[-1].made) == math.prod(given):
        given = before[-1].made
    return Layer(
        kind="fc",
        path=path,
        given=given,
        made=op.makes[0].shape[1:],
        weights=weight.elements,
        mult_adds=cost(op).mult_adds,
    )


@cache
def analysed(name: str, training_batch: int = 128) -> Analysis:
    """A network of the zoo at its paper's input size, by its own stages."""
    network = catalogue.find(name)
    model = zoo.skeleton(name, num_classes=network.num_classes, in_channels=network.input_size[0])
    image = torch.empty(1, *network.input_size, device="meta")
    return analyse(model, image, name=name, stages=stage_paths(name), training_batch=training_batch)


@cache
def stage_paths(name: str) -> tuple[str, ...]:
    """The modules that are its stages."""
    return (*(f"stages.{stage}" for stage, _ in zoo.skeleton(name).stages.named_children()), "head")


def recorded(name: str) -> Tape:
    """The tape alone, for what does not ask what is seen or held: a thousand layers take a second instead of ten."""
    network = catalogue.find(name)
    model = zoo.skeleton(name, num_classes=network.num_classes, in_channels=network.input_size[0])
    return tape_of(model, network.input_size)


def tape_of(module: nn.Module, *sizes: tuple[int, ...], batch: int = 1, training: bool = False) -> Tape:
    """The tape of any module on inputs of these sizes, without the batch."""
    return record(module, *(torch.empty(batch, *size, device="meta") for size in sizes), training=training)


def listed(name: str) -> list[Layer]:
    """The layers of a network of the zoo."""
    return layers(analysed(name).tape)


def volume(sides: tuple[int, ...]) -> str:
    """As the slides write it, channels last: `55x55x96`."""
    channels, *places = sides
    return "x".join(map(str, (*places, channels)))


def percent(share: float) -> str:
    """`42 %`."""
    return f"{100 * share:.0f} %"
