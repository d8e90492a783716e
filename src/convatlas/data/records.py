"""One labelled file of a data set."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Split = Literal["train", "val", "test", "all"]


@dataclass(frozen=True, kw_only=True)
class Record:
    """Where one image is, what it is said to show, and which part of the set it belongs to."""

    path: str  # unique in its data set, "/"-separated, relative to the root (inside the archive for a zip or tar), printable
    label: str
    split: Split  # "all" where the data set has no splits
    group: str | None = None  # what must stay on one side of a split, such as a patient; from a CSV
