"""Options that several verbs have."""

from __future__ import annotations

import enum
import math
from typing import Annotated

import typer


class Device(enum.StrEnum):
    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"
    mps = "mps"


def share(text: str) -> float:
    """A share as people write it: 5% or 0.05."""
    try:
        found = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        found = math.nan
    if not 0 < found < 1:
        raise typer.BadParameter(f"{text!r} is not a share between 0 and 1; write 5% or 0.05.")
    return found


DeviceOption = Annotated[Device, typer.Option("--device", help="Where to compute; auto takes a GPU if there is one.")]
Backbone = Annotated[
    str | None, typer.Option("--backbone", metavar="NAME", help="The network (`convatlas list` shows all).")
]
Weights = Annotated[
    str | None,
    typer.Option(
        "--weights",
        metavar="FILE_OR_TAG",
        help="Its weights: a file, a hub folder, or a tag (`convatlas list --weights` shows them).",
    ),
]
ViewsOption = Annotated[
    str,
    typer.Option(
        "--views",
        metavar="NAME",
        help="What of an image is shown, probabilities averaged: centre, flip, ten, 144, along, dense or dense:SIDE,SIDE.",
    ),
]
FalseReject = Annotated[
    float | None,
    typer.Option(
        "--false-reject",
        metavar="RATE",
        parser=share,
        help="Call images unlike the training images none of these; of known classes that befalls this share, as 5%.",
    ),
]
Sets = Annotated[
    float | None,
    typer.Option(
        "--sets",
        metavar="RATE",
        parser=share,
        help="Give the classes among which the true one is this often, as 90%.",
    ),
]
Processes = Annotated[
    int, typer.Option("--processes", metavar="N", min=1, help="Work in N processes, on GPUs each with its own.")
]
Nodes = Annotated[
    int, typer.Option("--nodes", metavar="N", min=1, help="Machines, on each of which this command is given.")
]
Download = Annotated[bool, typer.Option("--download", help="Allow fetching published weights.")]
