"""The slides on LeNet-5, AlexNet and ZFNet, computed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache

from convatlas.studies.claims import Computed
from convatlas.studies.layers import Layer, analysed, listed, percent, volume
from convatlas.studies.lecture_notation import ALEXNET, alexnet_rows
from convatlas.studies.two_gpus import BATCH, CARD, WHOLE, TwoGPUs, on_one_gpu, two_gpus


@cache
def halves() -> TwoGPUs:
    """The two GPUs' training step."""
    return two_gpus()


def lenet_geometry() -> Computed:
    found = [layer for layer in listed("lenet5") if layer.kind in ("conv", "pool")]
    windows = {
        kind: ", ".join(dict.fromkeys(f"{x.window} at stride {x.stride}" for x in found if x.kind == kind))
        for kind in ("conv", "pool")
    }
    told = f"{windows['conv']}; {windows['pool']}"
    return Computed(
        value=told,
        shown=told,
        why="The third convolution, C5, has maps of one pixel: it is the first of the slide's two FC.",
    )


def _first(kind: str) -> Layer:
    return next(layer for layer in listed(ALEXNET) if layer.kind == kind)


def _side(kind: str) -> Computed:
    layer = _first(kind)
    pad = f"+2*{layer.pad}" if layer.pad else ""
    side = layer.made[-1]
    return Computed(
        value=side,
        shown=str(side),
        sum=f"({layer.given[-1]}{pad}-{layer.kernel})/{layer.stride}+1 = {side}",
        why="With the 224 pixels that the paper prints it would be 54.25: its arithmetic needs 227."
        if kind == "conv"
        else "",
        numbers={"side": side},
    )


def _volume(kind: str) -> Computed:
    layer = _first(kind)
    filters = f"{layer.made[0]} maps of {layer.made[1]}x{layer.made[2]}"
    return Computed(
        value=volume(layer.made), shown=volume(layer.made), sum=filters, numbers={"elements": layer.elements}
    )


def conv1_parameters() -> Computed:
    layer = _first("conv")
    biases = layer.made[0]
    return Computed(
        value=layer.weights,
        shown=f"{layer.weights:,}",
        sum=f"({layer.kernel}*{layer.kernel}*{layer.given[0]})*{layer.made[0]} = {layer.weights:,}",
        why=f"{layer.weights + biases:,} with a bias for each filter.",
        numbers={"weights": layer.weights, "with_bias": layer.weights + biases},
    )


def pool1_parameters() -> Computed:
    layer = _first("pool")
    return Computed(value=layer.weights, shown="0", sum="a maximum has no weights", numbers={"weights": layer.weights})


def rows() -> Iterator[tuple[str, Callable[[], Computed]]]:
    """One claim for each row of the list."""
    for row in alexnet_rows():
        name = row.split("] ")[1].split(":")[0]
        yield f"alexnet-row-{name.lower().replace(' ', '-')}", lambda row=row: Computed(value=row, shown=row)


def parameters() -> Computed:
    grouped, single = analysed(WHOLE).whole.parameters, analysed(ALEXNET).whole.parameters
    owt = analysed("alexnet_owt").whole.parameters
    return Computed(
        value=grouped,
        shown=f"{grouped:,}",
        sum=f"{grouped:,} with the paper's two groups; {single:,} as the slides list it, without; {owt:,} torchvision's",
        why="Biases included. The list of the slides has no groups, and so 1.4 million more.",
        numbers={"original_grouped": grouped, "lecture_ungrouped": single, "torchvision_owt": owt},
    )


def towers() -> Computed:
    whole, conv1 = _first("conv"), halves().tape.calls
    made = next(call for call in conv1 if call.path == "conv1").outputs[0].shape[1:]
    told = f"{volume(made)} x {whole.made[0] // made[0]}"
    return Computed(value=told, shown=told, sum=f"{made[0]} of {whole.made[0]} maps on each GPU")


def memory() -> Computed:
    one, single, half = on_one_gpu(WHOLE), on_one_gpu(ALEXNET), halves().memory
    gigabytes = {name: value.total / 1e9 for name, value in (("one", one), ("single", single), ("half", half))}
    return Computed(
        value=one.total,
        shown=f"{gigabytes['one']:.2f} GB on one GPU, {gigabytes['half']:.2f} GB on each of two",
        sum=(
            f"weights {one.parameters / 1e6:,.0f} + gradients {one.gradients / 1e6:,.0f} + momentum {one.optimizer / 1e6:,.0f} + saved "
            f"activations of {BATCH} images {one.saved / 1e6:,.0f} = {one.total / 1e6:,.0f} MB"
        ),
        why=(
            f"The card has {CARD / 1e9:.2f} GB. As autograd keeps activations today the paper's network takes "
            f"{percent(one.total / CARD)} of it (the slides' single tower, which normalises smaller maps, "
            f"{percent(single.total / CARD)}), and {percent(half.total / CARD)} as a half. The gradients of activations and the kernels' "
            "scratch memory come on top; what the programs of 2012 kept is not recorded here."
        ),
        numbers={
            "one_gpu_bytes": one.total,
            "single_tower_bytes": single.total,
            "half_bytes": half.total,
            "card_bytes": CARD,
        },
        compared=False,
    )


