"""TIFF directories, as far as decoding needs them (Adobe, TIFF 6.0, 1992; BigTIFF, 2007; EXIF stores its tags the same way).

Two uses: the orientation inside an EXIF block, and a copy of a TIFF file whose directory holds only the tags that decide
the pixels. Pillow parses every tag of a file and warns about odd ones through `warnings`, which threads share; metadata
that it never sees it cannot warn about.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

ORIENTATION = 274
PHOTOMETRIC = 262
BITS_PER_SAMPLE = 258

# Bytes per value of the TIFF types 1 to 18.
_TYPE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_INTEGERS = {1: "B", 3: "H", 4: "L", 13: "L", 16: "Q"}
# Tags that hold one number and decide pixels: size, compression, photometric interpretation, fill order, samples per pixel,
# rows per strip, planar configuration, fax options, predictor, tile size, old JPEG's pointers, chroma position.
_SCALARS = frozenset((256, 257, 259, 262, 266, 277, 278, 284, 292, 293, 317, 322, 323, 512, 513, 514, 515, 531))
# The rest of what decides pixels: bits, offsets and sizes of the data, colour map, extra samples, sample formats, tables,
# YCbCr coefficients, subsampling and reference levels, and the colour profile (used for CMYK).
_KEPT = _SCALARS | frozenset((258, 273, 279, 320, 324, 325, 338, 339, 347, 519, 520, 521, 529, 530, 532, 34675))
_MOST_FRAMES = 10_000  # where counting stops


@dataclass(frozen=True)
class Entry:
    type: int
    count: int
    position: int  # of the first value in the file


@dataclass(frozen=True)
class Directory:
    """The first directory of a TIFF block; `frames` counts the chain of directories."""

    data: bytes
    order: str  # "<" or ">", as `struct` writes it
    big: bool
    entries: dict[int, Entry]
    frames: int

    def integers(self, tag: int) -> tuple[int, ...]:
        """The values of an integer tag; empty where it is absent or of another type."""
        entry = self.entries.get(tag)
        if entry is None or entry.type not in _INTEGERS:
            return ()
        return struct.unpack_from(f"{self.order}{entry.count}{_INTEGERS[entry.type]}", self.data, entry.position)

    def integer(self, tag: int, default: int) -> int:
        return next(iter(self.integers(tag)), default)

    def pixels_only(self) -> bytes:
        """The file with a new first directory, appended, that holds only the tags which decide the pixels."""
        entry_format, count_format = (f"{self.order}HHQ8s", "Q") if self.big else (f"{self.order}HHL4s", "H")
        room = 8 if self.big else 4
        offset_format = self.order + ("Q" if self.big else "L")
        packed = []
        for tag, entry in sorted(self.entries.items()):
            if tag not in _KEPT:
                continue
            number = 1 if tag in _SCALARS else entry.count
            bytes_ = number * _TYPE_BYTES[entry.type]
            if bytes_ <= room:
                value = self.data[entry.position : entry.position + bytes_].ljust(room, b"\x00")
            else:
                value = struct.pack(offset_format, entry.position)
            packed.append(struct.pack(entry_format, tag, entry.type, number, value))
        at = len(self.data) + len(self.data) % 2  # directories begin on a word boundary
        directory = struct.pack(self.order + count_format, len(packed)) + b"".join(packed) + bytes(room)
        header = self.data[: 8 if self.big else 4] + struct.pack(offset_format, at)
        return b"".join((header, self.data[len(header) :], bytes(at - len(self.data)), directory))


def read_directory(data: bytes) -> Directory:
    """Read the first directory of a TIFF block. Raises `ValueError` saying what is wrong with it."""
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    if order is None or len(data) < 8:
        raise ValueError("no TIFF header")
    # Some writers give the version in the other byte order; Pillow accepts them and so does this.
    big = data[2:4] in (b"+\x00", b"\x00+")
    if big and len(data) < 16:
        raise ValueError("the header ends early")
    first = struct.unpack_from(order + ("Q" if big else "L"), data, 8 if big else 4)[0]
    entries, following = _entries(data, order, big, first)
    seen = {first}
    while following and following not in seen and len(seen) < _MOST_FRAMES:
        seen.add(following)
        try:
            _, following = _entries(data, order, big, following, only_next=True)
        except ValueError:
            break
    return Directory(data, order, big, entries, len(seen))


def orientation(exif: bytes) -> int:
    """The orientation 1 to 8 from an EXIF block (with or without its `Exif` prefix); 1 where it is absent or nonsense."""
    try:
        found = read_directory(exif.removeprefix(b"Exif\x00\x00")).integer(ORIENTATION, 1)
    except ValueError:
        return 1
    return found if 1 <= found <= 8 else 1


def _entries(data: bytes, order: str, big: bool, at: int, *, only_next: bool = False) -> tuple[dict[int, Entry], int]:
    """The directory's entries whose values lie inside the data, and the offset of the next directory."""
    head, entry_format, room = ("Q", "HHQ", 8) if big else ("H", "HHL", 4)
    head_bytes = struct.calcsize(order + head)
    step = 20 if big else 12
    if at + head_bytes > len(data):
        raise ValueError("the file ends before its directory")
    number = struct.unpack_from(order + head, data, at)[0]
    begin = at + head_bytes
    end = begin + number * step
    if end > len(data):
        raise ValueError("the file ends inside its directory")
    offset_format = order + ("Q" if big else "L")
    following = struct.unpack_from(offset_format, data, end)[0] if end + room <= len(data) else 0
    entries: dict[int, Entry] = {}
    if only_next:
        return entries, following
    for position in range(begin, end, step):
        tag, type_, count = struct.unpack_from(order + entry_format, data, position)
        if type_ not in _TYPE_BYTES or count == 0 or tag in entries:
            continue
        bytes_ = count * _TYPE_BYTES[type_]
        values = position + step - room
        if bytes_ > room:
            values = struct.unpack_from(offset_format, data, values)[0]
            if values + bytes_ > len(data):
                if tag in _KEPT:
                    raise ValueError(f"the values of tag {tag} lie outside the file")
                continue
        entries[tag] = Entry(type_, count, values)
    return entries, following
