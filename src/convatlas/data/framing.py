"""What of an image a network gets to see, and which way of making it square suits a folder.

A network sees a square. Cropping keeps the scale and loses what lies outside; squashing loses nothing and distorts; padding loses nothing
and makes everything smaller. `seen` says where the square lies on an image, `kept` how much of the image is in it, and `choose` decides
for a folder from its aspect ratios alone, read from the files' headers.

The rule was measured with a probe on the last stage of MobileNetV1 0.75, leave-one-out. Ants and bees as they are (half of them 1.35 times
as long as wide or longer; 120 photos): log-loss 0.091 cropped, 0.113 squashed, 0.129 padded, although the crop shows 57 % of the area. The
same objects anywhere on a grey strip 1.5, 2, 2.5, 3 and 4 times as long as wide: 0.102, 0.210, 0.328, 0.378, 0.526 cropped; 0.132, 0.237,
0.328, 0.320, 0.514 squashed; 0.176, 0.274, 0.310, 0.406, 0.549 padded. Twelve flowers (144 photos) on such strips: 0.156, 0.201, 0.552,
1.257, 1.702 cropped; 0.166, 0.206, 0.257, 0.277, 0.591 squashed; padded worse than squashed throughout. Bands of the ants and bees, full
of content, 2 and 3 times as wide as high: 0.127 and 0.276 cropped, 0.124 and 0.188 squashed. So up to 2 cropping is at least as good, from
2.5 on squashing is, and padding is only done where asked for.
"""

from __future__ import annotations

import io
import statistics
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from PIL import Image

from convatlas.data.facts import DecodeError
from convatlas.data.preprocessing import Fit, Preprocessing
from convatlas.data.records import Record
from convatlas.data.scan import Dataset
from convatlas.errors import ConvAtlasError

FitMode = Literal["auto", "crop", "pad", "squash"]

LONG = (
    2.25  # times as long as wide, of half of the images, from which squashing is chosen: between 2 and 2.5, see above
)
_WORDS = {"crop": "cropping", "pad": "padding", "squash": "squashing"}
_SAMPLE = 300  # images whose headers are read
_EDGES = (1.0, 1.1, 1.25, 1.4, 1.6, 2.0, 2.5, 3.0, 4.0)  # of the histogram's bars: 4:3 and 3:2 lie in bars of their own


@dataclass(frozen=True, kw_only=True)
class Framing:
    """How a folder's images are made square, and why."""

    fit: Fit
    asked: FitMode
    own: Fit  # the weights' own
    reason: str  # a sentence for people

    @property
    def told(self) -> bool:
        """Whether it is worth a note: somebody asked, or the weights' own way was left."""
        return self.asked != "auto" or self.fit != self.own


def seen(preprocessing: Preprocessing, width: int, height: int) -> tuple[float, float, float, float]:
    """Left, top, right and bottom, in pixels of an upright image, of the square that becomes the network's input.

    With "pad" it reaches beyond the image. Exact but for the rounding of a resize.
    """
    p = preprocessing
    if p.fit == "squash":
        return 0.0, 0.0, float(width), float(height)
    side = max(width, height) if p.fit == "pad" else min(width, height) * p.size / p.resize
    left, top = (width - side) / 2, (height - side) / 2
    return left, top, left + side, top + side


def kept(preprocessing: Preprocessing, width: int, height: int) -> float:
    """The share of an image's area, 0 to 1, that the network is shown."""
    left, top, right, bottom = seen(preprocessing, width, height)
    return (min(right, width) - max(left, 0)) * (min(bottom, height) - max(top, 0)) / (width * height)


def choose(asked: str, own: Preprocessing, dataset: Dataset) -> Framing:
    """The way to make this folder's images square: the one `asked` for or, of "auto", the weights' own unless images are very long.

    Raises `ConvAtlasError` for a word that is none of auto, crop, pad, squash.
    """
    if asked not in get_args(FitMode):
        raise ConvAtlasError(
            f"there is no way {asked!r} to make an image square.", remedy=f"Use {', '.join(get_args(FitMode))}."
        )
    if asked != "auto":
        fit: Fit = asked  # type: ignore[assignment] - what is left of the four
        return Framing(
            fit=fit, asked=fit, own=own.fit, reason=f"images are made square by {_WORDS[fit]}, as asked for."
        )
    aspects = [aspect(*size) for size in header_sizes(dataset, dataset.records)]
    middle = statistics.median(aspects) if aspects else 1.0
    if own.fit != "crop" or middle < LONG:
        reason = f"images are made square by {_WORDS[own.fit]}, as for these weights."
        return Framing(fit=own.fit, asked="auto", own=own.fit, reason=reason)
    reason = (
        f"half of the images are {middle:.1f} times as long as wide or longer, so they are made square by {_WORDS['squash']}, not by "
        f"{_WORDS['crop']} as for these weights, which would show the network the middle alone (--resize-mode crop)."
    )
    return Framing(fit="squash", asked="auto", own="crop", reason=reason)


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
