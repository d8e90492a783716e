"""What of an image a network gets to see, and which way of making it square suits a folder.

A network sees a square. Cropping keeps the scale and loses what lies outside; squashing loses nothing and distorts; padding loses nothing
and makes everything smaller; several crops lose nothing and cost several times as much. `seen` says where the square lies on an image,
`kept` how much of the image is in it, and `choose` decides for a folder from its aspect ratios alone, read from the files' headers.

The rule was measured with a probe on the last stage of MobileNetV1 0.75, leave-one-out log-loss, on training images: docs/explain.md has
the table. Of images up to 1.5 times as long as wide several crops gain little or nothing (0.097, 0.095, 0.119, 0.128 cropped, 0.096, 0.101,
0.090, 0.099 in three crops; of ants and bees as they are 0.084 and 0.116); of those twice as long they do (0.158, 0.112, 0.238, 0.289, and
0.108, 0.099, 0.123, 0.144), and of those three times as long log-loss falls to 0.9, 0.35, 0.3 and 0.1 of what it was. One crop more than
covers the image is better: where an object lies on a border of two squares, a third shows it whole. Squashing is better than cropping from
2.5 on, but nowhere better than several crops, and padding is only done where asked for.
"""

from __future__ import annotations

import io
import math
import statistics
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from PIL import Image

from convatlas.data.facts import DecodeError
from convatlas.data.preprocessing import MOST_CROPS, Fit, Preprocessing
from convatlas.data.records import Record
from convatlas.data.scan import Dataset
from convatlas.errors import ConvAtlasError

FitMode = Literal["auto", "crop", "pad", "squash", "multicrop"]

LONG = 1.75  # times as long as wide, of half of the images, from which there are several crops: between 1.5 and 2, see above
_SAMPLE = 300  # images whose headers are read
_EDGES = (1.0, 1.1, 1.25, 1.4, 1.6, 2.0, 2.5, 3.0, 4.0)  # of the histogram's bars: 4:3 and 3:2 lie in bars of their own


@dataclass(frozen=True, kw_only=True)
class Framing:
    """How a folder's images are made square, and why."""

    fit: Fit
    crops: int  # squares an image, more than one for "multicrop" only
    asked: FitMode
    own: Fit  # the weights' own
    reason: str  # a sentence for people

    @property
    def told(self) -> bool:
        """Whether it is worth a note: somebody asked, or the weights' own way was left."""
        return self.asked != "auto" or self.fit != self.own


def seen(preprocessing: Preprocessing, width: int, height: int) -> tuple[float, float, float, float]:
    """Left, top, right and bottom, in pixels of an upright image, of the square that becomes the network's input.

    With "pad" it reaches beyond the image; with "multicrop" several squares become it, from end to end. Exact but for the rounding
    of a resize.
    """
    p = preprocessing
    if p.fit in ("squash", "multicrop"):
        return 0.0, 0.0, float(width), float(height)
    side = max(width, height) if p.fit == "pad" else min(width, height) * p.size / p.resize
    left, top = (width - side) / 2, (height - side) / 2
    return left, top, left + side, top + side


def kept(preprocessing: Preprocessing, width: int, height: int) -> float:
    """The share of an image's area, 0 to 1, that the network is shown."""
    left, top, right, bottom = seen(preprocessing, width, height)
    return (min(right, width) - max(left, 0)) * (min(bottom, height) - max(top, 0)) / (width * height)


def choose(asked: str, own: Preprocessing, dataset: Dataset) -> Framing:
    """The way to make this folder's images square: the one `asked` for or, of "auto", the weights' own unless images are long.

    How many crops there are follows from the images, those of a training part where there is one. Raises `ConvAtlasError` for a word that
    is none of these.
    """
    if asked not in get_args(FitMode):
        raise ConvAtlasError(
            f"there is no way {asked!r} to make an image square.", remedy=f"Use {', '.join(get_args(FitMode))}."
        )
    own, given = own.single, asked != "auto"
    looked = [] if given and asked != "multicrop" else header_sizes(dataset, dataset.of("train") or dataset.records)
    middle = statistics.median([aspect(*size) for size in looked] or [1.0])
    fit: Fit = "multicrop" if own.fit == "crop" and middle >= LONG else own.fit
    if given:
        fit = asked  # type: ignore[assignment] - what is left of the words
    crops = min(math.ceil(middle) + 1, MOST_CROPS) if fit == "multicrop" else 1  # which overlap where so many suffice
    reason = f"images are made square by {_words(fit, crops)}, {'as asked for' if given else 'as for these weights'}."
    if not given and fit != own.fit:
        reason = (
            f"half of the images are {middle:.1f} times as long as wide or longer, so they are made square by {_words(fit, crops)}, not by "
            f"{_words('crop')} as for these weights, which would show the network the middle alone (--resize-mode crop)."
        )
    return Framing(fit=fit, crops=crops, asked=fit if given else "auto", own=own.fit, reason=reason)


def _words(fit: Fit, crops: int = 1) -> str:
    several = f"{crops} crops along the longer side, over which is averaged"
    return {"crop": "cropping", "pad": "padding", "squash": "squashing", "multicrop": several}[fit]


def header_sizes(dataset: Dataset, records: Sequence[Record], most: int = _SAMPLE) -> list[tuple[int, int]]:
    """Width and height as stored of at most so many images, evenly spaced; files that do not say are left out. Nothing is decoded."""
    step = max(1, -(-len(records) // most))
    sizes = []
    for record in records[::step]:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter(
                    "ignore"
                )  # about metadata and large images: the pass over the images reports them
                sizes.append(Image.open(io.BytesIO(dataset.read(record))).size)
        except (DecodeError, OSError, ValueError, SyntaxError, Image.DecompressionBombError):
            continue
    return sizes


def aspect(width: int, height: int) -> float:
    """How many times as long as wide, 1 or more."""
    return max(width, height) / min(width, height)


def histogram(sizes: Sequence[tuple[int, int]]) -> list[dict[str, Any]]:
    """Images by aspect ratio: rows of `from`, `to` (None for the last) and `count`."""
    ratios = [aspect(*size) for size in sizes]
    ends = [*_EDGES[1:], None]
    return [
        {"from": low, "to": high, "count": sum(low <= ratio < (high or float("inf")) for ratio in ratios)}
        for low, high in zip(_EDGES, ends, strict=True)
    ]
