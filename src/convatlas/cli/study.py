"""The verb `study`: what the lecture and the papers claim, computed or tried."""

from __future__ import annotations

import enum
import textwrap
from pathlib import Path
from typing import Annotated, Any

import typer

from convatlas.cli.options import Device, DeviceOption
from convatlas.cli.output import progress_bars, put_json, say, table


class Study(enum.StrEnum):
    lecture = "lecture"
    degradation = "degradation"
    identity = "identity"
    very_deep = "very-deep"
    filters = "filters"
    inception = "inception"
    auxiliary = "auxiliary"
    activations = "activations"
    ablations = "ablations"
    ensemble = "ensemble"
    quadrants = "quadrants"
    two_processes = "two-processes"


def study(
    name: Annotated[
        Study,
        typer.Argument(
            help="lecture: every figure of the slides beside the same figure computed. The others are experiments, told in docs/studies.md."
        ),
    ],
    data: Annotated[
        Path | None,
        typer.Argument(
            help="For what is trained: a folder (train/class/*, test/class/*), or a zip or tar of one; for quadrants a list of cases."
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FOLDER", help="Where page, chart and JSON go; by default ./NAME.")
    ] = None,
    runs: Annotated[
        Path | None,
        typer.Option("--runs", metavar="FOLDER", help="Where the trainings are, if not in --out; studies may share."),
    ] = None,
    epochs: Annotated[int | None, typer.Option("--epochs", metavar="N", min=1, help="Of each training.")] = None,
    images: Annotated[
        int | None, typer.Option("--images", metavar="N", min=2, help="To train on, the first of each class.")
    ] = None,
    seeds: Annotated[
        int | None, typer.Option("--seeds", metavar="K", min=1, help="Trainings of each network; of quadrants, splits.")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="FIELD=VALUE", help="Change every training, as optim.warmup_epochs=5."),
    ] = None,
    full: Annotated[bool, typer.Option("--full", help="The full length, for a GPU, not that of an hour.")] = False,
    partial: Annotated[
        bool, typer.Option("--partial", help="Train nothing; tell what the runs show, finished or not.")
    ] = False,
    device: DeviceOption = Device.auto,
    json: Annotated[bool, typer.Option("--json", help="Machine-readable output on stdout.")] = False,
) -> None:
    """Compute or try what the lecture claims, and write it as a page to teach from, with its charts as PNG and SVG.

    Stopped by Ctrl-C or killed, the same command goes on where it was.
    """
    from convatlas.jobs.study import study as run_study

    with progress_bars() as progress:
        result = run_study(
            name.value,
            data,
            out=out,
            runs=runs,
            epochs=epochs,
            images=images,
            seeds=seeds,
            settings=settings or (),
            full=full,
            partial=partial,
            device=device.value,
            progress=progress,
            say=lambda message: say(f"note: {message}"),
        )
    if json:
        put_json(result.json)
    elif name is Study.lecture:
        print(lecture_text(result.json))
        print(f"\npage:    {result.folder / 'lecture.html'}\nfigures: {result.folder / 'figures'}")
    else:
        print(study_text(result.json))
        print(f"\npage:  {result.folder / 'study.html'}\nchart: {result.folder / 'chart.png'}")


def study_text(result: dict[str, Any]) -> str:
    """The paragraph, whether it is shortened or changed, and the table."""
    from convatlas.report.study_page import shown

    columns = result["columns"]
    rows = [[shown(cell, column["kind"]) for cell, column in zip(row, columns, strict=True)] for row in result["rows"]]
    right = [i for i, column in enumerate(columns) if column["kind"] != "text"]
    told = [result["title"], result["paragraph"]]
    if result["shortened"]:
        told.append(f"Shortened. {result['shortened']}")
    if result.get("changed"):
        told.append(f"Changed. {result['changed']}")
    told = [textwrap.fill(part, 110) for part in told]
    return "\n\n".join([*told, table([column["name"] for column in columns], rows, right=right)])


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
