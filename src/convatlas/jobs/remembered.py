"""The files behind the training images that a model folder remembers: found again where they still are, and still the same."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from convatlas.data import Dataset, DecodeError, Record, decode, scan
from convatlas.errors import ConvAtlasError

if TYPE_CHECKING:
    from convatlas.bundle.neighbours import Neighbour


class Remembered:
    """Looks up training images by their path below the root of the data that was fitted."""

    def __init__(self, folder: Path, data: str | Path | None = None) -> None:
        """`data` is where the training images are now; without it, where fit.json beside the model says they were.

        Raises `ConvAtlasError` for a `data` that holds no images.
        """
        self._folder = folder
        self._given = None if data is None else scan(data)

    def image(self, neighbour: Neighbour) -> Image.Image | None:
        """The image, upright; None where the file is gone, or holds something else by now."""
        record = self._records.get(neighbour.path)
        if record is None or self._dataset is None:
            return None
        try:
            data = self._dataset.read(record)
            if not hashlib.sha256(data).hexdigest().startswith(neighbour.sha256):
                return None
            return decode(data)[0]
        except DecodeError:
            return None

    def locate(self, neighbour: Neighbour) -> str:
        """The path by which a person finds it, or the path below a root that is not known."""
        record = self._records.get(neighbour.path)
        return neighbour.path if record is None or self._dataset is None else self._dataset.locate(record)

    @cached_property
    def _dataset(self) -> Dataset | None:
        if self._given is not None:
            return self._given
        try:
            data: dict[str, Any] = json.loads((self._folder / "fit.json").read_bytes())["data"]
        except (OSError, ValueError, KeyError, TypeError):
            return None
        for place in (data.get("resolved"), data.get("path")):
            try:
                if place and Path(place).exists():
                    return scan(place)
            except (ConvAtlasError, OSError):
                continue
        return None

    @cached_property
    def _records(self) -> dict[str, Record]:
        return {} if self._dataset is None else {record.path: record for record in self._dataset.records}


def nearest_json(found: Sequence[Neighbour], remembered: Remembered) -> list[dict[str, Any]]:
    """Rows without pictures."""
    return [
        {"path": remembered.locate(one), "label": one.label, "cosine": one.cosine, "picture": None} for one in found
    ]
