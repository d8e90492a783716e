"""The pencils of a diagram: shapes and words of one SVG, with the room that a word needs on any reader's machine.

An SVG cannot ask how wide its text will be, and the reader's font is not known. Widths here are those of DejaVu Sans, the widest of
the usual system fonts, rounded up; a text that would not fit is shortened, and whole in its tooltip. Colours are CSS variables that
follow the reader's light or dark setting, with names of their own so that several diagrams can stand in one page.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from html import escape

# name: (on a light page, on a dark page); hues as in the reports: Okabe and Ito's, told apart with the common colour deficiencies
COLOURS = {
    "ink": ("#1c2128", "#e4e7eb"),
    "muted": ("#5b6572", "#a0a9b5"),
    "line": ("#c9d0d8", "#3d4550"),
    "wire": ("#6b7684", "#8b96a4"),
    "paper": ("#fdfdfc", "#15181d"),
    "band": ("#f2f4f6", "#1b1f25"),
    "box": ("#ffffff", "#232932"),
    "accent": ("#0b69a9", "#5db0ee"),
    "fall": ("#b23c0a", "#f2935c"),
    "convolution": ("#d9ebf8", "#1d4463"),
    "depthwise": ("#d3efe6", "#1a4d40"),
    "pooling": ("#fbe8c8", "#574012"),
    "dense": ("#f1dfec", "#55304a"),
    "bar": ("#8ec3e6", "#39749c"),
}
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', 'Noto Sans', sans-serif"
_NARROW = {**dict.fromkeys("ijlI|'.,:;", 0.36), **dict.fromkeys("ftr()[]-/·", 0.44), " ": 0.33}
_WIDE = {**dict.fromkeys("mwMWG…", 1.0), **dict.fromkeys("×+÷−=<>~–↓", 0.85)}


def text_width(text: str, size: float, *, bold: bool = False) -> float:
    """Pixels that `text` takes at most at font size `size`."""
    ems = sum(_NARROW.get(c) or _WIDE.get(c) or (0.78 if c.isupper() else 0.65) for c in text)
    return ems * size * (1.1 if bold else 1)


def shortened(text: str, size: float, room: float, *, bold: bool = False) -> str:
    """`text`, or as much of its beginning as fits with an ellipsis."""
    if text_width(text, size, bold=bold) <= room:
        return text
    while text and text_width(text + "…", size, bold=bold) > room:
        text = text[:-1]
    return text.rstrip(" ·,+") + "…" if text else ""


class Canvas:
    """Collects the elements of one SVG in the order in which they are painted."""

    def __init__(self) -> None:
        self._parts: list[str] = []

    def rect(
        self, x: float, y: float, width: float, height: float, *, kind: str, radius: float = 0, title: str = ""
    ) -> None:
        """A rectangle with the class `kind`."""
        tip = f"<title>{escape(title)}</title>" if title else ""
        self._parts.append(
            f'<rect class="{kind}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" rx="{radius:.3g}">{tip}</rect>'
        )

    def circle(self, x: float, y: float, radius: float, *, kind: str) -> None:
        """A circle with the class `kind`."""
        self._parts.append(f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="{radius:.3g}"/>')

    def polygon(self, points: Sequence[tuple[float, float]], *, kind: str) -> None:
        """A filled shape with the class `kind`."""
        self._parts.append(f'<polygon class="{kind}" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in points)}"/>')

    def text(self, x: float, y: float, text: str, size: float, *, kind: str = "", anchor: str = "start") -> None:
        """Words on the baseline `y`, if there are any; `anchor` says whether they start, end or have their middle at `x`."""
        if not text:
            return
        named = f' class="{kind}"' if kind else ""
        at = "" if anchor == "start" else f' text-anchor="{anchor}"'
        self._parts.append(f'<text{named} x="{x:.1f}" y="{y:.1f}" font-size="{size:.4g}"{at}>{escape(text)}</text>')

    def wire(
        self,
        points: Sequence[tuple[float, float]],
        *,
        kind: str,
        radius: float = 5,
        arrow: bool = False,
        title: str = "",
    ) -> None:
        """A line through the points with round corners."""
        x, y = points[0]
        path = [f"M{x:.1f} {y:.1f}"]
        for before, (x, y), after in zip(points, points[1:], points[2:], strict=False):
            r = min(radius, _distance(before, (x, y)) / 2, _distance((x, y), after) / 2)
            (ax, ay), (bx, by) = _towards((x, y), before, r), _towards((x, y), after, r)
            path.append(f"L{ax:.1f} {ay:.1f}Q{x:.1f} {y:.1f} {bx:.1f} {by:.1f}")
        path.append(f"L{points[-1][0]:.1f} {points[-1][1]:.1f}")
        tip = f"<title>{escape(title)}</title>" if title else ""
        self._parts.append(f'<path class="{kind}" d="{"".join(path)}">{tip}</path>')
        if arrow:
            (ax, ay), (x, y) = _towards(points[-1], points[-2], 6), points[-1]
            dx, dy = (y - ay) / 2, (x - ax) / 2
            self.polygon([(x, y), (ax + dx, ay - dy), (ax - dx, ay + dy)], kind=f"{kind}-head")

    @contextmanager
    def group(self, kind: str, title: str = "", **data: str) -> Iterator[None]:
        """What is drawn inside is one element with the class `kind`, a tooltip and `data-` attributes."""
        noted = "".join(f' data-{key}="{escape(value)}"' for key, value in data.items())
        self._parts.append(f'<g class="{kind}"{noted}>' + (f"<title>{escape(title)}</title>" if title else ""))
        yield
        self._parts.append("</g>")

    def finished(self, width: float, height: float, *, label: str, style: str) -> str:
        """The whole SVG."""
        light = "".join(f"--ca-{name}:{value};" for name, (value, _) in COLOURS.items())
        dark = "".join(f"--ca-{name}:{value};" for name, (_, value) in COLOURS.items())
        css = (
            f".ca-diagram{{{light}font-family:{FONT};}}"
            f"@media(prefers-color-scheme:dark){{.ca-diagram{{{dark}}}}}" + " ".join(style.split())
        )
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" class="ca-diagram" viewBox="0 0 {width:g} {height:g}" width="{width:g}" '
            f'height="{height:g}" role="img" aria-label="{escape(label)}"><style>{css}</style>\n'
            + "\n".join(self._parts)
            + "\n</svg>\n"
        )


def _distance(a: tuple[float, float], b: tuple[float, float]) -> float:
    return max(abs(a[0] - b[0]), abs(a[1] - b[1]))


def _towards(a: tuple[float, float], b: tuple[float, float], by: float) -> tuple[float, float]:
    """The point `by` pixels from a on a horizontal or vertical line to b."""
    far = _distance(a, b) or 1
    return a[0] + (b[0] - a[0]) * by / far, a[1] + (b[1] - a[1]) * by / far
