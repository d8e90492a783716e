"""The lecture's page: one offline HTML file to teach from, made from lecture.json; and its figures as SVG and PNG files.

In the order of the slides, each claim stands with the slide's words and line, both figures, the verdict and the sum; rows of a list are
rows of a table. Every number comes from the JSON.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from itertools import groupby
from pathlib import Path
from typing import Any

from convatlas.errors import ConvAtlasError
from convatlas.report.lecture_drawings import DRAWINGS
from convatlas.report.lecture_rows import ROWS, WORDS, in_words
from convatlas.report.page import environment, markup, replaced, style_sheet
from convatlas.report.rows import NARROW, WIDE

SCHEMA = "convatlas.lecture/1"
PNG_SCALE = 2  # twice the width on a desk: 1760 pixels

# Which claim each figure follows, and what is to be seen in it
FIGURES: dict[str, tuple[str, str]] = {
    "alexnet_memory": (
        "alexnet-memory",
        "What one training step holds. Splitting the network halves the weights, but each GPU also keeps the maps that the "
        "other sends it.",
    ),
    "receptive_field": (
        "vgg-stack-parameters",
        "Each 3×3 adds one pixel on every side: after three of them a unit sees 7×7, as after one 7×7.",
    ),
    "vgg_layers": (
        "vgg-late-parameters",
        "VGG-16, row by row. Memory is spent early, where maps are large; parameters are spent late, in the first fully connected layer.",
    ),
    "inception": (
        "inception-reduced-ops",
        "The slides' two modules, recorded. On every edge the maps that it carries; the stronger a box, the more it costs.",
    ),
    "depth_growth": (
        "inception-growth",
        "Pooling hands on all maps that it is given, so a naive module can only make them more. A 1×1 after the pooling ends that.",
    ),
    "googlenet_depth": (
        "googlenet-module-depth",
        "Each module adds two layers on its longest way: the 1×1 that reduces, and the 3×3 or 5×5.",
    ),
    "bottleneck": ("resnet-bottleneck", "Weights of a residual block by how it is built."),
    "stage_fields": (
        "depthwise-parameters",
        "Not on the slides: what one unit at the end of each stage sees. The dashed line is the image; a larger field reaches beyond its "
        "borders.",
    ),
}

PAIRED = "vgg16"  # the list whose rows have two claims each, memory and parameters
_TABLES = {
    "alexnet": "The whole list, row by row",
    "vgg16": "The whole list, row by row",
    "outputs": "Outputs of the naive module's four branches",
    "naive": "Conv ops of the naive module",
    "reduced": "Conv ops of the module with bottlenecks",
}
_VERDICTS = {
    "agrees": "exactly what the networks give",
    "rounds": "what the exact figure rounds to",
    "differs": "not what the networks or the papers give",
    "not arithmetic": "nothing to compute, or nothing to compare",
}


def read_lecture(folder: Path) -> dict[str, Any]:
    """FOLDER/lecture.json; raises ConvAtlasError when it is absent or of another schema."""
    path = Path(folder) / "lecture.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConvAtlasError(
            f"{path}: there is no such file.", remedy="Make it with `convatlas study lecture`."
        ) from None
    if found.get("schema") != SCHEMA:
        raise ConvAtlasError(
            f"{path} has the schema {found.get('schema')!r}, not {SCHEMA!r}.", remedy="Make it anew with this version."
        )
    return found


def render_lecture(folder: Path) -> Path:
    """Write FOLDER/lecture.html from FOLDER/lecture.json and the diagrams that it names, and return its path."""
    folder = Path(folder)
    return replaced(folder / "lecture.html", lecture_page(read_lecture(folder), folder))


def lecture_page(study: dict[str, Any], folder: Path) -> str:
    """The HTML text for a study that `read_lecture` returned."""
    claims = study["claims"]
    sections = [
        _section(name, list(own), study, folder) for name, own in groupby(claims, key=lambda claim: claim["section"])
    ]
    return (
        environment()
        .get_template("lecture.html.j2")
        .render(
            study=study,
            style=style_sheet() + markup(environment().get_template("lecture.css").render()),
            sections=sections,
            verdicts=[(name, study["verdicts"][name], why) for name, why in _VERDICTS.items()],
            errata=[claim for claim in claims if claim["id"] in study["errata"]],
            own=sum(claim["in_lecture"] for claim in claims),
            beside=sum(not claim["in_lecture"] for claim in claims),
        )
    )


def _section(name: str, claims: list[dict[str, Any]], study: dict[str, Any], folder: Path) -> dict[str, Any]:
    """A case study: claims, tables and figures in one list, and its networks' diagrams."""
    parts: list[dict[str, Any]] = []
    for table, run in groupby(claims, key=lambda claim: claim["table"]):
        own = list(run)
        if table == PAIRED:
            rows = [(own[i], own[i + 1]) for i in range(0, len(own), 2)]
            parts.append({"kind": "pairs", "title": _TABLES[table], "rows": rows})
        elif table:
            parts.append({"kind": "table", "title": _TABLES[table], "claims": own})
        for claim in own:
            if not table:
                parts.append({"kind": "claim", "claim": claim})
            parts += [
                {"kind": "figure", "name": figure, "figure": _figure(figure, study), "caption": caption}
                for figure, (after, caption) in FIGURES.items()
                if after == claim["id"]
            ]
    diagrams = [
        {"network": drawn["network"], "svg": markup((folder / drawn["path"]).read_text(encoding="utf-8"))}
        for drawn in study.get("diagrams", [])
        if drawn["section"] == name
    ]
    return {"name": name, "anchor": name.lower(), "parts": parts, "diagrams": diagrams}


