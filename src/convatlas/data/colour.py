"""Any pixels to 8-bit RGB: depth scaled as declared, transparency composited, CMYK through its profile.

Pillow's `convert("RGB")` clips 16-bit samples to white, drops transparency onto whatever colour lies under it and turns
CMYK by formula. What is decided here is what training and serving both see.
"""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from convatlas.data.facts import DecodeError
from convatlas.data.headers import Header

Colour = tuple[int, int, int]


def to_rgb(image: Image.Image, header: Header, background: Colour) -> tuple[Image.Image, bool, float]:
    """The image in mode RGB, whether some pixel was not opaque, and the peak (see `Facts.peak`)."""
    peak = 1.0
    if image.mode.startswith("I;16") or (image.mode == "I" and header.data[:1] == b"P"):
        image, peak = _from_sixteen_bits(image, header)
    elif image.mode == "I":
        raise DecodeError(
            "unsupported",
            "its samples are signed or 32-bit integers, whose black and white the file does not declare",
            "Save it with 8 or 16 bits a sample, choosing which values are black and white.",
        )
    elif image.mode == "F":
        image = _from_float(image, header)
    if image.has_transparency_data:
        image, transparent = _composite(image, header, background)
        return image, transparent, peak
    if image.mode == "CMYK":
        return _from_cmyk(image, header), False, peak
    return (image if image.mode == "RGB" else image.convert("RGB")), False, peak


def _from_sixteen_bits(image: Image.Image, header: Header) -> tuple[Image.Image, float]:
    """The high eight of the declared bits, which is also how Pillow reads 16-bit colour, so that grey and colour agree."""
    samples = np.asarray(image)
    # A 12-bit TIFF holds 0 to 4095; Pillow itself stretches every PPM to 16 bits.
    bits = header.bits if 8 < header.bits < 16 and image.mode != "I" else 16
    if header.white_is_zero:
        samples = (1 << bits) - 1 - samples
    peak = float(samples.max()) / ((1 << bits) - 1)
    scaled = Image.fromarray((samples >> (bits - 8)).astype(np.uint8))
    see_through = image.info.get("transparency")
    if isinstance(see_through, int):
        opaque = np.where(samples == see_through, np.uint8(0), np.uint8(255))
        scaled = Image.merge("LA", (scaled, Image.fromarray(opaque)))
    return scaled, peak


def _from_float(image: Image.Image, header: Header) -> Image.Image:
    samples = np.asarray(image)
    low, high = float(samples.min()), float(samples.max())
    if not (low >= 0.0 and high <= 1.0):  # so written, NaN is refused as well
        raise DecodeError(
            "float-range",
            f"its samples reach from {low:g} to {high:g}; only 0 to 1 has a settled meaning",
            "Scale the samples to 0 to 1, or save 8 or 16 bits a sample.",
        )
    if header.white_is_zero and header.data[:2] in (b"II", b"MM"):
        samples = 1.0 - samples
    return Image.fromarray(np.rint(samples * 255.0).astype(np.uint8))


def _composite(image: Image.Image, header: Header, background: Colour) -> tuple[Image.Image, bool]:
    see_through = image.info.get("transparency")
    if header.bits == 16 and image.mode == "RGB" and isinstance(see_through, tuple):
        image.info["transparency"] = tuple(value >> 8 for value in see_through)  # as the pixels were
    elif header.bits in (2, 4) and image.mode == "L" and isinstance(see_through, int):
        image.info["transparency"] = see_through * 255 // ((1 << header.bits) - 1)  # as the pixels were
    if image.mode == "La":
        image = image.convert("LA")
    image = image.convert("RGBA")
    alpha = image.getchannel("A")
    lowest = alpha.getextrema()[0]
    colour = image.convert("RGB")
    if lowest == 255:
        return colour, False
    ground = Image.new("RGB", image.size, background)
    ground.paste(colour, mask=alpha)
    return ground, True


def _from_cmyk(image: Image.Image, header: Header) -> Image.Image:
    """Through the embedded profile where there is a usable one, else by formula."""
    profile = header.icc or image.info.get("icc_profile") or b""
    if profile[16:20] == b"CMYK":
        from PIL import ImageCms  # only these few files need the colour engine

        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            converted = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
        except (ImageCms.PyCMSError, OSError, ValueError):
            converted = None
        if converted is not None:
            return converted
    return image.convert("RGB")
