"""The report page: one self-contained HTML file, made from a fit result by a template, with its charts inline as SVG.

Every number comes from the result; this module only chooses, orders and words them. The template escapes all text, since class names and
paths are whatever somebody's disk holds. Each chart is drawn twice where width matters, for a desk and for a telephone.
"""

from __future__ import annotations

import functools
import os
import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convatlas.report import in_words, rows, words
from convatlas.report.draw import svg
from convatlas.report.palette import FONT, PALETTE
from convatlas.report.result import Result, picture, read

if TYPE_CHECKING:
    import jinja2

MOST_PATHS = 100  # of one problem; fit.json holds the others

SECTIONS = (
    ("accuracy", "Accuracy"),
    ("doubts", "Doubts"),
    ("stages", "Stages"),
    ("networks", "Networks"),
    ("evidence", "Data"),
    ("confusion", "Confusion"),
    ("classes", "Classes"),
    ("calibration", "Calibration"),
    ("confidence", "Confidence"),
    ("mistakes", "Mistakes"),
    ("problems", "Data problems"),
    ("time", "Time"),
    ("use", "Use"),
    ("reproduce", "Reproduce"),
)

# sections that there are only where the result has such an entry
_OPTIONAL = {name: name for name in ("networks", "evidence", "confidence")} | {"doubts": "label_suspects"}

_SEVERITIES = (("error", "Errors"), ("warning", "Warnings"), ("note", "Notes"))

_PHASES = {
    "import": "loading PyTorch and this program",
    "rank": "running the training images through several networks, and ranking these",
    "decode": "reading, checking and decoding the images",
    "forward": "running them through the network, every stage at once",
    "solve": "fitting and cross-validating a classifier on each stage",
    "adapt": "trying and training plans that train",
    "control": "training the same network from scratch, to compare with",
    "report": "writing this page",
    "other": "everything else: listing files, the forecast, saving, verifying",
}

_SPELLING = {"convatlas": "ConvAtlas", "torch": "PyTorch", "numpy": "NumPy", "cpu": "CPU", "os": "OS"}


def render(folder: Path) -> Path:
    """Write FOLDER/report.html from FOLDER/fit.json and FOLDER/assets, and return its path.

    The page replaces an older one at once or not at all. Raises ConvAtlasError when fit.json is absent or of another schema.
    """
    folder = Path(folder)
    return replaced(folder / "report.html", page(read(folder), folder))