def _figure(name: str, study: dict[str, Any]) -> dict[str, Any]:
    variants = [
        {"class": kind, "svg": markup(figure_svg(name, study, width=width))}
        for kind, width in (("wide", WIDE), ("narrow", NARROW))
    ]
    return {"words": in_words(name, study["figures"]), "variants": variants}


@functools.cache
def _structures() -> dict[str, Any]:
    return json.loads(Path(__file__).with_name("lecture_specifications.json").read_bytes())


def specification(name: str, study: dict[str, Any], *, width: int = WIDE) -> dict[str, Any]:
    """The whole Vega-Lite specification of the chart `name`, `width` CSS pixels wide."""
    return {**_structures()[name], "data": {"values": ROWS[name](study["figures"])}, "width": width}


def figure_svg(name: str, study: dict[str, Any], *, width: int = WIDE, background: bool = False) -> str:
    """A chart or a drawing as an SVG element, on white or on nothing."""
    import vl_convert

    if name in DRAWINGS:
        return DRAWINGS[name](study["figures"], width, background=background)
    drawn = specification(name, study, width=width)
    return vl_convert.vegalite_to_svg({**drawn, "background": "#ffffff"} if background else drawn)


def save_lecture_figures(
    folder: Path, progress: Callable[[str, int, int], None] = lambda what, done, total: None
) -> tuple[Path, ...]:
    """Write FOLDER/figures/NAME.svg and .png, on white and 1760 pixels wide, for each figure of FOLDER/lecture.json."""
    import vl_convert

    study = read_lecture(folder)
    figures = Path(folder) / "figures"
    figures.mkdir(exist_ok=True)
    paths: list[Path] = []
    for done, name in enumerate(WORDS, start=1):
        svg = figure_svg(name, study, background=True)
        paths += [figures / f"{name}.svg", figures / f"{name}.png"]
        paths[-2].write_text(svg, encoding="utf-8")
        paths[-1].write_bytes(vl_convert.svg_to_png(svg, scale=PNG_SCALE))
        progress("figures", done, len(WORDS))
    return tuple(paths)
