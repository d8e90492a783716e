"""A network in the notation of the lecture's slides, every figure computed: `convatlas show vgg16 --as lecture`.

Two slides print a network as a list: AlexNet with its filters, strides and sizes, VGG-16 with the memory and the parameters of every row.
The same lists come here from the recorded operations of the zoo's networks, so that a slide and its network can be compared line
for line. Where they differ the slide is wrong, or the text of it has lost a line; the test lists both.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

from convatlas.errors import ConvAtlasError
from convatlas.studies.claims import statements
from convatlas.studies.layers import BYTES, Layer, listed, volume

ALEXNET, VGG = "alexnet_lecture", "vgg16"


def as_lecture(name: str) -> str:
    """The slide's list for `alexnet` or `vgg16`, and below it what it was computed from. Raises `ConvAtlasError` for other networks."""
    if name not in SLIDES:
        raise ConvAtlasError(f"the lecture has no list of {name};", remedy=f"it has one of {' and of '.join(SLIDES)}.")
    return "\n".join(SLIDES[name]())


def alexnet_rows() -> list[str]:
    """`[55x55x96] CONV1: 96 11x11 filters at stride 4, pad 0` and so on."""
    found = listed(ALEXNET)
    rows = [f"[{volume(found[0].given)}] INPUT"]
    weighted, counted = 0, {"pool": 0, "norm": 0}
    for layer in found:
        if layer.kind in ("conv", "fc"):  # numbered together
            weighted += 1
        else:
            counted[layer.kind] += 1
        size = f"[{volume(layer.made)}]"
        if layer.kind == "conv":
            filters = f"{layer.made[0]} {layer.window} filters at stride {layer.stride}, pad {layer.pad}"
            rows.append(f"{size} CONV{weighted}: {filters}")
        elif layer.kind == "fc":
            scores = " (class scores)" if layer is found[-1] else ""
            rows.append(f"{size} FC{weighted}: {layer.made[0]} neurons{scores}")
        elif layer.kind == "pool":
            rows.append(f"{size} MAX POOL{counted['pool']}: {layer.window} filters at stride {layer.stride}")
        else:
            rows.append(f"{size} NORM{counted['norm']}: Normalization layer")
    return rows


def vgg_rows() -> list[str]:
    """`CONV3-64: [224x224x64] memory: 224*224*64=3.2M params: (3*3*3)*64 = 1,728` and so on, with the totals."""
    found = listed(VGG)
    image = found[0].given
    rows = [f"INPUT: [{volume(image)}] memory: {_product(image)}={rounded(math.prod(image))} params: 0"]
    rows += [_vgg_row(layer) for layer in found]
    elements = math.prod(image) + sum(layer.elements for layer in found)
    weights = sum(layer.weights for layer in found)
    rows.append(
        f"TOTAL memory: {elements / 1e6:.1f}M * {BYTES} bytes ~= {elements * BYTES / 1e6:.0f}MB / image (for a forward pass)"
    )
    rows.append(f"TOTAL params: {weights / 1e6:.0f}M parameters")
    return rows


def _vgg_row(layer: Layer) -> str:
    made = layer.made
    if layer.kind == "fc":
        return (
            f"FC: [1x1x{made[0]}] memory: {made[0]} params: {_product((*layer.given, made[0]), first=len(layer.given))}"
            f" = {layer.weights:,}"
        )
    memory = f"[{volume(made)}] memory: {_product(made)}={rounded(layer.elements)}"
    if layer.kind == "pool":
        return f"POOL{layer.kernel}: {memory} params: 0"
    filters = f"({layer.kernel}*{layer.kernel}*{layer.given[0] // layer.groups})*{made[0]}"
    return f"CONV{layer.kernel}-{made[0]}: {memory} params: {filters} = {layer.weights:,}"


def _product(sides: tuple[int, ...], first: int = 0) -> str:
    """`224*224*64`: of the first so many sides (all by default) the channels come last, the rest follow."""
    channels, *places = sides[: first or len(sides)]
    return "*".join(map(str, (*places, channels, *sides[first or len(sides) :])))


def rounded(count: int) -> str:
    """To two digits as the slide does it: `3.2M`, `800K`, `25K`."""
    digits = 2 - len(str(count))
    value = round(count, digits)
    return f"{value / 1e6:g}M" if value >= 10**6 else f"{value // 1000}K"


def _alexnet() -> Iterator[str]:
    yield from alexnet_rows()
    yield ""
    yield f"Computed from {ALEXNET}: the slide's single tower, which pools before it normalises as CaffeNet does. The paper's"
    yield "network (alexnet) normalises first and has two groups in CONV2, CONV4 and CONV5; its shapes are the same."


def _vgg() -> Iterator[str]:
    yield from vgg_rows()
    yield ""
    total = next(statement for statement in statements() if statement.id == "vgg-total-elements")
    yield f'Computed from {VGG} without biases, as on the slide. The slide has "{total.quote}", which is not the sum of its rows.'


SLIDES: dict[str, Callable[[], Iterator[str]]] = {"alexnet": _alexnet, "vgg16": _vgg}
