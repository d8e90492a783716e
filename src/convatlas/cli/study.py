"""The verb `study`: what the lecture and the papers claim, computed."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated, Any

import typer

from convatlas.cli.output import progress_bars, put_json, table


class Study(enum.StrEnum):
    lecture = "lecture"


def study(
    name: Annotated[Study, typer.Argument(help="lecture: every figure of the slides beside the same figure computed.")],
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FOLDER", help="Where the page, the figures and the JSON go.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Machine-readable output on stdout.")] = False,
) -> None:
    """Compute what the lecture claims, and write it as a page to teach from, with its figures as PNG and SVG."""
    from convatlas.jobs.study import study_lecture

    with progress_bars() as progress:
        result = study_lecture(out or Path(name.value), progress=progress)
    if json:
        put_json(result.json)
    else:
        print(lecture_text(result.json))
        print(f"\npage:    {result.folder / 'lecture.html'}\nfigures: {result.folder / 'figures'}")


def lecture_text(result: dict[str, Any]) -> str:
    """The verdicts counted, and what the slides have wrong."""
    claims = {claim["id"]: claim for claim in result["claims"]}
    counts = ", ".join(f"{number} {verdict}" for verdict, number in result["verdicts"].items())
    rows = [
        (claim["section"], claim["what"], ", ".join(map(str, claim["lines"])), claim["slide_value"], claim["computed"])
        for claim in (claims[id] for id in result["errata"])
    ]
    return (
        f"{result['title']}: {counts}\n\n{table(('', 'figure', 'line', 'the slide', 'in truth'), rows, right=(2, 3))}"
    )
