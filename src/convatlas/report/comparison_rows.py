"""What the charts of a comparison draw: rows, scales and sizes computed from the result, without any plotting library.

`drawing(result, figure, width)` says which structure (comparison_charts.py) a figure has and what fills it. Positions in pixels are
computed here wherever labels must keep clear of marks, so plots have a fixed place in their picture.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from convatlas.report import words
from convatlas.report.placement import Box, Disc, place
from convatlas.report.result import Result
from convatlas.report.rows import WIDE
from convatlas.report.timeline import HISTORY

MEASURED = ("latency", "throughput", "memory", "energy")
MORE_IS_BETTER = ("throughput", "density")
OWN = "your models"

# What a family is built of: one colour each, since there are more families than colours that can be told apart.
LINEAGES: dict[str, tuple[str, ...]] = {
    "stacked convolutions": ("LeNet", "AlexNet", "ZFNet", "NiN", "VGG", "Plain"),
    "branching": ("GoogLeNet", "FractalNet"),
    "residual": ("ResNet", "Pre-activation ResNet", "Wide ResNet", "ResNeXt"),
    "residual, gated": ("SENet",),
    "densely connected": ("DenseNet",),
    "depthwise separable": ("MobileNet", "MobileNet V2", "MobileNet V3"),
    "searched": ("NASNet",),
    OWN: (),
}

# quantity: what the axis says, its unit, and how many of that unit one of the result's is
DISPLAY: dict[str, tuple[str, str, float]] = {
    "mult_adds": ("mult-adds for one image", "billions", 1e-9),
    "parameters": ("parameters", "millions", 1e-6),
    "latency": ("latency of one image", "ms", 1e3),
    "throughput": ("throughput in batches of {batch}", "images a second", 1),
    "memory": ("peak memory, batch of {batch}", "MB", 1e-6),
    "energy": ("energy, batch of {batch}", "J an image", 1),
}

AXIS, RIGHT, TOP, BOTTOM = 46, 12, 30, 46  # around a scatter plot, in pixels


def figures(result: Result) -> list[str]:
    """The names of the figures that a comparison has, in the order of the page; a file is called so too."""
    compared = sum(row["accuracy"] is not None for row in result["networks"]) > 1
    costs = [q for q in result["by"] if q in MEASURED and any(value_of(row, q) is not None for row in result["networks"])]
    main = result["cost"]
    axes = [axis for axis in dict.fromkeys(["mult_adds", main, *costs]) if axis not in MEASURED or axis in costs]
    if axes[0] != main and main in axes:
        axes = [main, *(axis for axis in axes if axis != main)]
    return [
        *(f"accuracy_{axis}" for axis in axes if compared),
        *(["density"] if compared else []),
        *(f"cost_{quantity}" for quantity in costs),
        *(["timeline", "margins"] if result["ilsvrc"] else []),
    ]


def value_of(row: Mapping[str, Any], quantity: str) -> float | None:
    found = row[quantity]
    return found["value"] if isinstance(found, Mapping) else found


def lineage(row: Mapping[str, Any]) -> str:
    """What a network is built of, or that it is the reader's own."""
    if row["folder"] is not None:
        return OWN
    return next(name for name, families in LINEAGES.items() if row["family"] in families)


def axis_words(result: Result, quantity: str) -> str:
    """What an axis is called, with its unit."""
    what, unit, _ = DISPLAY[quantity]
    batch = (result["measured"] or {}).get("batch")
    return f"{what.format(batch=batch)}, {unit}"


def drawing(result: Result, figure: str, width: int = WIDE) -> tuple[str, dict[str, Any]]:
    """The structure of `figure` and the top-level Vega-Lite properties that fill it, `width` CSS pixels wide in all."""
    kind, _, quantity = figure.partition("_")
    if kind == "accuracy":
        return "scatter", _accuracy_against(result, quantity, width)
    if kind == "cost":
        return "scatter_log", _cost_against_mult_adds(result, quantity, width)
    if kind == "density":
        return "bars", _density(result, width)
    return HISTORY[kind](result["ilsvrc"], width)


def _accuracy_against(result: Result, axis: str, width: int) -> dict[str, Any]:
    rows = [row for row in result["networks"] if row["accuracy"] is not None and value_of(row, axis) is not None]
    factor = DISPLAY[axis][2]
    x, x_from, x_to = ([factor * value for value in values] for values in zip(*(_range(row[axis]) for row in rows), strict=True))
    y = [row["accuracy"] for row in rows]
    low = [(row["accuracy_interval"] or [row["accuracy"]])[0] for row in rows]
    high = [(row["accuracy_interval"] or [row["accuracy"]])[-1] for row in rows]
    plot = _Plot([*x, *x_from, *x_to], [*y, *low, *high], width=width, height=460 if width == WIDE else 340, y_log=False)
    largest = 1900 if width == WIDE else 800
    most = max(row["parameters"] for row in rows)
    areas = [largest * row["parameters"] / most for row in rows]
    front = result["fronts"].get(axis, [])
    legend = _sizes(most, largest, plot, [plot.disc(a, b, s) for a, b, s in zip(x, y, areas, strict=True)])
    what = result["protocol"]
    top = f"top-1 accuracy, {what['dataset']}" if what else "top-1 accuracy, by different protocols"
    points = [
        {**_named(row, front), "x": a, "x_from": e, "x_to": f, "y": b, "low": c, "high": d, "area": area}
        for row, a, b, c, d, e, f, area in zip(rows, x, y, low, high, x_from, x_to, areas, strict=True)
    ]
    chosen = {row["name"]: row for row in points}
    steps = _steps([(chosen[name]["x"], chosen[name]["y"]) for name in front], plot, backwards=axis in MORE_IS_BETTER)
    return plot.filled(points, steps=steps, titles=(top, axis_words(result, axis)), legend=legend)


