"""A network as a figure: its stages as bands, its blocks as boxes with their insides, the flow of data between them. One SVG.

The network flows down; inside a block, from left to right. Blocks that are alike are one box with their number. A shape stands on
every edge, with an arrow and another colour where the maps get smaller, and beside each box what it holds and what it costs. What is read
from further back than the box above comes in from the left. All of it comes from the tape: a shortcut is drawn because a sum
reads the block's input, not because the class is called Residual.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from convatlas.analysis import words
from convatlas.analysis.cost import total
from convatlas.analysis.folding import Fold, Folded, fold
from convatlas.analysis.outline import Link, Outline, Stage, outline
from convatlas.analysis.sketch import Sketch, counted, layer_nodes, merged, separable, sketch, without_widths
from convatlas.analysis.svg import Canvas, shortened, text_width
from convatlas.analysis.tape import Tape, Value
from convatlas.analysis.wires import Placed, place

WIDTH = 900
LABELS, BOX, FIGURES = 24, 186, 706  # left edges of the columns
BOX_WIDTH, BAR = 504, 80
SLIM, TITLE, PAD = 32, 26, 9  # heights: a layer's box, a block's title, the room below its inside
GAP, SEAM = 32, 14  # between boxes; more between stages
TALL, CROWD = 300, 16  # the highest inside, and the number of layers from which on separable ones are drawn as one
INSIDE, SMALLEST = BOX_WIDTH - 28, 0.7  # the widest inside, and how small it is drawn at most
CHIP = 20

STYLE = """
.ca-diagram text{fill:var(--ca-ink)} .ca-diagram .muted{fill:var(--ca-muted)} .ca-diagram .strong{font-weight:600}
.ca-diagram .fall{fill:var(--ca-fall);font-weight:600} .ca-diagram .paper{fill:var(--ca-paper)} .ca-diagram .band{fill:var(--ca-band)}
.ca-diagram .card{fill:var(--ca-box);stroke:var(--ca-line)} .ca-diagram .badge{fill:var(--ca-accent)}
.ca-diagram .times{fill:var(--ca-paper);font-weight:600} .ca-diagram .wire{fill:none;stroke:var(--ca-wire);stroke-width:1.2}
.ca-diagram .wire-head{fill:var(--ca-wire)} .ca-diagram .skip{fill:none;stroke:var(--ca-accent);stroke-width:1.4}
.ca-diagram .skip-head{fill:var(--ca-accent)} .ca-diagram .convolution{fill:var(--ca-convolution)}
.ca-diagram .depthwise{fill:var(--ca-depthwise)} .ca-diagram .pooling{fill:var(--ca-pooling)} .ca-diagram .dense{fill:var(--ca-dense)}
.ca-diagram .join{fill:var(--ca-box);stroke:var(--ca-wire);stroke-width:1.2} .ca-diagram .dot{fill:var(--ca-wire)}
.ca-diagram .rail{fill:var(--ca-line);opacity:.5} .ca-diagram .bar{fill:var(--ca-bar)} .ca-diagram .face{fill:var(--ca-convolution);
stroke:var(--ca-accent);stroke-width:.8} .ca-diagram .side{fill:var(--ca-bar);stroke:var(--ca-accent);stroke-width:.8}
"""


@dataclass(frozen=True, slots=True)
class _Box:
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


def diagram(tape: Tape, *, title: str = "", stages: Sequence[str] | None = None) -> str:
    """A figure of the network as one self-contained SVG; `stages` are the module paths of its stages, found where none are given."""
    of = outline(tape, stages)
    folded = fold(tape, of)
    boxes = _boxes(tape, folded)
    whole = total(tape.ops)
    name = title or (tape.calls[0].kind if tape.calls else "network")
    parameters = sum(box.parameters for box in boxes)
    told = f"{words.number(parameters)} parameters · {words.number(whole.mult_adds)} mult-adds"
    canvas = Canvas()
    tops, bands, height = _rows(of, boxes)
    canvas.rect(0, 0, WIDTH, height, kind="paper")
    canvas.text(LABELS, 38, shortened(name, 20, FIGURES - LABELS, bold=True), 20, kind="strong")
    canvas.text(LABELS, 58, told + ("" if whole.status == "complete" else " (partial)"), 12, kind="muted")
    canvas.text(FIGURES, 58, "parameters", 11, kind="muted")
    canvas.text(FIGURES + BAR + 12, 58, "mult-adds", 11, kind="muted")
    for stage, (top, bottom) in zip(of.stages, bands, strict=True):
        canvas.rect(10, top, WIDTH - 20, bottom - top, kind="band", radius=10)
        _label(canvas, tape, stage, top, tape.inputs)
    most = (max((b.parameters for b in boxes), default=0), max((b.mult_adds for b in boxes), default=0))
    for box, top in zip(boxes, tops, strict=True):
        _draw(canvas, of, box, top, most, (parameters, whole.mult_adds))
    _edges(canvas, tape, folded, boxes, tops, height)
    _legend(canvas, boxes, height)
    return canvas.finished(WIDTH, height, label=f"{name}: {told}, {len(of.stages)} stages", style=STYLE)


def _boxes(tape: Tape, folded: Folded) -> list[_Box]:
    known: set[str] = set()  # parameters already told
    found: list[_Box] = []
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
            inside, placed = _inside(tape, folded, fold_)
            if inside is not None and inside.note:
                notes.insert(0, inside.note)
            if fold_.grows:
                notes.insert(0, _growth(tape, fold_))
            kind = unit.blocks[0].kind
            title = _capital(words.of_class(kind if kind != "Sequential" else "Layers"))
            if placed is None and inside is not None:
                said = counted(inside)
            scale = min(1.0, INSIDE / placed.width) if placed else 1.0
            height = TITLE + PAD + (placed.height * scale if placed else CHIP)
        note = "" if unit.is_layer else " · ".join(notes)
        cost = total(ops).mult_adds
        found.append(_Box(fold_, title, note, inside, placed, said, scale, height, sum(held.values()), cost))
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


def _inside(tape: Tape, folded: Folded, of: Fold) -> tuple[Sketch, Placed | None]:
    """The sketch of a fold's first unit, as plain as it must be to fit; not placed if it never does."""
    come = [link for link in folded.links if link.target == of.first]
    back = {link.value.number: of.first - link.source for link in come}
    several = len(set(back.values())) > 1
    named = {
        number: "" if not several else f"{steps} back"
        for number, steps in back.items()
    }
    if len(set(back.values())) > 2:
        named = dict.fromkeys(named, "all before")
    out = frozenset(link.value.number for link in folded.links if link.source == of.first)
    plain = merged(sketch(tape, of.units[0].ops, folded.active, named, out))
    layers = sum(node.role not in ("input", "join") for node in plain.nodes.values())
    tries = [plain, without_widths(plain)] if layers <= CROWD else []
    tries += [separable(plain), without_widths(separable(plain))]
    found: tuple[Sketch, Placed] | None = None
    for graph in tries:
        before = {i: sorted(node.before) for i, node in graph.nodes.items()}
        placed = place(before, lambda i, g=graph: _node_width(g, i), INSIDE - 30)
        best = min(found, (graph, placed), key=lambda pair: pair[1].width) if found else (graph, placed)
        found = best if placed.height <= TALL else found
        if found and found[1].width <= INSIDE:
            return found
    return found if found and SMALLEST * found[1].width <= INSIDE else (plain, None)


