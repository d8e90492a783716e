"""A network as a figure: its stages as bands, its blocks as boxes with their insides, the flow of data between them. One SVG.

The network flows down; inside a block, from left to right. Blocks that are alike are one box with their number. A shape stands on
every edge, with an arrow and another colour where the maps get smaller, and beside each box what it holds and what it costs. What is read
from further back than the box above comes in from the left. All of it comes from the tape: a shortcut is drawn because a sum
reads the block's input, not because the class is called Residual.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from convatlas.analysis import words
from convatlas.analysis.boxes import BOX_WIDTH, CHIP, SLIM, TITLE, Box, boxes, node_width, short_path
from convatlas.analysis.cost import total
from convatlas.analysis.folding import Folded, fold
from convatlas.analysis.outline import Link, Outline, Stage, outline
from convatlas.analysis.svg import Canvas, shortened, text_width
from convatlas.analysis.tape import Tape, Value

WIDTH = 900
LABELS, BOX, FIGURES = 24, 186, 706  # left edges of the columns
BAR, LABEL_WIDTH = 80, 112
GAP, SEAM = 32, 14  # between boxes; more between stages

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


def diagram(tape: Tape, *, title: str = "", stages: Sequence[str] | None = None) -> str:
    """A figure of the network as one self-contained SVG; `stages` are the module paths of its stages, found where none are given."""
    of = outline(tape, stages)
    folded = fold(tape, of)
    drawn = boxes(tape, folded)
    whole = total(tape.ops)
    name = title or (tape.calls[0].kind if tape.calls else "network")
    parameters = sum(box.parameters for box in drawn)
    told = f"{words.number(parameters)} parameters · {words.number(whole.mult_adds)} mult-adds"
    canvas = Canvas()
    tops, bands, height = _rows(of, tape, drawn)
    canvas.rect(0, 0, WIDTH, height, kind="paper")
    canvas.text(LABELS, 38, shortened(name, 20, FIGURES - LABELS, bold=True), 20, kind="strong")
    canvas.text(LABELS, 58, told + ("" if whole.status == "complete" else " (partial)"), 12, kind="muted")
    canvas.text(FIGURES, 58, "parameters", 11, kind="muted")
    canvas.text(FIGURES + BAR + 12, 58, "mult-adds", 11, kind="muted")
    for stage, (top, bottom) in zip(of.stages, bands, strict=True):
        canvas.rect(10, top, WIDTH - 20, bottom - top, kind="band", radius=10)
        _label(canvas, tape, stage, top, tape.inputs)
    most = (max((b.parameters for b in drawn), default=0), max((b.mult_adds for b in drawn), default=0))
    for box, top in zip(drawn, tops, strict=True):
        _draw(canvas, of, box, top, most, (parameters, whole.mult_adds))
    skips = _edges(canvas, tape, folded, drawn, tops, height)
    _legend(canvas, drawn, height, skips=skips)
    return canvas.finished(WIDTH, height, label=f"{name}: {told}, {len(of.stages)} stages", style=STYLE)


def _rows(of: Outline, tape: Tape, boxes: Sequence[Box]) -> tuple[list[float], list[tuple[float, float]], float]:
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
        y = max(y + 10, start + _label_height(of.stages[number], tape))
        bands.append((start, y))
        y += GAP - 6 + SEAM
    return tops, bands, math.ceil(y + 22 + 46)


def _lines(stage: Stage) -> list[str]:
    """A stage's name without the path before it, on one line or, if it has two parts and is long, on two."""
    last = stage.name.rpartition(".")[2]
    name = stage.name if last[:1].isdigit() else last
    first, dash, last = name.partition("–")
    return [name] if not dash or text_width(name, 12, bold=True) <= LABEL_WIDTH else [first + dash, last]


def _gives(tape: Tape, stage: Stage) -> tuple[int, ...]:
    """The shape of what a stage makes last."""
    makes = [v for block in stage.blocks for i in block.ops for v in tape.ops[i].makes[:1]]
    return makes[-1].shape if makes else ()


def _label_height(stage: Stage, tape: Tape) -> float:
    return 15 * len(_lines(stage)) + (70 if len(_gives(tape, stage)) == 4 else 20)


