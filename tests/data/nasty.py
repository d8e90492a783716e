"""A small data set with one of each thing that goes wrong with people's images, and what must be said about it."""

from __future__ import annotations

import io
import struct
import tarfile
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

# kind → severity, the paths it must name, words its message or remedy must hold
EXPECTED: dict[str, tuple[str, set[str], tuple[str, ...]]] = {
    "corrupt": ("error", {"train/ants/damaged.jpg", "train/ants/damaged.png"}, ("2 files are damaged", "lost", "checksum")),
    "truncated": ("error", {"train/ants/cut.jpg", "train/ants/cut.png"}, ("2 files are cut short", "fetch")),
    "empty": ("error", {"train/ants/zero.jpg"}, ("0 bytes",)),
    "not-an-image": ("error", {"train/ants/page.jpg"}, ("looks like HTML", "web page")),
    "bomb": ("error", {"train/ants/bomb.png"}, ("60,000 × 60,000", "178,956,970")),
    "heic": ("error", {"train/ants/phone.heic"}, ("HEIC", "pillow-heif")),
    "float-range": ("error", {"train/ants/float.tif"}, ("5000", "0 to 1")),
    "unsupported": ("error", {"train/ants/labels.tif"}, ("32-bit integers",)),
    "conflicting-labels": ("error", {"train/ants/both.jpg", "train/bees/both.jpg"}, ("ants and bees",)),
    "duplicate-across-splits": ("error", {"train/ants/leak.jpg", "val/ants/leak.jpg"}, ("train and val", "inflated")),
    "unknown-class": ("error", {"val/hornets/a.jpg"}, ("hornets", "ants, bees, flies")),
    "duplicate": ("warning", {"train/bees/good00.jpg", "train/bees/copy.jpg"}, ("2 files", "same image")),
    "wrong-extension": ("warning", {"train/ants/really_png.jpg"}, ("a PNG",)),
    "animated": ("warning", {"train/ants/moving.gif"}, ("first",)),
    "dim": ("warning", {"train/ants/twelve_in_sixteen.tif"}, ("25%",)),
    "cmyk": ("warning", {"train/ants/print.jpg"}, ("RGB",)),
    "transparent": ("warning", {"train/ants/cut_out.png"}, ("white",)),
    "tiny": ("warning", {"train/ants/icon.png"}, ("32 pixels",)),
    "extreme-aspect": ("warning", {"train/ants/panorama.jpg"}, ("pad",)),
    "low-information": ("warning", {"train/ants/placeholder.gif"}, ("placeholder",)),
    "empty-class": ("warning", {"train/wasps"}, ("without any image",)),
    "few-images": ("warning", {"train/flies/only.jpg"}, ("flies",)),
    "missing-class": ("warning", set(), ("flies", "val")),
    "imbalance": ("warning", set(), ("ants has", "flies has 1")),
    "unlabelled": ("warning", {"train/loose.jpg"}, ("1 image",)),
    "near-duplicate": ("note", {"train/ants/deep.png", "train/ants/twelve_in_sixteen.tif"}, ("1 pair", "network")),
    "sixteen-bit": ("note", {"train/ants/deep.png", "train/ants/twelve_in_sixteen.tif"}, ("2 images",)),
    "exif-rotated": ("note", {"train/ants/turned.jpg"}, ("upright",)),
    "odd-format": ("note", set(), ("JPEG",)),
    "mixed-colour": ("note", set(), ("colour",)),
    "nested": ("note", {"bees"}, ("bees",)),
    "ignored-files": ("note", {"train/ants/notes.txt", "labels.json"}, ("2 files",)),
    "junk": ("note", {"__MACOSX", "train/.ipynb_checkpoints", "train/ants/.DS_Store", "train/bees/Thumbs.db"}, ("4 hidden",)),
}  # fmt: skip


