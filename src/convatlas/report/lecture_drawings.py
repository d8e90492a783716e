"""The drawings of the lecture's page that are no charts: the two inception modules, and what three 3×3 convolutions see.

Plain SVG from the study's numbers, in the light colours of `palette` as attributes, which the page's style sheet replaces where a reader's
setting is dark. Every drawing has two panels, side by side on a desk and one below the other on a telephone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape
from typing import Any

from convatlas.report.palette import FONT, LIGHT
from convatlas.report.rows import NARROW, WIDE

Figures = dict[str, Any]
Panel = Callable[["_Pen", float, float], float]  # draws from (x, width) on, returns its height

MARGIN = 20  # pixels around a drawing that stands alone
_COLUMNS = (("one",), ("reduce3", "three"), ("reduce5", "five"), ("pool", "project"))


class _Pen:
    """Collects elements; all positions are relative to where the panel begins."""

    def __init__(self) -> None:
        self.parts: list[str] = []
        self.x = self.y = 0.0

    def rect(
        self, x: float, y: float, width: float, height: float, *, fill: str, opacity: float = 1, stroke: str = ""
    ) -> None:
        line = f' stroke="{LIGHT[stroke]}" stroke-width="1.2"' if stroke else ""
        self.parts.append(
            f'<rect x="{self.x + x:.1f}" y="{self.y + y:.1f}" width="{width:.1f}" height="{height:.1f}" rx="5" '
            f'fill="{LIGHT[fill]}" fill-opacity="{opacity:.3g}"{line}/>'
        )

    def outline(self, x: float, y: float, side: float, *, stroke: str, width: float) -> None:
        self.parts.append(
            f'<rect x="{self.x + x:.1f}" y="{self.y + y:.1f}" width="{side:.1f}" height="{side:.1f}" rx="3" fill="none" '
            f'stroke="{LIGHT[stroke]}" stroke-width="{width:g}"/>'
        )

    def polygon(self, points: Sequence[tuple[float, float]], *, fill: str, opacity: float = 1) -> None:
        told = " ".join(f"{self.x + x:.1f},{self.y + y:.1f}" for x, y in points)
        self.parts.append(f'<polygon points="{told}" fill="{LIGHT[fill]}" fill-opacity="{opacity:.3g}"/>')

    def arrow(self, points: Sequence[tuple[float, float]]) -> None:
        """A line that ends upwards."""
        told = " ".join(f"{self.x + x:.1f},{self.y + y:.1f}" for x, y in points)
        self.parts.append(f'<polyline points="{told}" fill="none" stroke="{LIGHT["second"]}" stroke-width="1.3"/>')
        x, y = points[-1]
        self.polygon([(x, y), (x - 3.5, y + 7), (x + 3.5, y + 7)], fill="second")

    def text(
        self,
        x: float,
        y: float,
        words: str,
        size: float = 12,
        *,
        fill: str = "ink",
        anchor: str = "middle",
        bold: bool = False,
    ) -> None:
        weight = ' font-weight="600"' if bold else ""
        self.parts.append(
            f'<text x="{self.x + x:.1f}" y="{self.y + y:.1f}" font-size="{size:g}" text-anchor="{anchor}" '
            f'fill="{LIGHT[fill]}"{weight}>{escape(words)}</text>'
        )

    def finished(self, width: float, height: float, *, background: bool) -> str:
        margin = MARGIN if background else 1  # half of a line at the edge must not be cut off
        wide, high = width + 2 * margin, height + 2 * margin
        paper = (
            f'<rect x="{-margin}" y="{-margin}" width="{wide:g}" height="{high:g}" fill="#ffffff"/>'
            if background
            else ""
        )
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{-margin} {-margin} {wide:g} {high:g}" width="{wide:g}" '
            f'height="{high:g}" font-family="{escape(FONT)}">{paper}' + "\n".join(self.parts) + "</svg>\n"
        )


def _panels(panels: Sequence[Panel], width: int, *, background: bool) -> str:
    """Side by side where there is room, else one below the other."""
    pen, gap = _Pen(), 36
    if width > 2 * NARROW:
        own = (width - gap * (len(panels) - 1)) / len(panels)
        heights = []
        for number, panel in enumerate(panels):
            pen.x = number * (own + gap)
            heights.append(panel(pen, 0, own))
        return pen.finished(width, max(heights), background=background)
    for panel in panels:
        pen.y += panel(pen, 0, width) + gap
    return pen.finished(width, pen.y - gap, background=background)


def inception(figures: Figures, width: int = WIDE, *, background: bool = False) -> str:
    """The naive module and the one with bottlenecks: what every edge carries, and what every convolution costs."""
    found = figures["inception"]
    most = max(edge["mult_adds"] for edge in found["naive"]["edges"].values())
    return _panels(
        [
            lambda pen, x, w: _module(pen, x, w, found["naive"], "Naive module", most),
            lambda pen, x, w: _module(pen, x, w, found["reduced"], "With 1×1 bottlenecks", most),
        ],
        width,
        background=background,
    )


def _module(pen: _Pen, x: float, width: float, module: dict[str, Any], title: str, most: int) -> float:
    top, step, high = 58, 122, 62
    column = width / len(_COLUMNS)
    edges = module["edges"]
    bottom = top + 34 + 2 * step + 30
    pen.text(x, 18, title, 15, anchor="start", bold=True)
    pen.text(x, 38, f"{module['ops'] / 1e6:,.0f} M ops in all", 13, anchor="start", fill="muted")
    pen.rect(x, top, width, 34, fill="raised", stroke="second")
    pen.text(x + width / 2, top + 22, f"filter concatenation: {_volume(module['made'])}", 13, bold=True)
    pen.rect(x, bottom, width, 34, fill="raised", stroke="second")
    pen.text(x + width / 2, bottom + 22, f"module input: {_volume(module['given'])}", 13)
    for number, names in enumerate(_COLUMNS):
        present = [name for name in names if name in edges]
        middle = x + (number + 0.5) * column
        places = {
            1: [top + 34 + 44 + step / 2],
            2: [top + 34 + 44 + step, top + 34 + 44],
        }[len(present)]
        before = bottom
        for name, y in zip(present, places, strict=True):
            edge = edges[name]
            pen.arrow([(middle, before), (middle, y + high + 1)])
            pen.rect(
                middle - column / 2 + 4,
                y,
                column - 8,
                high,
                fill="paper",
                stroke="accent" if edge["mult_adds"] else "second",
            )
            if edge["mult_adds"]:
                share = 0.06 + 0.5 * edge["mult_adds"] / most
                pen.rect(middle - column / 2 + 4, y, column - 8, high, fill="accent", opacity=share)
            kind, _, maps = edge["layer"].partition(", ")
            pen.text(middle, y + 18, kind.replace("x", "×"), 12, bold=True)
            pen.text(middle, y + 34, maps or "stride 1", 12)
            cost = f"{edge['mult_adds'] / 1e6:.1f} M ops" if edge["mult_adds"] else "no ops"
            pen.text(middle, y + 52, cost, 11.5, fill="ink" if edge["mult_adds"] else "muted")
            pen.text(middle, y - 7, _volume(edge["made"]), 10.5, fill="muted")
            before = y - 19  # above the shape that the arrow carries
        pen.arrow([(middle, before), (middle, top + 35)])
    return bottom + 40


def receptive_field(figures: Figures, width: int = WIDE, *, background: bool = False) -> str:
    """Three 3×3 convolutions see what one 7×7 sees: from the side, unit by unit, and from above, on the image."""
    seen = figures["receptive_field"]["three"]
    return _panels(
        [lambda pen, x, w: _side_view(pen, x, w, seen), lambda pen, x, w: _top_view(pen, x, w, seen)],
        width,
        background=background,
    )


def _side_view(pen: _Pen, x: float, width: float, seen: Sequence[int]) -> float:
    """One row of units for each layer, the image at the bottom; the unit at the top sees what lies in the cone."""
    counts = [1, *seen]  # units in the cone, from the top down
    cell, high, step = min(44.0, (width - 104) / counts[-1]), 28, 68
    middle = x + counts[-1] * cell / 2 + 2
    pen.text(x, 18, "from the side", 15, anchor="start", bold=True)

    def row(number: int) -> tuple[float, float]:
        return middle - counts[number] * cell / 2, 40 + number * step

    for number in range(len(counts) - 1):
        (left, y), (below, y_below) = row(number), row(number + 1)
        right, below_right = left + counts[number] * cell, below + counts[number + 1] * cell
        pen.polygon(
            [(left, y + high), (right, y + high), (below_right, y_below), (below, y_below)], fill="accent", opacity=0.1
        )
    for number, count in enumerate(counts):
        left, y = row(number)
        for i in range(count):
            pen.rect(left + i * cell + 2, y, cell - 4, high, fill="accent", opacity=1 - 0.24 * number)
        after = len(counts) - 1 - number
        name = "of the image" if not after else f"after conv {after}"
        pen.text(x + counts[-1] * cell + 12, y + 18, f"{count} {name}", 12.5, anchor="start")
    return 40 + (len(counts) - 1) * step + high + 12


def _top_view(pen: _Pen, x: float, width: float, seen: Sequence[int]) -> float:
    """Squares on the pixels of the image."""
    side = seen[-1] + 2
    cell = min(27.0, (width - 110) / side)
    top = 40
    pen.text(x, 18, "from above, on the image", 15, anchor="start", bold=True)
    for i in range(side):
        for j in range(side):
            pen.rect(x + i * cell + 0.75, top + j * cell + 0.75, cell - 1.5, cell - 1.5, fill="line", opacity=0.55)
    for number, count in reversed(list(enumerate(seen, start=1))):
        margin = (side - count) / 2 * cell
        pen.rect(x + margin, top + margin, count * cell, count * cell, fill="accent", opacity=0.2)
        pen.outline(x + margin, top + margin, count * cell, stroke="accent", width=1.6)
        y = top + margin + 15
        label = x + side * cell + 12
        pen.parts.append(
            f'<line x1="{pen.x + x + margin + count * cell:.1f}" y1="{pen.y + y - 4:.1f}" x2="{pen.x + label - 3:.1f}" '
            f'y2="{pen.y + y - 4:.1f}" stroke="{LIGHT["second"]}" stroke-width="1"/>'
        )
        pen.text(label, y, f"{number} conv: {count}×{count}", 12.5, anchor="start")
    return top + side * cell + 12


def _volume(sides: Sequence[int]) -> str:
    """28×28×256 of (256, 28, 28)."""
    channels, *places = sides
    return "×".join(map(str, (*places, channels)))


DRAWINGS: dict[str, Callable[..., str]] = {"inception": inception, "receptive_field": receptive_field}