def _label(canvas: Canvas, tape: Tape, stage: Stage, top: float, inputs: Sequence[Value]) -> None:
    """A stage's name and the shape that it gives, in figures and as a slab whose side goes with the root of the maps'."""
    with canvas.group("stage", title=stage.name):
        for line in _lines(stage):
            canvas.text(LABELS, top + 20, shortened(line, 12, LABEL_WIDTH, bold=True), 12, kind="strong")
            top += 15
        sides = _gives(tape, stage)
        if len(sides) != 4:
            return
        canvas.text(LABELS, top + 20, shortened(words.shape(sides), 11, LABEL_WIDTH), 11, kind="muted")
        largest = max((v.shape[-1] for v in inputs if len(v.shape) == 4), default=sides[-1])
        edge = 28 * math.sqrt(sides[2] / max(largest, sides[2]))
        depth = 2 + 2.2 * math.log2(1 + sides[1])
        lift = 0.4 * depth
        x, y = LABELS + 1, top + 29 + lift
        far = x + edge
        canvas.rect(x, y, edge, edge, kind="face")
        canvas.polygon([(x, y), (x + depth, y - lift), (far + depth, y - lift), (far, y)], kind="side")
        canvas.polygon(
            [(far, y), (far + depth, y - lift), (far + depth, y - lift + edge), (far, y + edge)], kind="side"
        )


def _draw(canvas: Canvas, of: Outline, box: Box, top: float, most: tuple[int, int], whole: tuple[int, int]) -> None:
    """A box with what is in it, and its figures on the right."""
    blocks = [block for unit in box.fold.units for block in unit.blocks] + list(box.fold.silent)
    count = len(box.fold.units)
    first, last = box.fold.units[0].blocks[0].path, box.fold.units[-1].blocks[0].path
    span = first or "between modules"
    if count > 1:
        span = f"{first} to {last}"
    shares = [
        f"{part / every:.1%} of" if every else "none of"
        for part, every in zip((box.parameters, box.mult_adds), whole, strict=True)
    ]
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
        where = short_path(of.stages[box.fold.stage].name, first, last)
        if box.fold.units[0].is_layer:
            _draw_layer(canvas, box, top, right, where)
        else:
            x = BOX + 12
            title = shortened(box.title, 12.5, right - x, bold=True)
            canvas.text(x, top + 18, title, 12.5, kind="strong")
            x += text_width(title, 12.5, bold=True) + 8
            rest = " · ".join(part for part in (where, box.note) if part and part.lower() != box.title.lower())
            canvas.text(x, top + 18, shortened(rest, 11, right - x), 11, kind="muted")
            _draw_inside(canvas, box, top + TITLE)
    middle = top + min(box.height, 40) / 2
    for i, (value, largest) in enumerate(zip((box.parameters, box.mult_adds), most, strict=True)):
        x = FIGURES + i * (BAR + 12)
        canvas.text(x, middle + 1, words.number(value) if value else "–", 11, kind="" if value else "muted")
        if value:
            canvas.rect(x, middle + 6, BAR, 4, kind="rail", radius=2)
            canvas.rect(x, middle + 6, max(1.5, BAR * value / max(largest, 1)), 4, kind="bar", radius=2)


def _draw_layer(canvas: Canvas, box: Box, top: float, right: float, where: str) -> None:
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
    said = shortened(box.words, 11, right - x)
    canvas.text(x, top + SLIM / 2 + 4, said, 11)
    x += text_width(said, 11) + 12
    if text_width(where, 10.5) <= right - x:
        canvas.text(right, top + SLIM / 2 + 4, where, 10.5, kind="muted", anchor="end")


