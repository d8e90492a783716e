"""The demonstration: scikit-learn's handwritten digits as PNG folders, and the very same `fit` on them.

1,797 digits of 8×8 pixels: nothing like the photos the embedded backbone was trained on, which is what the stage ladder then shows.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from convatlas.bundle.folder import whole_folder
from convatlas.jobs.fit import FitResult, fit
from convatlas.jobs.images import Progress, silent

_SIDE = 32  # the 8×8 digits are enlarged, so that a person can look at them


def demo(out: str | Path = "demo", *, progress: Progress = silent) -> FitResult:
    """Writes `out`/digits and fits a classifier for them into `out`/classifier with the embedded backbone."""
    folder = Path(out).expanduser()
    write_digits(folder / "digits")
    return fit(folder / "digits", weights="embedded", out=folder / "classifier", progress=progress)


def write_digits(folder: Path) -> None:
    """scikit-learn's digits as `folder`/{train,test}/{digit}/*.png, two thirds to train; which goes where is fixed.

    A folder that is there already is left as it is: it was written whole.
    """
    if folder.exists():
        return
    from sklearn.datasets import load_digits

    digits: Any = load_digits()
    order = np.random.default_rng(0).permutation(len(digits.target))
    test = set(order[: len(order) // 3].tolist())
    with whole_folder(folder, mark=False) as new:
        for i, (pixels, label) in enumerate(zip(digits.images, digits.target, strict=True)):
            place = new / ("test" if i in test else "train") / str(label)
            place.mkdir(parents=True, exist_ok=True)
            image = Image.fromarray((pixels * (255 / 16)).round().astype(np.uint8))
            image.resize((_SIDE, _SIDE), Image.Resampling.BICUBIC).save(place / f"digit-{i:04d}.png")
