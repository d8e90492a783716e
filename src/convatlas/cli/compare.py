"""The verb `compare`: options in, the networks in a table with their front, and with `--out` a page with charts."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated, Any

import typer

from convatlas.cli.output import Json, percent, progress_bars, put_json, say, table
from convatlas.report.words import three


class By(enum.StrEnum):
    mult_adds = "mult_adds"
    parameters = "parameters"
    density = "density"
    latency = "latency"
    throughput = "throughput"
    memory = "memory"
    energy = "energy"


class Where(enum.StrEnum):
    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"
    mps = "mps"


# quantity: its heading, and how many of the heading's unit one of the result's is
_MEASURED = {
    "latency": ("latency, ms", 1e3),
    "throughput": ("images/s", 1.0),
    "memory": ("memory, MB", 1e-6),
    "energy": ("energy, J/image", 1.0),
}


def compare(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            help="Networks, shell patterns such as 'resnet*', or model folders; left out, those with comparable published accuracy."
        ),
    ] = None,
    by: Annotated[
        list[By] | None,
        typer.Option(
            "--by",
            help="The cost to compare with and to order by; the last four are measured here. May be given several times.",
        ),
    ] = None,
    protocol: Annotated[
        str | None,
        typer.Option(
            "--protocol",
            metavar="TEXT",
            help="How accuracies were measured: part of its name, or mixed to take each by its own.",
        ),
    ] = None,
    batch: Annotated[
        int | None,
        typer.Option("--batch", min=1, help="Images at once, of all but latency; by default 8 on a CPU, 64 on a GPU."),
    ] = None,
    device: Annotated[
        Where, typer.Option("--device", help="Where to measure; auto takes a GPU if there is one.")
    ] = Where.auto,
    repeats: Annotated[
        int, typer.Option("--repeats", min=1, help="Rounds of measuring, the networks taking turns.")
    ] = 5,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", metavar="FOLDER", help="Where compare.html, compare.json and the charts go; nowhere by default."
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Compare networks and your own models: accuracy against mult-adds, parameters, or what they cost on this machine."""
    from convatlas.jobs.compare import compare as run

    with progress_bars() as progress:
        result = run(
            names or (),
            by=[quantity.value for quantity in by or [By.mult_adds]],
            protocol=protocol,
            batch=batch,
            device=device.value,
            repeats=repeats,
            out=out,
            progress=progress,
        ).json
    for note in result["notes"]:
        say(f"note: {note}")
    if json:
        put_json(result)
    else:
        print(compare_text(result))


def compare_text(result: dict[str, Any]) -> str:
    """The answer, the table with the front marked, and what could not be compared."""
    front = result["fronts"].get(result["cost"], [])
    measured = [
        q for q in _MEASURED if any(row[q] is not None and row[q]["value"] is not None for row in result["networks"])
    ]
    header = ["  network", "top-1", "%/M par.", "parameters", "mult-adds", *(_MEASURED[q][0] for q in measured)]
    rows = [
        [
            f"{'*' if row['name'] in front else ' '} {row['name']}",
            percent(row["accuracy"]),
            three(row["density"]),
            f"{row['parameters']:,}",
            f"{row['mult_adds'] / 1e6:,.1f} M",
            *(_figure(row[q], _MEASURED[q][1]) for q in measured),
        ]
        for row in result["networks"]
    ]
    if result["protocol"] is None:
        header.append("measured how")
        for cells, row in zip(rows, result["networks"], strict=True):
            cells.append(row["protocol"] or "–")
    lines = [result["answer"], "", table(header, rows, right=range(1, 5 + len(measured)))]
    lines += ["", *map(pair_text, result["pairs"])] if result["pairs"] else []
    left_out = result["left_out"]
    if left_out:
        lines += ["", f"without an accuracy by this protocol: {len(left_out)}"]
        lines += [f"  {row['name']}: {row['reason']}" for row in left_out[:5]]
        lines += [f"  … and {len(left_out) - 5} more (--json lists all)"] if left_out[5:] else []
    if result["report"]:
        lines += ["", f"page:   {result['report']}", f"charts: {result['folder']}/charts"]
    return "\n".join(lines)


def pair_text(pair: dict[str, Any]) -> str:
    """Two classifiers on the same images."""
    low, high = (f"{100 * bound:+.1f}" for bound in pair["difference_interval"])
    verdict = "" if pair["shown"] else "; no difference shown"
    return (
        f"{pair['better']} against {pair['other']}: {100 * pair['difference']:+.1f} points [{low}, {high}] on the same "
        f"{pair['images']:,} images{verdict}"
    )


def _figure(found: dict[str, Any] | None, factor: float) -> str:
    return "–" if found is None or found["value"] is None else three(factor * found["value"])
