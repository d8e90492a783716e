"""The page of a comparison: compare.json as one HTML file with its charts inline, offline, for light and dark, wide and narrow screens.

Charts are drawn from the same specifications as the PNG and SVG files beside the page. A short script lets a reader point at a mark to see
its network's row, find it in every chart, and sort the table; without it the page lacks nothing else.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from convatlas.report import words
from convatlas.report.comparison_rows import DISPLAY, MEASURED, axis_words, drawing, figures, value_of
from convatlas.report.draw import save, svg_of
from convatlas.report.page import environment, markup, replaced, style_sheet
from convatlas.report.result import Result, read_versioned
from convatlas.report.rows import NARROW, WIDE
from convatlas.report.timeline import HISTORY

SCHEMA = "convatlas.compare/1"

_SHORT = {
    "mult_adds": "mult-adds",
    "latency": "latency",
    "throughput": "throughput",
    "memory": "peak memory",
    "energy": "energy",
    "parameters": "parameters",
}


def read(folder: Path) -> Result:
    """The result of `convatlas compare --out FOLDER`, every text in it printable."""
    return read_versioned(Path(folder) / "compare.json", SCHEMA, made_by="convatlas compare --out FOLDER")


@functools.cache
def _structures() -> dict[str, Any]:
    return json.loads(Path(__file__).with_name("comparison_specifications.json").read_bytes())


def specification(result: Result, figure: str, *, width: int = WIDE) -> dict[str, Any]:
    """The whole Vega-Lite specification of a figure (`figures(result)` lists them), `width` CSS pixels wide."""
    name, filled = drawing(result, figure, width)
    return {**_structures()[name], **filled}


def history(facts: dict[str, Any], figure: str, *, width: int = WIDE) -> dict[str, Any]:
    """The Vega-Lite specification of `timeline` or `margins` for the content of studies/ilsvrc.json, on whatever page."""
    name, filled = HISTORY[figure](facts, width)
    return {**_structures()[name], **filled}


def save_charts(folder: Path, formats: tuple[str, ...] = ("svg", "png")) -> tuple[Path, ...]:
    """Write FOLDER/charts/FIGURE.svg and .png for each figure of FOLDER/compare.json; returns their paths."""
    result = read(folder)
    drawings = {figure: specification(result, figure) for figure in figures(result)}
    return save(drawings, Path(folder) / "charts", formats)


def render(folder: Path) -> Path:
    """Write FOLDER/compare.html from FOLDER/compare.json, and return its path. Raises ConvAtlasError where that cannot be read."""
    return replaced(Path(folder) / "compare.html", page(read(folder)))


def page(result: Result) -> str:
    """The HTML text of a comparison that `read` returned."""
    jinja = environment()
    script = Path(__file__).with_name("comparison.js").read_text(encoding="utf-8")
    drawn = [figure for figure in figures(result) if figure not in ("timeline", "margins")]
    history = {figure: _figure(result, figure) for figure in figures(result) if figure not in drawn}
    return jinja.get_template("comparison.html.j2").render(
        result=result,
        style=style_sheet(),
        script=markup(script),
        thin=words.THIN,
        created=result["created"].replace("T", " ").replace("Z", " UTC"),
        title=_title(result),
        drawn=[_figure(result, figure) for figure in drawn],
        history=history,
        columns=_columns(result),
        conditions=_conditions(result),
        conventions=_conventions(result),
        front=result["fronts"].get(result["cost"], []),
        cost=_SHORT[result["cost"]],
        sources=_sources(result),
        unreadable=[
            (f"{_SHORT[q].capitalize()} on this machine", reasons) for q, reasons in result["unreadable"].items()
        ],
    )


def _title(result: Result) -> str:
    number = len(result["networks"])
    if any(row["accuracy"] is not None for row in result["networks"]):
        return f"{number} networks: accuracy against {_SHORT[result['cost']]}".replace(
            "-", "\u2011"
        )  # which does not break
    return f"{number} networks: what they cost"


def _figure(result: Result, figure: str) -> dict[str, Any]:
    variants = [
        {"class": kind, "svg": markup(svg_of(specification(result, figure, width=width)))}
        for kind, width in (("wide", WIDE), ("narrow", NARROW))
    ]
    heading, caption = _in_words(result, figure)
    return {"id": figure.replace("_", "-"), "heading": heading, "caption": caption, "variants": variants}


def _in_words(result: Result, figure: str) -> tuple[str, str]:
    kind, _, quantity = figure.partition("_")
    if kind == "accuracy":
        return f"Accuracy against {_SHORT[quantity]}", _accuracy_caption(result, quantity)
    if kind == "cost":
        return f"{_SHORT[quantity].capitalize()} on this machine", _cost_caption(result, quantity)
    return {
        "density": (
            "Accuracy for each parameter",
            "Information density: top-1 accuracy in percent for each million parameters, after Canziani, Paszke and Culurciello (2016, "
            "figure 10). It favours small networks: halving the parameters doubles it unless accuracy halves too.",
        ),
        "timeline": (
            "ILSVRC, 2010 to 2017",
            "Lowest top-5 errors in classification, trained on the challenge's own data, with the depth of the network; 2014 has the "
            "second, VGG, as well. Entries of networks are averages of several. The dashed line is one trained person on 1,500 images.",
        ),
        "margins": (
            "2015: five tracks, one winner",
            "By how much the residual networks of MSRA were better than the second team. The lecture prints four margins; in "
            "classification it gives the depth instead, and the margin here is computed from the organisers' results as we remember them.",
        ),
    }[kind]


def _accuracy_caption(result: Result, quantity: str) -> str:
    front = result["fronts"].get(quantity)
    text = "After Canziani, Paszke and Culurciello (2016, figure 2). " if quantity == "mult_adds" else ""
    if what := result["protocol"]:
        text += f"Top-1 accuracy by one protocol: {what['dataset']}, {what['measured']}. "
    else:
        text += "The accuracies were measured by different protocols and do not show which network is better. "
    if front:
        rather = "and faster" if quantity == "throughput" else "for less"
        text += f"On the front, outlined: {', '.join(front)}. No other network is at least as accurate {rather}. "
    if _spread(result, quantity):
        text += "Horizontal lines are the range of the rounds. "
    if any(row["accuracy_interval"] for row in result["networks"]):
        text += "Vertical lines are 95 % intervals. "
    return text + "The area of a mark is that of its network's parameters; the horizontal axis is logarithmic."


def _spread(result: Result, quantity: str) -> bool:
    """Whether it was measured in rounds that differ."""
    if quantity not in MEASURED:
        return False
    figures = [row[quantity] for row in result["networks"] if row[quantity]]
    return any(each["low"] is not None and each["low"] < each["high"] for each in figures)


def _cost_caption(result: Result, quantity: str) -> str:
    correlation = result["correlations"].get(quantity)
    axis = axis_words(result, quantity)
    text = (
        f"{axis[0].upper()}{axis[1:]}{'; medians, with the range of the rounds' if _spread(result, quantity) else ''}. "
    )
    if correlation is not None:
        text += (
            f"Mult-adds order the networks as this does with a rank correlation of {correlation:.2f} "
            "(1: alike, 0: unrelated, −1: oppositely). "
        )
    return text + "Both axes are logarithmic."


def _columns(result: Result) -> list[dict[str, Any]]:
    """The table's columns: what each is called, its text for a row, and the number to sort by (None: the text)."""

    def share(key: str) -> Callable[[Any], str]:
        return lambda row: words.percent(row[key], 2 if row["folder"] is None else 1)

    columns: list[dict[str, Any]] = [
        _column("top-1", share("accuracy"), lambda row: row["accuracy"]),
        _column("top-5", share("top5_accuracy"), lambda row: row["top5_accuracy"]),
    ]
    if any(row["accuracy_interval"] for row in result["networks"]):
        columns[1] = _column(
            "95 % interval", lambda row: words.interval(row["accuracy_interval"]), lambda row: row["accuracy"]
        )
    columns += [
        _column("% / M parameters", lambda row: words.three(row["density"]), lambda row: row["density"]),
        _column("parameters", lambda row: words.count(row["parameters"]), lambda row: row["parameters"]),
        _column(
            "mult-adds", lambda row: f"{words.three(row['mult_adds'] / 1e6)}{words.THIN}M", lambda row: row["mult_adds"]
        ),
    ]
    for quantity in MEASURED:
        if any(value_of(row, quantity) is not None for row in result["networks"]):
            columns.append(_measured_column(quantity))
    columns += [
        _column(
            "depth", lambda row: words.UNKNOWN if row["depth"] is None else str(row["depth"]), lambda row: row["depth"]
        ),
        _column("year", lambda row: str(row["year"]), lambda row: row["year"]),
        _column("input", lambda row: "×".join(map(str, row["input_size"])), lambda row: row["input_size"][-1]),
    ]
    if result["protocol"] is None:
        columns.append(_column("measured how", lambda row: row["protocol"] or words.UNKNOWN, lambda row: None))
    return columns


