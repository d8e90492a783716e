"""Layers and numbers in plain words, as a paper would write them."""

from __future__ import annotations

import re

from convatlas.analysis.cost import cost
from convatlas.analysis.folding import Unit
from convatlas.analysis.outline import Block
from convatlas.analysis.tape import Tape

MODULES = {
    **dict.fromkeys(("Conv1d", "Conv2d", "Conv3d"), "convolution"),
    **dict.fromkeys(("ConvTranspose1d", "ConvTranspose2d", "ConvTranspose3d"), "transposed convolution"),
    **dict.fromkeys(("BatchNorm1d", "BatchNorm2d", "BatchNorm3d", "BatchNormAct2d"), "batch norm"),
    **dict.fromkeys(("LayerNorm", "LayerNorm2d"), "layer norm"),
    **dict.fromkeys(("MaxPool1d", "MaxPool2d", "MaxPool3d"), "max pool"),
    **dict.fromkeys(("AvgPool1d", "AvgPool2d", "AvgPool3d"), "average pool"),
    **dict.fromkeys(("AdaptiveAvgPool2d", "AdaptiveAvgPool1d", "SelectAdaptivePool2d"), "average pool"),
    "AdaptiveMaxPool2d": "max pool",
    "LocalResponseNorm": "response norm",
    "GroupNorm": "group norm",
    "Linear": "fully connected",
    "ReLU": "ReLU",
    "ReLU6": "ReLU6",
    "SiLU": "SiLU",
    "GELU": "GELU",
    "Tanh": "tanh",
    "Hardswish": "h-swish",
    "Hardsigmoid": "h-sigmoid",
    "Sigmoid": "sigmoid",
    "Softmax": "softmax",
    "Dropout": "dropout",
    "Flatten": "flatten",
    "Identity": "",
    "LSTM": "LSTM",
    "GRU": "GRU",
}
OPERATIONS = {
    **dict.fromkeys(("relu", "relu_"), "ReLU"),
    **dict.fromkeys(("silu", "silu_"), "SiLU"),
    **dict.fromkeys(("hardtanh", "hardtanh_", "relu6"), "ReLU6"),
    **dict.fromkeys(("hardswish", "hardswish_"), "h-swish"),
    **dict.fromkeys(("add", "add_"), "addition"),
    **dict.fromkeys(("mul", "mul_"), "product"),
    **dict.fromkeys(("convolution",), "convolution"),
    **dict.fromkeys(("addmm", "mm", "bmm"), "fully connected"),
    **dict.fromkeys(("mean", "_adaptive_avg_pool2d", "avg_pool2d"), "average pool"),
    **dict.fromkeys(("max_pool2d_with_indices", "adaptive_max_pool2d"), "max pool"),
    **dict.fromkeys(("native_batch_norm", "_native_batch_norm_legit_no_training"), "batch norm"),
    "native_layer_norm": "layer norm",
    "gelu": "GELU",
    "cat": "concatenation",
    "_softmax": "softmax",
}


def of_class(kind: str) -> str:
    """`InvertedResidual` is "inverted residual", `_DenseLayer` "dense layer", `CNBlock` "CN block", `SparseConv2d` "sparse convolution"."""
    if kind in MODULES:
        return MODULES[kind]
    words = re.findall(r"[A-Z]+(?![a-z])\d*|[A-Z]?[a-z]+|\d+[a-z]*", kind.strip("_"))
    told = [
        word if len(word) > 1 and word.isupper() else word.lower() for word in words if word not in ("1d", "2d", "3d")
    ]
    return " ".join("convolution" if word == "conv" else word for word in told) or kind


def of_layer(tape: Tape, unit: Unit) -> str:
    """What a layer and what follows it do: "convolution + batch norm + ReLU"."""
    found: list[str] = []
    for block in unit.blocks:
        found += of_parts(tape, block)
    told = [word for i, word in enumerate(found) if word and (i == 0 or word != found[i - 1])]
    return " + ".join(told)


def of_parts(tape: Tape, block: Block) -> list[str]:
    """The words of the modules and operations in a block, in their order."""
    parents = {tape.calls[i].parent for i in block.calls}
    found: list[tuple[int, int, str]] = []  # by the place of the first operation
    for i in block.calls:
        if i not in parents:
            ops = [k for k in block.ops if tape.ops[k].call == i]
            found.append((ops[0] if ops else block.ops.stop, i, of_class(tape.calls[i].kind)))
    leaves = {i for i in block.calls if i not in parents}
    for k in block.ops:
        op = tape.ops[k]
        kind = op.kind.removeprefix("aten.")
        found_cost = cost(op)
        if op.call not in leaves and (found_cost.flops or found_cost.uncounted or kind in OPERATIONS):
            found.append((k, -1, OPERATIONS.get(kind, kind.strip("_").replace("_", " "))))
    if not found and block.ops and not block.kind:
        kinds = {tape.ops[k].kind.removeprefix("aten.") for k in block.ops}
        found.append((0, 0, "flatten" if kinds & {"view", "_reshape_alias", "flatten"} else "views"))
    return [word for _, _, word in sorted(found)]


def number(value: float) -> str:
    """Three digits and a unit: "25.6 M", "4.09 G"."""
    for unit, size in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= size * 0.9995:
            scaled = value / size
            digits = 2 if scaled < 9.995 else 1 if scaled < 99.95 else 0
            return f"{scaled:.{digits}f} {unit}"
    return f"{value:.0f}"


def shape(sides: tuple[int, ...]) -> str:
    """Of a value without its batch: "64×56×56"."""
    return "×".join(map(str, sides[1:])) if len(sides) > 1 else "a number for each" if sides else "a number"