def _draw_inside(canvas: Canvas, box: Box, top: float) -> None:
    if box.inside is None or box.placed is None:
        canvas.text(BOX + 12, top + 13, shortened(box.words, 11, BOX_WIDTH - 24), 11)
        return
    scale = box.scale
    left = BOX + (BOX_WIDTH - box.placed.width * scale) / 2
    for points in box.placed.wires:
        canvas.wire([(x * scale + left, y * scale + top) for x, y in points], kind="wire", radius=4)
    for i, node in box.inside.nodes.items():
        x, y = box.placed.at[i][0] * scale + left, box.placed.at[i][1] * scale + top
        width = node_width(box.inside, i) * scale
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
    canvas: Canvas, tape: Tape, folded: Folded, boxes: Sequence[Box], tops: Sequence[float], height: float
) -> bool:
    """Arrows from box to box with the shapes that pass, the input and the output; what is read from further back, if anything is."""
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
        if (far and source != target) or (source == target and any(k.target - k.source > 1 for k in found)):
            skips.append((source, target, far))
    _skips(canvas, boxes, ends, skips)
    return bool(skips)


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
    boxes: Sequence[Box],
    source: int,
    at: tuple[float, float, float],
    found: Sequence[Link],
) -> None:
    """From one box to the next: an arrow with the shapes on it, marked where the maps are smaller than those that came in."""
    x, start, end = at
    shapes = list(dict.fromkeys(link.value.shape for link in found))
    given = _given(tape, boxes[source]) if source >= 0 else shapes[0]
    falls = len(shapes[0]) > 2 and len(given) == len(shapes[0]) and math.prod(shapes[0][2:]) < math.prod(given[2:])
    told = " and ".join(words.shape(s) for s in shapes[:2]) + (
        f" and {len(shapes) - 2} more" if len(shapes) > 2 else ""
    )
    with canvas.group("edge", source=str(source), shapes=" ".join(words.shape(s) for s in shapes)):
        canvas.wire([(x, start), (x, end)], kind="wire", arrow=True)
        y = min((start + end) / 2, start + 16) + 4
        if source < 0 or source == len(boxes) - 1:
            return  # said by the input's and the output's own boxes
        canvas.text(x + 10, y, ("↓ " if falls else "") + told, 11, kind="fall" if falls else "muted")


def _given(tape: Tape, box: Box) -> tuple[int, ...]:
    """The shape that the first block of a box reads."""
    unit = box.fold.units[0]
    for block in unit.blocks:
        if block.call is not None and tape.calls[block.call].inputs:
            return tape.calls[block.call].inputs[-1].shape
    reads = [v for i in unit.ops for v in tape.ops[i].reads if v.origin not in ("parameter", "buffer")]
    return reads[0].shape if reads else ()


def _skips(
    canvas: Canvas,
    boxes: Sequence[Box],
    ends: Sequence[tuple[float, float]],
    skips: Sequence[tuple[int, int, Sequence[Link]]],
) -> None:
    """What a box reads from further back than the box above it, each in a lane of its own left of the boxes."""
    free: list[int] = []  # by lane: the box at which it is free again
    lanes: list[int] = []
    ordered = sorted(skips, key=lambda skip: (skip[0], skip[1]))
    for source, target, _ in ordered:
        lane = next((k for k, until in enumerate(free) if until <= source), len(free))
        free[lane : lane + 1] = [max(target, source + 1)]
        lanes.append(lane)
    pitch = min(10.0, 40 / max(1, len(free)))
    for (source, target, links), lane in zip(ordered, lanes, strict=True):
        x = BOX - 10 - lane * pitch
        start, end = ends[source + 1][1] - 9, ends[target + 1][0] + 10
        if source == target:
            title, start, end = (
                "each reads further back than the one before it",
                ends[source + 1][1] - 9,
                ends[source + 1][0] + 20,
            )
        else:
            title = ", ".join(dict.fromkeys(words.shape(link.value.shape) for link in links))
        left = BOX if 0 <= source < len(boxes) else BOX + 120
        arrive = BOX if target < len(boxes) else BOX + 120
        with canvas.group("skip", source=str(source), target=str(target)):
            canvas.wire(
                [(left, start), (x, start), (x, end), (arrive, end)], kind="skip", arrow=True, radius=7, title=title
            )


def _legend(canvas: Canvas, boxes: Sequence[Box], height: float, *, skips: bool) -> None:
    """What the colours of the boxes inside mean, of those that are there."""
    roles = {node.role for box in boxes if box.inside for node in box.inside.nodes.values()}
    x, y = float(LABELS), height - 18
    for role, text in (
        ("convolution", "convolution: window maps /stride"),
        ("depthwise", "depthwise (dw), separable (sep)"),
        ("pooling", "pooling"),
        ("dense", "fully connected (fc)"),
    ):
        if role in roles:
            canvas.rect(x, y - 9, 12, 12, kind=role, radius=3)
            canvas.text(x + 17, y + 1, text, 10.5, kind="muted")
            x += text_width(text, 10.5) + 30
    if skips:
        canvas.wire([(x, y - 3), (x + 14, y - 3)], kind="skip")
        canvas.text(x + 19, y + 1, "read from further back", 10.5, kind="muted")
