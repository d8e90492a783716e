"""The page of a study: question, paragraph, chart, table and protocol in one offline file, made from study.json; and its chart as files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from convatlas.errors import ConvAtlasError
from convatlas.report import words
from convatlas.report.draw import save, svg_of
from convatlas.report.page import environment, markup, replaced, style_sheet
from convatlas.report.rows import NARROW, WIDE
from convatlas.report.study_chart import drawing

SCHEMA = "convatlas.study/1"
_OVER = {"seeds": "seeds, of these same images", "splits": "splits, with test images drawn anew for each"}


def read_study(folder: Path) -> dict[str, Any]:
    """FOLDER/study.json; raises ConvAtlasError when it is absent or of another schema."""
    path = Path(folder) / "study.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConvAtlasError(f"{path}: there is no such file.", remedy="Make it with `convatlas study`.") from None
    except ValueError:
        found = {}
    if not isinstance(found, dict) or found.get("schema") != SCHEMA:
        raise ConvAtlasError(f"{path} is not of the schema {SCHEMA}.", remedy="Make it anew with this version.")
    return found


def render_study(folder: Path) -> Path:
    """Write FOLDER/study.html, and FOLDER/chart.svg and chart.png on white, from FOLDER/study.json; returns the page's path."""
    folder = Path(folder)
    study = read_study(folder)
    save({"chart": drawing(study["chart"])}, folder)
    return replaced(folder / "study.html", study_page(study))


def study_page(study: dict[str, Any]) -> str:
    """The HTML text for a study that `read_study` returned."""
    jinja = environment()
    kinds = [column["kind"] for column in study["columns"]]
    rows = [[shown(cell, kind) for cell, kind in zip(row, kinds, strict=True)] for row in study["rows"]]
    return jinja.get_template("study.html.j2").render(
        study=study,
        style=style_sheet(),
        rows=rows,
        over=_over(study["rows"]),
        figures=[
            {"class": kind, "svg": markup(svg_of(drawing(study["chart"], width=width)))}
            for kind, width in (("wide", WIDE), ("narrow", NARROW))
        ],
    )


def _over(rows: list[list[Any]]) -> str:
    """What the intervals of the table are over, such as "images" or "seeds, of these same images"."""
    with_interval = [cell["of"] for row in rows for cell in row if isinstance(cell, dict) and cell["low"] is not None]
    found = sorted({str(of).lstrip("0123456789, ").partition(",")[0] for of in with_interval}, reverse=True)
    return " or ".join(_OVER.get(each, each) for each in found)


def shown(cell: Any, kind: str) -> str:
    """A cell of the table as text; one with an interval has it in brackets."""
    if isinstance(cell, dict):
        value = _number(cell["value"], kind)
        if cell["low"] is None:
            return value
        low, high = (_number(cell[end], kind).removesuffix(f"{words.THIN}%") for end in ("low", "high"))
        return f"{value} [{low}, {high}]"
    return cell if isinstance(cell, str) else _number(cell, kind)


def _number(value: float | None, kind: str) -> str:
    if value is None:
        return words.UNKNOWN
    if kind == "percent":
        return words.percent(value)
    if kind == "points":
        return f"{100 * value:+.1f}"
    if kind == "bytes":
        return f"{value / 1e6:,.1f}{words.THIN}MB" if value >= 1e6 else f"{value / 1e3:,.1f}{words.THIN}kB"
    return f"{value:,.0f}" if kind == "count" else words.three(value) if abs(value) >= 0.01 else f"{value:.3g}"
