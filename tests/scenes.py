"""Pictures as rich as photos, and what becomes of pictures on their way through programs and networks."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
from PIL import Image

from convatlas.data import decode


def scene(number: int, side: int = 160, tint: int = 0) -> Image.Image:
    """A picture with structure of every size, as photos have; no two are alike. `tint` is the channel that is strongest."""
    generator = np.random.default_rng(number)
    total = np.zeros((side, side, 3))
    for size in (2, 4, 8, 16, 32):
        layer = Image.fromarray(generator.integers(0, 256, (size, size, 3)).astype(np.uint8))
        total += np.asarray(layer.resize((side, side), Image.Resampling.BICUBIC)) / size
    total -= total.min()
    total *= np.eye(3)[tint] + 1
    return Image.fromarray((255 * total / total.max()).astype(np.uint8))


def saved(image: Image.Image, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return decode(buffer.getvalue())[0]


def brighter(image: Image.Image) -> Image.Image:
    return Image.fromarray((np.asarray(image).astype(float) * 1.15).clip(0, 255).astype(np.uint8))


AGAIN: dict[str, Callable[[Image.Image], Image.Image]] = {
    "saved badly": lambda image: saved(image, 30),
    "made smaller": lambda image: saved(
        image.resize((image.width * 9 // 16, image.height * 9 // 16), Image.Resampling.BICUBIC), 80
    ),
    "cropped": lambda image: image.crop((image.width // 40, 0, image.width, image.height - image.width // 40)),
    "brightened": brighter,
}
