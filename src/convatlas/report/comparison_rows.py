"""What the charts of a comparison draw: rows, scales and sizes computed from the result, without any plotting library.

`drawing(result, figure, width)` says which structure (comparison_charts.py) a figure has and what fills it. Positions in pixels are
computed here wherever labels must keep clear of marks, so plots have a fixed place in their picture.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from convatlas.report import words
from convatlas.report.result import Result
from convatlas.report.rows import WIDE
from convatlas.report.scatter import Plot, front_line, size_legend
from convatlas.report.timeline import HISTORY

MEASURED = ("latency", "throughput", "memory", "energy")
MORE_IS_BETTER = ("throughput", "density")
OWN = "your models"

# What a family is built of: one colour each, since there are more families than colours that can be told apart.
LINEAGES: dict[str, tuple[str, ...]] = {
    "stacked convolutions": ("LeNet", "AlexNet", "ZFNet", "NiN", "VGG", "Plain", "Airbench"),
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


def figures(result: Result) -> list[str]:
    """The names of the figures that a comparison has, in the order of the page; a file is called so too."""
    compared = sum(row["accuracy"] is not None for row in result["networks"]) > 1
    costs = [
        q for q in result["by"] if q in MEASURED and any(value_of(row, q) is not None for row in result["networks"])
    ]
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
    """A network's figure, counted or measured; None where there is none."""
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
    x, x_from, x_to = (
        [factor * value for value in values] for values in zip(*(_range(row[axis]) for row in rows), strict=True)
    )
    y = [row["accuracy"] for row in rows]
    low = [(row["accuracy_interval"] or [row["accuracy"]])[0] for row in rows]
    high = [(row["accuracy_interval"] or [row["accuracy"]])[-1] for row in rows]
    plot = Plot([*x, *x_from, *x_to], [*y, *low, *high], width=width, height=460 if width == WIDE else 340, y_log=False)
    largest = 1900 if width == WIDE else 800
    most = max(row["parameters"] for row in rows)
    areas = [largest * row["parameters"] / most for row in rows]
    front = result["fronts"].get(axis, [])
    what = result["protocol"]
    top = f"top-1 accuracy, {what['dataset']}" if what else "top-1 accuracy, by different protocols"
    points = [
        {**_named(row, front), "x": a, "x_from": e, "x_to": f, "y": b, "low": c, "high": d, "area": area}
        for row, a, b, c, d, e, f, area in zip(rows, x, y, low, high, x_from, x_to, areas, strict=True)
    ]
    legend = size_legend(most, largest, plot, points)
    chosen = {row["name"]: row for row in points}
    steps = front_line(
        [(chosen[name]["x"], chosen[name]["y"]) for name in front], plot, backwards=axis in MORE_IS_BETTER
    )
    return plot.filled(
        points, steps=steps, titles=(top, axis_words(result, axis)), legend=legend, params=[_present(rows)]
    )


def _cost_against_mult_adds(result: Result, quantity: str, width: int) -> dict[str, Any]:
    rows = [row for row in result["networks"] if value_of(row, quantity) is not None]
    factor = DISPLAY[quantity][2]
    x = [DISPLAY["mult_adds"][2] * row["mult_adds"] for row in rows]
    y, low, high = ([factor * row[quantity][key] for row in rows] for key in ("value", "low", "high"))
    plot = Plot(x, [*y, *low, *high], width=width, height=420 if width == WIDE else 320, y_log=True)
    front = result["fronts"].get(quantity, [])
    points = [
        {**_named(row, front), "x": a, "x_from": a, "x_to": a, "y": b, "low": c, "high": d, "area": 100}
        for row, a, b, c, d in zip(rows, x, y, low, high, strict=True)
    ]
    return plot.filled(
        points,
        steps=[],
        titles=(axis_words(result, quantity), axis_words(result, "mult_adds")),
        legend=([], []),
        params=[_present(rows)],
    )


def _density(result: Result, width: int) -> dict[str, Any]:
    rows = sorted((row for row in result["networks"] if row["density"] is not None), key=lambda row: -row["density"])
    values = [{**_named(row, []), "value": row["density"], "text": words.three(row["density"])} for row in rows]
    return {"data": {"values": values}, "width": width, "params": [_present(rows)]}


def _named(row: Mapping[str, Any], front: Sequence[str]) -> dict[str, Any]:
    return {
        "name": row["name"],
        "lineage": lineage(row),
        "front": row["name"] in front,
        "own": row["folder"] is not None,
    }


def _present(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The parameter that says which colours the legend explains."""
    there = set(map(lineage, rows))
    return {"name": "present", "value": [name for name in LINEAGES if name in there]}


def _range(found: float | Mapping[str, Any]) -> tuple[float, float, float]:
    """A figure and its range."""
    if isinstance(found, Mapping):
        return found["value"], found["low"], found["high"]
    return found, found, found