def _node_width(graph: Sketch, node: int) -> float:
    what = graph.nodes[node]
    if what.role == "input":
        return 8 + (text_width(what.text, 10) + 4 if what.text else 0)
    if what.role == "join" and len(what.text) == 1:
        return 16
    return text_width(what.text, 11) + 12


def _rows(of: Outline, boxes: Sequence[_Box]) -> tuple[list[float], list[tuple[float, float]], float]:
    """The top of every box, the top and bottom of every stage, and the height of all."""
    y = 76.0 + 22 + GAP  # below the title and the input
    tops: list[float] = []
    bands: list[tuple[float, float]] = []
    for number in range(len(of.stages)):
        own = [box for box in boxes if box.fold.stage == number]
        start = y - 10
        for i, box in enumerate(own):
            tops.append(y)
            y += box.height + (GAP if i < len(own) - 1 else 0) + (6 if len(box.fold.units) > 1 else 0)
        y = max(y + 10, start + 84)
        bands.append((start, y))
        y += GAP - 6 + SEAM
    return tops, bands, y + 22 + 46


def _label(
    canvas: Canvas, tape: Tape, stage: Stage, top: float, inputs: Sequence[Value]
) -> None:
    """A stage's name, the shape that it gives and a picture of that: a slab, its side by the root of the map's and its depth by the logarithm of their number."""
    last = stage.name.rpartition(".")[2]
    name = stage.name if last[:1].isdigit() else last
    with canvas.group("stage", title=stage.name):
        canvas.text(LABELS, top + 20, shortened(name, 12, 112, bold=True), 12, kind="strong")
        makes = [v for block in stage.blocks for i in block.ops for v in tape.ops[i].makes[:1]]
        sides = makes[-1].shape if makes else ()
        if len(sides) != 4:
            return
        canvas.text(LABELS, top + 35, shortened(words.shape(sides), 11, 112), 11, kind="muted")
        largest = max((v.shape[-1] for v in inputs if len(v.shape) == 4), default=sides[-1])
        edge = 28 * math.sqrt(sides[2] / max(largest, sides[2]))
        depth = 2 + 2.2 * math.log2(1 + sides[1])
        lift = 0.4 * depth
        x, y = LABELS + 1, top + 45 + lift
        canvas.rect(x, y, edge, edge, kind="face")
        canvas.polygon([(x, y), (x + depth, y - lift), (x + depth + edge, y - lift), (x + edge, y)], kind="side")
        canvas.polygon(
            [(x + edge, y), (x + edge + depth, y - lift), (x + edge + depth, y - lift + edge), (x + edge, y + edge)],
            kind="side",
        )


