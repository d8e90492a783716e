"""The verb `ensemble`: several models as one, and what each of them adds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from convatlas.cli.options import Device, DeviceOption
from convatlas.cli.output import Json, percent, progress_bars, put_json, say, table


def ensemble(
    out: Annotated[Path, typer.Argument(help="The model folder to write.")],
    models: Annotated[list[Path], typer.Argument(help="Two model folders or more, or runs of `convatlas train`.")],
    data: Annotated[
        Path | None,
        typer.Option("--data", metavar="DATA", help="Images, as for evaluate, on which to say what each adds."),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option("--split", help="train, val, test or all of them; by default val, else test, else all."),
    ] = None,
    device: DeviceOption = Device.auto,
    json: Json = False,
) -> None:
    """Make one model of several by averaging their probabilities; with --data, say what each of them adds."""
    from convatlas.jobs.ensemble import ensemble as run

    with progress_bars() as progress:
        result = run(models, out, data=data, split=split, device=device.value, progress=progress).json
    if json:
        put_json(result)
        return
    if "table" in result:
        print(gains_text(result))
    print(f"model: {result['bundle']} ({result['forward_passes']} forward passes an image)")
    for path in result.get("unreadable", ()):
        say(f"not counted, unreadable: {path}")


def gains_text(result: dict[str, Any]) -> str:
    """Each member alone, the ensemble up to it, what it adds, and what all of them gain over one."""
    rows = [
        (
            f"{number} {row['model']}",
            _with_interval(row["alone"]["accuracy"], row["alone"]["accuracy_interval"]),
            _with_interval(row["first"]["accuracy"], row["first"]["accuracy_interval"]),
            "–" if row["adds"] is None else _points(row["adds"]),
        )
        for number, row in enumerate(result["table"], start=1)
    ]
    gain = result["gain"]
    verdict = "" if gain["shown"] else ": a difference these images do not show"
    return "\n".join(
        [
            *(f"! {alarm}\n" for alarm in result["alarms"]),
            table(("member", "alone", "ensemble so far", "adds, points"), rows, right=(1, 2, 3)),
            "",
            f"The ensemble is right for {_with_interval(result['accuracy'], result['accuracy_interval'])}, a member for "
            f"{percent(result['mean_member_accuracy'])} on average; gain {_points(gain)} points{verdict}.",
            result["protocol"],
            "",
        ]
    )


def _with_interval(share: float, interval: list[float]) -> str:
    return f"{percent(share)} [{percent(interval[0])}, {percent(interval[1])}]"


def _points(difference: dict[str, Any]) -> str:
    low, high = difference["interval"]
    return f"{100 * difference['difference']:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]"
