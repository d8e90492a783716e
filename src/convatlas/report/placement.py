"""Where the labels of a scatter plot go, so that none covers another label or a mark: Vega-Lite would put each at the same place.

Each label tries the places around its mark, near ones first, then farther ones that a thin line leads to. The important go first; one
that finds no place is left out, and a reader finds it by pointing. Greedy and without randomness: the same data give the same picture.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

LETTER, LINE = 7.2, 14.0  # CSS pixels: the mean width of a letter of 12 pixels in a wide font, and a line's height
_GAP = 3.0
_CENTRE = 4.0  # around a mark's centre, which stays free
_LEADERS = (12.0, 20.0, 30.0, 42.0, 56.0, 72.0, 92.0)  # how far beyond its mark a label may stand
_FARTHEST = 42.0  # of one that is not important: better none than one that has to be traced

Line = tuple[float, float, float, float]  # from x, y to x, y


class Box(NamedTuple):
    """A rectangle in pixels from the upper left corner."""

    left: float
    top: float
    right: float
    bottom: float

    def meets(self, other: Box) -> bool:
        return (
            self.left < other.right and other.left < self.right and self.top < other.bottom and other.top < self.bottom
        )

    def grown(self, by: float) -> Box:
        return Box(self.left - by, self.top - by, self.right + by, self.bottom + by)


class Disc(NamedTuple):
    """A mark, in pixels."""

    x: float
    y: float
    radius: float

    def meets(self, box: Box) -> bool:
        near_x = min(max(self.x, box.left), box.right)
        near_y = min(max(self.y, box.top), box.bottom)
        return math.hypot(self.x - near_x, self.y - near_y) < self.radius


@dataclass(frozen=True)
class Label:
    """Where a label stands: its middle left, its middle or its middle right, according to `align`."""

    x: float
    y: float
    align: str  # left, center or right
    box: Box
    leader: Line | None = None  # from the mark to the label


def place(
    marks: Sequence[Disc],
    texts: Sequence[str],
    *,
    important: Sequence[bool],
    width: float,
    height: float,
    taken: Sequence[Box] = (),
    lines: Sequence[Box] = (),
) -> list[Label | None]:
    """A place for each text beside its mark within `width` by `height`, clear of everything; None for those that found none.

    `taken` is closed to labels and leaders, `lines` to labels only. Important labels fall back to a place over another mark's area, never
    over a label or a mark's centre.
    """
    crowd = [sum(math.hypot(a.x - b.x, a.y - b.y) < 60 for b in marks) for a in marks]
    orders = [
        sorted(range(len(marks)), key=lambda i: (not important[i], sign * crowd[i] if important[i] else crowd[i], i))
        for sign in (1, -1)
    ]
    orders.append(sorted(range(len(marks)), key=lambda i: (not important[i], marks[i].x, i)))
    tried = [_placed(order, marks, texts, important, Box(0, 0, width, height), taken, lines) for order in orders]
    return min(tried, key=lambda found: _shortcoming(found, important))


def _shortcoming(found: Sequence[Label | None], important: Sequence[bool]) -> tuple[int, int, float]:
    """What speaks against an arrangement: important labels that are missing, others that are, and the length of its leaders."""
    missing = [label is None for label in found]
    lengths = [math.dist(label.leader[:2], label.leader[2:]) for label in found if label is not None and label.leader]
    return sum(m and i for m, i in zip(missing, important, strict=True)), sum(missing), sum(lengths)


def _placed(
    order: Sequence[int],
    marks: Sequence[Disc],
    texts: Sequence[str],
    important: Sequence[bool],
    frame: Box,
    taken: Sequence[Box],
    lines: Sequence[Box],
) -> list[Label | None]:
    """Each label in turn at the first place that is free."""
    boxes = list(taken)
    leaders: list[Line] = []
    found: list[Label | None] = [None] * len(marks)
    for crowded in (False, True):  # then leaders may start at a mark's centre, inside another mark
        for i in order:
            others = [disc for k, disc in enumerate(marks) if k != i]
            centres = [disc._replace(radius=min(_CENTRE, disc.radius)) for disc in others]
            apart = [disc for disc in centres if math.dist(disc[:2], marks[i][:2]) > 2 * _CENTRE]
            solid = centres if crowded and important[i] else others
            rim = 0.0 if crowded else marks[i].radius
            reach = _LEADERS if important[i] else [far for far in _LEADERS if far <= _FARTHEST]
            for label in () if found[i] else _places(marks[i], LETTER * len(texts[i]), rim, reach):
                box = label.box
                if box.left < frame.left or box.top < frame.top or box.right > frame.right or box.bottom > frame.bottom:
                    continue
                if any(box.meets(other) for other in (*boxes, *lines)) or any(disc.meets(box) for disc in solid):
                    continue
                if any(_crosses(line, box) for line in leaders):
                    continue
                if label.leader and _blocked(label.leader, boxes, apart if crowded else others, leaders):
                    continue
                found[i] = label
                boxes.append(box.grown(1))
                leaders += [label.leader] if label.leader else []
                break
    return found


def _places(mark: Disc, width: float, rim: float, leaders: Sequence[float]) -> Iterator[Label]:
    """Places around a mark, the best first: right, left, above, below, the corners; then out on leaders, from `rim` on."""
    x, y, reach = mark.x, mark.y, mark.radius + _GAP
    slant = reach * 0.75
    yield _label(x + reach, y, "left", width)
    yield _label(x - reach, y, "right", width)
    yield _label(x, y - reach - LINE / 2, "center", width)
    yield _label(x, y + reach + LINE / 2, "center", width)
    for right, down in ((1, -1), (1, 1), (-1, -1), (-1, 1)):
        yield _label(x + right * slant, y + down * (slant + 3), "left" if right > 0 else "right", width)
    for far in leaders:
        for step in range(16):
            angle = 2 * math.pi * (step + 0.5) / 16
            right, down = math.cos(angle), math.sin(angle)
            end_x, end_y = x + right * (mark.radius + far), y + down * (mark.radius + far)
            start = (x + right * rim, y + down * rim)
            if abs(right) < 0.4:
                label = _label(end_x, end_y + math.copysign(LINE / 2, down), "center", width)
            else:
                label = _label(end_x + math.copysign(2, right), end_y, "left" if right > 0 else "right", width)
            yield Label(label.x, label.y, label.align, label.box, leader=(*start, end_x, end_y))


def _label(x: float, y: float, align: str, width: float) -> Label:
    left = x - {"left": 0.0, "center": width / 2, "right": width}[align]
    return Label(x, y, align, Box(left, y - LINE / 2, left + width, y + LINE / 2))


def _blocked(
    line: Line,
    boxes: Sequence[Box],
    discs: Sequence[Disc],
    leaders: Sequence[Line],
) -> bool:
    points = [Box(x, y, x, y).grown(0.5) for x, y in _along(line)]
    if any(point.meets(box) for point in points for box in boxes) or any(d.meets(p) for p in points for d in discs):
        return True
    return any(_crosses(other, point) for other in leaders for point in points)


def _crosses(line: Line, box: Box) -> bool:
    return any(box.left < x < box.right and box.top < y < box.bottom for x, y in _along(line))


def _along(line: Line) -> Iterator[tuple[float, float]]:
    x, y, to_x, to_y = line
    steps = max(int(math.hypot(to_x - x, to_y - y)), 1)
    return ((x + (to_x - x) * k / steps, y + (to_y - y) * k / steps) for k in range(steps + 1))
