"""Options that several verbs have."""

from __future__ import annotations

import enum
from typing import Annotated

import typer


class Device(enum.StrEnum):
    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"
    mps = "mps"


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
Download = Annotated[bool, typer.Option("--download", help="Allow fetching published weights.")]