def _measured_column(quantity: str) -> dict[str, Any]:
    _, unit, factor = DISPLAY[quantity]

    def text(row: Any) -> str:
        found = row[quantity]
        if not found or found["value"] is None:
            return words.UNKNOWN
        spread = (
            f" ({words.three(factor * found['low'])}–{words.three(factor * found['high'])})"
            if found["low"] < found["high"]
            else ""
        )
        return f"{words.three(factor * found['value'])}{spread}"

    return _column(f"{_SHORT[quantity]}, {unit}", text, lambda row: value_of(row, quantity))


def _column(title: str, text: Callable[[Any], str], number: Callable[[Any], float | None]) -> dict[str, Any]:
    return {"title": title, "text": text, "number": number}


def _conditions(result: Result) -> list[tuple[str, str]]:
    measured = result["measured"]
    if measured is None:
        return []
    asked = measured["quantities"]
    return [
        (
            "Machine",
            f"{measured['processor']}, {measured['device'].upper() if measured['device'] == 'cpu' else measured['device']}",
        ),
        ("Threads", str(measured["threads"])),
        ("PyTorch", measured["torch"]),
        ("Mode", measured["mode"]),
        (
            "Rounds",
            f"{measured['rounds']}, the networks taking turns; a round is a median of passes after one that warms up",
        ),
        ("Batch", f"{measured['batch']} (latency: 1)"),
        *([("Memory", measured["memory"])] if "memory" in asked else []),
        *([("Energy", measured["energy"])] if "energy" in asked else []),
    ]


def _conventions(result: Result) -> list[tuple[str, str]]:
    texts: dict[str, str] = result["conventions"]
    return [(_SHORT.get(key, key), text) for key, text in texts.items()]


def _sources(result: Result) -> list[tuple[str, str]]:
    facts = result["ilsvrc"]
    if facts is None:
        return []
    rows = [
        (f"{w['year']}, {w['team']}", f"{w['top5_error']:g}", w["in_lecture"], w["basis"], w["note"])
        for w in facts["winners"]
    ]
    human = facts["human"]
    rows.append(("human", f"{human['top5_error']:g}", human["in_lecture"], human["basis"], human["note"]))
    return [
        (
            f"{who}: {error}{words.THIN}%",
            f"{'Printed by the lecture. ' if printed else ''}{basis[0].upper()}{basis[1:]}. {note}",
        )
        for who, error, printed, basis, note in rows
    ]
