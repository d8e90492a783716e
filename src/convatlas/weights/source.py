"""Which weights to use: a file, a folder, a tag, or the best that is already on this disk. Nothing is downloaded unless asked.

Reading this needs no torch: what a run needs to know first (the network's name and how its images are prepared) is in the card.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from convatlas import catalogue
from convatlas.data import Preprocessing
from convatlas.errors import ConvAtlasError
from convatlas.weights.card import Card, card_beside, default_preprocessing, read_card
from convatlas.weights.published import BEST, PUBLISHED, Published, download_published, on_disk

EMBEDDED = "embedded"
_EMBEDDED_FILE = Path(__file__).with_name("embedded") / "tiny.safetensors"


@dataclass(frozen=True, kw_only=True)
class WeightsSource:
    """A weights file and all that must be known to use it."""

    name: str  # of the network
    path: Path
    preprocessing: Preprocessing
    tag: str  # how it was asked for: "embedded", "torchvision/…", "timm/…" or the path
    config: dict[str, Any] = field(default_factory=dict)  # fields of the network's config that these weights need
    labels: tuple[str, ...] | None = None  # class names of its own classifier
    notes: tuple[str, ...] = ()  # what a user should be told about the choice

    def sha256(self) -> str:
        """Of the file's bytes, in hexadecimal."""
        with self.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()


def find_weights(
    weights: str | Path | None = None, *, name: str | None = None, download: bool = False
) -> WeightsSource:
    """The weights that `weights` (a file, a folder in the hub's layout, a tag) or, without it, this disk has for the network `name`.

    Without either the best ImageNet weights in the ecosystem's caches are taken, else the embedded backbone; the notes say what was taken
    and what a download would change. Raises `ConvAtlasError` where nothing fits, with the remedy.
    """
    if name is not None:
        catalogue.find(name)
    if weights is None:
        return _best(name, download)
    if str(weights) == EMBEDDED:
        return _from_file(_EMBEDDED_FILE, name, EMBEDDED)
    path = Path(weights).expanduser()
    if not path.exists() and path.suffix and not str(weights).startswith(("timm/", "torchvision/")):
        raise ConvAtlasError(f"{path}: there is no such weights file.", remedy="Check the path.")
    if path.is_dir():
        return _from_file(_weights_in(path), name, str(weights))
    known = {published.tag: published for published in PUBLISHED}
    if str(weights) in known and not path.exists():
        return _from_published(known[str(weights)], name, download)
    if not path.exists() and str(weights).startswith(("timm/", "torchvision/")):
        raise ConvAtlasError(f"unknown weights tag {str(weights)!r};", remedy=f"the tags are {', '.join(known)}.")
    return _from_file(path, name, str(weights))


def _from_file(path: Path, name: str | None, tag: str) -> WeightsSource:
    beside = card_beside(path)
    card = read_card(beside) if beside else Card()
    own = name or card.name
    if own is None:
        raise ConvAtlasError(
            f"{path}: nothing beside it says which network these weights are for.",
            remedy="Name it, as in `--backbone resnet50` (`convatlas list` shows all).",
        )
    if card.name not in (None, own):
        raise ConvAtlasError(
            f"{path}: its card says {card.name}, not {own}.", remedy=f"Ask for {card.name}, or give other weights."
        )
    notes: tuple[str, ...] = ()
    if card.preprocessing is None:
        notes = (f"{path.name}: no card beside it says how images were prepared; the usual for {own} is assumed.",)
    return WeightsSource(
        name=own,
        path=path,
        config=card.config,
        preprocessing=card.preprocessing or default_preprocessing(own),
        labels=card.labels,
        tag=tag,
        notes=notes,
    )


def _weights_in(folder: Path) -> Path:
    """The weights file of a folder in the hub's layout."""
    for candidate in ("model.safetensors", "pytorch_model.bin"):
        if (folder / candidate).is_file():
            return folder / candidate
    raise ConvAtlasError(
        f"{folder}: holds neither model.safetensors nor pytorch_model.bin.", remedy="Name the weights file itself."
    )


def _best(name: str | None, download: bool) -> WeightsSource:
    found = max(_candidates(name), key=lambda pair: pair[0].top1, default=None)
    if found is not None:
        published, path = found
        note = f"using {published.tag}, the best ImageNet weights found on this disk ({path})."
        return _with_notes(_published_source(published, path), note)
    if download:
        wanted = max((p for p in PUBLISHED if p.name == name), key=lambda p: p.top1, default=None) if name else BEST
        if wanted is not None:
            return _from_published(wanted, name, download)
    embedded = _from_file(_EMBEDDED_FILE, None, EMBEDDED)
    if name in (None, embedded.name):
        note = (
            f"using the embedded {embedded.name}; --download would fetch {BEST.tag} ({BEST.megabytes} MB, "
            f"{BEST.top1:.1f} % on ImageNet), which knows far more kinds of photos."
        )
        return _with_notes(embedded, note)
    raise ConvAtlasError(
        f"no weights for {name} on this disk.",
        remedy="Give `--weights FILE`, allow `--download`, or leave --backbone out to use the embedded one.",
    )


def _candidates(name: str | None) -> Iterator[tuple[Published, Path]]:
    for published in PUBLISHED:
        if name in (None, published.name) and (path := on_disk(published)):
            yield published, path


def _from_published(published: Published, name: str | None, download: bool) -> WeightsSource:
    if name not in (None, published.name):
        raise ConvAtlasError(
            f"{published.tag} is for {published.name}, not {name}.", remedy=f"Ask for {published.name}."
        )
    path = on_disk(published)
    if path is None and not download:
        raise ConvAtlasError(
            f"{published.tag} is not on this disk.",
            remedy=f"Allow `--download` ({published.megabytes} MB), or put {published.file} where {published.library} keeps it.",
        )
    return _published_source(published, path or download_published(published))


def _published_source(published: Published, path: Path) -> WeightsSource:
    source = _from_file(path, published.name, published.tag) if published.library == "timm" else None
    return source or WeightsSource(
        name=published.name, path=path, preprocessing=published.preprocessing, tag=published.tag
    )


def _with_notes(source: WeightsSource, note: str) -> WeightsSource:
    return replace(source, notes=(note, *source.notes))
