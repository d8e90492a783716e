"""The check of a data set, remembering what it learned of each file, so that neither a second check nor a fit decodes it again for that."""

from __future__ import annotations

from pathlib import Path

from convatlas import data
from convatlas.jobs.images import KnownFacts, Progress, silent


def check(path: str | Path, *, progress: Progress = silent) -> data.CheckResult:
    """Decodes every file at `path` (a folder, a zip or tar, a CSV) and names what is wrong; nothing is changed.

    Raises `ConvAtlasError` for a path that holds no labelled images.
    """
    with KnownFacts() as known:
        return data.check(
            path, progress=lambda done, total: progress("check", done, total), known=known, found=known.learn
        )