def _draw(
    canvas: Canvas, of: Outline, box: _Box, top: float, most: tuple[int, int], whole: tuple[int, int]
) -> None:
    """A box with what is in it, and its figures on the right."""
    blocks = [block for unit in box.fold.units for block in unit.blocks] + list(box.fold.silent)
    count = len(box.fold.units)
    first, last = box.fold.units[0].blocks[0].path, box.fold.units[-1].blocks[0].path
    span = first or "between modules"
    if count > 1:
        span = f"{first} to {last}"
    shares = [f"{part / every:.1%} of" if every else "none of" for part, every in zip((box.parameters, box.mult_adds), whole, strict=True)]
    tip = (
        f"{span}\n{words.number(box.parameters)} parameters ({shares[0]} all)\n"
        f"{words.number(box.mult_adds)} mult-adds ({shares[1]} all)"
    )
    data = " ".join(block.path or "." for block in blocks)
    with canvas.group("block", title=tip, blocks=data, count=str(count)):
        if count > 1:
            canvas.rect(BOX + 6, top + 6, BOX_WIDTH, box.height, kind="card", radius=7)
            canvas.rect(BOX + 3, top + 3, BOX_WIDTH, box.height, kind="card", radius=7)
        canvas.rect(BOX, top, BOX_WIDTH, box.height, kind="card", radius=7)
        right = BOX + BOX_WIDTH - 10
        if count > 1:
            badge = text_width(f"×{count}", 12, bold=True) + 12
            canvas.rect(right - badge + 2, top + 5, badge, 19, kind="badge", radius=9.5)
            canvas.text(right - badge / 2 + 2, top + 19, f"×{count}", 12, kind="times", anchor="middle")
            right -= badge + 6
        where = _short_path(of.stages[box.fold.stage].name, first, last)
        if box.fold.units[0].is_layer:
            _draw_layer(canvas, box, top, right, where)
        else:
            x = BOX + 12
            canvas.text(x, top + 18, shortened(box.title, 12.5, 250, bold=True), 12.5, kind="strong")
            x += min(250, text_width(box.title, 12.5, bold=True)) + 8
            rest = " · ".join(part for part in (where, box.note) if part)
            canvas.text(x, top + 18, shortened(rest, 11, right - x), 11, kind="muted")
            _draw_inside(canvas, box, top + TITLE)
    middle = top + min(box.height, 40) / 2
    for i, (value, largest) in enumerate(zip((box.parameters, box.mult_adds), most, strict=True)):
        x = FIGURES + i * (BAR + 12)
        canvas.text(x, middle + 1, words.number(value) if value else "–", 11, kind="" if value else "muted")
        if value:
            canvas.rect(x, middle + 6, BAR, 4, kind="rail", radius=2)
            canvas.rect(x, middle + 6, max(1.5, BAR * value / max(largest, 1)), 4, kind="bar", radius=2)


