"""A picture of receptive fields: what a unit can see of the image, along its longest and its shortest path, and what moves it.

One panel a layer, all at one scale. The image's frame may show a photograph; boxes that reach beyond it are drawn there as far as there is
room. The heat map is the effective field, eight steps of one colour, the strongest pixel full. The drawing is one SVG with its own
colours for light and dark pages, and stands alone.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from hashlib import sha256
from html import escape

from torch import Tensor
from torch.nn import functional as F

from convatlas.analysis.effective import EffectiveField
from convatlas.analysis.receptive import Unknown

PANEL, MARGIN, GAP = 220.0, 26.0, 18.0  # a panel's image, the room around it, and the way to the next
LEVELS, CELLS = 8, 56
_STYLE = """<style>
.fields { --ink: #1c2128; --muted: #5b6572; --line: #b9c0ca; --ground: #f4f5f6; --reach: #0b69a9; --heat: #c1440e }
@media (prefers-color-scheme: dark) {
.fields { --ink: #e4e7eb; --muted: #a0a9b5; --line: #4a525e; --ground: #1e2229; --reach: #5db0ee; --heat: #f2935c } }
.fields text { font: 13px system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', sans-serif; fill: var(--ink) }
.fields .name { font-weight: 600 } .fields .aside { fill: var(--muted); font-size: 12px }
.fields .ground { fill: var(--ground); stroke: var(--line) } .fields .heat { fill: var(--heat) }
.fields .box { fill: none; stroke-width: 2 } .fields .largest { stroke: var(--reach) }
.fields .smallest { stroke: var(--reach); stroke-dasharray: 2 4 } .fields .extent { stroke: var(--heat); stroke-dasharray: 7 3 }
.fields .under { fill: none; stroke: var(--ground); stroke-width: 4; opacity: .8 }
</style>"""
Box = Sequence[tuple[float, float]]  # first and last pixel, height first


ROOM = 40  # right of the last panel, for its text


def field_picture(
    fields: Sequence[EffectiveField], *, image: bytes | None = None, media_type: str = "image/jpeg"
) -> str:
    """An SVG of the fields, side by side; `image` is a file's content, shown as the frame is shaped (its own shape is not kept)."""
    for field in fields:
        if field.heat.dim() != 2:
            raise ValueError(f"{field.path} sees images of {field.heat.dim()} axes; only those of two can be drawn")
    if not fields:
        raise ValueError("there are no fields to draw")
    height, width = max((tuple(field.heat.shape) for field in fields), key=max)
    scale = PANEL / max(height, width)
    step = width * scale + 2 * MARGIN + GAP
    total, tall = step * len(fields) - GAP + ROOM, height * scale + 2 * MARGIN + 62
    photo, name = "", ""
    if image is not None:
        name = f"fields-{sha256(image).hexdigest()[:12]}"  # pictures on one page share names
        uri = f"data:{media_type};base64,{b64encode(image).decode()}"
        sides = f'width="{_n(width * scale)}" height="{_n(height * scale)}"'
        photo = f'<defs><image id="{name}" href="{escape(uri)}" {sides} preserveAspectRatio="none"/></defs>'
    panels = "".join(
        f'<g transform="translate({_n(i * step + MARGIN)} {_n(MARGIN)})">{_panel(field, scale, name)}</g>'
        for i, field in enumerate(fields)
    )
    key = (
        f'<g transform="translate({_n(MARGIN)} {_n(tall - 6)})">'
        + "".join(
            f'<path class="box {kind}" d="M{x} -4h22"/><text class="aside" x="{x + 28}">{text}</text>'
            for kind, x, text in (
                ("largest", 0, "can see"),
                ("smallest", 84, "shortest path"),
                ("extent", 206, "95 % of the effect"),
            )
        )
        + "</g>"
    )
    label = escape("; ".join(_said(field) for field in fields))
    return (
        f'<svg class="fields" xmlns="http://www.w3.org/2000/svg" role="img" aria-label="{label}" '
        f'viewBox="0 0 {_n(max(total, 360))} {_n(tall)}" width="{_n(max(total, 360))}" height="{_n(tall)}">'
        f"{_STYLE}{photo}{panels}{key}</svg>"
    )


def _said(field: EffectiveField) -> str:
    theoretical = field.theoretical
    if isinstance(theoretical, Unknown):
        return f"{field.path}: what it can see is not known ({theoretical.reason}), 95 % within {field.extent}"
    at_most = "" if theoretical.exact else "at most "
    return f"{field.path}: can see {at_most}{' × '.join(map(str, theoretical.size))} pixels, 95 % within {field.extent}"


def _panel(field: EffectiveField, scale: float, photo: str) -> str:
    height, width = field.heat.shape
    drawn = [f'<rect class="ground" width="{_n(width * scale)}" height="{_n(height * scale)}"/>']
    if photo:
        drawn.append(f'<use href="#{photo}" opacity=".55"/>')
    drawn += _heat(field.heat, scale)
    boxes: list[tuple[str, Box]] = []
    theoretical = field.theoretical
    if not isinstance(theoretical, Unknown):
        for kind, ways in (("largest", theoretical.largest), ("smallest", theoretical.smallest)):
            boxes.append((kind, [interval.at(unit) for interval, unit in zip(ways, field.unit, strict=True)]))
    half = (field.extent - 1) / 2
    boxes.append(("extent", [(middle - half, middle + half) for middle in field.middle]))
    beyond = MARGIN / scale - 2
    outside = False
    for kind, box in boxes:
        outline = _outline(kind, box, (height, width), beyond, scale)
        outside = outside or (kind == "largest" and not outline)
        drawn += outline
    top = height * scale + MARGIN
    said = _said(field).removeprefix(f"{field.path}: ")
    drawn.append(f'<text class="name" y="{_n(top - 4)}">{escape(_short(field.path))}</text>')
    first, _, second = said.partition(", 95 %")
    first = f"{first.removesuffix(' pixels')}, beyond the frame" if outside else first
    drawn.append(f'<text class="aside" y="{_n(top + 13)}">{escape(_short(first, 38))}</text>')
    drawn.append(f'<text class="aside" y="{_n(top + 29)}">95 %{escape(second)} × {field.extent}</text>')
    return f"<title>{escape(_said(field))}</title>{''.join(drawn)}"


def _short(text: str, length: int = 32) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"


def _outline(kind: str, box: Box, shape: Sequence[int], beyond: float, scale: float) -> list[str]:
    """A box, cut where there is no more room; a side that is cut off is left open."""
    (top, bottom), (left, right) = [(low, high + 1) for low, high in box]
    edges = {
        "top": max(top, -beyond),
        "bottom": min(bottom, shape[0] + beyond),
        "left": max(left, -beyond),
        "right": min(right, shape[1] + beyond),
    }
    y0, y1, x0, x1 = (_n(edges[side] * scale) for side in ("top", "bottom", "left", "right"))
    sides = [
        (top >= -beyond, f"M{x0} {y0}H{x1}"),
        (right <= shape[1] + beyond, f"M{x1} {y0}V{y1}"),
        (bottom <= shape[0] + beyond, f"M{x1} {y1}H{x0}"),
        (left >= -beyond, f"M{x0} {y1}V{y0}"),
    ]
    path = "".join(line for whole, line in sides if whole)
    return [f'<path class="under" d="{path}"/>', f'<path class="box {kind}" d="{path}"/>'] if path else []


def _heat(heat: Tensor, scale: float) -> list[str]:
    """Steps of opacity, each one path of runs of cells."""
    height, width = heat.shape
    cell = max(1, -(-max(height, width) // CELLS))
    padded = F.pad(heat, (0, -width % cell, 0, -height % cell))
    pooled = padded.unflatten(1, (-1, cell)).sum(2).unflatten(0, (-1, cell)).sum(1)
    levels = (
        (pooled / pooled.max()).sqrt().mul(LEVELS).round().int().tolist()
    )  # the root: otherwise only the middle shows
    runs: dict[int, list[str]] = {}
    for y, row in enumerate(levels):
        x = 0
        while x < len(row):
            end = x
            while end < len(row) and row[end] == row[x]:
                end += 1
            if row[x]:
                long = (min(end * cell, width) - x * cell) * scale
                tall = (min((y + 1) * cell, height) - y * cell) * scale
                left, top = _n(x * cell * scale), _n(y * cell * scale)
                runs.setdefault(row[x], []).append(f"M{left} {top}h{_n(long)}v{_n(tall)}h{_n(-long)}z")
            x = end
    return [
        f'<path class="heat" opacity="{_n(0.9 * level / LEVELS)}" d="{"".join(found)}"/>'
        for level, found in sorted(runs.items())
    ]


def _n(value: float) -> str:
    """A number without needless digits."""
    return f"{value:.2f}".rstrip("0").rstrip(".")
