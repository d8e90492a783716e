"""Receptive fields side by side: what the stages of a network can see, and what they make use of."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from convatlas import catalogue, data, zoo
from convatlas.analysis.effective import EffectiveField, effective_fields
from convatlas.analysis.field_picture import field_picture
from convatlas.analysis.receptive import Field
from convatlas.analysis.tables import Table
from convatlas.errors import ConvAtlasError
from convatlas.jobs.analyse import analyse, build_users
from convatlas.weights.load import load_network
from convatlas.weights.source import find_weights

SIDE = 448  # of the photo behind the fields, in pixels


@dataclass(frozen=True, kw_only=True)
class Fields:
    """Made by `fields`."""

    name: str
    fields: tuple[EffectiveField, ...]
    weights: str  # in words
    photo: bytes | None

    def table(self) -> Table:
        """The field that follows from windows beside the measured one."""
        return Table(
            title=f"receptive fields of {self.name}, {self.weights}",
            header=("module", "field", "shortest path", "stride", "offset", "effective", "of the field's side"),
            rows=tuple(_cells(field) for field in self.fields),
            figures=tuple(range(1, 7)),
            notes=(
                "Field, stride and offset (the middle of what unit 0 sees) in pixels, ignoring gates. Effective: the side of the square "
                "around the middle unit's field that holds 95.45 % of its gradient, on noise (Luo et al., 2016).",
            ),
        )

    def picture(self) -> str:
        """Both drawn on the image's frame, as one SVG."""
        return field_picture(self.fields, image=self.photo)

    def to_json(self) -> dict[str, Any]:
        """`convatlas.fields/1`: sizes in pixels, height first."""
        return {
            "schema": "convatlas.fields/1",
            "name": self.name,
            "weights": self.weights,
            "fields": [{"path": f.path, "effective": f.extent, **_theory(f)} for f in self.fields],
        }

    def _repr_html_(self) -> str:
        return self.picture()


def fields(
    model: nn.Module | str,
    input_size: Sequence[int] | None = None,
    paths: Sequence[str] | None = None,
    *,
    weights: str | Path | None = None,
    download: bool = False,
    image: str | Path | None = None,
    images: int = 4,
    seed: int = 0,
) -> Fields:
    """The theoretical and the effective receptive field of modules, by default the stages that end in a map.

    `model` and `input_size` are those of `analyse`; a network of ours gets `weights` (a file or a tag), or its random initialisation,
    which is said. `image` is a photo to draw the fields on. The gradient is the mean over so many random `images`. This runs the
    network. Raises `ConvAtlasError` for an unknown module, weights that are not finite, or an unreadable image.
    """
    found = analyse(model, input_size)
    size = found.inputs[0].shape[1:]
    if paths is None:
        paths = [
            row.path
            for row in found.stages
            if _is_map(row.field_without_gates) and row.path in dict(found.model.named_modules())
        ]
    if not paths:
        raise ConvAtlasError(f"{found.name} has no stages that end in a map;", remedy="name the modules to look at.")
    if isinstance(model, str) and ":" not in model:
        module: nn.Module = _with_weights(model, size[0], weights, download=download, seed=seed)
        told = f"weights {weights}" if weights else "random initial weights"
    else:
        if weights is not None:
            raise ConvAtlasError("weights are for networks of ours;", remedy="load them in your own function.")
        module, told = build_users(model).model if isinstance(model, str) else model, "its own weights"
    measured = effective_fields(module, size, list(paths), images=images, seed=seed)
    return Fields(
        name=found.name,
        fields=tuple(measured.values()),
        weights=told,
        photo=None if image is None else _photo(Path(image), size[1:]),
    )


def _with_weights(name: str, channels: int, weights: str | Path | None, *, download: bool, seed: int) -> nn.Module:
    """A network of ours with the file's own classifier, or with its paper's initialisation, the same for the same seed."""
    if weights is not None:
        return load_network(find_weights(weights, name=name, download=download), in_channels=channels)[0]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return zoo.build(name, num_classes=catalogue.find(name).num_classes, in_channels=channels)


def _is_map(field: Any) -> bool:
    return isinstance(field, Field) and not field.whole


def _photo(path: Path, sides: Sequence[int]) -> bytes:
    """The middle of a photo in the frame's shape, as a JPEG."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConvAtlasError(f"{path} cannot be read: {error.strerror}.", remedy="Give an image file.") from error
    image, _ = data.decode(content, name=str(path))
    height, width = sides
    scale = min(image.width / width, image.height / height)
    left, top = (image.width - scale * width) / 2, (image.height - scale * height) / 2
    box = (left, top, left + scale * width, top + scale * height)
    shrink = SIDE / max(height, width)
    made = io.BytesIO()
    image.resize((round(width * shrink), round(height * shrink)), box=box, reducing_gap=3).save(
        made, "JPEG", quality=85
    )
    return made.getvalue()


def _theory(found: EffectiveField) -> dict[str, Any]:
    field = found.theoretical
    if not isinstance(field, Field):
        return {"unknown": field.reason}
    shortest = [interval.size for interval in field.smallest]
    own = {"size": list(field.size), "stride": list(field.stride), "offset": list(field.offset)}
    return {**own, "smallest": shortest, "exact": field.exact}


def _cells(found: EffectiveField) -> tuple[str, ...]:
    told = _theory(found)
    if "unknown" in told:
        return (found.path, "?", "?", "?", "?", str(found.extent), "–")

    def sides(values: Sequence[float]) -> str:
        return "×".join(f"{value:g}" for value in (values[:1] if len(set(values)) == 1 else values))

    bound = "" if told["exact"] else "≤"
    part = found.extent / max(told["size"])
    figures = (bound + sides(told["size"]), sides(told["smallest"]), sides(told["stride"]), sides(told["offset"]))
    return (found.path, *figures, str(found.extent), f"{100 * part:.0f} %")
