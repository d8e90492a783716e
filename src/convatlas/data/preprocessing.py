"""From a decoded image to the square of bytes a network is fed, or several: the same step in training and in serving.

`fit="crop"` is torchvision's `Resize(resize)` then `CenterCrop(size)` on PIL images, which is also timm's evaluation
transform, equal pixel for pixel; its two roundings (the long side truncated, the crop's corner rounded half to even) are
kept because weights were measured with them. Only images over 256 times as long as wide are cut first, to save memory.

`fit="multicrop"` is for long images: squares along the longer side, one under the other in one array of bytes; of an image too long for so
many squares, equal parts, squashed. Whoever runs a network on
it takes them apart (`zoo.inference.apart`) and averages what comes out, features as well as scores, which for a linear classifier is the
same.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from convatlas.data.colour import Colour
from convatlas.errors import ConvAtlasError

Fit = Literal["crop", "pad", "squash", "multicrop"]
Box = tuple[int, int, int, int]  # left, top, right and bottom, in pixels of an image
Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos", "box", "hamming"]

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

MOST_CROPS = 8
_FITS = get_args(Fit)
_INTERPOLATIONS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
    "box": Image.Resampling.BOX,
    "hamming": Image.Resampling.HAMMING,
}
# Resizing the short side of a 1 × 60,000 image to 256 makes four billion pixels, of which the crop keeps 50,176.
_MOST_ASPECT = 256


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """How an image becomes a network's input. Part of every model folder.

    Raises `ConvAtlasError` for values that mean nothing.
    """

    size: int = 224  # of the square, pixels
    resize: int = 256  # what the short side becomes before the crop; "crop" only
    fit: Fit = "crop"  # crop the centre, pad (letterbox) on the background, squash to a square, or several crops
    crops: int = 1  # along the longer side, evenly spaced from end to end; more than one for "multicrop" only
    interpolation: Interpolation = "bicubic"
    mean: tuple[float, ...] = IMAGENET_MEAN  # subtracted after scaling to 0..1
    std: tuple[float, ...] = IMAGENET_STD
    channels: int = 3  # 1: grey
    background: Colour = (255, 255, 255)  # under transparency, and around the image with "pad"

    def __post_init__(self) -> None:
        for name in ("mean", "std", "background"):  # lists, as JSON brings them
            object.__setattr__(self, name, tuple(getattr(self, name)))
        for name in ("size", "resize"):
            if not isinstance(getattr(self, name), int) or not 1 <= getattr(self, name) <= 8192:
                raise ConvAtlasError(f"{name}={getattr(self, name)!r} is not a number of pixels from 1 to 8192.")
        if self.fit not in _FITS:
            raise ConvAtlasError(f"unknown fit {self.fit!r}.", remedy=f"Use one of {', '.join(_FITS)}.")
        least, most = (2, MOST_CROPS) if self.fit == "multicrop" else (1, 1)
        if not isinstance(self.crops, int) or not least <= self.crops <= most:
            raise ConvAtlasError(
                f"crops={self.crops!r} with the fit {self.fit!r}.",
                remedy=f"Use 2 to {MOST_CROPS} for multicrop, else 1.",
            )
        if self.interpolation not in _INTERPOLATIONS:
            raise ConvAtlasError(
                f"unknown interpolation {self.interpolation!r}.", remedy=f"Use one of {', '.join(_INTERPOLATIONS)}."
            )
        if self.channels not in (1, 3):
            raise ConvAtlasError(f"channels={self.channels!r}: images have 1 (grey) or 3 (colour).")
        for name in ("mean", "std"):
            if len(getattr(self, name)) != self.channels:
                raise ConvAtlasError(
                    f"{name}={getattr(self, name)} needs one value for each of {self.channels} channels."
                )
        if not all(value > 0 for value in self.std):
            raise ConvAtlasError(f"std={self.std} must be positive.")
        if len(self.background) != 3 or not all(0 <= value <= 255 for value in self.background):
            raise ConvAtlasError(f"background={self.background} is not a colour of three numbers from 0 to 255.")

    def pixels(self, image: Image.Image | NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The network's input before scaling, uint8 (crops · size, size, channels), from an RGB (or grey) image of any size."""
        if not isinstance(image, Image.Image):
            image = Image.fromarray(image)
        mode = "RGB" if self.channels == 3 else "L"
        if image.mode != mode:
            image = image.convert(mode)
        if self.fit == "multicrop":
            return np.concatenate(self.cut(image, crop_boxes(*image.size, self.crops)))
        square = {"crop": self._crop, "pad": self._pad, "squash": self._squash}[self.fit](image)
        return np.array(square).reshape(self.size, self.size, self.channels)

    def cut(self, image: Image.Image, boxes: Sequence[Box]) -> list[NDArray[np.uint8]]:
        """These parts of an image, each resized to (size, size, channels) uint8.

        Each is cut out before it is resized, which but for a pixel at its border is the same and never makes a large image.
        """
        alone = replace(self, fit="squash", crops=1)
        return [alone.pixels(image.crop(box)) for box in boxes]

    @property
    def single(self) -> Preprocessing:
        """For what needs one square: the middle one where this makes several, else this."""
        return replace(self, fit="crop", crops=1) if self.fit == "multicrop" else self

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of what `pixels` gives: (height, width, channels)."""
        return self.crops * self.size, self.size, self.channels

    def to_json(self) -> dict[str, Any]:
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Preprocessing:
        """The inverse of `to_json`. Raises `ConvAtlasError` for a field it does not know: it would change the pixels."""
        unknown = sorted(set(values) - {field.name for field in fields(cls)})
        if unknown:
            raise ConvAtlasError(
                f"unknown preprocessing {', '.join(unknown)}.", remedy="It may come from a newer version of ConvAtlas."
            )
        return cls(**values)

    def _crop(self, image: Image.Image) -> Image.Image:
        width, height = image.size
        if max(image.size) > _MOST_ASPECT * min(image.size):
            image = self._shorten(image)
            width, height = image.size
        if width <= height:
            wide, high = self.resize, int(self.resize * height / width)
        else:
            wide, high = int(self.resize * width / height), self.resize
        if min(wide, high) < self.size:
            return self._crop_with_border(image, wide, high)
        left, top = round((wide - self.size) / 2.0), round((high - self.size) / 2.0)
        # Resizing only what the crop keeps (Pillow's `box`) would save a little and change a pixel here and there: its
        # coordinates are 32-bit, and which of rows and columns it resizes first depends on the shape.
        resized = image.resize((wide, high), _INTERPOLATIONS[self.interpolation])
        return resized.crop((left, top, left + self.size, top + self.size))

    def _shorten(self, image: Image.Image) -> Image.Image:
        """The middle of an image too long to be resized whole: what the crop will keep, and a little more."""
        width, height = image.size
        keep = math.ceil(min(width, height) * (self.size + self.resize) / self.resize) + 8
        left, top = max(0, (width - keep) // 2), max(0, (height - keep) // 2)
        return image.crop((left, top, width - left, height - top))

    def _crop_with_border(self, image: Image.Image, wide: int, high: int) -> Image.Image:
        """The crop is larger than the resized image: torchvision centres it on black."""
        image = image.resize((wide, high), _INTERPOLATIONS[self.interpolation])
        left, top = max(0, (self.size - wide) // 2), max(0, (self.size - high) // 2)
        ground = Image.new(image.mode, (max(wide, self.size), max(high, self.size)))
        ground.paste(image, (left, top))
        left, top = round((ground.width - self.size) / 2.0), round((ground.height - self.size) / 2.0)
        return ground.crop((left, top, left + self.size, top + self.size))

    def _pad(self, image: Image.Image) -> Image.Image:
        scale = self.size / max(image.size)
        wide, high = (max(1, round(side * scale)) for side in image.size)
        ground = Image.new("RGB", (self.size, self.size), self.background).convert(image.mode)
        resized = image.resize((wide, high), _INTERPOLATIONS[self.interpolation])
        ground.paste(resized, ((self.size - wide) // 2, (self.size - high) // 2))
        return ground

    def _squash(self, image: Image.Image) -> Image.Image:
        return image.resize((self.size, self.size), _INTERPOLATIONS[self.interpolation])


def square_boxes(width: int, height: int, number: int) -> list[Box]:
    """So many squares along an image's longer side, evenly spaced from end to end: left, centre and right, or top, middle and bottom."""
    return _boxes(width, height, number, min(width, height))


def crop_boxes(width: int, height: int, number: int) -> list[Box]:
    """The same without gaps: where so many squares do not reach from end to end, each is as long as it must be."""
    return _boxes(width, height, number, max(min(width, height), math.ceil(max(width, height) / number)))


def _boxes(width: int, height: int, number: int, length: int) -> list[Box]:
    wide, high = (length, height) if width >= height else (width, length)
    starts = [(round(share * (width - wide)), round(share * (height - high))) for share in np.linspace(0, 1, number)]
    return [(left, top, left + wide, top + high) for left, top in starts]