def _short_path(stage: str, first: str, last: str) -> str:
    """Where blocks are in their stage: `1–35`."""
    inside = [path.removeprefix(f"{stage}.") for path in (first, last)]
    if inside[0] == inside[1]:
        return inside[0] if inside[0] != stage else ""
    parent, _, end = inside[1].rpartition(".")
    return f"{inside[0]}–{end if inside[0].rpartition('.')[0] == parent else inside[1]}"


def _draw_layer(canvas: Canvas, box: _Box, top: float, right: float, where: str) -> None:
    """A layer in one line: its size, its words, its name."""
    x = BOX + 12.0
    for node in box.inside.nodes.values() if box.inside else ():
        size = node.text.removeprefix("fc ").removeprefix("max ").removeprefix("avg ")
        size = "global" if size.startswith("global") else size
        width = text_width(size, 11) + 12
        if x + width > BOX + 300:
            break
        canvas.rect(x, top + SLIM / 2 - CHIP / 2, width, CHIP, kind=node.role, radius=5)
        canvas.text(x + width / 2, top + SLIM / 2 + 4, size, 11, anchor="middle")
        x += width + 6
    x += 2 if box.inside else 0
    said = shortened(box.words, 11.5, right - x)
    canvas.text(x, top + SLIM / 2 + 4, said, 11.5)
    x += text_width(said, 11.5) + 12
    if text_width(where, 10.5) <= right - x:
        canvas.text(right, top + SLIM / 2 + 4, where, 10.5, kind="muted", anchor="end")


def _draw_inside(canvas: Canvas, box: _Box, top: float) -> None:
    if box.inside is None or box.placed is None:
        canvas.text(BOX + 12, top + 13, shortened(box.words, 11, BOX_WIDTH - 24), 11)
        return
    scale = box.scale
    left = BOX + (BOX_WIDTH - box.placed.width * scale) / 2
    for points in box.placed.wires:
        canvas.wire([(x * scale + left, y * scale + top) for x, y in points], kind="wire", radius=4)
    for i, node in box.inside.nodes.items():
        x, y = box.placed.at[i][0] * scale + left, box.placed.at[i][1] * scale + top
        width = _node_width(box.inside, i) * scale
        if node.role == "input":
            canvas.circle(x + width / 2 - 4 * scale, y, 3.2 * scale, kind="dot")
            if node.text:
                canvas.text(x - width / 2, y + 3.5 * scale, node.text, 10 * scale, kind="muted")
            continue
        sign = node.role == "join" and len(node.text) == 1
        chip = CHIP * scale
        if sign:
            canvas.circle(x, y, 8 * scale, kind="join")
        else:
            radius = chip / 2 if node.role == "join" else 5 * scale
            canvas.rect(x - width / 2, y - chip / 2, width, chip, kind=node.role, radius=radius)
        canvas.text(x, y + 4 * scale, node.text, (12 if sign else 11) * scale, anchor="middle")


def _edges(
    canvas: Canvas, tape: Tape, folded: Folded, boxes: Sequence[_Box], tops: Sequence[float], height: float
) -> None:
    """Arrows from box to box with the shapes that pass, the input and the output, and what is read from further back."""
    spine = BOX + BOX_WIDTH / 2
    box_of = {unit: i for i, box in enumerate(boxes) for unit in range(box.fold.first, box.last + 1)}
    box_of |= {-1: -1, len(folded.units): len(boxes)}
    ends = [(76.0, 98.0), *((t, t + b.height) for t, b in zip(tops, boxes, strict=True)), (height - 68, height - 46)]
    pairs: dict[tuple[int, int], list[Link]] = {}
    for link in folded.links:
        pairs.setdefault((box_of[link.source], box_of[link.target]), []).append(link)
    _pill(canvas, spine, 76, "input", tape.inputs)
    _pill(canvas, spine, height - 68, "output", tape.outputs)
    skips: list[tuple[int, int, list[Link]]] = []
    for (source, target), found in sorted(pairs.items()):
        last = boxes[source].last if source >= 0 else -1
        near = [link for link in found if link.source == last]
        far = [link for link in found if link.source != last]
        if target == source + 1 and near:
            start = ends[source + 1][1] + (6 if source >= 0 and len(boxes[source].fold.units) > 1 else 0)
            _edge(canvas, tape, boxes, source, (spine, start, ends[target + 1][0]), near)
        elif source != target:
            far = found
        if far and source != target or (source == target and any(k.target - k.source > 1 for k in found)):
            skips.append((source, target, far))
    _skips(canvas, boxes, ends, skips)