def replaced(path: Path, text: str) -> Path:
    """Write the file at once or not at all, and return its path."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return path


def warm() -> None:
    """Do what the first report of a process waits for: import jinja2 and vl-convert, boot its engine, compile the template.

    Half of the time of a first report, and dependent on no result: for a background thread while something computes outside Python's lock
    (the engine's boot, 0.35 s, holds the lock).
    """
    import vl_convert

    environment().get_template("page.html.j2")
    vl_convert.vegalite_to_svg({"data": {"values": [{}]}, "mark": "point"})


def page(result: Result, folder: Path) -> str:
    """The HTML text for a result that `read` returned; thumbnails are looked for in `folder`."""
    matrix = result["confusion"]["matrix"]
    wrong = sum(map(sum, matrix)) - sum(row[index] for index, row in enumerate(matrix))
    pairs = rows.most_confused(result)
    jinja = environment()
    return jinja.get_template("page.html.j2").render(
        result=result,
        style=style_sheet(),
        thin=words.THIN,
        name=_last_part(result["data"]["path"]),
        created=result["created"].replace("T", " ").replace("Z", " UTC"),
        contents=[each for each in SECTIONS if each[0] not in _OPTIONAL or result.get(_OPTIONAL[each[0]])],
        figures=_figures(result),
        tested=any(words.known(stage.get("test_accuracy")) for stage in result["stages"]),
        pairs=pairs,
        wrong=wrong,
        excerpt=_excerpt(result),
        by_recall=sorted(result["classes"], key=lambda row: row["recall"] if words.known(row["recall"]) else 2),
        mistakes=[_pictured(row, folder) for row in result["mistakes"]],
        right=[_pictured(row, folder) for row in result.get("right", ())],
        suspects={part: [_pictured(row, folder) for row in _suspects(result, part)] for part in ("train", "test")},
        shapes=result.get("shapes"),
        problems=_by_severity(result["problems"]),
        most_paths=MOST_PATHS,
        phases=_phases(result),
        overlapping=_named_seconds(result) > 1.01 * (result["seconds"].get("total") or 0),
        quoted_bundle=shlex.quote(result["bundle"]),
        python_bundle=repr(result["bundle"]),
        details=_details(result),
    )


@functools.cache
def environment() -> jinja2.Environment:
    """Where the templates are found; they escape all text but what `markup` made."""
    import jinja2

    found = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=lambda name: not (name or "").endswith(".css"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=False,
    )
    for function in (
        words.percent,
        words.chance,
        words.interval,
        words.decimal,
        words.significant,
        words.duration,
        words.count,
        words.points,
    ):
        found.globals[function.__name__] = function
    found.filters["options_as_code"] = options_as_code
    return found


def style_sheet() -> Any:
    """The style that all pages share, in the colours of the charts."""
    return markup(environment().get_template("page.css").render(palette=PALETTE, font=FONT))


def markup(text: str) -> Any:
    """Text that this package itself made and that the template must not escape."""
    from markupsafe import Markup

    return Markup(text)


def options_as_code(text: str) -> Any:
    """A sentence with options such as `--budget 10m` set as code, which no line break parts."""
    from markupsafe import escape

    return markup(re.sub(r"--[a-z][a-z-]*(?: \d\w*)?", r'<code class="option">\g<0></code>', str(escape(text))))


def _figures(result: Result) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    for name in rows.ROWS:
        nothing = {
            "reliability": not any(part["count"] for part in result["calibration"]),
            "plans": len(rows.tried_plans(result)) < 2,
            "growth": not rows.has_growth(result),
        }
        if nothing.get(name):
            figures[name] = None
            continue
        widths = (
            {"wide": rows.WIDE, "narrow": rows.NARROW}
            if name in ("interval", "ladder", "plans", "growth", "time")
            else {"both": rows.WIDE}
        )
        variants = [{"class": kind, "svg": markup(svg(name, result, width=width))} for kind, width in widths.items()]
        figures[name] = {"words": in_words.IN_WORDS[name](result), "variants": variants}
    return figures


def _pictured(row: dict[str, Any], folder: Path) -> dict[str, Any]:
    """An answer with its pictures, those that there are: the image, the map, and the nearest training image."""
    near = row.get("nearest") or {}
    pictures = {"picture": row.get("thumbnail"), "map_picture": row.get("map"), "near_picture": near.get("thumbnail")}
    found = {name: picture(folder, file) for name, file in pictures.items()}
    return {"map_method": None, "nearest": None, **row, **found}


def _suspects(result: Result, part: str) -> list[dict[str, Any]]:
    """Of the images whose labels are suspected, those with pictures."""
    rows = result.get("label_suspects", {}).get(part, ())
    return [row for row in rows if row["thumbnail"]]


def _excerpt(result: Result) -> dict[str, int] | None:
    """How much of a large confusion matrix is drawn; None when all of it is."""
    matrix = result["confusion"]["matrix"]
    if len(matrix) <= rows.WHOLE_MATRIX:
        return None
    shown = rows.most_confused_classes(result)
    inside = sum(matrix[truth][predicted] for truth in shown for predicted in shown if truth != predicted)
    return {"classes": len(shown), "inside": inside}


def _by_severity(problems: list[dict[str, Any]]) -> list[tuple[str, str, list[dict[str, Any]]]]:
    groups = [(severity, title, [p for p in problems if p["severity"] == severity]) for severity, title in _SEVERITIES]
    return [group for group in groups if group[2]]


def _named_seconds(result: Result) -> float:
    return sum(seconds for phase, seconds in rows.phases(result) if phase != "other")


def _phases(result: Result) -> list[tuple[str, str, str, str]]:
    total = result["seconds"].get("total")
    return [
        (phase, words.duration(seconds), words.percent(seconds / total if total else None, 0), _PHASES[phase])
        for phase, seconds in rows.phases(result)
        if seconds
    ]


def _details(result: Result) -> list[tuple[str, str]]:
    weights, data = result["weights"], result["data"]
    chosen = [
        ("Network", result["backbone"]),
        ("Plan", result["plan"]),
        ("Regularisation strength", words.significant(result["strength"]) if words.known(result["strength"]) else ""),
        ("Weights", weights["source"]),
        ("SHA-256 of the weights", weights["sha256"]),
        ("Note on the weights", weights["note"]),
        ("Data", data["path"]),
        ("Read as", data["layout"]),
        ("Fingerprint of the data", data["fingerprint"]),
        ("Result schema", result["schema"]),
    ]
    environment = [(_SPELLING.get(key, key.capitalize()), str(value)) for key, value in result["environment"].items()]
    return [(term, value) for term, value in [*chosen, *environment] if value]


def _last_part(path: str) -> str:
    return path.replace("\\", "/").rstrip("/").rsplit("/", 1)[-1] or path
