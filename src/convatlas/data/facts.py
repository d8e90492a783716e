"""What a file turned out to be: `Facts` for an image that was decoded, `DecodeError` for one that was not.

Both travel through JSON, so that a file's bytes need to be decoded once: whoever stores them under the bytes' hash can
hand them back to `examine`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from convatlas.errors import ConvAtlasError


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What one image file holds, besides its pixels."""

    format: str  # by content: "JPEG", "PNG", ...
    width: int  # as stored, before the orientation is applied
    height: int
    mode: str  # Pillow's name of the stored pixels: "RGB", "L", "P", "CMYK", "I;16", ...
    frames: int = 1  # of an animation, or pages; only the first is used
    orientation: int = 1  # EXIF, 1 to 8; applied
    bits: int = 8  # per sample, as declared by the file
    cmyk: bool = False
    alpha: bool = False  # some pixel is not opaque; composited on the background
    grey: bool = False  # red = green = blue wherever it was sampled
    dominant: float = 0.0  # share of the pixels within one 1/32 step of the most frequent colour, 0 to 1
    peak: float = 1.0  # the brightest sample of an image of over 8 bits, as a share of the declared range
    thumb: str = ""  # what it looks like from afar, see `likeness`

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def names(cls) -> list[str]:
        """What is known of an image: part of the key under which facts are kept, so that those of an earlier version are not."""
        return [field.name for field in fields(cls)]

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Facts:
        """The inverse of `to_json`. Raises `TypeError` where fields are missing."""
        return cls(**{name: value for name, value in values.items() if name in cls.names()})


class DecodeError(ConvAtlasError):
    """A file that cannot be used as an image, and why.

    Kinds: `corrupt`, `truncated`, `empty`, `not-an-image`, `bomb`, `memory`, `heic`, `float-range`, `unsupported`,
    `unreadable`.
    """

    def __init__(self, kind: str, reason: str, remedy: str = "", *, name: str = "") -> None:
        super().__init__(f"{name}: {reason}" if name else reason, remedy=remedy)
        self.kind = kind
        self.reason = reason  # the message without the file's name
        self.name = name

    def named(self, name: str) -> DecodeError:
        """The same failure for another file, free of the traceback (which would keep the file's bytes in memory)."""
        return DecodeError(self.kind, self.reason, self.remedy, name=name)

    def to_json(self) -> dict[str, str]:
        """Without the file's name: the failure belongs to the bytes, whatever they are called."""
        return {"kind": self.kind, "reason": self.reason, "remedy": self.remedy}

    @classmethod
    def from_json(cls, values: Mapping[str, str]) -> DecodeError:
        return cls(values["kind"], values["reason"], values["remedy"])

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (self.kind, self.reason, self.remedy, self.name)


def _rebuild(kind: str, reason: str, remedy: str, name: str) -> DecodeError:
    return DecodeError(kind, reason, remedy, name=name)
