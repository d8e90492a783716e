"""The chart of a study: lines with their range, a dot with its interval a row, or a row's plans side by side; from study.json alone.

Which lines there are and what is along the axes differs from study to study, so the specification is made from the rows. Panels stand
beside each other on a desk and one below the other on a telephone.
"""

from __future__ import annotations

from typing import Any

from convatlas.report.draw import style
from convatlas.report.palette import LIGHT
from convatlas.report.rows import WIDE

_COLOURS = [LIGHT[name] for name in ("accent", "wrong", "solve", "dense", "report", "gated", "second")]
_PERCENT = "format(100 * datum.value, '.3~g') + ' %'"
_LONGEST = 26  # characters of a label that stands before its dot; longer ones are broken


def drawing(chart: dict[str, Any], *, width: int = WIDE) -> dict[str, Any]:
    """The Vega-Lite specification of a study's chart, `width` CSS pixels wide."""
    panels = list(dict.fromkeys(row["panel"] for row in chart["rows"]))
    make, columns = {"lines": (_lines, len(panels)), "dots": (_dots, 1), "quadrants": (_quadrants, 2)}[chart["kind"]]
    columns = columns if width >= WIDE else 1
    each = (width - 110) // columns - 40 if columns > 1 else width - 90  # less what axes take
    drawn = [make(chart, panel, each, first=not i, beside=columns > 1) for i, panel in enumerate(panels)]
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v6.4.1.json",
        "background": "transparent",
        "padding": {"left": 6, "top": 4, "bottom": 4, "right": 14},
        "data": {"values": chart["rows"]},
        "config": _config(),
        "concat": drawn,
        "columns": columns,
        "resolve": {"scale": {"color": "independent" if chart["kind"] == "dots" else "shared", "strokeDash": "shared"}},
        "spacing": 28,
    }


def _config() -> dict[str, Any]:
    whole = style()
    apart = {"layout": {"top": {"margin": 24, "center": True}}}  # two legends in one line
    title = {"fontSize": 14, "anchor": "start", "color": LIGHT["ink"], "fontWeight": 600}
    padding = {"columnPadding": 24}  # a browser's letters may be wider than those that were measured
    return {**whole, "title": title, "legend": {**whole.get("legend", {}), **padding, **apart}}


def _lines(chart: dict[str, Any], panel: str, width: int, *, first: bool, beside: bool) -> dict[str, Any]:
    names = list(dict.fromkeys(row["line"] for row in chart["rows"]))
    dashes = list(dict.fromkeys(row["dashed"] for row in chart["rows"] if row.get("dashed")))
    colour: dict[str, Any] = {
        "field": "line",
        "type": "nominal",
        "sort": None,
        "title": None,
        "scale": {"domain": names, "range": _COLOURS[: len(names)]},
        "legend": {"direction": "horizontal", "columns": 3, "symbolSize": 90, "symbolOpacity": 1},
    }
    ys: dict[str, Any] = {"axis": {"labelExpr": _PERCENT} if chart["percent"] else {"format": ".3~g"}} | {
        "title": chart["y"] if first or not beside else None,
        "scale": {"type": "log" if chart["logarithmic"] else "linear", "zero": False},
    }
    ys["axis"] |= {"grid": True, "tickCount": 6}
    if chart["percent"]:  # then panels are of the same quantity, and are to be compared
        bounds = [row[end] for row in chart["rows"] for end in ("y", "low", "high") if row.get(end) is not None]
        ys["scale"]["domain"] = [min(bounds), max(bounds)]
    encoding: dict[str, Any] = {
        "x": {"field": "x", "type": "quantitative", "title": chart["x"], "scale": {"zero": False, "nice": False}},
        "color": colour,
    }
    encoding["x"]["axis"] = {"grid": False, "tickMinStep": 1, "tickCount": 6, "format": ".6~g"}
    line: dict[str, Any] = {"y": {"field": "y", "type": "quantitative", **ys}}
    if dashes:
        line["strokeDash"] = {
            "field": "dashed",
            "type": "nominal",
            "sort": None,
            "title": None,
            "scale": {"domain": dashes, "range": [[5, 4], [1, 0], [2, 2]][: len(dashes)]},
            "legend": {
                "symbolType": "stroke",
                "symbolSize": 700,
                "symbolStrokeColor": LIGHT["muted"],
                "direction": "horizontal",
                "orient": "top" if beside else "bottom",  # for two legends a telephone is not wide enough
            },
        }
    band: dict[str, Any] = {
        "y": {"field": "low", "type": "quantitative", **ys},
        "y2": {"field": "high"},
        "detail": {"field": "dashed"},
    }
    return {
        "title": panel,
        "width": width,
        "height": 300,
        "transform": [{"filter": {"field": "panel", "equal": panel}}],
        "encoding": encoding,
        "layer": [
            {
                "transform": [{"filter": "isValid(datum.low) && datum.low < datum.high"}],
                "mark": {"type": "area", "opacity": 0.16},
                "encoding": band,
            },
            {"mark": {"type": "line", "strokeWidth": 2.2}, "encoding": line},
            {"mark": {"type": "point", "filled": True, "size": 14, "opacity": 1}, "encoding": {"y": line["y"]}},
        ],
    }


