"""What stands in each box of a diagram: a block's name in plain words, its inside as a sketch that fits, what it holds and costs.

An inside is drawn as it is if that can be read. If not, what most of its layers share moves to the title and separable convolutions become
one; a fractal of thirty convolutions is at last described in words.
"""

from __future__ import annotations

from dataclasses import dataclass
from graphlib import TopologicalSorter

from convatlas.analysis import words
from convatlas.analysis.cost import total
from convatlas.analysis.folding import Fold, Folded
from convatlas.analysis.sketch import Sketch, counted, layer_nodes, merged, separable, sketch, without_widths
from convatlas.analysis.svg import text_width
from convatlas.analysis.tape import Tape
from convatlas.analysis.wires import Placed, place

BOX_WIDTH = 504
SLIM, TITLE, PAD, CHIP = (
    32,
    26,
    9,
    20,
)  # heights: a layer's box, a block's title, the room below its inside, one layer in it
TALL, CROWD = 300, 16  # the highest inside, and the number of layers from which on separable ones are drawn as one
INSIDE = BOX_WIDTH - 28  # the widest inside
GOOD, SMALLEST = 0.85, 0.7  # it may be drawn that much smaller before it is simplified, and at last


@dataclass(frozen=True, slots=True)
class Box:
    """A fold as it is drawn."""

    fold: Fold
    title: str
    note: str  # beside the title
    inside: Sketch | None  # None for a layer
    placed: Placed | None
    words: str  # what stands in the box of a layer, or for an inside that is too large
    scale: float  # of the inside
    height: float
    parameters: int
    mult_adds: int

    @property
    def last(self) -> int:
        """The place of its last unit."""
        return self.fold.first + len(self.fold.units) - 1


def boxes(tape: Tape, folded: Folded) -> list[Box]:
    """A box for each fold; parameters that several share are counted in the first."""
    known: set[str] = set()  # parameters already told
    found: list[Box] = []
    for fold_ in folded.folds:
        ops = [tape.ops[i] for unit in fold_.units for i in unit.ops]
        held = {v.name: v.elements for op in ops for v in op.reads if v.origin == "parameter" and v.name not in known}
        known |= set(held)
        unit = fold_.units[0]
        after = [words.of_class(block.kind) for block in fold_.silent]
        notes = [f"+ {word}" for word in after if word]
        inside, placed, title, said, scale = None, None, "", "", 1.0
        if unit.is_layer:
            said = _capital(" ".join([words.of_layer(tape, unit), *notes]))
            nodes = layer_nodes(tape, unit.ops, folded.active)
            inside = Sketch(dict(enumerate(nodes)), frozenset()) if nodes else None
            height: float = SLIM
        else:
            inside, placed, scale = _inside(tape, folded, fold_)
            if inside.note:
                notes.insert(0, inside.note)
            if fold_.grows:
                notes.insert(0, _growth(tape, fold_))
            kind = unit.blocks[0].kind
            title = _capital(words.of_class({"Sequential": "Layers", "": "Operations"}.get(kind, kind)))
            if placed is None:
                said = counted(inside)
            height = TITLE + PAD + (placed.height * scale if placed else CHIP)
        note = "" if unit.is_layer else " · ".join(notes)
        cost = total(ops).mult_adds
        found.append(Box(fold_, title, note, inside, placed, said, scale, height, sum(held.values()), cost))
    return found


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _growth(tape: Tape, of: Fold) -> str:
    """By how many maps each unit's input is larger than that of the one before."""

    def given(i: int) -> int:
        call = of.units[i].blocks[0].call
        values = tape.calls[call].inputs if call is not None else ()
        return sum(value.shape[1] for value in values if len(value.shape) > 1)

    return f"each reads {given(1) - given(0)} maps more"


def _in_order(before: dict[int, list[int]]) -> dict[int, list[int]]:
    """Each node after those that it reads: what was merged into one may have begun before another that it reads."""
    done: set[int] = set()
    for node, sources in before.items():
        if not done.issuperset(sources):
            return {i: before[i] for i in TopologicalSorter(before).static_order()}
        done.add(node)
    return before


def _inside(tape: Tape, folded: Folded, of: Fold) -> tuple[Sketch, Placed | None, float]:
    """The sketch of a fold's first unit, as plain as it must be to fit; not placed if it never does."""
    come = [link for link in folded.links if link.target == of.first]
    back = {link.value.number: of.first - link.source for link in come}
    several = len(set(back.values())) > 1
    named = {number: "" if not several else f"{steps} back" for number, steps in back.items()}
    if len(set(back.values())) > 2:
        named = dict.fromkeys(named, "all before")
    out = frozenset(link.value.number for link in folded.links if link.source == of.first)
    plain = merged(sketch(tape, of.units[0].ops, folded.active, named, out))
    layers = sum(node.role not in ("input", "join") for node in plain.nodes.values())
    tries = [plain, without_widths(plain)] if layers <= CROWD else []
    tries += [separable(plain), without_widths(separable(plain))]
    drawn: list[tuple[float, Sketch, Placed]] = []
    for graph in tries:
        before = _in_order({i: sorted(node.before) for i, node in graph.nodes.items()})
        placed = place(before, lambda i, g=graph: node_width(g, i), INSIDE - 30)
        scale = min(1.0, INSIDE / max(placed.width, 1), TALL / max(placed.height, 1))
        if scale >= GOOD:
            return graph, placed, scale
        drawn.append((scale, graph, placed))
    scale, graph, placed = max(drawn, key=lambda found: found[0])
    return (graph, placed, scale) if scale >= SMALLEST else (plain, None, 1.0)


def node_width(graph: Sketch, node: int) -> float:
    """Pixels of a node at full size, its text and the room around that."""
    what = graph.nodes[node]
    if what.role == "input":
        return 8 + (text_width(what.text, 10) + 4 if what.text else 0)
    if what.role == "join" and len(what.text) == 1:
        return 16
    return text_width(what.text, 11) + 12


def short_path(stage: str, first: str, last: str) -> str:
    """Where blocks are in their stage: `1–35`."""
    inside = [path.removeprefix(f"{stage}.") for path in (first, last)]
    if inside[0] == inside[1]:
        return inside[0] if inside[0] != stage else ""
    parent, _, end = inside[1].rpartition(".")
    return f"{inside[0]}–{end if inside[0].rpartition('.')[0] == parent else inside[1]}"