def _pill(canvas: Canvas, x: float, top: float, name: str, values: Sequence[Value]) -> None:
    """The network's input or output."""
    text = shortened(f"{name} {' and '.join(words.shape(v.shape) for v in values)}", 11.5, BOX_WIDTH - 20)
    width = text_width(text, 11.5) + 22
    with canvas.group(name):
        canvas.rect(x - width / 2, top, width, 22, kind="card", radius=11)
        canvas.text(x, top + 15, text, 11.5, anchor="middle")


def _edge(
    canvas: Canvas,
    tape: Tape,
    boxes: Sequence[_Box],
    source: int,
    at: tuple[float, float, float],
    found: Sequence[Link],
) -> None:
    """From one box to the next: an arrow with the shapes on it, marked where the maps are smaller than those that came in."""
    x, start, end = at
    shapes = list(dict.fromkeys(link.value.shape for link in found))
    given = _given(tape, boxes[source]) if source >= 0 else shapes[0]
    falls = len(shapes[0]) > 2 and len(given) == len(shapes[0]) and math.prod(shapes[0][2:]) < math.prod(given[2:])
    told = " and ".join(words.shape(s) for s in shapes[:2]) + (f" and {len(shapes) - 2} more" if len(shapes) > 2 else "")
    with canvas.group("edge", source=str(source), shapes=" ".join(words.shape(s) for s in shapes)):
        canvas.wire([(x, start), (x, end)], kind="wire", arrow=True)
        y = min((start + end) / 2, start + 16) + 4
        if source < 0 or source == len(boxes) - 1:
            return  # said by the input's and the output's own boxes
        canvas.text(x + 10, y, ("↓ " if falls else "") + told, 11, kind="fall" if falls else "muted")


def _given(tape: Tape, box: _Box) -> tuple[int, ...]:
    """The shape that the first block of a box reads."""
    unit = box.fold.units[0]
    for block in unit.blocks:
        if block.call is not None and tape.calls[block.call].inputs:
            return tape.calls[block.call].inputs[-1].shape
    reads = [v for i in unit.ops for v in tape.ops[i].reads if v.origin not in ("parameter", "buffer")]
    return reads[0].shape if reads else ()


def _skips(
    canvas: Canvas,
    boxes: Sequence[_Box],
    ends: Sequence[tuple[float, float]],
    skips: Sequence[tuple[int, int, Sequence[Link]]],
) -> None:
    """What a box reads from further back than the box above it, each in a lane of its own left of the boxes."""
    free: list[int] = []  # by lane: the box at which it is free again
    lanes: list[int] = []
    ordered = sorted(skips, key=lambda skip: (skip[0], skip[1]))
    for source, target, _ in ordered:
        lane = next((k for k, until in enumerate(free) if until <= source), len(free))
        free[lane:lane + 1] = [max(target, source + 1)]
        lanes.append(lane)
    pitch = min(10.0, 40 / max(1, len(free)))
    for (source, target, links), lane in zip(ordered, lanes, strict=True):
        x = BOX - 10 - lane * pitch
        start, end = ends[source + 1][1] - 9, ends[target + 1][0] + 10
        if source == target:
            title, start, end = "each reads further back than the one before it", ends[source + 1][1] - 9, ends[source + 1][0] + 20
        else:
            title = ", ".join(dict.fromkeys(words.shape(link.value.shape) for link in links))
        left = BOX if 0 <= source < len(boxes) else BOX + 120
        arrive = BOX if target < len(boxes) else BOX + 120
        with canvas.group("skip", source=str(source), target=str(target)):
            canvas.wire([(left, start), (x, start), (x, end), (arrive, end)], kind="skip", arrow=True, radius=7, title=title)


def _legend(canvas: Canvas, boxes: Sequence[_Box], height: float) -> None:
    """What the colours of the boxes inside mean, of those that are there."""
    roles = {node.role for box in boxes if box.inside for node in box.inside.nodes.values()}
    x, y = float(LABELS), height - 18
    for role, text in (
        ("convolution", "convolution: window, maps made, /stride"),
        ("depthwise", "depthwise (dw) or separable (sep)"),
        ("pooling", "pooling"),
        ("dense", "fully connected (fc), attention"),
    ):
        if role in roles:
            canvas.rect(x, y - 9, 12, 12, kind=role, radius=3)
            canvas.text(x + 17, y + 1, text, 10.5, kind="muted")
            x += text_width(text, 10.5) + 34
