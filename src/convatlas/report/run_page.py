"""The page of a training run: its curves, where it is and what it reached, from run.json, metrics.jsonl and result.json in its folder.

It is written anew while the run goes on, and asks the browser to look again until there is a result.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from convatlas.errors import ConvAtlasError
from convatlas.report import words
from convatlas.report.draw import svg_of
from convatlas.report.page import environment, markup, replaced, style_sheet
from convatlas.report.rows import NARROW, WIDE
from convatlas.report.study_chart import drawing

SCHEMA = "convatlas.run/1"
AGAIN_SECONDS = 20  # after which a browser looks at the page of a run that goes on
_SHOWN = 12  # epochs in the table: the last ones


def render_run(folder: Path) -> Path:
    """Write FOLDER/report.html, at once or not at all, and return its path. Raises `ConvAtlasError` where the folder is no run."""
    folder = Path(folder)
    return replaced(folder / "report.html", run_page(*read_run(folder)))


def read_run(folder: Path) -> tuple[dict[str, Any], list[dict[str, Any]], dict[str, Any] | None]:
    """What a run trains, its epochs, and its result once it has one. Raises `ConvAtlasError` where the folder is no run."""
    try:
        run = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        epochs = [json.loads(line) for line in lines]
        result = folder / "result.json"
        reached = json.loads(result.read_text(encoding="utf-8")) if result.is_file() else None
    except (OSError, ValueError) as error:
        raise ConvAtlasError(
            f"{folder} is no run that can be read ({error}).", remedy="Give the --out of `convatlas train`."
        ) from error
    if not isinstance(run, dict) or run.get("schema") != SCHEMA:
        raise ConvAtlasError(f"{folder / 'run.json'} is not of the schema {SCHEMA}.", remedy="Train with this version.")
    return run, epochs, reached


def run_page(run: dict[str, Any], epochs: list[dict[str, Any]], result: dict[str, Any] | None) -> str:
    """The HTML text."""
    jinja = environment()
    asked = run["config"]["epochs"]
    return jinja.get_template("run.html.j2").render(
        run=run,
        result=result,
        again=None if result else AGAIN_SECONDS,
        status=f"{len(epochs)} of {asked} epochs" + ("" if result else ", going on or stopped"),
        reached=_reached(result),
        style=style_sheet(),
        figures=[
            {"name": name, "drawn": [(kind, markup(svg_of(drawing(chart, width=width)))) for kind, width in _WIDTHS]}
            for name, chart in curves(epochs).items()
        ],
        epochs=[_row(epoch) for epoch in epochs[-_SHOWN:]],
        settings=[*_settings(run["config"])],
    )


_WIDTHS = (("wide", WIDE), ("narrow", NARROW))


def curves(epochs: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The charts of the epochs, as `study_chart.drawing` takes them: errors, the loss, and the learning rate."""
    if not epochs:
        return {}
    errors = [
        {"panel": "", "line": line, "x": epoch["epoch"], "y": 1 - epoch[key]}
        for key, line in (("top1", "training, as seen"), ("held_out", "held out"))
        for epoch in epochs
        if epoch.get(key) is not None
    ]
    others = {
        name: [{"panel": "", "line": name, "x": epoch["epoch"], "y": epoch[key]} for epoch in epochs]
        for key, name in (("loss", "loss"), ("lr", "learning rate"))
    }
    common = {"kind": "lines", "x": "epoch"}
    return {
        "error": {**common, "y": "top-1 error", "percent": True, "logarithmic": False, "rows": errors},
        "loss": {**common, "y": "loss", "percent": False, "logarithmic": False, "rows": others["loss"]},
        "learning rate": {
            **common,
            "y": "learning rate of the last step",
            "percent": False,
            "logarithmic": all(epoch["lr"] > 0 for epoch in epochs),
            "rows": others["learning rate"],
        },
    }


def _reached(result: dict[str, Any] | None) -> str | None:
    if result is None or result["accuracy"] is None:
        return None
    low, high = result["accuracy_interval"]
    return f"{words.percent(result['accuracy'])} [{words.percent(low)}, {words.percent(high)}]"


def _row(epoch: dict[str, Any]) -> list[str]:
    held_out = epoch.get("held_out")
    return [
        str(epoch["epoch"]),
        f"{epoch['loss']:.4g}",
        words.percent(1 - epoch["top1"]),
        words.UNKNOWN if held_out is None else words.percent(1 - held_out),
        f"{epoch['lr']:.3g}",
        f"{epoch['seconds']:,.1f}",
    ]


def _settings(config: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for name, value in config.items():
        if isinstance(value, dict):
            found += _settings(value, f"{name}.")
        else:
            found.append((prefix + name, ",".join(map(str, value)) if isinstance(value, list) else str(value)))
    return found
