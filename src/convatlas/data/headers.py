"""What an image file's container says before any pixel is decoded: frames, orientation, bit depth.

Each reader also returns the bytes the decoder is to see. Metadata that cannot change the pixels is left out of them: Pillow
parses it while opening a file and reports oddities through `warnings`, whose filters all threads share, so a decoder
that runs in threads must not provoke one. Sources: ITU-T T.81 (JPEG), W3C PNG 3rd edition, GIF89a, Google's WebP
container specification, TIFF 6.0.
"""

from __future__ import annotations

import re
import struct
import zlib
from dataclasses import dataclass

from convatlas.data.facts import DecodeError
from convatlas.data.problems import printable
from convatlas.data.tiff import BITS_PER_SAMPLE, ORIENTATION, PHOTOMETRIC, orientation, read_directory

DAMAGED = "Replace the file with an intact copy, or remove it."


@dataclass(frozen=True, kw_only=True)
class Header:
    data: bytes  # for the decoder
    size: tuple[int, int] | None = None  # width, height, where the reader had to parse it
    orientation: int = 1
    frames: int = 1
    bits: int = 8
    components: int = 0  # JPEG only
    icc: bytes = b""  # JPEG only
    white_is_zero: bool = False  # TIFF only


def read_header(format_: str, data: bytes) -> Header:
    """Raises `DecodeError` where the container itself is damaged."""
    return _READERS[format_](data)


def truncated(reason: str) -> DecodeError:
    return DecodeError("truncated", reason, "The download or copy was cut short; fetch the file again, or remove it.")


def corrupt(reason: str) -> DecodeError:
    return DecodeError("corrupt", reason, DAMAGED)


def _jpeg(data: bytes) -> Header:
    """Walk the segments up to the first scan. Kept: what decides the pixels, which includes JFIF's and Adobe's markers."""
    kept = [data[:2]]
    at, turned, components, bits, size = 2, 1, 0, 8, None
    profile: dict[int, bytes] = {}
    while True:
        at = data.find(b"\xff", at)
        while at >= 0 and data[at : at + 2] == b"\xff\xff":  # fill bytes
            at += 1
        if at < 0 or at + 4 > len(data):
            raise truncated("the JPEG file ends before its pixels")
        marker = data[at + 1]
        if marker == 0xD9:
            raise corrupt("the JPEG file holds no pixels")
        if marker in (0x00, 0x01) or 0xD0 <= marker <= 0xD8:  # markers without a segment, and junk
            at += 2
            continue
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4])
        body = data[at + 4 : end]
        if end < at + 4:
            raise corrupt(f"segment {marker:#x} of the JPEG file has no length")
        if end > len(data):
            raise truncated("the JPEG file ends before its pixels")
        if marker == 0xDA:
            kept.append(data[at:])
            break
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC) and len(body) >= 6:
            bits, height, width, components = struct.unpack_from(">BHHB", body)
            size = (width, height)
        if marker == 0xE1 and body.startswith(b"Exif\x00\x00") and turned == 1:
            turned = orientation(body)
        if marker == 0xE2 and body.startswith(b"ICC_PROFILE\x00") and len(body) > 14:
            profile[body[12]] = body[14:]
        metadata = 0xE0 <= marker <= 0xEF or marker == 0xFE
        if not metadata or body.startswith((b"JFIF\x00", b"Adobe")):
            kept.append(data[at:end])
        at = end
    return Header(
        data=b"".join(kept),
        size=size,
        orientation=turned,
        bits=bits,
        components=components,
        icc=b"".join(profile[part] for part in sorted(profile)),
    )


