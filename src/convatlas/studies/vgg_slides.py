"""The slides on VGG, computed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from itertools import pairwise
from math import prod

import torch
from torch import nn

from convatlas.analysis.memory import training_memory
from convatlas.analysis.receptive import Field, receptive_fields
from convatlas.studies.claims import Computed
from convatlas.studies.layers import BYTES, analysed, listed, percent, tape_of
from convatlas.studies.lecture_notation import VGG
from convatlas.zoo import skeleton

CHANNELS = (16, 64, 256)  # the coefficients of C² are the same at each


def depth(name: str) -> int:
    """Layers with weights on the longest path."""
    return analysed(name).whole.depth


def alexnet_depth() -> Computed:
    found = depth("alexnet")
    return Computed(value=found, shown=str(found), sum="5 convolutions + 3 fully connected layers")


def depths() -> Computed:
    sixteen, nineteen = depth("vgg16"), depth("vgg19")
    told = f"{sixteen} - {nineteen}"
    eleven = depth("vgg11")
    return Computed(
        value=told,
        shown=told,
        why=f"The paper begins at {eleven}, its configuration A.",
        numbers={"vgg16": sixteen, "vgg19": nineteen},
    )


def geometry() -> Computed:
    told = {
        kind: ", ".join(
            dict.fromkeys(
                f"{x.window} stride {x.stride}" + (f" pad {x.pad}" if kind == "conv" else "")
                for x in listed(VGG)
                if x.kind == kind
            )
        )
        for kind in ("conv", "pool")
    }
    found = f"{told['conv']}; {told['pool']}"
    convolutions, poolings = (sum(x.kind == kind for x in listed(VGG)) for kind in ("conv", "pool"))
    return Computed(value=found, shown=found, sum=f"all {convolutions} convolutions and all {poolings} poolings")


def stack(number: int, kernel: int, channels: int) -> nn.Sequential:
    """So many convolutions that keep the size of their maps."""
    with torch.device("meta"):
        return nn.Sequential(
            *(nn.Conv2d(channels, channels, kernel, padding=kernel // 2, bias=False) for _ in range(number))
        )


def fields(number: int, kernel: int) -> list[int]:
    """The side of what one unit sees after each of the convolutions, by the analyser."""
    tape = tape_of(stack(number, kernel, 1), (1, 32, 32))
    found = receptive_fields(tape)
    seen = [found[op.makes[0].number] for op in tape.ops]
    return [int(field.size[0]) for field in seen if isinstance(field, Field)]


def field() -> Computed:
    seen, one = fields(3, 3), fields(1, 7)
    told = f"{seen[-1]}x{seen[-1]}"
    return Computed(
        value=told,
        shown=told,
        sum="1" + "".join(" + 2" for _ in seen) + f" = {seen[-1]}; one 7x7: {one[-1]}",
        why=f"After each of the three: {', '.join(f'{side}x{side}' for side in seen)}.",
        numbers={"three_3x3": seen[-1], "one_7x7": one[-1]},
    )


def stack_parameters() -> Computed:
    coefficients = {
        (number, kernel): {_weights(stack(number, kernel, c)) / c**2 for c in CHANNELS}
        for number, kernel in ((3, 3), (1, 7))
    }
    (three,), (one,) = coefficients.values()  # the same at every width
    c = CHANNELS[-1]
    return Computed(
        value=f"{three:g}C² vs. {one:g}C²",
        shown=f"{three:g}C² vs. {one:g}C²",
        sum=f"3 * (3²C²) = {three:g}C² and 7²C² = {one:g}C²; for C = {c}: {three * c**2:,.0f} and {one * c**2:,.0f}",
        why=f"{percent(1 - three / one)} fewer, with three rectifiers instead of one.",
        numbers={"three": int(three), "one": int(one), "fewer_percent": round(100 * (1 - three / one))},
    )


def _weights(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def rows() -> Iterator[tuple[str, Callable[[], Computed]]]:
    """Two claims for each row of the list: its memory and its parameters."""
    for number, layer in enumerate(listed(VGG), start=1):
        name = f"vgg-row-{number:02d}"
        shape = "*".join(map(str, (*layer.made[1:], layer.made[0])))
        yield (
            f"{name}-memory",
            lambda layer=layer, shape=shape: Computed(
                value=layer.elements,
                shown=f"{layer.elements:,}",
                sum=f"{shape} = {layer.elements:,}",
                numbers={"elements": layer.elements},
            ),
        )
        yield (
            f"{name}-parameters",
            lambda layer=layer: Computed(
                value=layer.weights, shown=f"{layer.weights:,}", numbers={"weights": layer.weights}
            ),
        )


@cache
def elements(name: str = VGG) -> int:
    """Of the image and of every row of the list."""
    found = listed(name)
    return prod(found[0].given) + sum(layer.elements for layer in found)


def total_elements() -> Computed:
    found = listed(VGG)
    image, convolutions = prod(found[0].given), sum(x.elements for x in found if x.kind == "conv")
    rectified = sum(x.elements for x in found if x.kind == "conv") + sum(
        x.elements for x in found[:-1] if x.kind == "fc"
    )
    return Computed(
        value=elements(),
        shown=f"{elements() / 1e6:.1f} M ({elements():,})",
        sum=f"image {image:,} + convolutions {convolutions:,} + poolings and FC {elements() - image - convolutions:,} = {elements():,}",
        why=(
            f"Without the image {elements() - image:,}. With a second copy of everything that a rectifier makes it would be "
            f"{elements() + rectified:,}: 24 M is the sum of nothing here."
        ),
        numbers={
            "sum_of_rows_elements": elements(),
            "excluding_input": elements() - image,
            "conv_outputs_only": convolutions,
            "counting_relu_copies": elements() + rectified,
        },
    )


def total_bytes() -> Computed:
    bytes_ = elements() * BYTES
    return Computed(
        value=bytes_,
        shown=f"{bytes_ / 1e6:.0f} MB ({bytes_:,} bytes, {bytes_ / 2**20:.1f} MiB)",
        sum=f"{elements():,} * {BYTES} = {bytes_:,}",
        why="24M * 4 = 96M is right as a product; its first factor is not.",
        numbers={"bytes_fp32": bytes_, "MB": round(bytes_ / 1e6, 2), "MiB": round(bytes_ / 2**20, 2)},
    )


def total_parameters() -> Computed:
    weights, all_ = sum(layer.weights for layer in listed(VGG)), analysed(VGG).whole.parameters
    return Computed(
        value=weights,
        shown=f"{weights:,}",
        sum="the sum of the rows",
        why=f"{all_:,} with biases, which the rows leave out.",
        numbers={"no_bias": weights, "with_bias": all_},
    )


@cache
def saved() -> int:
    """Bytes that autograd keeps for one image."""
    return training_memory(tape_of(skeleton(VGG), (3, 224, 224), training=True)).saved


def backward() -> Computed:
    forward = elements() * BYTES
    made = [BYTES * layer.elements for layer in listed(VGG)]
    # a gradient is made for what a layer reads, from that of what it gives: the two are there together
    living = max(a + b for a, b in pairwise(made))
    factor = (saved() + living) / forward
    memory = analysed(VGG).training[0].memory
    state = memory.parameters + memory.gradients + memory.optimizer
    return Computed(
        value=factor,
        shown=f"at most {factor:.1f} ({(saved() + living) / 1e6:.0f} MB)",
        sum=(
            f"{saved() / 1e6:.1f} MB kept for the backward pass + {living / 1e6:.1f} MB, the two largest neighbouring gradients; over "
            f"{forward / 1e6:.1f} MB = {factor:.2f}"
        ),
        why=(
            f"Exactly 2 where every map has a gradient of its own, as in Caffe: {2 * forward / 1e6:.0f} MB. Autograd keeps the maps and "
            f"the places of each pooling's maxima, and lets gradients go; scratch memory apart. Weights, their gradients and momentum, "
            f"{state / 1e6:,.0f} MB, "
            "do not grow with the batch."
        ),
        numbers={"saved_bytes": saved(), "living_gradient_bytes": living, "forward_bytes": forward},
    )


def early_memory() -> Computed:
    sides = dict.fromkeys(layer.made[-1] for layer in listed(VGG) if layer.kind == "conv")
    shares = {
        side: sum(x.elements for x in listed(VGG) if x.kind == "conv" and x.made[-1] == side) / elements()
        for side in sides
    }
    first = sum(layer.elements for layer in listed(VGG) if layer.made[1:] == (224, 224))
    early = max(shares, key=shares.__getitem__) == max(sides) and sum(list(shares.values())[:2]) > 0.5
    return Computed(
        value="early CONV" if early else "elsewhere",
        shown=f"{percent(shares[max(sides)])} in the first two convolutions",
        sum=f"{first:,} of {elements():,} elements",
        why="Convolutions by the side of their maps: "
        + ", ".join(f"{s} pixels {percent(share)}" for s, share in shares.items())
        + ".",
        numbers={"conv1_elements": first, "conv1_share": round(first / elements(), 3)},
    )


def late_parameters() -> Computed:
    weights = {kind: sum(x.weights for x in listed(VGG) if x.kind == kind) for kind in ("conv", "fc")}
    whole = analysed(VGG).whole.parameters
    fc = sum(row.parameters for row in analysed(VGG).layers if row.kind == "Linear")
    first = next(x.weights for x in listed(VGG) if x.kind == "fc")
    return Computed(
        value="late FC" if weights["fc"] > weights["conv"] else "elsewhere",
        shown=f"{percent(fc / whole)} in the three FC",
        sum=f"{fc:,} of {whole:,} parameters, biases included",
        why=f"{percent(first / whole)} in the first of them alone.",
        numbers={"fc_params": fc, "fc_params_share": round(fc / whole, 3)},
    )


def vgg19_memory() -> Computed:
    sixteen, nineteen = elements(VGG), elements("vgg19")
    return Computed(
        value="more" if nineteen > sixteen else "not more",
        shown=f"{percent(nineteen / sixteen - 1)} more",
        sum=f"{nineteen:,} against {sixteen:,} elements: {nineteen * BYTES / 1e6:.1f} against {sixteen * BYTES / 1e6:.1f} MB",
        numbers={"vgg16": sixteen, "vgg19": nineteen},
    )


COMPUTED: dict[str, Callable[[], Computed]] = {
    "vgg-alexnet-depth": alexnet_depth,
    "vgg-depths": depths,
    "vgg-geometry": geometry,
    "vgg-field": field,
    "vgg-stack-parameters": stack_parameters,
    "vgg-total-elements": total_elements,
    "vgg-total-bytes": total_bytes,
    "vgg-total-parameters": total_parameters,
    "vgg-backward": backward,
    "vgg-early-memory": early_memory,
    "vgg-late-parameters": late_parameters,
    "vgg-19-memory": vgg19_memory,
}