def _cost_against_mult_adds(result: Result, quantity: str, width: int) -> dict[str, Any]:
    rows = [row for row in result["networks"] if value_of(row, quantity) is not None]
    factor = DISPLAY[quantity][2]
    x = [DISPLAY["mult_adds"][2] * row["mult_adds"] for row in rows]
    y, low, high = ([factor * row[quantity][key] for row in rows] for key in ("value", "low", "high"))
    plot = _Plot(x, [*y, *low, *high], width=width, height=420 if width == WIDE else 320, y_log=True)
    front = result["fronts"].get(quantity, [])
    points = [
        {**_named(row, front), "x": a, "x_from": a, "x_to": a, "y": b, "low": c, "high": d, "area": 100}
        for row, a, b, c, d in zip(rows, x, y, low, high, strict=True)
    ]
    return plot.filled(points, steps=[], titles=(axis_words(result, quantity), axis_words(result, "mult_adds")), legend=([], []))


def _density(result: Result, width: int) -> dict[str, Any]:
    rows = sorted((row for row in result["networks"] if row["density"] is not None), key=lambda row: -row["density"])
    values = [
        {**_named(row, []), "value": row["density"], "text": f"{row['density']:#.3g}"} for row in rows
    ]
    return {"data": {"values": values}, "width": width, "params": [_present(rows)]}


def _named(row: Mapping[str, Any], front: Sequence[str]) -> dict[str, Any]:
    return {"name": row["name"], "lineage": lineage(row), "front": row["name"] in front, "own": row["folder"] is not None}


def _present(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    there = {row["lineage"] if "lineage" in row else lineage(row) for row in rows}
    return {"name": "present", "value": [name for name in LINEAGES if name in there]}


class _Plot:
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
    ) -> dict[str, Any]:
        """Everything that the structure lacks."""
        discs = [self.disc(point["x"], point["y"], point["area"]) for point in points]
        whiskers = [box for point in points for box in self._whiskers(point)]
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
                _present(points),
            ],
        }

    def _whiskers(self, point: Mapping[str, Any]) -> list[Box]:
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
            Box(min(a, c), min(b, d), max(a, c), max(b, d)).grown(1)
            for (a, b), (c, d) in zip(corners, corners[1:], strict=False)
        ]

    def _y_ticks(self) -> list[float]:
        if self.y_log:
            return _ticks(self.y_low, self.y_high, most=8)
        step = next(s for s in (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2) if (self.y_high - self.y_low) / s <= 8)
        return [round(step * k, 6) for k in range(math.ceil(self.y_low / step), math.floor(self.y_high / step) + 1)]


def _range(found: float | Mapping[str, Any]) -> tuple[float, float, float]:
    """A figure and its range."""
    if isinstance(found, Mapping):
        return found["value"], found["low"], found["high"]
    return found, found, found


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
    return max(low - room, 0.0), min(high + room, 1.0)


def _ticks(low: float, high: float, *, most: int) -> list[float]:
    """1, 2, 5 in every decade, or fewer of them where those are more than `most`."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for leading in ((1, 2, 5), (1, 3), (1,)):
        found = [float(f"{digit}e{decade}") for decade in decades for digit in leading]
        found = [tick for tick in found if low <= tick <= high]
        if len(found) <= most:
            break
    return found


def _steps(points: Sequence[tuple[float, float]], plot: _Plot, *, backwards: bool) -> list[dict[str, Any]]:
    """The corners of the front: the best accuracy to be had for up to each cost."""
    corners: list[tuple[float, float]] = []
    for x, y in points:
        corners += [(x, corners[-1][1]), (x, y)] if corners else [(x, y)]
    if corners:
        corners.append((plot.x_low if backwards else plot.x_high, corners[-1][1]))
    return [{"x": x, "y": y, "order": order} for order, (x, y) in enumerate(corners)]


def _sizes(most: float, largest: float, plot: _Plot, discs: Sequence[Disc]) -> tuple[list[dict[str, Any]], list[Box]]:
    """A legend of the areas, in the corner of the plot where it hides least; where it hides something in each, there is none."""
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
    free = [box for box in corners if not any(disc.meets(box.grown(4)) for disc in discs)]
    if not free or not shown:
        return [], []
    box = free[0]
    rows: list[dict[str, Any]] = [{"px": box.left, "py": box.top + 8, "area": 0, "text": "area: parameters", "align": "left"}]
    left = box.left
    for number, radius, text, step in zip(shown, radii, texts, widths, strict=True):
        middle = box.top + 22 + (height - 24) / 2
        rows.append({"px": left + radius, "py": middle, "area": largest * number / most, "text": ""})
        rows.append({"px": left + 2 * radius + 5, "py": middle, "area": 0, "text": text, "align": "left"})
        left += step
    return rows, [box]

