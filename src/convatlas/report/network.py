"""The page of one network: its picture, what its parts cost and see, and its card; one offline file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from convatlas.report.page import environment, markup, style_sheet


def network_page(
    name: str,
    tables: Sequence[Mapping[str, Any]],
    picture: str,
    card: Mapping[str, Any] | None,
    pictures: Sequence[str] = (),
) -> str:
    """The HTML text. `tables` have a title, a header, rows of cells, the numbers of the columns of figures, and notes; `picture` is SVG.

    `card` is `convatlas.card/1` for a network of ours; `pictures` are more SVGs, shown after the first.
    """
    jinja = environment()
    return jinja.get_template("network.html.j2").render(
        name=name,
        tables=tables,
        pictures=[markup(svg) for svg in (picture, *pictures)],
        card=card,
        style=style_sheet(),
    )
