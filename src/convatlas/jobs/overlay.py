"""Pictures of explanations: a photo with a class-activation map laid on it, as a JPEG.

Orange where a place speaks for the class, blue where it speaks against it, clear where it says nothing, on one scale for all classes of
an image. What the network was not shown is dark. The photo under the map loses half of its colour, or a red flower would look like
evidence.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance

GRID = 28  # places a side at most on which a map is drawn: finer detail of early stages would be glitter

_FOR, _AGAINST = (255, 120, 0), (0, 110, 255)
_STRONGEST = 0.78  # opacity of the largest value
_UNSEEN = 0.35  # brightness of what the network was not shown


def overlay(
    image: Image.Image, box: tuple[float, float, float, float], map_: np.ndarray, *, scale: float, side: int = 320
) -> bytes:
    """A JPEG of at most `side` pixels. `map_` (h, w) lies on `box` (left, top, right, bottom in pixels of `image`); |map| = `scale` is
    drawn strongest."""
    shrink = min(1.0, side / max(image.size))
    size = (max(1, round(image.width * shrink)), max(1, round(image.height * shrink)))
    photo = image.convert("RGB").resize(size, Image.Resampling.BILINEAR)
    calm = np.asarray(ImageEnhance.Color(photo).enhance(0.5), np.float32)
    left, top, right, bottom = (round(edge * shrink) for edge in box)
    large = Image.fromarray((map_ / scale).astype(np.float32)).resize(
        (max(1, right - left), max(1, bottom - top)), Image.Resampling.BILINEAR
    )
    heat = Image.new("F", size, 0.0)
    heat.paste(large, (left, top))
    shown = Image.new("L", size, 0)
    shown.paste(255, (max(left, 0), max(top, 0), min(right, size[0]), min(bottom, size[1])))
    values = np.asarray(heat, np.float32)[..., None]
    opacity = _STRONGEST * np.abs(values).clip(0, 1) ** 0.8
    colour = np.where(values > 0, np.array(_FOR, np.float32), np.array(_AGAINST, np.float32))
    mixed = calm * (1 - opacity) + colour * opacity
    mixed *= np.where(np.asarray(shown)[..., None] > 0, 1.0, _UNSEEN)
    return jpeg(Image.fromarray(mixed.clip(0, 255).astype(np.uint8)))


def thumbnail(image: Image.Image, side: int) -> bytes:
    """A JPEG of the whole image, at most `side` pixels."""
    small = image.convert("RGB")
    small.thumbnail((side, side), Image.Resampling.BILINEAR)
    return jpeg(small)


def written(folder: Path, name: str, content: bytes) -> str:
    """Puts a picture into FOLDER/assets; its name there, as the JSON beside it has it."""
    (folder / "assets" / name).write_bytes(content)
    return f"assets/{name}"


def jpeg(image: Image.Image) -> bytes:
    """The image as a JPEG file."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=82)
    return buffer.getvalue()
