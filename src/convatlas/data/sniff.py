"""What kind of file is this? Its first bytes decide, as in file(1); the name only says where to look first.

A camera names a JPEG `IMG_1.JPG`, a browser saves an error page as `cat.jpg`, a phone sends HEIC as `photo.jpeg`.
"""

from __future__ import annotations

import re

PREFIX_BYTES = 512  # how much of a file `sniff` wants to see

# The formats that are decoded, and the name endings each may have.
EXTENSIONS = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".mpo"),
    "PNG": (".png", ".apng"),
    "WEBP": (".webp",),
    "GIF": (".gif",),
    "BMP": (".bmp", ".dib"),
    "TIFF": (".tif", ".tiff"),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm", ".pfm"),
}
# Taken for images by their name, so that a file that turns out to be something else is named instead of ignored.
IMAGE_EXTENSIONS = frozenset(ending for endings in EXTENSIONS.values() for ending in endings) | {
    ".heic", ".heif", ".avif", ".jp2", ".jxl", ".svg", ".psd", ".tga", ".ico",
}  # fmt: skip

# Pictures that are recognised but not decoded.
OTHER_PICTURES = ("HEIC", "AVIF", "JPEG 2000", "JPEG XL", "Photoshop", "SVG", "OpenEXR", "Radiance HDR", "ICO", "DDS")

_MAGIC = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"II*\x00", "TIFF"),
    (b"MM\x00*", "TIFF"),
    (b"II+\x00", "TIFF"),
    (b"MM\x00+", "TIFF"),
    (b"\x00\x00\x00\x0cjP  \r\n\x87\n", "JPEG 2000"),
    (b"\xff\x4f\xff\x51", "JPEG 2000"),
    (b"\x00\x00\x00\x0cJXL \r\n\x87\n", "JPEG XL"),
    (b"\xff\x0a", "JPEG XL"),
    (b"8BPS\x00", "Photoshop"),
    (b"v/1\x01", "OpenEXR"),
    (b"#?RADIANCE", "Radiance HDR"),
    (b"DDS ", "DDS"),
    (b"%PDF-", "PDF"),
    (b"PK\x03\x04", "ZIP"),
    (b"\x1f\x8b", "gzip"),
    (b"SQLite format 3", "SQLite"),
)
_HEIF_BRANDS = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"hevm", b"hevs", b"mif1", b"msf1")
_PPM = re.compile(rb"P([1-6]|f|F)[\s#]")
_HTML = re.compile(rb"<(!doctype\s+html|html|head|body|script|meta|title)\b", re.IGNORECASE)


def sniff(prefix: bytes) -> str | None:
    """The format's name from a file's first `PREFIX_BYTES` bytes: a key of `EXTENSIONS`, one of `OTHER_PICTURES`, some
    other kind of file worth naming (`"HTML"`, `"PDF"`, `"text"`), or None."""
    for magic, name in _MAGIC:
        if prefix.startswith(magic):
            return name
    if prefix[:4] == b"RIFF" and prefix[8:12] == b"WEBP":
        return "WEBP"
    if prefix[4:8] == b"ftyp":
        brands = (prefix[8:12], *(prefix[at : at + 4] for at in range(16, min(len(prefix), 64), 4)))
        if b"avif" in brands or b"avis" in brands:
            return "AVIF"
        return "HEIC" if any(brand in _HEIF_BRANDS for brand in brands) else "video"
    # "BM" alone is also how a text may begin; a bitmap goes on with its size, reserved zeros and the offset of its pixels.
    if prefix[:2] == b"BM" and len(prefix) >= 18 and 12 <= int.from_bytes(prefix[14:18], "little") <= 124:
        return "BMP"
    if _PPM.match(prefix):
        return "PPM"
    if prefix[:4] == b"\x00\x00\x01\x00" and len(prefix) > 22:
        return "ICO"
    return _sniff_text(prefix)


def is_picture(prefix: bytes) -> bool:
    """Whether the bytes begin like a picture, decoded here or not."""
    name = sniff(prefix)
    return name in EXTENSIONS or name in OTHER_PICTURES


def _sniff_text(prefix: bytes) -> str | None:
    start = prefix.removeprefix(b"\xef\xbb\xbf").lstrip()
    if not start or b"\x00" in prefix:
        return None
    if _HTML.search(start):
        return "HTML"
    if start.startswith((b"<svg", b"<?xml")):
        return "SVG" if b"<svg" in start else "XML"
    if start.startswith((b"{", b"[")):
        return "JSON"
    if start.startswith(b"version https://git-lfs"):
        return "Git LFS pointer"
    printing = sum(byte >= 32 or byte in b"\t\n\r\f" for byte in start)
    return "text" if printing == len(start) else None


def extension(path: str) -> str:
    """The name's ending in lower case, with its dot; empty where there is none."""
    stem, dot, ending = path.rpartition("/")[2].rpartition(".")
    return f".{ending.lower()}" if dot and stem else ""
