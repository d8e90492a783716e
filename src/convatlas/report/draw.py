"""From a fit result to pictures: a chart's stored structure, the result's rows, and vl-convert (Vega without browser or network).

The first conversion of a process boots a JavaScript engine (0.35 s, during which no other thread runs); each later one takes 15 to 60 ms.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from convatlas.report.result import Result, read
from convatlas.report.rows import ROWS, WIDE, fill


@functools.cache
def _structures() -> dict[str, Any]:
    return json.loads(Path(__file__).with_name("specifications.json").read_bytes())


def specification(name: str, result: Result, *, width: int = WIDE) -> dict[str, Any]:
    """The whole Vega-Lite specification of the chart `name`, `width` CSS pixels wide; the same as `charts.<name>(result)` gives."""
    return {**_structures()[name], **fill(name, result, width)}


def svg(name: str, result: Result, *, width: int = WIDE) -> str:
    """The chart as an SVG element, on a transparent background."""
    return svg_of(specification(name, result, width=width))


def svg_of(drawing: dict[str, Any]) -> str:
    """A Vega-Lite specification as an SVG element."""
    import vl_convert

    return vl_convert.vegalite_to_svg(drawing)


def save_charts(folder: Path, formats: Sequence[str] = ("svg", "png")) -> tuple[Path, ...]:
    """Write FOLDER/charts/NAME.svg and .png (at twice the size, on white) for each chart of FOLDER/fit.json; returns their paths."""
    if unknown := set(formats) - {"svg", "png"}:
        raise ValueError(f"unknown chart formats {sorted(unknown)}; there are 'svg' and 'png'")
    result = read(folder)
    return save({name: specification(name, result) for name in ROWS}, Path(folder) / "charts", formats)


def save(
    drawings: Mapping[str, dict[str, Any]], folder: Path, formats: Sequence[str] = ("svg", "png")
) -> tuple[Path, ...]:
    """Write each Vega-Lite specification into `folder` as NAME.svg and NAME.png, on white; returns their paths."""
    import vl_convert

    folder.mkdir(exist_ok=True)
    paths = []
    for name, drawn in drawings.items():
        on_white = {**drawn, "background": "#ffffff"}
        for suffix in formats:
            path = folder / f"{name}.{suffix}"
            if suffix == "svg":
                path.write_text(vl_convert.vegalite_to_svg(on_white), encoding="utf-8")
            else:
                path.write_bytes(vl_convert.vegalite_to_png(on_white, scale=2))
            paths.append(path)
    return tuple(paths)


def style() -> dict[str, Any]:
    """The look that all charts share: fonts, colours and axes, for a specification that is written by hand."""
    return _structures()["interval"]["config"]
