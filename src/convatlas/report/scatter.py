"""A scatter plot in pixels: scales, ticks, where its labels go, the line of a front and a legend of areas.

Vega-Lite lays out all of that too, but does not tell; so domains and sizes are fixed here and given to it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

from convatlas.report import words
from convatlas.report.placement import Box, Disc, place

AXIS, RIGHT = 46, 12  # pixels beside the plot: for the labels of its axis, and on the other side


class Plot:
    """A scatter plot's scales, and what they make of its points in pixels; x is logarithmic."""

    def __init__(self, x: Sequence[float], y: Sequence[float], *, width: int, height: int, y_log: bool) -> None:
        self.width, self.height, self.y_log = width - AXIS - RIGHT, height, y_log
        self.x_low, self.x_high = _log_domain(x, 0.09)
        self.y_low, self.y_high = _log_domain(y, 0.08) if y_log else _share_domain(y)

    def at(self, x: float, y: float) -> tuple[float, float]:
        across = math.log(x / self.x_low) / math.log(self.x_high / self.x_low)
        if self.y_log:
            up = math.log(y / self.y_low) / math.log(self.y_high / self.y_low)
        else:
            up = (y - self.y_low) / (self.y_high - self.y_low)
        return self.width * across, self.height * (1 - up)

    def disc(self, x: float, y: float, area: float) -> Disc:
        return Disc(*self.at(x, y), max(math.sqrt(area) / 2, 2.5))  # Vega's area is of the square around a circle

    def filled(
        self,
        points: Sequence[dict[str, Any]],
        *,
        steps: list[dict[str, Any]],
        titles: tuple[str, str],
        legend: tuple[list[dict[str, Any]], list[Box]],
        params: Sequence[dict[str, Any]],
    ) -> dict[str, Any]:
        """Everything that the structure lacks."""
        discs = [self.disc(point["x"], point["y"], point["area"]) for point in points]
        whiskers = [box for point in points for box in self.whiskers(point)]
        places = place(
            discs,
            [point["name"] for point in points],
            important=[point["front"] or point["own"] for point in points],
            width=self.width + RIGHT,
            height=self.height,
            taken=[*legend[1], *whiskers],
            lines=self._lines(steps),
        )
        labels, leaders = [], []
        for point, found in zip(points, places, strict=True):
            if found is None:
                continue
            labels.append({**_only(point), "px": found.x, "py": found.y, "align": found.align})
            if found.leader:
                ends = zip(("px", "py", "px2", "py2"), found.leader, strict=True)
                leaders.append({**_only(point), **dict(ends)})
        top, below = titles
        captions = [
            {"text": top, "px": -AXIS, "py": -16, "align": "left"},
            {"text": below, "px": self.width, "py": self.height + 40, "align": "right"},
        ]
        order = sorted(points, key=lambda point: -point["area"])  # small marks lie on large ones
        return {
            "datasets": {
                "points": order,
                "steps": steps,
                "labels": labels,
                "leaders": leaders,
                "captions": captions,
                "sizes": legend[0],
            },
            "width": self.width,
            "height": self.height,
            "params": [
                {"name": "x_low", "value": self.x_low},
                {"name": "x_high", "value": self.x_high},
                {"name": "x_ticks", "value": _ticks(self.x_low, self.x_high, most=10 if self.width > 500 else 5)},
                {"name": "y_low", "value": self.y_low},
                {"name": "y_high", "value": self.y_high},
                {"name": "y_ticks", "value": self._y_ticks()},
                *params,
            ],
        }

    def whiskers(self, point: Mapping[str, Any]) -> list[Box]:
        """What the intervals of a point cover, where it has some."""
        x, y = self.at(point["x"], point["y"])
        left, right = (self.at(point[key], point["y"])[0] for key in ("x_from", "x_to"))
        bottom, top = (self.at(point["x"], point[key])[1] for key in ("low", "high"))
        boxes = [Box(x - 1.5, top, x + 1.5, bottom), Box(left, y - 1.5, right, y + 1.5)]
        return [box for box in boxes if box.right - box.left > 3 or box.bottom - box.top > 3]

    def _lines(self, steps: Sequence[Mapping[str, Any]]) -> list[Box]:
        """The front's line, which no label may stand on."""
        corners = [self.at(step["x"], step["y"]) for step in steps]
        return [
            Box(min(a, c), min(b, d), max(a, c), max(b, d)).grown(1) for (a, b), (c, d) in itertools.pairwise(corners)
        ]

    def _y_ticks(self) -> list[float]:
        if self.y_log:
            return _ticks(self.y_low, self.y_high, most=8)
        step = next(s for s in (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2) if (self.y_high - self.y_low) / s <= 8)
        first, last = math.ceil(max(self.y_low, 0) / step - 1e-9), math.floor(min(self.y_high, 1) / step + 1e-9)
        return [round(step * k, 6) for k in range(first, last + 1)]


