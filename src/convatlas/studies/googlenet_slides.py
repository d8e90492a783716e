"""The slides on GoogLeNet and its inception module, computed; and what MobileNets make of the same idea, which the lecture leaves out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from itertools import pairwise
from math import prod

from convatlas.studies import inception
from convatlas.studies.claims import Computed
from convatlas.studies.inception import Edge, Module
from convatlas.studies.layers import Layer, analysed, listed, volume

NAME = "googlenet"


@cache
def naive() -> Module:
    """The slides' module without reductions."""
    return inception.module(reduced=False)


@cache
def reduced() -> Module:
    """The same with them."""
    return inception.module(reduced=True)


def depth_column() -> list[tuple[str, int]]:
    """Every part of the network that adds to its depth, and the depth after it: the column of the paper's table 1."""
    found: list[tuple[str, int]] = []
    before = 0
    for row in analysed(NAME).blocks:
        if row.depth > before:
            found.append((row.path.rpartition(".")[2], row.depth))
            before = row.depth
    return found


def depth() -> Computed:
    found = analysed(NAME).whole.depth
    steps = [after - before for before, after in pairwise([0, *(d for _, d in depth_column())])]
    pools = sum("Pool" in row.kind for row in analysed(NAME).blocks)
    return Computed(
        value=found,
        shown=str(found),
        sum=" + ".join(map(str, steps)) + f" = {found}",
        why=f"On the longest path; {found + pools} with the {pools} poolings between the modules, as the paper also counts.",
        numbers={"depth": found, "with_pooling": found + pools},
    )


def fully_connected() -> Computed:
    linear = [row for row in analysed(NAME).layers if row.kind == "Linear"]
    parameters = sum(row.parameters for row in linear)
    alexnet = sum(row.parameters for row in analysed("alexnet").layers if row.kind == "Linear")
    return Computed(
        value=len(linear),
        shown=f"{len(linear)}, of {parameters:,} parameters",
        sum=" + ".join(f"{volume(row.input_shapes[0][1:])} to {row.output_shapes[0][1]}" for row in linear),
        why=f"Average pooling replaces the large ones: AlexNet's have {alexnet:,} parameters. The classifier stays.",
        numbers={"layers": len(linear), "parameters": parameters},
    )


def parameters() -> Computed:
    found = analysed(NAME)
    whole, linear = found.whole.parameters, sum(row.parameters for row in found.layers if row.kind == "Linear")
    weights = sum(layer.weights for layer in listed(NAME))
    auxiliary = analysed("googlenet_aux").whole.parameters
    return Computed(
        value=whole,
        shown=f"{whole / 1e6:.1f} M ({whole:,})",
        sum=f"{weights:,} weights + {whole - weights:,} biases",
        why=f"{whole - linear:,} without the classifier, {auxiliary:,} with the auxiliary ones, which are for training.",
        numbers={
            "no_aux": whole,
            "weights_only": weights,
            "without_final_linear": whole - linear,
            "with_aux": auxiliary,
        },
    )


def ratio() -> Computed:
    ours, alexnet = analysed(NAME).whole.parameters, analysed("alexnet").whole.parameters
    return Computed(
        value=alexnet / ours,
        shown=f"{alexnet / ours:.1f}",
        sum=f"{alexnet:,} / {ours:,} = {alexnet / ours:.2f}",
        why="12 is 60 M / 5 M; it stands in the paper, too.",
        numbers={"alexnet_ratio": round(alexnet / ours, 2)},
    )


def _output(edge: str) -> Computed:
    found = naive().edges[edge]
    return Computed(value=volume(found.made), shown=volume(found.made), numbers={"elements": prod(found.made)})


def output(module: Module) -> Computed:
    last = [edge for name, edge in module.edges.items() if not name.startswith("reduce")]
    if module.reduced:  # the pooling's maps are projected, not handed on
        last = [edge for edge in last if edge.name != "pool"]
    ordered = sorted(last, key=lambda edge: ("one", "three", "five", "pool", "project").index(edge.name))
    made = module.made
    widths = "+".join(str(edge.made[0]) for edge in ordered)
    return Computed(
        value=volume(made),
        shown=volume(made),
        sum=f"{made[1]}x{made[2]}x({widths}) = {volume(made)}",
        numbers={"depth": made[0], "elements": prod(made)},
    )


def _ops(edge: Edge) -> Computed:
    kernel = edge.layer.partition(" ")[0]
    places = "x".join(map(str, (*edge.made[1:], edge.made[0])))
    return Computed(
        value=edge.mult_adds,
        shown=f"{edge.mult_adds / 1e6:.1f} M",
        sum=f"{places}x{kernel}x{edge.given[0]} = {edge.mult_adds:,}",
        numbers={"mult_adds": edge.mult_adds},
    )


def rows() -> Iterator[tuple[str, Callable[[], Computed]]]:
    """The ops of every convolution in both modules."""
    for kind, module in (("naive", naive()), ("reduced", reduced())):
        for name, edge in module.edges.items():
            if edge.mult_adds:
                yield f"inception-{kind}-{name}", lambda edge=edge: _ops(edge)


def _sum(module: Module) -> str:
    each = " + ".join(f"{edge.mult_adds / 1e6:.1f}" for edge in module.edges.values() if edge.mult_adds)
    return f"{each} = {module.mult_adds / 1e6:.1f} M"


