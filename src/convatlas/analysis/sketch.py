"""The inside of a block as a small graph: convolutions, poolings and fully connected layers, and where their paths join.

Only what has weights or changes the map's size is a node; norms, activations and views leave the map what it was. An operation that reads
two different nodes is a join: the sum of a residual block, the product of a gate, the stack of an inception block. So shortcuts and
branches come from the flow of data, whatever the classes are called. Where the graph is too large to be read it is simplified: like
branches are drawn once, a depthwise convolution with the pointwise one after it is a separable one, a width that all share is left
to the title, and at last only a count is left.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from convatlas.analysis.cost import cost
from convatlas.analysis.folding import POOLING
from convatlas.analysis.tape import Op, Tape, Value

Role = Literal["input", "convolution", "depthwise", "pooling", "dense", "join"]

JOINS = {
    **dict.fromkeys(("add", "add_", "sum"), "+"),
    **dict.fromkeys(("mul", "mul_"), "×"),
    **dict.fromkeys(("sub", "sub_", "rsub"), "−"),
    **dict.fromkeys(("div", "div_"), "÷"),
    "cat": "concat",
    "stack": "stack",
    "maximum": "max",
    "minimum": "min",
}


@dataclass(frozen=True, slots=True)
class Node:
    """A layer, a join or an input."""

    role: Role
    text: str  # "3×3 64 /2", "+"; what an input is called, if anything
    before: frozenset[int] = frozenset()  # the nodes it reads
    width: int = 0  # the maps that it makes
    window: str = ""  # of a convolution: "3×3"


@dataclass(frozen=True, slots=True)
class Sketch:
    """The graph, in the order in which it ran: a node reads nodes with smaller numbers."""

    nodes: Mapping[int, Node]
    out: frozenset[int]  # nodes read outside
    note: str = ""  # what was left out for brevity


def sketch(tape: Tape, ops: range, active: frozenset[int], inputs: Mapping[int, str], out: frozenset[int]) -> Sketch:
    """What runs in `ops`. `inputs` names values from outside by number (those of one name are one node), `out` are those read outside."""
    nodes: dict[int, Node] = {}
    named: dict[str, int] = {}
    at: dict[int, int] = {}  # the node that a value comes from
    softmax: set[int] = set()  # products that a softmax has read
    plain = _pointwise_calls(tape, ops, active)

    def source(value: Value) -> int:
        if value.number not in at:
            name = inputs.get(value.number, "")
            if name not in named:
                named[name] = len(nodes)
                nodes[len(nodes)] = Node("input", name)
            at[value.number] = named[name]
        return at[value.number]

    for i in ops:
        op = tape.ops[i]
        kind = op.kind.removeprefix("aten.")
        reads = [value for value in op.reads if value.number in active]
        if not reads:
            continue
        sources = list(dict.fromkeys(source(value) for value in reads))
        node = sources[0]
        made = None
        if op.call in plain:
            pass
        elif cost(op).mult_adds:
            two = len({value.number for value in reads}) > 1
            if two and softmax & set(sources):
                node = next(n for n in sources if n in softmax)
                others = nodes[node].before | set(sources) - {node}
                nodes[node] = replace(nodes[node], text="attention", before=frozenset(others - {node}))
            else:
                made = _product(sources) if two else _layer(op, frozenset(sources))
        elif len(sources) > 1:
            made = Node("join", JOINS.get(kind, kind), frozenset(sources), _width(op))
        elif kind == "mean" and nodes[node].text == "stack":
            nodes[node] = replace(nodes[node], text="mean")
        elif _pools(op, reads[0]):
            made = _pooling(op, frozenset(sources))
        if "softmax" in kind and nodes[node].text == "product":
            softmax.add(node)
        if made is not None:
            node = len(nodes)
            nodes[node] = made
        at |= {value.number: node for value in op.makes}
    return Sketch(nodes, frozenset(at[number] for number in out if number in at and nodes[at[number]].role != "input"))


def layer_nodes(tape: Tape, ops: range, active: frozenset[int]) -> list[Node]:
    """The nodes of a single layer without their wiring."""
    found = sketch(tape, ops, active, {}, frozenset()).nodes.values()
    return [node for node in found if node.role not in ("input", "join")]


def _pointwise_calls(tape: Tape, ops: range, active: frozenset[int]) -> set[int]:
    """Calls of single modules that are norms or activations, however many operations they take (local response norm pools inside)."""
    inside: dict[int, list[Op]] = {}
    for i in ops:
        inside.setdefault(tape.ops[i].call, []).append(tape.ops[i])
    parents = {call.parent for call in tape.calls}
    found: set[int] = set()
    for call, run in inside.items():
        kinds = {op.kind.removeprefix("aten.") for op in run if cost(op).flops}
        given, gives = tape.calls[call].inputs, tape.calls[call].outputs
        same = len(given) == 1 and len(gives) == 1 and given[0].shape == gives[0].shape
        if call not in parents and same and not kinds <= POOLING and not any(cost(op).mult_adds for op in run):
            found.add(call)
    return found


def _product(sources: Sequence[int]) -> Node:
    return Node("dense", "product", frozenset(sources))


def _layer(op: Op, before: frozenset[int]) -> Node:
    """A convolution or a fully connected layer."""
    width = _width(op)
    if op.kind != "aten.convolution":
        width = op.makes[0].shape[-1]
        return Node("dense", f"fc {width}", before, width)
    weight, stride, dilation, transposed, groups = op.args[1], op.args[3], op.args[5], op.args[6], op.args[8]
    window = "×".join(map(str, weight.shape[2:]))
    ends = "".join(
        mark
        for mark, there in (
            (f", {groups} groups", groups > 1),
            (f" /{max(stride)}", max(stride) > 1 and not transposed),
            (f" ·{max(stride)}", transposed),
            (f" dilated {max(dilation)}", max(dilation) > 1),
        )
        if there
    )
    if groups > 1 and weight.shape[1] == 1:
        more = f" {width}" if width != groups else ""
        return Node("depthwise", f"dw {window}{more}{ends.replace(f', {groups} groups', '')}", before, width, window)
    return Node("convolution", f"{window} {width}{ends}", before, width, window)


def _pools(op: Op, read: Value) -> bool:
    """Whether an operation pools over places: with a window, to a fixed size, or over all of them."""
    kind = op.kind.removeprefix("aten.")
    if kind == "mean":
        axes = op.args[1] if len(op.args) > 1 and op.args[1] else range(len(read.shape))
        return len(read.shape) > 2 and any(axis % len(read.shape) >= 2 for axis in axes) and op.makes[0] is not read
    if kind.lstrip("_").startswith("adaptive"):
        return op.makes[0].shape != read.shape
    return kind in POOLING


def _pooling(op: Op, before: frozenset[int]) -> Node:
    kind = op.kind.removeprefix("aten.")
    how = "max" if "max" in kind else "avg"
    width = _width(op)
    if kind == "mean" or (kind.lstrip("_").startswith("adaptive") and all(side == 1 for side in op.makes[0].shape[2:])):
        return Node("pooling", f"global {how}", before, width)
    if kind.lstrip("_").startswith("adaptive"):
        return Node("pooling", f"{how} to {'×'.join(map(str, op.makes[0].shape[2:]))}", before, width)
    window = [op.args[1]] if isinstance(op.args[1], int) else list(op.args[1])
    stride = op.args[2] if len(op.args) > 2 and op.args[2] else window
    step = max([stride] if isinstance(stride, int) else stride)
    sides = window * 2 if len(window) == 1 and kind.endswith("2d") else window
    return Node("pooling", f"{how} {'×'.join(map(str, sides))}" + (f" /{step}" if step > 1 else ""), before, width)


def _width(op: Op) -> int:
    shape = op.makes[0].shape
    return shape[1] if len(shape) > 1 else 0


def merged(graph: Sketch) -> Sketch:
    """Like branches once: nodes with one text, one reader and the same neighbours."""
    nodes = dict(graph.nodes)
    while True:
        readers = _readers(nodes)
        groups: dict[tuple[str, frozenset[int], tuple[int, ...]], list[int]] = {}
        for i, node in nodes.items():
            if node.role not in ("input", "join") and len(readers[i]) == 1:
                groups.setdefault((node.text, node.before, tuple(readers[i])), []).append(i)
        again = next((found for found in groups.values() if len(found) > 2), None)
        if again is None:
            return replace(graph, nodes=nodes)
        first, *rest = again
        nodes[first] = replace(nodes[first], text=f"({nodes[first].text}) ×{len(again)}")
        for i in rest:
            del nodes[i]
        nodes = {i: replace(node, before=node.before - set(rest)) for i, node in nodes.items()}


def separable(graph: Sketch) -> Sketch:
    """A depthwise convolution and the pointwise one that alone reads it in one node; the same again counted."""
    nodes = dict(graph.nodes)
    for i in list(nodes):
        node = nodes[i]
        if len(node.before) != 1:
            continue
        (last,) = node.before
        before = nodes[last]
        if len(_readers(nodes)[last]) > 1 or last in graph.out:
            continue
        text = ""
        if before.role == "depthwise" and before.text.startswith("dw") and node.window == "1×1":
            step = before.text.partition(" /")[2]
            text = f"sep {before.window} {node.width}" + (f" /{step}" if step else "")
        if text:
            nodes[i] = replace(before, text=text, width=node.width)
            del nodes[last]
    for i in list(nodes):
        if i not in nodes or len(nodes[i].before) != 1:
            continue
        (last,) = nodes[i].before
        before, text = nodes[last], nodes[i].text
        base, _, _ = before.text.partition(" /")
        if text.startswith("sep") and base == text and len(_readers(nodes)[last]) == 1:
            nodes[i] = replace(before, text=f"{before.text} ×2")
            del nodes[last]
    return replace(graph, nodes=nodes)


def without_widths(graph: Sketch) -> Sketch:
    """The width that most convolutions have, in the note alone."""
    widths = Counter(node.width for node in graph.nodes.values() if node.role in ("convolution", "depthwise"))
    if not widths:
        return graph
    ((width, count),) = widths.most_common(1)
    if 2 * count < widths.total():
        return graph
    nodes = {
        i: replace(node, text=node.text.replace(f" {width}", "", 1)) if node.width == width else node
        for i, node in graph.nodes.items()
    }
    note = f"{width} maps each" if len(widths) == 1 else f"{width} maps where no number stands"
    return replace(graph, nodes=nodes, note=note)


def counted(graph: Sketch) -> str:
    """A graph in words: its layers by kind, and its longest path."""
    layers = Counter(node.text for node in graph.nodes.values() if node.role not in ("input", "join"))
    depth: dict[int, int] = {}
    for i, node in graph.nodes.items():
        own = node.role not in ("input", "join")
        depth[i] = own + max((depth[b] for b in node.before), default=0)
    named = [f"{count} × ({text})" if count > 1 else text for text, count in layers.most_common(3)]
    more = len(layers) - len(named)
    return (
        ", ".join(named)
        + (f" and {more} other kinds" if more else "")
        + f"; longest path {max(depth.values(), default=0)}"
    )


def _readers(nodes: Mapping[int, Node]) -> dict[int, list[int]]:
    found: dict[int, list[int]] = {i: [] for i in nodes}
    for i, node in nodes.items():
        for before in node.before:
            found[before].append(i)
    return found