def _only(point: Mapping[str, Any]) -> dict[str, Any]:
    return {key: point[key] for key in ("name", "front", "own")}


def _log_domain(values: Sequence[float], room: float) -> tuple[float, float]:
    low, high = min(values), max(values)
    if high / low < 1.5:
        low, high = low / 1.3, high * 1.3
    ratio = (high / low) ** room
    return low / ratio, high * ratio


def _share_domain(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    room = max(0.09 * (high - low), 0.01)
    return low - room, high + room


def _ticks(low: float, high: float, *, most: int) -> list[float]:
    """1, 2, 5 in every decade, or fewer of them where those are more than `most`."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for leading in ((1, 2, 5), (1, 3), (1,)):
        found = [float(f"{digit}e{decade}") for decade in decades for digit in leading]
        found = [tick for tick in found if low <= tick <= high]
        if len(found) <= most:
            break
    return found


def front_line(points: Sequence[tuple[float, float]], plot: Plot, *, backwards: bool) -> list[dict[str, Any]]:
    """The corners of the front: the best accuracy to be had for up to each cost."""
    corners: list[tuple[float, float]] = []
    for x, y in points:
        corners += [(x, corners[-1][1]), (x, y)] if corners else [(x, y)]
    if corners:
        corners.append((plot.x_low if backwards else plot.x_high, corners[-1][1]))
    return [{"x": x, "y": y, "order": order} for order, (x, y) in enumerate(corners)]


def size_legend(
    most: float, largest: float, plot: Plot, points: Sequence[Mapping[str, Any]]
) -> tuple[list[dict[str, Any]], list[Box]]:
    """A legend of the areas, in a corner of the plot where it hides nothing; without such a corner there is none."""
    shown = [number for number in (1e4, 1e5, 5e5, 1e6, 5e6, 25e6, 100e6, 400e6) if most / 60 <= number <= most]
    shown = shown[-3:] if plot.width > 500 else shown[-2:]
    texts = [f"{number / 1e6:g}{words.THIN}M" for number in shown]
    radii = [math.sqrt(largest * number / most) / 2 for number in shown]
    widths = [2 * radius + 7 + 6.7 * len(text) + 12 for radius, text in zip(radii, texts, strict=True)]
    height = 2 * max(radii, default=0) + 24
    width = max(sum(widths), 80.0)
    corners = [
        Box(plot.width - width, plot.height - height - 4, plot.width, plot.height - 4),
        Box(6, 4, 6 + width, 4 + height),
        Box(6, plot.height - height - 4, 6 + width, plot.height - 4),
        Box(plot.width - width, 4, plot.width, 4 + height),
    ]
    discs = [plot.disc(point["x"], point["y"], point["area"]) for point in points]
    whiskers = [box for point in points for box in plot.whiskers(point)]
    free = [
        box
        for box in (corner.grown(4) for corner in corners)
        if not any(disc.meets(box) for disc in discs) and not any(box.meets(other) for other in whiskers)
    ]
    if not free or not shown:
        return [], []
    box = free[0].grown(-4)
    rows: list[dict[str, Any]] = [
        {"px": box.left, "py": box.top + 8, "area": 0, "text": "area: parameters", "align": "left"}
    ]
    left = box.left
    for number, radius, text, step in zip(shown, radii, texts, widths, strict=True):
        middle = box.top + 22 + (height - 24) / 2
        rows.append({"px": left + radius, "py": middle, "area": largest * number / most, "text": ""})
        rows.append({"px": left + 2 * radius + 5, "py": middle, "area": 0, "text": text, "align": "left"})
        left += step
    return rows, [box]
