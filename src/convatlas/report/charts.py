"""The charts of a report, written in Altair (VanderPlas et al., JOSS 2018, https://doi.org/10.21105/joss.01057).

Each function of a result, `ladder(result)`, returns an Altair chart for a notebook. Its structure, the chart without rows, does not
depend on the result; `python -m convatlas.report.charts` writes all structures to specifications.json beside this file, from which a
report is drawn without importing Altair (half a second, as long as all else a report does). A test holds the file to this source.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import altair as alt

from convatlas.report.palette import FONT, LIGHT
from convatlas.report.result import Result
from convatlas.report.rows import CROSS_VALIDATED, FORETOLD, MEASURED, PHASES, TEST, WIDE, fill

SPECIFICATIONS = Path(__file__).with_name("specifications.json")

_NO_ROWS = alt.InlineData(values=[])
_PERCENT = "format(100 * datum.value, '~g') + ' %'"


def _layers(*charts: alt.Chart) -> alt.LayerChart:
    return alt.LayerChart(layer=list(charts))


def _interval() -> alt.LayerChart:
    base = alt.Chart(_NO_ROWS).encode(
        y=alt.Y("figure:N", sort=None, title=None, axis=alt.Axis(domain=False, ticks=False, labelLimit=150))
    )
    across = alt.Scale(domain=[0, 1], nice=False)
    axis = alt.Axis(labelExpr=_PERCENT, values=[0, 0.25, 0.5, 0.75, 1], grid=True)
    estimate = base.transform_filter("isValid(datum.low)")
    guess = base.transform_filter("!isValid(datum.low)")
    return _layers(
        estimate.mark_rule(size=9, color=LIGHT["accent"], opacity=0.3, strokeCap="round").encode(
            x=alt.X("low:Q", scale=across, axis=axis, title=None), x2="high:Q"
        ),
        estimate.mark_point(size=110, filled=True, opacity=1, color=LIGHT["accent"]).encode(x="value:Q"),
        guess.mark_tick(size=16, thickness=3, color=LIGHT["second"]).encode(x="value:Q"),
        estimate.mark_text(align="left", dx=10, fontWeight=600, color=LIGHT["ink"]).encode(
            x=alt.value("width"), text="text:N"
        ),
        guess.mark_text(align="left", dx=10, color=LIGHT["muted"]).encode(x=alt.value("width"), text="text:N"),
    ).properties(height=alt.Step(30))


def _ladder() -> alt.LayerChart:
    base = alt.Chart(_NO_ROWS).encode(
        y=alt.Y("stage:N", sort=None, title=None, axis=alt.Axis(domain=False, ticks=False))
    )
    cross_validated = base.transform_filter(f"datum.kind == {json.dumps(CROSS_VALIDATED)}")
    test = base.transform_filter(f"datum.kind == {json.dumps(TEST)}")
    across = alt.X(
        "low:Q",
        scale=alt.Scale(zero=False, nice=False, padding=12),
        axis=alt.Axis(labelExpr=_PERCENT, tickCount=6),
        title="accuracy",
    )
    colour = alt.Color("kind:N", scale=alt.Scale(range=[LIGHT["accent"], LIGHT["second"]]), title=None)
    shape = alt.Shape("kind:N", scale=alt.Scale(range=["circle", "diamond"]), title=None)
    column = alt.value("width")
    # The first layer meets every stage in its order, which is the order of the axis.
    band = alt.when("datum.chosen").then(alt.value(0.12)).otherwise(alt.value(0))
    return _layers(
        cross_validated.mark_rect(fill=LIGHT["accent"], cornerRadius=4).encode(
            x=alt.value(0), x2=alt.value("width"), fillOpacity=band
        ),
        cross_validated.mark_rule(size=4, opacity=0.45, yOffset=-5, strokeCap="round", color=LIGHT["accent"]).encode(
            x=across, x2="high:Q"
        ),
        cross_validated.mark_point(size=90, filled=True, opacity=1, yOffset=-5).encode(
            x="value:Q", color=colour, shape=shape
        ),
        test.mark_rule(size=1.5, opacity=0.7, yOffset=9, color=LIGHT["second"]).encode(x="low:Q", x2="high:Q"),
        test.mark_point(size=45, filled=True, opacity=1, yOffset=9).encode(x="value:Q", color=colour, shape=shape),
        cross_validated.transform_filter("datum.chosen")
        .mark_text(align="left", dx=10, yOffset=-5, fontWeight=700, color=LIGHT["ink"])
        .encode(x=column, text="text:N"),
        cross_validated.transform_filter("!datum.chosen")
        .mark_text(align="left", dx=10, yOffset=-5, color=LIGHT["muted"])
        .encode(x=column, text="text:N"),
    ).properties(height=alt.Step(40))


def _plans() -> alt.LayerChart:
    base = alt.Chart(_NO_ROWS).encode(
        x=alt.X(
            "seconds:Q",
            scale=alt.Scale(type="log", nice=False, padding=48),
            axis=alt.Axis(grid=False, tickCount=5, format="~g"),
            title="seconds of training",
        )
    )
    up = alt.Scale(zero=False, nice=False, padding=18)
    value = alt.Y("value:Q", scale=up, axis=alt.Axis(labelExpr=_PERCENT, tickCount=5, grid=True), title="accuracy")
    chosen = alt.when("datum.chosen")
    return _layers(
        base.transform_filter("datum.front")
        .mark_line(interpolate="step-after", strokeDash=[5, 4], strokeWidth=1.5, color=LIGHT["second"])
        .encode(y=value),
        base.mark_rule(size=4, opacity=0.35, strokeCap="round", color=LIGHT["accent"]).encode(
            y=alt.Y("low:Q", scale=up), y2="high:Q"
        ),
        base.mark_point(filled=True, opacity=1, color=LIGHT["accent"]).encode(
            y=value, size=chosen.then(alt.value(190)).otherwise(alt.value(80))
        ),
        base.mark_text(align="center", dy=-14, color=LIGHT["ink"], fontWeight=600).encode(
            y=alt.Y("high:Q", scale=up), text="plan:N", opacity=chosen.then(alt.value(1)).otherwise(alt.value(0.75))
        ),
    ).properties(height=NARROW_HEIGHT)


def _growth() -> alt.LayerChart:
    across = alt.X(
        "per_class:Q",
        scale=alt.Scale(type="log", nice=False, padding=16),
        axis=alt.Axis(grid=False, tickCount=8, format="~g"),
        title="training images a class",
    )
    up = alt.Scale(zero=False, nice=True)
    axis = alt.Axis(labelExpr=_PERCENT, tickCount=6, grid=True)
    base = alt.Chart(_NO_ROWS).encode(x=across)
    foretold = base.transform_filter(f"datum.kind == {json.dumps(FORETOLD)}")
    measured = base.transform_filter(f"datum.kind == {json.dumps(MEASURED)}")
    return _layers(
        foretold.mark_area(color=LIGHT["accent"], opacity=0.16).encode(
            y=alt.Y("low:Q", scale=up, axis=axis, title="accuracy"), y2="high:Q"
        ),
        foretold.mark_line(color=LIGHT["accent"], strokeWidth=2).encode(y=alt.Y("value:Q", scale=up)),
        measured.mark_rule(size=2, color=LIGHT["ink"], opacity=0.55).encode(y=alt.Y("low:Q", scale=up), y2="high:Q"),
        measured.mark_point(size=70, filled=True, opacity=1, color=LIGHT["ink"]).encode(y=alt.Y("value:Q", scale=up)),
    ).properties(height=NARROW_HEIGHT)


def _confusion() -> alt.LayerChart:
    base = alt.Chart(_NO_ROWS).encode(
        x=alt.X(
            "predicted:N",
            sort=None,
            title="predicted",
            axis=alt.Axis(orient="top", labelAngle=alt.ExprRef("angle"), labelLimit=130, ticks=False, domain=False),
        ),
        y=alt.Y(
            "truth:N",
            sort=None,
            title="true",
            axis=alt.Axis(labelLimit=130, titlePadding=18, ticks=False, domain=False),
        ),
    )
    # The root makes a single mistake among many images visible; the count says how many it is.
    strength = alt.FillOpacity("depth:Q", scale=alt.Scale(domain=[0, 1], range=[0, 0.92]), legend=None)
    cell = base.transform_calculate(depth="sqrt(datum.share)")
    return (
        _layers(
            base.mark_rect(fill=LIGHT["raised"], stroke=LIGHT["paper"], strokeWidth=1.5),
            cell.transform_filter("datum.right").mark_rect(fill=LIGHT["accent"]).encode(fillOpacity=strength),
            cell.transform_filter("!datum.right").mark_rect(fill=LIGHT["wrong"]).encode(fillOpacity=strength),
            cell.transform_filter("datum.count > 0 && datum.depth <= 0.65")
            .mark_text(color=LIGHT["ink"])
            .encode(text=alt.Text("count:Q", format=",d")),
            cell.transform_filter("datum.count > 0 && datum.depth > 0.65")
            .mark_text(color=LIGHT["inverse"], fontWeight=600)
            .encode(text=alt.Text("count:Q", format=",d")),
        )
        .properties(width=alt.Step(40), height=alt.Step(40))
        .add_params(alt.param(name="angle", value=0))
    )


def _reliability() -> alt.LayerChart:
    base = alt.Chart(_NO_ROWS)
    unit = alt.Scale(domain=[0, 1], nice=False)
    axis = alt.Axis(labelExpr=_PERCENT, values=[0, 0.25, 0.5, 0.75, 1])
    sparse = alt.Axis(labelExpr=_PERCENT, values=[0, 0.5, 1])
    across = alt.X("confidence:Q", scale=unit, axis=sparse, title="the model's probability for its answer")
    return _layers(
        base.transform_aggregate(bins="count()")  # one row, so one diagonal
        .mark_rule(strokeDash=[5, 4], size=1.5, color=LIGHT["second"])
        .encode(x=alt.value(0), y=alt.value("height"), x2=alt.value("width"), y2=alt.value(0)),
        base.mark_rule(size=3, opacity=0.35, color=LIGHT["accent"]).encode(
            x=across, y=alt.Y("low:Q", scale=unit), y2="high:Q"
        ),
        base.mark_point(filled=True, opacity=0.9, color=LIGHT["accent"]).encode(
            x=across,
            y=alt.Y("accuracy:Q", scale=unit, axis=axis, title="how often the answer is right"),
            size=alt.Size(
                "count:Q",
                scale=alt.Scale(domainMin=1, range=[12, 420]),
                legend=alt.Legend(direction="horizontal", title="images", tickCount=3),
            ),
        ),
    ).properties(height=NARROW_HEIGHT)


def _time() -> alt.LayerChart:
    names = list(PHASES)
    base = alt.Chart(_NO_ROWS).encode(
        x=alt.X(
            "seconds:Q",
            stack="zero",
            title="seconds",
            scale=alt.Scale(nice=False),
            axis=alt.Axis(grid=False, tickCount=6),
        ),
        order="position:Q",
    )
    colour = alt.Color(
        "phase:N",
        sort=None,
        scale=alt.Scale(domain=names, range=[LIGHT[name] for name in names]),
        title=None,
        legend=alt.Legend(columns=alt.ExprRef("width < 500 ? 3 : 6")),
    )
    return _layers(base.mark_bar(size=34, stroke=LIGHT["paper"], strokeWidth=1.5).encode(color=colour)).properties(
        height=46
    )


NARROW_HEIGHT = 280  # of the reliability diagram's plot, which is about square

STRUCTURES: dict[str, Callable[[], alt.LayerChart]] = {
    "interval": _interval,
    "ladder": _ladder,
    "plans": _plans,
    "growth": _growth,
    "confusion": _confusion,
    "reliability": _reliability,
    "time": _time,
}


def structure(name: str) -> dict[str, Any]:
    """The Vega-Lite specification of the chart `name`, complete but for its rows and width."""
    # Text is laid out in the widths of one font and shown in the reader's own, so that it needs some room on both sides.
    room = 62 if name in ("interval", "ladder") else 14  # with the column of figures on the right
    chart = STRUCTURES[name]()
    if name != "confusion":  # whose width follows from its cells
        chart = chart.properties(autosize=alt.AutoSizeParams(type="fit-x", contains="padding"))
    return compiled(chart.properties(padding={"left": 14, "top": 4, "bottom": 4, "right": room}))


def compiled(chart: alt.LayerChart | alt.VConcatChart) -> dict[str, Any]:
    """The chart's specification in the style that all reports share."""
    chart = (
        chart.properties(background="transparent")
        .configure(font=FONT, aria=False)
        .configure_view(stroke=None)
        .configure_axis(
            labelFontSize=13,
            titleFontSize=13,
            titleFontWeight="normal",
            labelColor=LIGHT["ink"],
            titleColor=LIGHT["muted"],
            titlePadding=8,
            gridColor=LIGHT["line"],
            domainColor=LIGHT["second"],
            tickColor=LIGHT["line"],
            labelPadding=6,
            labelSeparation=8,
            labelLimit=150,
        )
        .configure_axisY(grid=False)
        .configure_text(fontSize=13)
        .configure_legend(
            orient="top",
            direction="vertical",
            labelFontSize=13,
            titleFontSize=13,
            labelColor=LIGHT["ink"],
            titleColor=LIGHT["muted"],
            titleFontWeight="normal",
            labelLimit=320,
            symbolType="circle",
            offset=6,
        )
    )
    with alt.data_transformers.enable(consolidate_datasets=False):
        return chart.to_dict()