def photo(seed: int, width: int = 96, height: int = 72) -> Image.Image:
    """Smooth coloured noise, which no two seeds share."""
    coarse = np.random.default_rng(seed).integers(0, 256, (7, 9, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def encoded(image: Image.Image, format_: str = "JPEG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format_, **options)
    return buffer.getvalue()


def exif(orientation: int) -> Image.Exif:
    tags = Image.Exif()
    tags[274] = orientation
    return tags


def png_chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def bomb(width: int = 60_000, height: int = 60_000) -> bytes:
    """A PNG of a few bytes that announces billions of pixels."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = (png_chunk(b"IHDR", header), png_chunk(b"IDAT", zlib.compress(bytes(100))), png_chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def damaged_jpeg(seed: int = 5) -> bytes:
    """Complete, with its end mark, but nonsense in the middle of the pixels."""
    data = bytearray(encoded(photo(seed), quality=95))
    middle = len(data) * 2 // 3
    data[middle : middle + 40] = bytes(40)
    data[middle + 40 : middle + 42] = b"\xff\xd3"  # a restart mark where none belongs
    return bytes(data)


def damaged_png(seed: int = 6) -> bytes:
    data = bytearray(encoded(photo(seed), "PNG"))
    data[len(data) // 2] ^= 0x40
    return bytes(data)


def build(root: Path) -> Path:
    """Write the folder and return it."""
    ants, bees = root / "train/ants", root / "train/bees"
    files: dict[Path, bytes] = {}
    for number in range(30):
        files[ants / f"good{number:02}.jpg"] = encoded(photo(100 + number))
    for number in range(12):
        files[bees / f"good{number:02}.jpg"] = encoded(photo(200 + number))
    for number in range(3):
        files[root / f"val/ants/good{number:02}.jpg"] = encoded(photo(300 + number))
        files[root / f"val/bees/good{number:02}.jpg"] = encoded(photo(400 + number))
    values = np.asarray(photo(1).convert("L"))
    files |= {
        ants / "damaged.jpg": damaged_jpeg(),
        ants / "damaged.png": damaged_png(),
        ants / "cut.jpg": encoded(photo(7), quality=95)[:2000],
        ants / "cut.png": encoded(photo(8), "PNG")[:3000],
        ants / "zero.jpg": b"",
        ants / "page.jpg": b"<!DOCTYPE html>\n<html><body>404 not found</body></html>",
        ants / "bomb.png": bomb(),
        ants / "phone.heic": b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00mif1heic" + bytes(64),
        ants / "float.tif": encoded(Image.fromarray(values.astype(np.float32) / values.max() * 5000), "TIFF"),
        ants / "labels.tif": encoded(Image.fromarray(values.astype(np.int32)), "TIFF"),
        ants / "both.jpg": encoded(photo(9)),
        bees / "both.jpg": encoded(photo(9)),
        ants / "leak.jpg": encoded(photo(10)),
        root / "val/ants/leak.jpg": encoded(photo(10)),
        bees / "copy.jpg": encoded(photo(200)),
        ants / "really_png.jpg": encoded(photo(11), "PNG"),
        ants / "moving.gif": encoded(photo(12), "GIF", save_all=True, append_images=[photo(13)]),
        ants / "deep.png": encoded(Image.fromarray(values.astype(np.uint16) * 257), "PNG"),
        ants / "twelve_in_sixteen.tif": encoded(Image.fromarray(values.astype(np.uint16) * 16), "TIFF"),
        ants / "print.jpg": encoded(photo(14).convert("CMYK")),
        ants / "icon.png": encoded(photo(16, 16, 16), "PNG"),
        ants / "panorama.jpg": encoded(photo(17, 400, 60)),
        ants / "turned.jpg": encoded(photo(18), exif=exif(6)),
        ants / "UPPER.JPG": encoded(photo(19)),
        ants / "no_extension": encoded(photo(20)),
        ants / "été 蜂 bee.jpg": encoded(photo(21)),
        bees / "2024" / "inner.jpg": encoded(photo(22)),
        root / "train/flies/only.jpg": encoded(photo(23)),
        root / "train/loose.jpg": encoded(photo(24)),
        root / "val/hornets/a.jpg": encoded(photo(25)),
        ants / "notes.txt": b"thirty ants\n",
        root / "labels.json": b"{}",
        ants / ".DS_Store": b"\x00\x00\x00\x01Bud1",
        bees / "Thumbs.db": b"\xd0\xcf\x11\xe0",
        root / "__MACOSX/._good00.jpg": b"\x00\x05\x16\x07",
        root / "train/.ipynb_checkpoints/good00.jpg": encoded(photo(100)),
    }
    cut_out = photo(15).convert("RGBA")
    cut_out.putalpha(Image.linear_gradient("L").resize(cut_out.size))
    files[ants / "cut_out.png"] = encoded(cut_out, "PNG")
    placeholder = Image.new("P", (80, 80))
    placeholder.putpalette([250, 250, 250, 20, 20, 20])
    placeholder.paste(1, (20, 36, 60, 44))
    files[ants / "placeholder.gif"] = encoded(placeholder, "GIF")
    for path, data in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    (root / "train/wasps").mkdir()
    return root


def zipped(folder: Path, archive: Path, *, inside: str = "") -> Path:
    """The same files as an archive, below the folder `inside` if given."""
    with zipfile.ZipFile(archive, "w") as file:
        for path in sorted(folder.rglob("*")):
            file.write(path, Path(inside) / path.relative_to(folder))
    return archive


def tarred(folder: Path, archive: Path, *, inside: str = "") -> Path:
    """The same as a tar archive."""
    with tarfile.open(archive, "w") as file:
        for path in sorted(folder.rglob("*")):
            file.add(path, str(Path(inside) / path.relative_to(folder)), recursive=False)
    return archive


def sharded(folder: Path, archives: Path, *, inside: str = "", number: int = 3) -> Path:
    """The same, file by file in turn, as several tar archives in a folder."""
    archives.mkdir()
    paths = sorted(folder.rglob("*"))
    for shard in range(number):
        with tarfile.open(archives / f"{shard:03}.tar", "w") as file:
            for path in paths[shard::number]:
                file.add(path, str(Path(inside) / path.relative_to(folder)), recursive=False)
    return archives