def half() -> Computed:
    own = [value.shape[0] for name, value in halves().tape.state.items() if name.endswith("weight")]
    whole = [layer.made[0] for layer in listed(WHOLE) if layer.weights]
    parameters = analysed(WHOLE).whole.parameters
    is_half = [2 * number for number in own] == whole and 2 * halves().parameters == parameters
    return Computed(
        value="half" if is_half else "another share",
        shown=f"{', '.join(map(str, own))} of {', '.join(map(str, whole))}",
        sum=f"2 * {halves().parameters:,} = {2 * halves().parameters:,} parameters",
        why="Two halves have exactly the parameters of the network with two groups, which is what the zoo has as alexnet.",
        numbers={"half_parameters": halves().parameters, "parameters": parameters},
    )


def _numbered() -> Iterator[tuple[str, Layer]]:
    weighted = [layer for layer in listed(WHOLE) if layer.weights]
    for number, layer in enumerate(weighted, start=1):
        yield f"{layer.kind.upper()}{number}", layer


def same_gpu() -> Computed:
    names = [name for name, layer in _numbered() if layer.kind == "conv" and (layer.groups > 1 or layer.given[0] == 3)]
    return Computed(
        value=", ".join(names),
        shown=", ".join(names),
        sum="CONV1 reads the image; the others are convolutions in two groups",
    )


def across() -> Computed:
    names = [name for name, layer in _numbered() if layer.groups == 1 and layer.given[0] != 3]
    sent = halves().exchanged
    each = ", ".join(f"{name} {bytes_ / 1e3:.1f} KB" for name, bytes_ in sent.items())
    image, batch = sum(sent.values()), BATCH * sum(sent.values())
    return Computed(
        value=", ".join(names),
        shown=", ".join(names),
        sum=f"each GPU sends for an image: {each}; in all {image / 1e3:.1f} KB",
        why=(
            f"For a batch of {BATCH} that is {batch / 1e6:.1f} MB forward from each GPU to the other, and as much backward for the "
            f"gradients: {2 * halves().sent / 1e6:.1f} MB over the bus in all. The maps before CONV2, had they been exchanged too, would "
            f"be {_before_conv2() / 1e3:.0f} KB an image instead of {sent['CONV3'] / 1e3:.0f} KB before CONV3."
        ),
        numbers={
            **{f"{name.lower()}_bytes": bytes_ for name, bytes_ in sent.items()},
            "image_bytes": image,
            "batch_forward_bytes": batch,
            "batch_both_ways_bytes": 2 * halves().sent,
        },
    )


def _before_conv2() -> int:
    """Bytes of one half's maps there."""
    return next(call for call in halves().tape.calls if call.path == "conv2").inputs[0].bytes_


def zfnet_conv1() -> Computed:
    layer = next(layer for layer in listed("zfnet") if layer.kind == "conv")
    told = f"{layer.window} stride {layer.stride}"
    second = [x for x in listed("zfnet") if x.kind == "conv"][1]
    return Computed(
        value=told,
        shown=told,
        sum=f"{volume(layer.given)} to {volume(layer.made)}",
        why=f"The paper also gives CONV2 stride {second.stride}, which the slide leaves out.",
    )


def zfnet_widths() -> Computed:
    widths = {name: [x.made[0] for x in listed(name) if x.kind == "conv"][2:] for name in ("zfnet", "zfnet_wide")}
    counts = {name: analysed(name).whole.parameters for name in widths}
    told = ", ".join(map(str, widths["zfnet"]))
    return Computed(
        value=told,
        shown=told,
        sum=f"zfnet {counts['zfnet']:,} parameters; with {', '.join(map(str, widths['zfnet_wide']))} it has {counts['zfnet_wide']:,}",
        why="Two networks: the paper's own keeps AlexNet's widths; the wider one is an experiment in its table 3.",
        numbers={"zfnet": counts["zfnet"], "zfnet_wide": counts["zfnet_wide"]},
    )


COMPUTED: dict[str, Callable[[], Computed]] = {
    "lenet-geometry": lenet_geometry,
    "alexnet-conv1-side": lambda: _side("conv"),
    "alexnet-conv1-output": lambda: _volume("conv"),
    "alexnet-conv1-parameters": conv1_parameters,
    "alexnet-pool1-side": lambda: _side("pool"),
    "alexnet-pool1-output": lambda: _volume("pool"),
    "alexnet-pool1-parameters": pool1_parameters,
    "alexnet-parameters": parameters,
    "alexnet-towers": towers,
    "alexnet-memory": memory,
    "alexnet-half": half,
    "alexnet-same-gpu": same_gpu,
    "alexnet-across": across,
    "zfnet-conv1": zfnet_conv1,
    "zfnet-widths": zfnet_widths,
}