def _drawn(name: str, result: Result, width: int) -> alt.LayerChart:
    return alt.LayerChart.from_dict({**structure(name), **fill(name, result, width)})


def interval(result: Result, *, width: int = WIDE) -> alt.LayerChart:
    """Accuracy and balanced accuracy with their 95 % intervals, beside always guessing the most frequent class."""
    return _drawn("interval", result, width)


def ladder(result: Result, *, width: int = WIDE) -> alt.LayerChart:
    """The stage ladder: cross-validated accuracy of a probe on each stage; the test figures are a lighter second mark."""
    return _drawn("ladder", result, width)


def plans(result: Result, *, width: int = WIDE) -> alt.LayerChart:
    """Accuracy of every plan that was tried against the time it takes; the dashed line is the Pareto front."""
    return _drawn("plans", result, width)


def growth(result: Result, *, width: int = WIDE) -> alt.LayerChart:
    """The learning curve with its forecast: what was measured as points, the power laws that agree with it as a band."""
    return _drawn("growth", result, width)


def confusion(result: Result) -> alt.LayerChart:
    """The confusion matrix, shaded by the share of each true class; of more than 30 classes, the 15 of the most frequent confusions."""
    return _drawn("confusion", result, WIDE)


def reliability(result: Result) -> alt.LayerChart:
    """The reliability diagram: how often the answers given with some probability are right."""
    return _drawn("reliability", result, WIDE)


def time(result: Result, *, width: int = WIDE) -> alt.LayerChart:
    """Where the seconds of the fit went, as one stacked bar."""
    return _drawn("time", result, width)


def written() -> str:
    """The text of specifications.json."""
    return json.dumps({name: structure(name) for name in STRUCTURES}, indent=1, sort_keys=True) + "\n"


if __name__ == "__main__":
    SPECIFICATIONS.write_text(written(), encoding="utf-8")
