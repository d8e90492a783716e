"""The charts of the lecture's page, written in Altair; `charts` says how that goes.

`python -m convatlas.report.lecture_charts` writes their structures to lecture_specifications.json, which a test holds to this source.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import altair as alt

from convatlas.report.charts import compiled
from convatlas.report.lecture_rows import BOTTLENECKS, KINDS, NAIVE, PARTS
from convatlas.report.palette import LIGHT

SPECIFICATIONS = Path(__file__).with_name("lecture_specifications.json")

_NO_ROWS = alt.InlineData(values=[])
_PERCENT = "format(100 * datum.value, '~g') + ' %'"
_BARE = alt.Axis(domain=False, ticks=False, labelLimit=150)


def _vgg_layers() -> alt.LayerChart:
    base = alt.Chart(_NO_ROWS).encode(
        y=alt.Y("layer:N", sort=None, title=None, axis=_BARE, scale=alt.Scale(paddingInner=0.22)),
        yOffset=alt.YOffset("kind:N", sort=list(KINDS), scale=alt.Scale(domain=list(KINDS))),
        x=alt.X(
            "share:Q",
            title="share of the whole network's",
            scale=alt.Scale(domain=[0, 0.9], nice=False),
            axis=alt.Axis(labelExpr=_PERCENT, values=[0, 0.25, 0.5, 0.75]),
        ),
    )
    colour = alt.Color(
        "kind:N", sort=None, title=None, scale=alt.Scale(domain=list(KINDS), range=[LIGHT["accent"], LIGHT["solve"]])
    )
    return alt.LayerChart(
        layer=[
            base.mark_bar(cornerRadiusEnd=2).encode(color=colour),
            base.transform_filter("datum.share > 0.004")
            .mark_text(align="left", dx=5, fontSize=12, color=LIGHT["muted"])
            .encode(text="text:N"),
        ]
    ).properties(height=alt.Step(15))


def _alexnet_memory() -> alt.LayerChart:
    names = list(PARTS)
    base = alt.Chart(_NO_ROWS).encode(y=alt.Y("step:N", sort=None, title=None, axis=_BARE))
    colour = alt.Color(
        "part:N",
        sort=None,
        title=None,
        scale=alt.Scale(domain=names, range=[LIGHT[key] for key in ("decode", "forward", "report", "solve")]),
        legend=alt.Legend(columns=alt.ExprRef("width < 500 ? 2 : 4")),
    )
    bars = base.transform_filter("isValid(datum.part)")
    totals = base.transform_filter("isValid(datum.total)")
    card = alt.Chart(_NO_ROWS).transform_filter("isValid(datum.card)")
    across = alt.X(
        "gigabytes:Q",
        stack="zero",
        title="GB; the dashed line is what the card has",
        scale=alt.Scale(domain=[0, 3.6], nice=False),
        axis=alt.Axis(tickCount=4),
    )
    return alt.LayerChart(
        layer=[
            bars.mark_bar(size=30, stroke=LIGHT["paper"], strokeWidth=1).encode(
                x=across, color=colour, order=alt.Order("place:Q")
            ),
            totals.mark_text(align="right", dy=-23, fontWeight=600, color=LIGHT["ink"]).encode(
                x="total:Q", text="text:N"
            ),
            card.mark_rule(strokeDash=[6, 4], size=2, color=LIGHT["wrong"]).encode(x="card:Q"),
        ]
    ).properties(height=alt.Step(56))


def _depth_growth() -> alt.LayerChart:
    base = alt.Chart(_NO_ROWS).encode(
        x=alt.X("module:Q", title="modules, one on the other", axis=alt.Axis(tickMinStep=1, grid=False)),
        y=alt.Y("depth:Q", title="maps", axis=alt.Axis(grid=True, format=",d", tickCount=5)),
        detail="line:N",
    )
    colour = alt.Color(
        "kind:N",
        sort=None,
        title=None,
        scale=alt.Scale(domain=[NAIVE, BOTTLENECKS], range=[LIGHT["wrong"], LIGHT["accent"]]),
    )
    dash = alt.StrokeDash(
        "whose:N",
        sort=None,
        title=None,
        scale=alt.Scale(range=[[1, 0], [6, 4]]),
        legend=alt.Legend(orient="bottom", symbolType="stroke", symbolSize=700, symbolStrokeColor=LIGHT["muted"]),
    )
    return alt.LayerChart(
        layer=[
            base.mark_line(size=2.5).encode(color=colour, strokeDash=dash),
            base.mark_point(filled=True, size=34, opacity=1).encode(color=colour),
            base.transform_filter("datum.last")
            .mark_text(align="left", dx=9, fontWeight=600, color=LIGHT["ink"])
            .encode(text=alt.Text("depth:Q", format=",d")),
        ]
    ).properties(height=300)


def _googlenet_depth() -> alt.LayerChart:
    base = alt.Chart(_NO_ROWS).encode(y=alt.Y("part:N", sort=None, title=None, axis=_BARE))
    across = alt.X(
        "before:Q",
        title="layers with weights",
        scale=alt.Scale(domain=[0, 22]),
        axis=alt.Axis(tickMinStep=1, tickCount=6),
    )
    return alt.LayerChart(
        layer=[
            base.mark_bar(cornerRadius=3, color=LIGHT["accent"]).encode(x=across, x2="depth:Q"),
            base.mark_text(align="left", dx=6, color=LIGHT["ink"]).encode(x="depth:Q", text="text:N"),
        ]
    ).properties(height=alt.Step(22))


def _bottleneck() -> alt.LayerChart:
    base = alt.Chart(_NO_ROWS).encode(
        y=alt.Y("block:N", sort=None, title=None, axis=_BARE),
        x=alt.X("weights:Q", title="weights", axis=alt.Axis(format="~s", tickCount=4)),
    )
    return alt.LayerChart(
        layer=[
            base.mark_bar(size=24, cornerRadiusEnd=3, color=LIGHT["accent"]),
            base.mark_text(align="left", dx=6, color=LIGHT["ink"]).encode(text=alt.Text("weights:Q", format=",d")),
        ]
    ).properties(height=alt.Step(40))


def _stage_fields() -> alt.LayerChart:
    base = alt.Chart(_NO_ROWS).encode(y=alt.Y("stage:N", sort=None, title=None, axis=_BARE))
    return alt.LayerChart(
        layer=[
            alt.Chart(_NO_ROWS)
            .transform_aggregate(image="min(image)")
            .mark_rule(strokeDash=[6, 4], size=1.5, color=LIGHT["wrong"])
            .encode(x="image:Q"),
            base.mark_bar(size=13, cornerRadiusEnd=3).encode(
                x=alt.X(
                    "size:Q", title="side of what one unit sees, in pixels of the image", axis=alt.Axis(tickCount=5)
                ),
                color=alt.Color(
                    "network:N",
                    sort=None,
                    title=None,
                    scale=alt.Scale(range=[LIGHT[key] for key in ("forward", "solve", "report", "second")]),
                    legend=None,
                ),
            ),
            base.mark_text(align="left", dx=6, fontSize=12, color=LIGHT["ink"]).encode(x="size:Q", text="size:Q"),
        ]
    ).properties(height=alt.Step(22))


STRUCTURES: dict[str, Callable[[], alt.LayerChart]] = {
    "alexnet_memory": _alexnet_memory,
    "vgg_layers": _vgg_layers,
    "depth_growth": _depth_growth,
    "googlenet_depth": _googlenet_depth,
    "bottleneck": _bottleneck,
    "stage_fields": _stage_fields,
}


def structure(name: str) -> dict[str, Any]:
    """The Vega-Lite specification of the chart `name`, complete but for its rows and width."""
    room = 62 if name in ("bottleneck", "depth_growth", "stage_fields") else 24  # for the figures at the right
    chart = STRUCTURES[name]().properties(
        autosize=alt.AutoSizeParams(type="fit-x", contains="padding"),
        padding={"left": 14, "top": 4, "bottom": 4, "right": room},
    )
    return compiled(chart)


def written() -> str:
    """The text of lecture_specifications.json."""
    return json.dumps({name: structure(name) for name in STRUCTURES}, indent=1, sort_keys=True) + "\n"


if __name__ == "__main__":
    SPECIFICATIONS.write_text(written(), encoding="utf-8")