def _png(data: bytes) -> Header:
    """Walk all chunks, checking the sums of those that decide the pixels, which Pillow does not do for the data itself."""
    kept = [data[:8]]
    at, turned, frames, bits, pixels = 8, 1, 1, 8, False
    while at < len(data):
        if at + 12 > len(data):
            if not pixels:
                raise truncated("the PNG file ends before its pixels")
            break  # everything but the end mark is there; whether the pixels are complete, the decoder finds out
        length = int.from_bytes(data[at : at + 4])
        name = data[at + 4 : at + 8]
        end = at + 12 + length
        if end > len(data):
            if name in (b"IHDR", b"PLTE", b"IDAT") or not pixels:
                raise truncated(f"the PNG file ends inside its {printable(name.decode('latin-1'))} chunk")
            break
        body = data[at + 8 : end - 4]
        if name in (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"):
            if zlib.crc32(body, zlib.crc32(name)) != int.from_bytes(data[end - 4 : end]):
                raise corrupt(f"the checksum of the PNG file's {name.decode()} chunk at byte {at:,} does not match")
            kept.append(data[at:end])
        if name == b"IHDR" and length == 13:
            bits = body[8]
        elif name == b"IDAT":
            pixels = True
        elif name == b"acTL" and length == 8:
            frames = max(1, int.from_bytes(body[:4]))
        elif name == b"eXIf":
            turned = orientation(body)
        elif name == b"IEND":
            break
        at = end
    if not pixels:
        raise truncated("the PNG file ends before its pixels")
    return Header(data=b"".join(kept), orientation=turned, frames=frames, bits=bits)


def _gif(data: bytes) -> Header:
    """Count the frames, and measure the first, which may be larger than the canvas the file announces."""
    if len(data) < 13:
        raise truncated("the GIF file ends inside its header")
    width, height, flags = struct.unpack_from("<HHB", data, 6)
    at = 13 + (3 << ((flags & 7) + 1) if flags & 0x80 else 0)
    frames = 0
    while at < len(data):
        block = data[at]
        if block == 0x2C and at + 10 <= len(data):
            frames += 1
            left, top, wide, high, flags = struct.unpack_from("<HHHHB", data, at + 1)
            if frames == 1:
                width, height = max(width, left + wide), max(height, top + high)
            at += 11 + (3 << ((flags & 7) + 1) if flags & 0x80 else 0)
        elif block == 0x21:
            at += 2
        else:  # the trailer, or junk, which ends the file for every reader
            break
        while at < len(data) and data[at]:  # data blocks, each led by its length
            at += 1 + data[at]
        at += 1
    return Header(data=data, size=(width, height), frames=max(1, frames))


def _webp(data: bytes) -> Header:
    announced = int.from_bytes(data[4:8], "little") + 8
    if announced > len(data):
        raise truncated(f"the WebP file announces {announced:,} bytes and holds {len(data):,}")
    at, turned, frames = 12, 1, 0
    while at + 8 <= announced:
        name, length = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
        frames += name == b"ANMF"
        if name == b"EXIF":
            turned = orientation(data[at + 8 : at + 8 + length])
        at += 8 + length + length % 2
    return Header(data=data, orientation=turned, frames=max(1, frames))


def _tiff(data: bytes) -> Header:
    try:
        directory = read_directory(data)
    except ValueError as error:
        # The directory often stands at the end of the file, so a cut file lacks it.
        make = truncated if "ends" in str(error) or "outside" in str(error) else corrupt
        raise make(f"in the TIFF file, {error}") from error
    turned = directory.integer(ORIENTATION, 1)
    return Header(
        data=directory.pixels_only(),
        orientation=turned if 1 <= turned <= 8 else 1,
        frames=directory.frames,
        bits=max(directory.integers(BITS_PER_SAMPLE), default=1),
        white_is_zero=directory.integer(PHOTOMETRIC, 0) == 0,
    )


def _ppm(data: bytes) -> Header:
    found = re.match(rb"P[2356]" + rb"(?:\s|#[^\n]*\n)+(\d{1,6})" * 3, data[:1024])
    return Header(data=data, bits=int(found.group(3)).bit_length() if found else 8)


def _bmp(data: bytes) -> Header:
    return Header(data=data)


_READERS = {"JPEG": _jpeg, "PNG": _png, "GIF": _gif, "WEBP": _webp, "TIFF": _tiff, "PPM": _ppm, "BMP": _bmp}
