"""The page of explained predictions: each photo, where its answer comes from, and the training images most like it, in one offline file.

Made from explain.json and the pictures beside it; every number comes from there.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from convatlas.report.page import environment, replaced, style_sheet
from convatlas.report.result import picture, read_versioned

SCHEMA = "convatlas.explain/1"


def render_explanations(folder: Path) -> Path:
    """Write FOLDER/explain.html from FOLDER/explain.json and FOLDER/assets; returns its path."""
    folder = Path(folder)
    result = read_versioned(folder / "explain.json", SCHEMA, made_by="convatlas predict MODEL PHOTO --explain OUT")
    return replaced(folder / "explain.html", explain_page(result, folder))


def explain_page(result: dict[str, Any], folder: Path) -> str:
    """The HTML text; pictures are looked for in `folder`."""
    jinja = environment()
    return jinja.get_template("explain.html.j2").render(
        result=result,
        style=style_sheet(),
        rows=[_pictured(row, folder) for row in result["rows"]],
        centred=any(answer["centred"] for row in result["rows"] for answer in row.get("top", ())),
        methods=sorted({answer["method"] for row in result["rows"] for answer in row.get("top", ())}),
    )


def _pictured(row: dict[str, Any], folder: Path) -> dict[str, Any]:
    if row.get("error"):
        return row
    return {
        **row,
        "photo": picture(folder, row["photo"]),
        "top": [
            {**answer, "picture": picture(folder, answer["picture"]), "bars": _bars(answer)} for answer in row["top"]
        ],
        "nearest": row["nearest"]
        and [{**near, "picture": picture(folder, near["picture"])} for near in row["nearest"]],
    }


def _bars(answer: dict[str, Any]) -> list[dict[str, Any]]:
    """What each tapped cut gives to the logit, as bars from the middle: `left` and `width` in percent of the row."""
    parts = answer["parts"]
    largest = max((abs(part["logit"]) for part in parts), default=0) or 1
    return [
        {
            "name": part["cut"] + {"means": "", "deviations": " σ", "units": " units"}[part["what"]],
            "logit": part["logit"],
            "left": 50 + min(0.0, 50 * part["logit"] / largest),
            "width": 50 * abs(part["logit"]) / largest,
        }
        for part in parts
    ]
