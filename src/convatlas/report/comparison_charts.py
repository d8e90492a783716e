"""The charts of a comparison, written in Altair as those of charts.py are: structures without rows, compiled ahead.

`python -m convatlas.report.comparison_charts` writes comparison_specifications.json beside this file, from which figures are drawn without
importing Altair; a test holds the file to this source. What fills a structure is computed in comparison_rows.py and timeline.py.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import altair as alt

from convatlas.report.charts import compiled
from convatlas.report.comparison_rows import LINEAGES, drawing
from convatlas.report.palette import LIGHT
from convatlas.report.result import Result
from convatlas.report.rows import WIDE
from convatlas.report.scatter import AXIS
from convatlas.report.timeline import DEEP, HUMAN, OURS, PRINTED, SHALLOW

SPECIFICATIONS = Path(__file__).with_name("comparison_specifications.json")

_COLOURS = ("stacked", "branching", "residual", "gated", "dense", "separable", "searched", "own")
_NUMBER = "format(datum.value, ',.12~g')"
_PERCENT = "format(100 * datum.value, '.3~g') + ' %'"
_PARAMETERS = ("x_low", "x_high", "x_ticks", "y_low", "y_high", "y_ticks", "present")


def _lineage_scale() -> alt.Scale:
    return alt.Scale(domain=list(LINEAGES), range=[LIGHT[name] for name in _COLOURS])


def _lineage_legend(narrow_columns: int, offset: int) -> alt.Legend:
    columns = alt.ExprRef(f"width < 500 ? {narrow_columns} : 7")
    return alt.Legend(values=alt.ExprRef("present"), columns=columns, columnPadding=22, symbolSize=90, offset=offset)


def _lineage(legend: alt.Legend) -> alt.Fill:
    return alt.Fill("lineage:N", scale=_lineage_scale(), title=None, legend=legend)


def _scatter(y_type: str) -> alt.LayerChart:
    points, pixels = alt.Chart(alt.NamedData(name="points")), alt.Chart(alt.NamedData(name="labels"))
    x_scale = alt.Scale(type="log", nice=False, domainMin=alt.ExprRef("x_low"), domainMax=alt.ExprRef("x_high"))
    x = alt.X(
        "x:Q",
        scale=x_scale,
        axis=alt.Axis(values=alt.ExprRef("x_ticks"), labelExpr=_NUMBER, grid=True, labelOverlap=True),
        title=None,
    )
    y_scale = alt.Scale(
        type="log" if y_type == "log" else "linear",
        nice=False,
        zero=False,
        domainMin=alt.ExprRef("y_low"),
        domainMax=alt.ExprRef("y_high"),
    )
    y_axis = alt.Axis(
        values=alt.ExprRef("y_ticks"),
        labelExpr=_NUMBER if y_type == "log" else _PERCENT,
        grid=True,
        domain=False,
        ticks=False,
        minExtent=AXIS,
        maxExtent=AXIS,
    )
    y = alt.Y("y:Q", scale=y_scale, axis=y_axis, title=None)
    px, py = alt.X("px:Q", scale=None, axis=None), alt.Y("py:Q", scale=None, axis=None)
    area = alt.Size("area:Q", scale=None, legend=None)
    shape = alt.when("datum.own").then(alt.value("diamond")).otherwise(alt.value("circle"))
    rim = alt.when("datum.front").then(alt.value(LIGHT["ink"])).otherwise(alt.value(LIGHT["paper"]))
    ink = alt.when("datum.front || datum.own").then(alt.value(LIGHT["ink"])).otherwise(alt.value(LIGHT["muted"]))
    said = alt.Description("name:N")
    whiskers = points.mark_rule(strokeWidth=1.6, opacity=0.7, color=LIGHT["muted"], aria=True)
    layers = [
        whiskers.encode(x=x, y=alt.Y("low:Q", scale=y_scale, title=None), y2="high:Q", description=said),
        whiskers.encode(x=alt.X("x_from:Q", scale=x_scale, title=None), x2="x_to:Q", y=y, description=said),
        alt.Chart(alt.NamedData(name="steps"))
        .mark_line(color=LIGHT["second"], strokeWidth=1.6, strokeJoin="round")
        .encode(x=x, y=y, order="order:Q"),
        points.mark_point(filled=True, opacity=1, fillOpacity=0.72, strokeWidth=1.3, aria=True).encode(
            x=x, y=y, size=area, fill=_lineage(_lineage_legend(2, 32)), stroke=rim, shape=shape, description=said
        ),
        points.mark_point(filled=True, opacity=1, size=9, aria=True).encode(
            x=x, y=y, fill=_lineage(_lineage_legend(2, 32)), description=said
        ),
        alt.Chart(alt.NamedData(name="leaders"))
        .mark_rule(color=LIGHT["second"], strokeWidth=0.8, aria=True)
        .encode(x=px, y=py, x2="px2:Q", y2="py2:Q", description=said),
        pixels.mark_text(baseline="middle", fontSize=12, aria=True, align=alt.ExprRef("datum.align")).encode(
            x=px, y=py, text="name:N", color=ink, description=said
        ),
        alt.Chart(alt.NamedData(name="captions"))
        .mark_text(baseline="middle", fontSize=13, color=LIGHT["muted"], align=alt.ExprRef("datum.align"))
        .encode(x=px, y=py, text="text:N"),
        alt.Chart(alt.NamedData(name="sizes"))
        .mark_point(filled=False, shape="circle", stroke=LIGHT["second"], strokeWidth=1, opacity=1)
        .encode(x=px, y=py, size=area),
        alt.Chart(alt.NamedData(name="sizes"))
        .mark_text(align="left", baseline="middle", fontSize=12, color=LIGHT["muted"])
        .encode(x=px, y=py, text="text:N"),
    ]
    chart = alt.LayerChart(layer=layers)
    for name in _PARAMETERS:
        chart = chart.add_params(alt.param(name=name, value=0))
    return chart.properties(padding={"left": 2, "top": 6, "bottom": 8, "right": 2})


def _bars() -> alt.LayerChart:
    base = alt.Chart(alt.InlineData(values=[])).encode(
        y=alt.Y("name:N", sort=None, title=None, axis=alt.Axis(domain=False, ticks=False, labelLimit=160))
    )
    x = alt.X(
        "value:Q",
        stack=None,  # nothing is stacked, and stacks would be clipped
        scale=alt.Scale(zero=True, nice=False),
        axis=alt.Axis(grid=True, labelExpr=_NUMBER, tickCount=6),
        title="top-1 accuracy in % for each million parameters",
    )
    said = alt.Description("name:N")
    return (
        alt.LayerChart(
            layer=[
                base.mark_bar(size=13, cornerRadiusEnd=2, aria=True).encode(
                    x=x, fill=_lineage(_lineage_legend(1, 8)), description=said
                ),
                base.mark_text(align="left", dx=6, fontSize=12, color=LIGHT["ink"]).encode(x="value:Q", text="text:N"),
            ]
        )
        .properties(
            height=alt.Step(20),
            autosize=alt.AutoSizeParams(type="fit-x", contains="padding"),
            padding={"left": 12, "top": 6, "bottom": 6, "right": 40},
        )
        .add_params(alt.param(name="present", value=0))
    )


def _kinds(legend: alt.Legend | None) -> alt.Fill:
    scale = alt.Scale(domain=[SHALLOW, DEEP, HUMAN], range=[LIGHT["import"], LIGHT["residual"], LIGHT["separable"]])
    return alt.Fill("kind:N", scale=scale, title=None, legend=legend)


def _printed() -> Any:
    return alt.when("datum.in_lecture").then(alt.value(1)).otherwise(alt.value(0.45))


def _timeline() -> alt.VConcatChart:
    base = alt.Chart()
    in_order = alt.EncodingSortField("order", op="min")
    bands = alt.Scale(paddingInner=0.32, paddingOuter=0.16)
    names = alt.Axis(
        labelExpr="split(datum.label, '|')",
        labelAngle=0,
        labelLimit=100,
        labelFontSize=12,
        labelOverlap=False,
        ticks=False,
    )
    across = alt.X("label:N", sort=in_order, title=None, axis=None, scale=bands)
    named = alt.X("label:N", sort=in_order, title=None, axis=names, scale=bands)
    depth = alt.Y("depth:Q", scale=alt.Scale(domain=[0, 165]), axis=None)
    error = alt.Y("error:Q", stack=None, scale=alt.Scale(domain=[0, 30]), axis=None)
    figure = base.mark_text(baseline="bottom", dy=-4, fontSize=13, fontWeight=600)
    deep = base.transform_filter("isValid(datum.depth)")
    depths = alt.LayerChart(
        layer=[
            base.transform_filter("!isValid(datum.depth)")
            .mark_text(baseline="bottom", fontSize=12, dy=-2, color=LIGHT["muted"])
            .encode(x=across, y=alt.value(96), text="depth_text:N"),
            deep.mark_rule(strokeWidth=2, color=LIGHT["residual"]).encode(
                x=across, y=depth, y2=alt.value(96), opacity=_printed()
            ),
            deep.mark_point(filled=True, size=70, opacity=1, fill=LIGHT["residual"]).encode(
                x=across, y=depth, fillOpacity=_printed()
            ),
            deep.mark_text(baseline="bottom", dy=-7, fontSize=12, color=LIGHT["ink"]).encode(
                x=across, y=depth, text="depth_text:N"
            ),
        ]
    ).properties(width=WIDE - 12, height=96, title=_heading("depth of the network, layers with weights"))
    errors = alt.LayerChart(
        layer=[
            base.mark_rule(strokeDash=[5, 4], strokeWidth=1.3, color=LIGHT["separable"])
            .transform_filter("datum.order == 0")
            .encode(x=alt.value(0), x2=alt.value(WIDE - 12), y=alt.Y("human:Q", scale=error["scale"], axis=None)),
            base.mark_bar(cornerRadiusEnd=2).encode(
                x=named,
                y=error,
                fill=_kinds(alt.Legend(orient="none", legendX=690, legendY=190, symbolType="square")),
                fillOpacity=_printed(),
            ),
            # a halo, where a figure stands on the dashed line
            figure.encode(
                x=named,
                y=error,
                text="text:N",
                color=alt.value(LIGHT["paper"]),
                stroke=alt.value(LIGHT["paper"]),
                strokeWidth=alt.value(5),
            ),
            figure.encode(x=named, y=error, text="text:N", color=alt.value(LIGHT["ink"])),
        ]
    ).properties(
        width=WIDE - 12,
        height=230,
        title=_heading("top-5 error on the test set, %  (faint: not printed by the lecture)"),
    )
    chart = alt.VConcatChart(vconcat=[depths, errors], data=alt.InlineData(values=[]), spacing=14)
    return chart.properties(padding={"left": 6, "top": 6, "bottom": 6, "right": 6})


def _heading(text: str) -> alt.TitleParams:
    return alt.TitleParams(
        text=text, anchor="start", fontSize=13, fontWeight="normal", color=LIGHT["muted"], offset=10, frame="group"
    )


def _timeline_narrow() -> alt.LayerChart:
    base = alt.Chart(alt.InlineData(values=[])).encode(
        y=alt.Y(
            "label:N",
            sort=alt.EncodingSortField("order", op="min"),
            title=None,
            axis=alt.Axis(domain=False, ticks=False, labelLimit=170, labelFontSize=12),
        )
    )
    x = alt.X("error:Q", stack=None, scale=alt.Scale(domain=[0, 54], nice=False), axis=alt.Axis(values=[0, 10, 20, 30]))
    titled = x.title("top-5 error, %  ·  depth")
    return alt.LayerChart(
        layer=[
            base.mark_bar(size=14, cornerRadiusEnd=2).encode(
                x=titled, fill=_kinds(alt.Legend(orient="top", columns=1, symbolType="square")), fillOpacity=_printed()
            ),
            base.mark_text(align="left", dx=5, fontSize=12, color=LIGHT["ink"]).encode(x="error:Q", text="beside:N"),
        ]
    ).properties(
        height=alt.Step(26),
        autosize=alt.AutoSizeParams(type="fit-x", contains="padding"),
        padding={"left": 12, "top": 6, "bottom": 6, "right": 30},
    )


def _margins() -> alt.LayerChart:
    base = alt.Chart(alt.InlineData(values=[])).encode(
        y=alt.Y("track:N", sort=None, title=None, axis=alt.Axis(domain=False, ticks=False, labelLimit=170))
    )
    x = alt.X(
        "margin:Q",
        stack=None,
        scale=alt.Scale(domain=[0, 30], nice=False),
        axis=alt.Axis(grid=True, values=[0, 10, 20, 30], labelExpr="datum.value + ' %'"),
        title="better than the second team by",
    )
    scale = alt.Scale(domain=[PRINTED, OURS], range=[LIGHT["residual"], LIGHT["second"]])
    fill = alt.Fill(
        "kind:N",
        scale=scale,
        title=None,
        legend=alt.Legend(columns=alt.ExprRef("width < 500 ? 1 : 2"), columnPadding=22, symbolType="square"),
    )
    return alt.LayerChart(
        layer=[
            base.mark_bar(size=15, cornerRadiusEnd=2).encode(x=x, fill=fill),
            base.mark_text(align="left", dx=6, fontSize=13, color=LIGHT["ink"]).encode(x="margin:Q", text="text:N"),
        ]
    ).properties(
        height=alt.Step(28),
        autosize=alt.AutoSizeParams(type="fit-x", contains="padding"),
        padding={"left": 12, "top": 6, "bottom": 6, "right": 14},
    )


STRUCTURES = {
    "scatter": lambda: _scatter("linear"),
    "scatter_log": lambda: _scatter("log"),
    "bars": _bars,
    "timeline": _timeline,
    "timeline_narrow": _timeline_narrow,
    "margins": _margins,
}


def structure(name: str) -> dict[str, Any]:
    """The Vega-Lite specification of the structure `name`, complete but for what fills it."""
    return compiled(STRUCTURES[name]())


def chart(result: Result, figure: str, *, width: int = WIDE) -> Any:
    """The figure of a comparison (`comparison.figures(result)` lists them) as an Altair chart, for a notebook."""
    name, filled = drawing(result, figure, width)
    return alt.Chart.from_dict({**structure(name), **filled})


def written() -> str:
    """The text of comparison_specifications.json."""
    return json.dumps({name: structure(name) for name in STRUCTURES}, indent=1, sort_keys=True) + "\n"


if __name__ == "__main__":
    SPECIFICATIONS.write_text(written(), encoding="utf-8")
