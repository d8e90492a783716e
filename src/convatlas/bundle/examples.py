"""The synthetic images stored with a model, by whose logits it is recognised wherever it is loaded.

Made files, never a user's photos, one for each thing that readers do differently: a JPEG with colour subsampling, one that EXIF says to
turn, a PNG with transparency, and one of 16 bits. So a decoder or a resize that differs shows, not only other arithmetic.
"""

from __future__ import annotations

import io
from functools import cache

import numpy as np
from PIL import Image


@cache
def example_images() -> dict[str, bytes]:
    """`{file name: bytes}` of the four images, the same at every call with one version of Pillow."""
    generator = np.random.default_rng(1998)
    orientation = Image.Exif()
    orientation[0x0112] = 6  # to be turned by 90 degrees
    alpha = np.linspace(0, 255, 120, dtype=np.uint8)[None, :].repeat(160, axis=0)
    return {
        "jpeg.jpg": _encoded(Image.fromarray(_pattern(generator, 200, 150)), "JPEG", quality=85),
        "turned.jpg": _encoded(Image.fromarray(_pattern(generator, 170, 120)), "JPEG", quality=92, exif=orientation),
        "transparent.png": _encoded(Image.fromarray(np.dstack([_pattern(generator, 120, 160), alpha])), "PNG"),
        "sixteen-bit.png": _encoded(
            Image.fromarray(_pattern(generator, 140, 140)[..., 0].astype(np.uint16) * 257), "PNG"
        ),
    }


def _pattern(generator: np.random.Generator, width: int, height: int) -> np.ndarray:
    """A colourful image (height, width, 3) of waves and a little noise: something for filters of every scale."""
    y, x = np.mgrid[0:height, 0:width] / 50
    waves = np.zeros((height, width, 3))
    for _ in range(6):
        fx, fy, phase = generator.uniform(-4, 4, 3)
        waves += np.sin(fx * x + fy * y + phase)[..., None] * generator.uniform(-1, 1, 3)
    waves += generator.normal(scale=0.15, size=waves.shape)
    return np.clip(128 + 45 * waves, 0, 255).astype(np.uint8)


def _encoded(image: Image.Image, format_: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format_, **options)
    return buffer.getvalue()
