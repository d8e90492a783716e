"""The page of what the stages see: filters, a map of each stage's features, and the patches that excite its channels; one offline file.

Made from sees.json and the pictures beside it. Each image's thumbnail is in the page once and used wherever it stands; without its script
the page loses nothing but the larger thumbnail under the pointer.
"""

from __future__ import annotations

from collections import Counter
from html import escape
from pathlib import Path
from typing import Any

from convatlas.report.page import environment, markup, replaced, style_sheet
from convatlas.report.palette import PALETTE
from convatlas.report.result import picture, read_versioned

SCHEMA = "convatlas.sees/1"

SIDE, MARGIN = 440, 24  # of a map's drawing, in its own units, which are about CSS pixels
THUMBNAIL = 34  # of the images drawn in the map itself
_COLOURS = (
    "forward",
    "stacked",
    "dense",
    "branching",
    "separable",
    "gated",
    "own",
    "searched",
)  # far apart, light and dark
_MOST_NAMED = 24  # classes in the key, each with a sign of its own: eight colours, three shapes
_OTHERS = PALETTE["muted"][0]  # of all classes beyond


def render_stages(folder: Path) -> Path:
    """Write FOLDER/stages.html from FOLDER/sees.json and FOLDER/assets; returns its path."""
    folder = Path(folder)
    result = read_versioned(folder / "sees.json", SCHEMA, made_by="convatlas show MODEL --sees DATA --out FOLDER")
    return replaced(folder / "stages.html", stages_page(result, folder))


def stages_page(result: dict[str, Any], folder: Path) -> str:
    """The HTML text; pictures are looked for in `folder`."""
    jinja = environment()
    filters = result["filters"]
    return jinja.get_template("stages.html.j2").render(
        result=result,
        style=style_sheet(),
        thumbnails=[picture(folder, image["thumbnail"]) for image in result["images"]],
        filters=filters and {**filters, "picture": picture(folder, filters["picture"])},
        stages=[_stage(stage, result, folder) for stage in result["stages"]],
        key=[(name, markup(_sign(i, 8, 8, 5.5))) for i, name in enumerate(result["classes"][:_MOST_NAMED])],
        unnamed=max(0, len(result["classes"]) - _MOST_NAMED),
        chance=_chance(result),
        side=SIDE,
    )


def _chance(result: dict[str, Any]) -> float:
    """How often two images drawn from these are of one class."""
    counts = Counter(image["label"] for image in result["images"])
    total = sum(counts.values())
    return sum(n * (n - 1) for n in counts.values()) / (total * (total - 1))


def _stage(stage: dict[str, Any], result: dict[str, Any], folder: Path) -> dict[str, Any]:
    channels = []
    for channel in stage["channels"]:
        patches = [{**patch, "picture": picture(folder, patch["picture"])} for patch in channel["patches"]]
        label, number = Counter(patch["label"] for patch in patches).most_common(1)[0]
        channels.append({**channel, "patches": patches, "mostly": label, "of_it": number})
    return {**stage, "channels": channels, "drawing": markup(_drawing(stage, result)), "part": _part(stage, result)}


def _part(stage: dict[str, Any], result: dict[str, Any]) -> float | None:
    """A unit's field as a share of the image's side, at most 1."""
    return None if stage["field"] is None else min(1.0, max(stage["field"]) / result["size"])


def _drawing(stage: dict[str, Any], result: dict[str, Any]) -> str:
    """The map as SVG: a sign for each image in its class's colour, and thumbnails where there is room."""
    span = (SIDE - 2 * MARGIN) / 2
    top = max(y for _, y in stage["map"])
    points = [(MARGIN + span * (1 + x), MARGIN + span * (top - y)) for x, y in stage["map"]]
    height = max(y for _, y in points) + MARGIN
    shown: list[int] = []
    for i, (x, y) in enumerate(points):
        far = all(max(abs(x - points[j][0]), abs(y - points[j][1])) >= THUMBNAIL + 3 for j in shown)
        if far and result["images"][i]["thumbnail"]:
            shown.append(i)
    parts = []
    for i in [*(i for i in range(len(points)) if i not in shown), *shown]:
        image = result["images"][i]
        number = result["classes"].index(image["label"])
        x, y = points[i]
        drawn = _sign(number, x, y, 4.2)
        if i in shown:
            left, top, colour = x - THUMBNAIL / 2, y - THUMBNAIL / 2, _colour(number)
            box = f'x="{left:.1f}" y="{top:.1f}" width="{THUMBNAIL}" height="{THUMBNAIL}"'
            drawn = (
                f'<use href="#i{i}" transform="translate({left:.1f} {top:.1f}) scale({THUMBNAIL / 72:.4f})"/>'
                f'<rect {box} rx="2" fill="none" stroke="{colour}" stroke-width="2.5"/>'
            )
        parts.append(f'<g data-i="{i}"><title>{escape(image["label"])}: {escape(image["path"])}</title>{drawn}</g>')
    words = f"map of {len(points)} images at {stage['name']}, coloured by class"
    return f'<svg class="map" viewBox="0 0 {SIDE} {height:.0f}" role="img" aria-label="{escape(words)}">{"".join(parts)}</svg>'


def _colour(number: int) -> str:
    return _OTHERS if number >= _MOST_NAMED else PALETTE[_COLOURS[number % len(_COLOURS)]][0]


def _sign(number: int, x: float, y: float, radius: float) -> str:
    """The mark of a class: eight colours, in three shapes; of classes beyond those one and the same."""
    if number >= _MOST_NAMED:
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{0.6 * radius:.1f}" fill="{_OTHERS}"/>'
    fill = PALETTE[_COLOURS[number % len(_COLOURS)]][0]
    shape = number // len(_COLOURS) % 3
    edge = f'fill="{fill}" stroke="{PALETTE["paper"][0]}" stroke-width="1"'
    if shape == 0:
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}" {edge}/>'
    half = radius * (0.9 if shape == 1 else 1.25)
    corners = [(-1, -1), (1, -1), (1, 1), (-1, 1)] if shape == 1 else [(0, -1), (1, 0), (0, 1), (-1, 0)]
    return f'<polygon points="{" ".join(f"{x + half * a:.1f},{y + half * b:.1f}" for a, b in corners)}" {edge}/>'
