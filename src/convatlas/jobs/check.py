"""The check of a data set, remembering what it learned of each file, so that a `fit` or a second check decodes nothing twice."""

from __future__ import annotations

from pathlib import Path

from convatlas.data import CheckResult
from convatlas.data import check as check_images
from convatlas.jobs.images import Progress, silent


def check(path: str | Path, *, progress: Progress = silent) -> CheckResult:
    """Decodes every file at `path` (a folder, a zip, a CSV) and names what is wrong; nothing is changed.

    Raises `ConvAtlasError` for a path that holds no labelled images.
    """
    return check_images(path, progress=lambda done, total: progress("check", done, total))
