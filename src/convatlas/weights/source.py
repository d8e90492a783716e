"""Which weights to use: a file, a folder, a tag, or the best that is already on this disk. Nothing is downloaded unless asked.

Reading this needs no torch: what a run needs to know first (the network's name and how its images are prepared) is in the card.
"""

from __future__ import annotations

import difflib
import fnmatch
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from convatlas import catalogue
from convatlas.data import Preprocessing
from convatlas.errors import ConvAtlasError
from convatlas.weights.caches import HUB_FILES, hub_cache, in_hub_cache, on_disk, torch_checkpoints
from convatlas.weights.card import Card, card_beside, default_preprocessing, read_card
from convatlas.weights.download import Progress, fetch_published, fetch_repository, on_terminal
from convatlas.weights.formats import refuse_foreign
from convatlas.weights.published import Published, default_tag, published, rank

EMBEDDED = "embedded"
BEST = "torchvision/ResNet50_Weights.IMAGENET1K_V2"  # what a download takes where no network is named
_HUB = ("timm/", "hf-hub:", "hf_hub:")
_EMBEDDED_FILE = Path(__file__).with_name("embedded") / "tiny.safetensors"


@dataclass(frozen=True, kw_only=True)
class WeightsSource:
    """A weights file and all that must be known to use it."""

    name: str  # of the network
    path: Path
    preprocessing: Preprocessing
    tag: str  # how it was asked for: "embedded", "torchvision/…", "timm/…", "hf-hub:…" or the path
    config: dict[str, Any] = field(default_factory=dict)  # fields of the network's config that these weights need
    labels: tuple[str, ...] | None = None  # class names of its own classifier
    notes: tuple[str, ...] = ()  # what a user should be told about the choice

    def sha256(self) -> str:
        """Of the file's bytes, in hexadecimal."""
        with self.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True, kw_only=True)
class WeightsTag:
    """Weights that can be asked for by a tag."""

    tag: str
    network: str
    top1: float | None  # ImageNet top-1 accuracy in percent as published; None where the metadata do not say
    megabytes: float | None
    licence: str | None
    path: Path | None  # where they are on this disk; None where they would have to be downloaded


def weights_tags(pattern: str = "*") -> list[WeightsTag]:
    """The tags that `create(…, weights=tag)` takes, for networks or tags that match a shell pattern: `weights_tags("resnet50*")`."""
    embedded = _from_file(_EMBEDDED_FILE, None, EMBEDDED)
    rows = [
        WeightsTag(
            tag=EMBEDDED,
            network=embedded.name,
            top1=None,
            megabytes=round(_EMBEDDED_FILE.stat().st_size / 1e6, 1),
            licence=None,
            path=_EMBEDDED_FILE,
        )
    ]
    rows += [
        WeightsTag(
            tag=one.tag,
            network=one.name,
            top1=one.top1,
            megabytes=one.megabytes,
            licence=one.licence,
            path=on_disk(one),
        )
        for one in published().values()
    ]
    return [row for row in rows if fnmatch.fnmatch(row.network, pattern) or fnmatch.fnmatch(row.tag, pattern)]


def find_weights(
    weights: str | Path | None = None,
    *,
    name: str | None = None,
    download: bool = False,
    progress: Progress = on_terminal,
) -> WeightsSource:
    """The weights that `weights` (a file, a folder in the hub's layout, a tag) or, without it, this disk has for the network `name`.

    Without either the best ImageNet weights in the ecosystem's caches are taken, else the embedded backbone; the notes say what was taken
    and what a download would change. Raises `ConvAtlasError` where nothing fits, with the remedy.
    """
    if name is not None:
        catalogue.find(name)
    if weights is None:
        return _best(name, download, progress)
    asked = str(weights)
    if asked.startswith(("hf-hub:timm/", "hf_hub:timm/")):  # timm's own way to write its tags
        asked = asked.partition(":")[2]
    if asked == EMBEDDED:
        return _from_file(_EMBEDDED_FILE, name, EMBEDDED)
    path = Path(asked).expanduser()
    if not path.exists():
        if (tag := default_tag(asked)) in published():
            return _from_published(published()[tag], name, download, progress)
        if asked.startswith(_HUB):
            return _from_hub(asked, name, download, progress)
        if asked.startswith("torchvision/"):
            raise ConvAtlasError(f"unknown weights tag {asked!r};", remedy=_nearest(asked))
    refuse_foreign(path)
    if not path.exists():
        raise ConvAtlasError(
            f"{path}: there is no such weights file.",
            remedy="Check the path; `convatlas list --weights` shows the tags.",
        )
    return _from_file(_weights_in(path) if path.is_dir() else path, name, asked)


def _from_file(path: Path, name: str | None, tag: str) -> WeightsSource:
    beside = card_beside(path)
    card = read_card(beside) if beside else _card_by_name(path)
    own = name or card.name
    if own is None and beside and card.unknown is not None:
        raise ConvAtlasError(
            f"{path}: its {beside.name} says {card.unknown!r}, which is none of the networks here.",
            remedy="If it is one by another name, say which, as in `--backbone resnet50`.",
        )
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


