"""What a network is shown of an image at test time: one square, or many whose probabilities are averaged, as the papers' figures have it.

`ten` is AlexNet's (Krizhevsky et al. 2012, section 4.1): the corners and the centre of the central square, mirrored. `144` is GoogLeNet's
(Szegedy et al. Going deeper with convolutions. 2014, section 7, https://arxiv.org/abs/1409.4842): 4 scales, 3 squares of each, of each
square its corners, its centre and the whole of it, mirrored. `dense` is VGG's (Simonyan, Zisserman. 2014, section 3.2,
https://arxiv.org/abs/1409.1556): the network slides over the whole image and its mirror. Papers' pixels are of networks that see 224; for
others they are scaled in proportion. `along` is for long images: squares along the longer side that leave nothing out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from convatlas.data.preprocessing import Preprocessing, crop_boxes, square_boxes
from convatlas.errors import ConvAtlasError

Pixels = NDArray[np.uint8]  # (h, w, channels)

_WHAT = {
    "centre": "the model's own preprocessing",
    "flip": "the model's own preprocessing and its mirror",
    "ten": "four corners and the centre of the central square, mirrored",
    "144": "4 scales, 3 squares of each, of each the corners, the centre and the whole, mirrored",
    "along": "of images over 5:4 squares along the longer side that cover it, at most 8; of others the model's own preprocessing",
    "dense": "the network slid over the whole image and its mirror, scores averaged over places",
}
_PASSES = {"centre": 1, "flip": 2, "ten": 10, "144": 144, "along": 8}
_PAPER = 224  # what the papers' networks see, pixels
_SCALES = (256, 288, 320, 352)  # GoogLeNet's, for that; the first is AlexNet's square too
_ALONG = 1.25  # times as long as wide, from which `along` shows more than one square: 4:3 is
_LONGEST = 8  # times as long as wide: longer images are cut to their middle for `dense`, or memory would have no end


@dataclass(frozen=True)
class Views:
    """A way of looking at images, by its name: centre, flip, ten, 144, dense, or `dense:224,256,288`, each number a shorter side.

    Raises `ConvAtlasError` for a name that is none.
    """

    name: str = "centre"

    def __post_init__(self) -> None:
        kind, colon, sides = self.name.partition(":")
        if kind not in _WHAT or (colon and kind != "dense"):
            close = get_close_matches(kind, _WHAT, n=1)
            hint = f"Did you mean {close[0]!r}? " if close and close[0] != kind else ""
            raise ConvAtlasError(
                f"there are no views {self.name!r}.",
                remedy=f"{hint}Use {', '.join(_WHAT)}, or dense with its sides, as dense:224,256,288.",
            )
        if colon and not all(side.isascii() and side.isdigit() and 1 <= int(side) <= 8192 for side in sides.split(",")):
            raise ConvAtlasError(
                f"{self.name!r}: {sides!r} are not shorter sides of 1 to 8192 pixels.",
                remedy="Give them as dense:224,256,288.",
            )

    @property
    def dense(self) -> bool:
        """Whether the network must slide: its views are larger than what it was made for."""
        return self.name.startswith("dense")

    @cached_property
    def sides(self) -> tuple[int, ...]:
        """The shorter sides asked for with `dense:`, pixels; empty where none were."""
        return tuple(int(side) for side in self.name.partition(":")[2].split(",") if side)

    @property
    def own(self) -> bool:
        """Whether they are what the model's own preprocessing makes, be that one square or several; all others are of single squares."""
        return self.name in ("centre", "flip")

    @property
    def forward_passes(self) -> int:
        """What one image costs a model of one square, with `along` at most: views of `dense` are of the whole image, all others of the
        network's own size."""
        return 2 * max(1, len(self.sides)) if self.dense else _PASSES[self.name]

    @property
    def what(self) -> str:
        """The views in words."""
        return _WHAT["dense" if self.dense else self.name]

    def require(self, preprocessing: Preprocessing) -> None:
        """Raises `ConvAtlasError` for a side below the network's own size, on which it was never made to work."""
        for side in self.sides:
            if side < preprocessing.size:
                raise ConvAtlasError(
                    f"{self.name}: a shorter side of {side} pixels is less than the {preprocessing.size} that the network sees.",
                    remedy=f"Give sides of {preprocessing.size} or more.",
                )

    def of(self, image: Image.Image, preprocessing: Preprocessing) -> list[Pixels]:
        """The views of a decoded image of any size; mirrors follow all they mirror. Of the network's size but for `dense`."""
        if self.name == "centre":
            return [preprocessing.pixels(image)]
        p = preprocessing.single
        if self.name == "along":
            ratio = max(image.size) / min(image.size)
            number = min(_PASSES["along"], math.ceil(ratio))
            return [preprocessing.pixels(image)] if ratio < _ALONG else p.cut(image, crop_boxes(*image.size, number))
        if self.name == "flip":
            seen = [preprocessing.pixels(image)]
        elif self.name == "ten":
            side = square_side(p)
            seen = crops(replace(p, size=side, resize=side).pixels(image), p.size)
        elif self.name == "144":
            three = square_boxes(*image.size, 3)
            seen = [
                view
                for scale in scales(p.size)
                for square in replace(p, size=scale).cut(image, three)
                for view in _six(square, p)
            ]
        else:
            self.require(p)
            seen = [whole(image, side, p) for side in self.sides or (native_side(p),)]
        return seen + [np.ascontiguousarray(view[:, ::-1]) for view in seen]


def square_side(p: Preprocessing) -> int:
    """The side of the square whose corners `ten` takes: what the model resizes to, or 256 for 224 where that leaves no corners."""
    return p.resize if p.fit == "crop" and p.resize > p.size else scales(p.size)[0]


def scales(size: int) -> tuple[int, ...]:
    """The four shorter sides of GoogLeNet's views, for a network that sees `size` pixels."""
    return tuple(round(size * side / _PAPER) for side in _SCALES)


def native_side(p: Preprocessing) -> int:
    """The shorter side at which `dense` shows an image unless told otherwise: the model's own scale."""
    return max(p.size, p.resize) if p.fit == "crop" else p.size


def crops(square: Pixels, size: int) -> list[Pixels]:
    """The four corners and the centre, `size` pixels each way, of a square that is no smaller."""
    end = len(square) - size
    middle = round(end / 2.0)
    corners = ((0, 0), (0, end), (end, 0), (end, end), (middle, middle))
    return [square[top : top + size, left : left + size] for top, left in corners]


def whole(image: Image.Image, side: int, p: Preprocessing) -> Pixels:
    """All of an image with its shorter side `side` pixels; where the model pads or squashes, a square of that side."""
    if p.fit != "crop":
        return replace(p, size=side).pixels(image)
    image = _middle(image.convert("RGB" if p.channels == 3 else "L"))
    short = min(image.size)
    size = (int(side * image.width / short), int(side * image.height / short))
    resized = image.resize(size, Image.Resampling[p.interpolation.upper()])
    return np.array(resized).reshape(size[1], size[0], p.channels)


def _middle(image: Image.Image) -> Image.Image:
    longest = _LONGEST * min(image.size)
    left, top = max(0, (image.width - longest) // 2), max(0, (image.height - longest) // 2)
    return image.crop((left, top, image.width - left, image.height - top))


def _six(square: Pixels, p: Preprocessing) -> list[Pixels]:
    image = Image.fromarray(square.squeeze(2) if p.channels == 1 else square)
    return [*crops(square, p.size), replace(p, fit="squash").pixels(image)]