def naive_ops() -> Computed:
    found = naive().mult_adds
    return Computed(
        value=found,
        shown=f"{found / 1e6:.0f} M ({found:,})",
        sum=_sum(naive()),
        why="Ops are multiplications, each with its addition.",
        numbers={"mult_adds": found},
    )


def reduced_ops() -> Computed:
    found, before = reduced().mult_adds, naive().mult_adds
    twice = found + reduced().edges["three"].mult_adds
    return Computed(
        value=found,
        shown=f"{found / 1e6:.0f} M ({found:,})",
        sum=_sum(reduced()),
        why=(
            f"{twice / 1e6:.0f} M ({twice:,}) is what comes out when the row of the 3x3, "
            f"{reduced().edges['three'].mult_adds / 1e6:.1f} M, is added twice. So bottlenecks save more than the slide says: "
            f"{before / found:.2f} times instead of {before / twice:.2f} times."
        ),
        numbers={"mult_adds": found, "with_3x3_twice": twice, "times_fewer": round(before / found, 2)},
    )


def growth() -> Computed:
    depths, flat = inception.depths_of_slide(reduced=False), inception.depths_of_slide(reduced=True)
    own, paper = inception.depths_of_googlenet(reduced=False), inception.depths_of_googlenet(reduced=True)
    grows = all(a < b for a, b in pairwise(depths)) and all(a < b for a, b in pairwise(own))
    return Computed(
        value="grows" if grows else "does not always grow",
        shown="grows: " + ", ".join(f"{depth:,}" for depth in depths),
        sum=f"each module adds {depths[1] - depths[0]} maps: {depths[0]} + {len(depths) - 1} * {depths[1] - depths[0]} = {depths[-1]:,}",
        why=(
            f"With bottlenecks it is {flat[-1]} after every module. GoogLeNet's own nine would come to {own[-1]:,} maps without "
            f"reductions; with them they have {paper[-1]:,}."
        ),
        numbers={"after_nine_naive": depths[-1], "after_nine_reduced": flat[-1], "googlenet_naive": own[-1]},
    )


def values() -> Computed:
    made = naive().made
    found = prod(made)
    return Computed(
        value=found,
        shown=f"{found / 1e3:.0f}k ({found:,})",
        sum=f"{made[1]}*{made[2]}*{made[0]} = {found:,}",
        numbers={"elements": found},
    )


def module_depth() -> Computed:
    steps = {
        after - before
        for (_, before), (name, after) in pairwise(depth_column())
        if name in inception.names_of_googlenet()
    }
    told = ", ".join(map(str, sorted(steps)))
    return Computed(
        value=int(told) if len(steps) == 1 else told, shown=told, sum="the 1x1 reduction and the 3x3 or 5x5 after it"
    )


def depthwise() -> Computed:
    """Howard et al., section 3.1, on one layer of the network: the pair against the standard convolution it stands for."""
    depthwise_, pointwise = next(
        (a, b) for a, b in pairwise(listed("mobilenet_v1_100")) if a.groups > 1 and a.made[0] == 512
    )
    standard = next(x for x in listed("conv_mobilenet") if _same(x, depthwise_, pointwise))
    pair, n = depthwise_.mult_adds + pointwise.mult_adds, pointwise.made[0]
    formula = 1 / n + 1 / depthwise_.kernel**2
    equal = abs(pair / standard.mult_adds - formula) < 1e-12
    return Computed(
        value=f"1/N + 1/{depthwise_.kernel**2}" if equal else f"{pair / standard.mult_adds:.4f}",
        shown=f"1/N + 1/{depthwise_.kernel**2}",
        sum=f"({depthwise_.mult_adds:,} + {pointwise.mult_adds:,}) / {standard.mult_adds:,} = 1/{n} + 1/{depthwise_.kernel**2}",
        numbers={"share": formula},
    )


def _same(layer: Layer, depthwise_: Layer, pointwise: Layer) -> bool:
    return layer.kind == "conv" and (layer.given, layer.made, layer.kernel) == (
        depthwise_.given,
        pointwise.made,
        depthwise_.kernel,
    )


def _against(what: str) -> Computed:
    ours, theirs = analysed("mobilenet_v1_100").whole, analysed("conv_mobilenet").whole
    few, many = (
        (ours.cost.mult_adds, theirs.cost.mult_adds) if what == "mult_adds" else (ours.parameters, theirs.parameters)
    )
    return Computed(
        value=many / few,
        shown=f"{many / few:.2f}",
        sum=f"{many:,} / {few:,}",
        numbers={"separable": few, "standard": many, "times_fewer": round(many / few, 2)},
    )


COMPUTED: dict[str, Callable[[], Computed]] = {
    "googlenet-depth": depth,
    "googlenet-fc": fully_connected,
    "googlenet-parameters": parameters,
    "googlenet-ratio": ratio,
    "inception-one-output": lambda: _output("one"),
    "inception-three-output": lambda: _output("three"),
    "inception-five-output": lambda: _output("five"),
    "inception-pool-output": lambda: _output("pool"),
    "inception-output": lambda: output(naive()),
    "inception-naive-ops": naive_ops,
    "inception-growth": growth,
    "inception-values": values,
    "inception-reduced-ops": reduced_ops,
    "inception-reduced-output": lambda: output(reduced()),
    "googlenet-total-depth": depth,
    "googlenet-module-depth": module_depth,
    "depthwise-formula": depthwise,
    "depthwise-mult-adds": lambda: _against("mult_adds"),
    "depthwise-parameters": lambda: _against("parameters"),
}