def _card_by_name(path: Path) -> Card:
    """What is known of a published file wherever it lies: its name ends in its hash (`googlenet-1378be20.pth`)."""
    found = next((one for one in published().values() if one.url is not None and one.file == path.name), None)
    return Card() if found is None else Card(name=found.name, config=found.config, preprocessing=found.preprocessing)


def _weights_in(folder: Path) -> Path:
    """The weights file of a folder in the hub's layout."""
    for candidate in HUB_FILES:
        if (folder / candidate).is_file():
            return folder / candidate
    raise ConvAtlasError(f"{folder}: holds neither {' nor '.join(HUB_FILES)}.", remedy="Name the weights file itself.")


def _best(name: str | None, download: bool, progress: Progress) -> WeightsSource:
    found = max(_candidates(name), key=lambda pair: rank(pair[0]), default=None)
    if found is not None:
        best, path = found
        note = f"using {best.tag}, the best ImageNet weights found on this disk ({path})."
        return _with_notes(_published_source(best, path), note)
    best = published()[BEST]
    if download:
        wanted = (
            best if name is None else max((p for p in published().values() if p.name == name), key=rank, default=None)
        )
        if wanted is not None:
            return _from_published(wanted, name, download, progress)
    embedded = _from_file(_EMBEDDED_FILE, None, EMBEDDED)
    if name in (None, embedded.name):
        note = (
            f"using the embedded {embedded.name}; --download would fetch {best.tag} ({best.size}, "
            f"{best.top1:.1f} % on ImageNet), which knows far more kinds of photos."
        )
        return _with_notes(embedded, note)
    there_are = any(p.name == name for p in published().values())
    raise ConvAtlasError(
        f"no weights for {name} on this disk" + ("." if there_are else ", and none are published."),
        remedy=f"Give `--weights FILE`, {'allow `--download`, ' if there_are else ''}or leave --backbone out to use the embedded one.",
    )


def _candidates(name: str | None) -> Iterator[tuple[Published, Path]]:
    for one in published().values():
        if name in (None, one.name) and (path := on_disk(one)):
            yield one, path


def _from_published(wanted: Published, name: str | None, download: bool, progress: Progress) -> WeightsSource:
    if name not in (None, wanted.name):
        raise ConvAtlasError(f"{wanted.tag} is for {wanted.name}, not {name}.", remedy=f"Ask for {wanted.name}.")
    path = on_disk(wanted)
    if path is None and not download:
        where = hub_cache() if wanted.url is None else torch_checkpoints()
        raise ConvAtlasError(
            f"{wanted.tag} is not on this disk.",
            remedy=f"Allow `--download` ({wanted.size}), or put {wanted.file} where {wanted.library} keeps it ({where}).",
        )
    if path is not None:
        return _published_source(wanted, path)
    path = fetch_published(wanted, progress)
    return _with_notes(_published_source(wanted, path), f"fetched {wanted.tag} into {path.parent}.")


def _published_source(one: Published, path: Path) -> WeightsSource:
    if one.url is None and card_beside(path):
        return _from_file(path, one.name, one.tag)  # a repository's own card is newer than our table
    return WeightsSource(name=one.name, path=path, config=one.config, preprocessing=one.preprocessing, tag=one.tag)


def _from_hub(asked: str, name: str | None, download: bool, progress: Progress) -> WeightsSource:
    """Weights of a hub repository that is not in our table: which network they are for is in its `config.json`."""
    repository, _, revision = asked.removeprefix("hf-hub:").removeprefix("hf_hub:").partition("@")
    architecture = repository.partition("/")[2].partition(".")[0]
    if asked.startswith("timm/") and not catalogue.known_as(f"timm/{architecture}"):
        raise ConvAtlasError(f"unknown weights tag {asked!r};", remedy=_nearest(asked))
    path = in_hub_cache(repository, revision or None)
    if path is None and not download:
        near = f" Among the known tags, {_nearest(asked)}" if asked.startswith("timm/") else ""
        raise ConvAtlasError(
            f"{asked} is not on this disk (looked in {hub_cache()}).",
            remedy=f"Allow `--download` to ask the hub for it, or give its folder with --weights.{near}",
        )
    return _from_file(path or fetch_repository(repository, revision or None, progress), name, asked)


def _nearest(asked: str) -> str:
    """The remedy for a tag that there is not."""
    library, _, rest = asked.partition("/")
    tags = [tag.removeprefix(f"{library}/") for tag in published() if tag.startswith(f"{library}/")]
    near = [f"{library}/{tag}" for tag in difflib.get_close_matches(rest, tags, n=3)]
    return f"did you mean {' or '.join(near)}?" if near else "`convatlas list --weights` shows the tags."


def _with_notes(source: WeightsSource, note: str) -> WeightsSource:
    return replace(source, notes=(note, *source.notes))