def _dots(chart: dict[str, Any], panel: str, width: int, *, first: bool, beside: bool) -> dict[str, Any]:
    narrow = width < WIDE // 2
    axis = {"grid": True, "tickCount": 4 if narrow else 6}
    axis |= {"labelExpr": _PERCENT} if chart["percent"] else {"format": ".3~s"}
    x = {
        "field": "x",
        "type": "quantitative",
        "title": chart["x"],
        "axis": axis,
        "scale": {"zero": False, "padding": 14, "type": "log" if chart["logarithmic"] else "linear"},
    }
    label = {
        "field": "label",
        "type": "nominal",
        "sort": None,
        "title": None,
        "axis": {
            "domain": False,
            "ticks": False,
            "labelLimit": 130 if narrow else 260,
            "labelExpr": _broken(chart, panel) if narrow else "datum.label",
        },
    }
    zero = [
        {
            "transform": [{"filter": "isValid(datum.zero)"}, {"aggregate": [{"op": "min", "field": "zero", "as": "zero"}]}],
            "mark": {"type": "rule", "strokeDash": [5, 4], "color": LIGHT["second"]},
            "encoding": {"x": {"field": "zero", "type": "quantitative"}},
        }
    ]  # fmt: skip
    return {
        "title": panel,
        "width": width - (90 if narrow else 220),
        "height": {"step": 40},
        "transform": [{"filter": {"field": "panel", "equal": panel}}],
        "layer": [
            *(zero if any(row.get("zero") is not None for row in chart["rows"] if row["panel"] == panel) else []),
            {
                "transform": [{"filter": "isValid(datum.low)"}],
                "mark": {"type": "rule", "size": 8, "color": LIGHT["accent"], "opacity": 0.3, "strokeCap": "round"},
                "encoding": {"y": label, "x": {**x, "field": "low"}, "x2": {"field": "high"}},
            },
            {
                "mark": {"type": "point", "filled": True, "size": 90, "opacity": 1, "color": LIGHT["accent"]},
                "encoding": {"y": label, "x": x},
            },
        ],
    }


def _quadrants(chart: dict[str, Any], panel: str, width: int, *, first: bool, beside: bool) -> dict[str, Any]:
    """A line for each case, on it a point for each plan, and a ring around what was advised."""
    rows = [row for row in chart["rows"] if row["panel"] == panel]
    names = list(dict.fromkeys(row["line"] for row in chart["rows"]))
    label = {
        "field": "label",
        "type": "nominal",
        "sort": None,
        "title": None,
        "axis": {"domain": False, "ticks": False, "grid": True, "labelLimit": 130, "labelExpr": _broken(chart, panel)},
    }
    x = {
        "field": "x",
        "type": "quantitative",
        "title": chart["x"],
        "axis": {"grid": False, "tickCount": 5, "labelExpr": _PERCENT},
        "scale": {"zero": False, "nice": False, "padding": 14},
    }
    colour = {
        "field": "line",
        "type": "nominal",
        "sort": None,
        "title": None,
        "scale": {"domain": names, "range": _COLOURS[: len(names)]},
        "legend": {
            "direction": "horizontal",
            "columns": 3 if beside else 2,
            "symbolSize": 90,
            "symbolOpacity": 1,
        },
    }
    return {
        "title": panel,
        "width": width - 60,
        "height": {"step": 54, "for": "position"},
        "data": {"values": rows},
        "encoding": {"y": label, "yOffset": {"field": "line", "type": "nominal", "sort": names}},
        "layer": [
            {
                "mark": {"type": "rule", "size": 2, "opacity": 0.35},
                "encoding": {"x": {**x, "field": "low"}, "x2": {"field": "high"}, "color": colour},
            },
            {
                "transform": [{"filter": "datum.advised > 0"}],
                "mark": {"type": "point", "size": 170, "strokeWidth": 1.6, "color": LIGHT["ink"], "filled": False},
                "encoding": {"x": x, "opacity": {"field": "advised", "type": "quantitative", "legend": None}},
            },
            {
                "mark": {"type": "point", "filled": True, "size": 60, "opacity": 1},
                "encoding": {"x": x, "color": colour},
            },
        ],
    }


def _broken(chart: dict[str, Any], panel: str) -> str:
    """A Vega expression that breaks the panel's long labels in two."""
    labels = dict.fromkeys(row["label"] for row in chart["rows"] if row["panel"] == panel)
    told = "datum.label"
    for label in labels:
        if len(label) > _LONGEST // 2 and " " in label:
            gaps = [i for i, letter in enumerate(label) if letter == " "]
            at = min(gaps, key=lambda gap: abs(gap - len(label) / 2))
            told = f"datum.label === {label!r} ? [{label[:at]!r}, {label[at + 1 :]!r}] : {told}"
    return told
