"""What the stages of a network see in the user's images: filters, the patches that excite its channels most, and a map of the features.

One pass over a sample of the images. Of every stage each channel's largest value and its place are kept, and each map's mean. The patch
that is shown for a place is its receptive field, as the analyser computes it for exactly this network, cut where the image ends.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor, nn

from convatlas import zoo
from convatlas.analysis.receptive import Field, Unknown, receptive_fields
from convatlas.analysis.record import record
from convatlas.bundle.folder import ensure_replaceable, whole_folder
from convatlas.bundle.load import load
from convatlas.bundle.look import TOGETHER, stage_modules
from convatlas.bundle.save import CONFIG
from convatlas.data import Dataset, Preprocessing, Record, examine, scan
from convatlas.errors import ConvAtlasError
from convatlas.jobs.images import Progress, resolve_device, silent
from convatlas.jobs.layout import layouts, neighbours_agree
from convatlas.jobs.overlay import jpeg, written
from convatlas.jobs.selectivity import most_selective, selectivity
from convatlas.weights.load import load_network
from convatlas.weights.source import find_weights
from convatlas.zoo.inference import for_inference, normalised

SCHEMA = "convatlas.sees/1"
CHANNELS, PATCHES = 6, 6  # shown of a stage, and of a channel
_THUMBNAIL, _PATCH, _LEAST = 72, 112, 48  # pixels: of an image in the map, of a patch at most and at least
_FILTERS = 96  # of the first layer, at most
_WIDE = 0.6  # of the image's side, from which a patch gets a ring where its middle lies


@dataclass(frozen=True, kw_only=True)
class SeesResult:
    """What `sees` found: `json`, versioned, and the page if one was written."""

    json: dict[str, Any]
    page: Path | None


@dataclass(frozen=True, kw_only=True, eq=False)
class _Seen:
    """What one stage computed of n images."""

    means: np.ndarray  # (n, c)
    largest: np.ndarray  # (n, c)
    places: np.ndarray  # (n, c, 2): row and column of the largest
    shape: tuple[int, int, int]  # of the maps: channels, height, width
    field: Field | Unknown


def sees(
    model: str | Path,
    data: str | Path,
    *,
    out: str | Path | None = None,
    weights: str | Path | None = None,
    download: bool = False,
    images: int = 300,
    seed: int = 0,
    device: str = "auto",
    progress: Progress = silent,
) -> SeesResult:
    """Looks at the stages of `model`, a model folder or a network of ours with `weights` (as for `fit`), through the images at `data`.

    At most so many `images`, the same number of each class where there are enough. With `out`, that folder gets `stages.html`, which needs
    no other file, and `sees.json`. Raises `ConvAtlasError` for a model or data that cannot be used, and an `out` that holds something
    else.
    """
    target = None if out is None else Path(out).expanduser()
    if target is not None:
        ensure_replaceable(target)
    dataset = scan(data)
    network, name, preprocessing, told = _network(model, weights, download, resolve_device(device))
    kept, pixels = _sample(dataset, preprocessing, images, seed, progress)
    stages = _run(network, pixels, preprocessing, progress)
    if not stages:
        raise ConvAtlasError(f"{name} has no stage that makes maps.", remedy="Take another network.")
    names = sorted({item.label for item in kept})
    labels = np.array([names.index(item.label) for item in kept])
    result: dict[str, Any] = {
        "schema": SCHEMA,
        "model": str(model),
        "network": name,
        "weights": told,
        "data": str(dataset.root),
        "size": preprocessing.size,
        "classes": names,
        "images": [{"path": dataset.locate(item), "label": item.label, "thumbnail": None} for item in kept],
    }
    maps = dict(layouts({stage: seen.means for stage, seen in stages.items()}, seed=seed))
    result["stages"] = [_stage(stage, seen, labels, maps[stage], names) for stage, seen in stages.items()]
    result["filters"] = None
    if target is None:
        return SeesResult(json=json.loads(json.dumps(result)), page=None)
    with whole_folder(target) as folder:
        (folder / "assets").mkdir()
        result["filters"] = _write_filters(network, folder)
        for number, (row, image) in enumerate(zip(result["images"], pixels, strict=True)):
            small = _image(image).resize((_THUMBNAIL, _THUMBNAIL), Image.Resampling.BILINEAR)
            row["thumbnail"] = written(folder, f"image-{number:04d}.jpg", jpeg(small.convert("RGB")))
        for row in result["stages"]:
            _write_patches(row, stages[row["name"]], pixels, folder)
        text = json.dumps(result, indent=1, ensure_ascii=False)
        (folder / "sees.json").write_text(text, encoding="utf-8", errors="backslashreplace")
        from convatlas.report.stages_page import render_stages

        render_stages(folder)
    return SeesResult(json=json.loads(json.dumps(result)), page=target / "stages.html")


def _network(
    model: str | Path, weights: str | Path | None, download: bool, device: str
) -> tuple[nn.Module, str, Preprocessing, str]:
    """The network ready to run, its name, how images are prepared, and whose weights these are."""
    if (Path(model).expanduser() / CONFIG).is_file():
        if weights is not None:
            raise ConvAtlasError(f"{model} is a model folder, which has its weights.", remedy="Leave --weights out.")
        classifier = load(model, device=device)
        return classifier.members[0].model, classifier.network, classifier.preprocessing.single, f"those of {model}"
    source = find_weights(weights, name=str(model), download=download)
    p = source.preprocessing.single
    built, _ = load_network(source, num_classes=0, in_channels=p.channels)
    fast = for_inference(built, (1, p.channels, p.size, p.size)).to(device)
    return fast, source.name, p, source.tag


def _sample(
    dataset: Dataset, preprocessing: Preprocessing, most: int, seed: int, progress: Progress
) -> tuple[list[Record], np.ndarray]:
    """Images of the training part, or of all where there is none: class by class in turn, each class in an order of chance."""
    records = dataset.of("train") or dataset.records
    generator = np.random.default_rng(seed)
    by_class: dict[str, list[Record]] = {}
    for i in generator.permutation(len(records)):
        by_class.setdefault(records[i].label, []).append(records[i])
    rank = {id(item): n for group in by_class.values() for n, item in enumerate(group)}
    order = sorted(records, key=lambda item: (rank[id(item)], item.label))
    kept: list[Record] = []
    pixels: list[np.ndarray] = []
    for item in examine(dataset, order[:most], preprocessing=preprocessing):
        if item.pixels is not None:
            kept.append(item.record)
            pixels.append(item.pixels)
        progress("decode", len(kept), min(most, len(order)))
    if len(kept) < 2:
        raise ConvAtlasError(
            f"{dataset.root}: fewer than two images could be read.", remedy="`convatlas check` says why."
        )
    return kept, np.stack(pixels)


def _run(network: nn.Module, pixels: np.ndarray, p: Preprocessing, progress: Progress) -> dict[str, _Seen]:
    """One pass; every stage's largest values, their places, and means."""
    device = next(network.parameters()).device
    stages = stage_modules(network)
    found: dict[str, list[tuple[Tensor, Tensor, Tensor]]] = {name: [] for name in stages}
    shapes: dict[str, tuple[int, int, int]] = {}

    def keep(name: str, output: Any) -> None:
        maps = zoo.feature(output)
        if maps.ndim == 4:
            largest, place = maps.flatten(2).max(2)
            shapes[name] = (maps.shape[1], maps.shape[2], maps.shape[3])
            found[name].append((maps.mean((2, 3)).cpu(), largest.cpu(), place.cpu()))

    hooks = [
        module.register_forward_hook(lambda _, __, output, name=name: keep(name, output))
        for name, module in stages.items()
    ]
    try:
        with torch.inference_mode():
            for start in range(0, len(pixels), TOGETHER):
                batch = torch.from_numpy(pixels[start : start + TOGETHER]).to(device)
                network(normalised(batch, p.mean, p.std))
                progress("look", min(start + TOGETHER, len(pixels)), len(pixels))
    finally:
        for hook in hooks:
            hook.remove()
    fields = _fields(network, p, stages)
    seen = {}
    for name, parts in found.items():
        if not parts:
            continue
        means, largest, place = (torch.cat(each).numpy() for each in zip(*parts, strict=True))
        places = np.stack(np.divmod(place, shapes[name][2]), axis=-1)
        seen[name] = _Seen(means=means, largest=largest, places=places, shape=shapes[name], field=fields[name])
    return seen


def _fields(network: nn.Module, p: Preprocessing, stages: Mapping[str, nn.Module]) -> dict[str, Field | Unknown]:
    """What each stage's units see of the image, gates ignored."""
    paths = {module: path for path, module in network.named_modules()}
    tape = record(network, torch.zeros(1, p.channels, p.size, p.size))
    fields = receptive_fields(tape, gates=False)
    last = {call.path: call.outputs[-1].number for call in tape.calls if call.outputs}
    unknown = Unknown("it does not run")
    return {name: fields.get(last.get(paths[module], -1), unknown) for name, module in stages.items()}


def _stage(name: str, seen: _Seen, labels: np.ndarray, places: np.ndarray, names: list[str]) -> dict[str, Any]:
    """A stage as JSON: its shape, what it sees, its map, and its most selective channels with the images that excite them most."""
    selective = selectivity(seen.largest, labels)
    channels = []
    for channel in most_selective(seen.largest, labels, CHANNELS):
        best = np.argsort(-seen.largest[:, channel], kind="stable")[:PATCHES].tolist()
        channels.append(
            {
                "channel": channel,
                "selectivity": float(selective[channel]),
                "patches": [
                    {
                        "image": i,
                        "label": names[labels[i]],
                        "value": float(seen.largest[i, channel]),
                        "place": seen.places[i, channel].tolist(),
                        "picture": None,
                    }
                    for i in best
                ],
            }
        )
    field = seen.field
    return {
        "name": name,
        "maps": list(seen.shape),
        "field": list(field.size) if isinstance(field, Field) else None,
        "neighbours_agree": neighbours_agree(seen.means, labels),
        "map": [[round(float(x), 4), round(float(y), 4)] for x, y in places],
        "channels": channels,
    }


def _write_patches(row: dict[str, Any], seen: _Seen, pixels: np.ndarray, folder: Path) -> None:
    for shown in row["channels"]:
        for number, patch in enumerate(shown["patches"]):
            image = pixels[patch["image"]]
            top, bottom, left, right = _window(seen, patch["place"], image.shape[:2])
            picture = _image(image[top : bottom + 1, left : right + 1]).convert("RGB")
            side = min(_PATCH, max(_LEAST, *picture.size))
            scale = side / max(picture.size)
            size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
            picture = picture.resize(size, Image.Resampling.BICUBIC if scale < 1 else Image.Resampling.NEAREST)
            if max(bottom - top, right - left) > _WIDE * len(image):
                _ring(
                    picture,
                    [(c + 0.5) / n for c, n in zip(patch["place"], seen.shape[1:], strict=True)],
                    image,
                    (top, left, scale),
                )
            name = f"{row['name']}-{shown['channel']:04d}-{number}.jpg"
            patch["picture"] = written(folder, name, jpeg(picture))


def _window(seen: _Seen, place: list[int], shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    """First and last row, first and last column of what the unit at `place` sees, inside the image; all of it where nobody knows."""
    if not isinstance(seen.field, Field):
        return 0, shape[0] - 1, 0, shape[1] - 1
    edges = []
    for interval, unit, side in zip(seen.field.largest, place, shape, strict=True):
        low, high = (interval.first, interval.last) if interval.fixed else interval.at(unit)
        edges += [min(max(low, 0), side - 1), min(max(high, 0), side - 1)]
    top, bottom, left, right = edges
    return top, bottom, left, right


def _ring(picture: Image.Image, middle: list[float], image: np.ndarray, at: tuple[int, int, float]) -> None:
    """A white ring with a dark edge around the place in a large patch."""
    top, left, scale = at
    y, x = (middle[0] * image.shape[0] - top) * scale, (middle[1] * image.shape[1] - left) * scale
    draw, radius = ImageDraw.Draw(picture), max(picture.size) / 9
    draw.ellipse((x - radius, y - radius, x + radius, y + radius), outline=(0, 0, 0), width=4)
    draw.ellipse((x - radius + 1, y - radius + 1, x + radius - 1, y + radius - 1), outline=(255, 255, 255), width=2)


def _write_filters(network: nn.Module, folder: Path) -> dict[str, Any] | None:
    """The first layer's filters as one picture, each with its largest weight at full strength around grey; None where it reads no image."""
    first = next((module for module in network.modules() if isinstance(module, nn.Conv2d)), None)
    if first is None or first.weight.shape[1] not in (1, 3):
        return None
    weights = first.weight.detach().float().cpu().numpy()[:_FILTERS]
    count, _, height, width = weights.shape
    strongest = np.abs(weights).max(axis=(1, 2, 3), keepdims=True)
    colours = (127.5 + 127.5 * weights / np.maximum(strongest, 1e-30)).round().astype(np.uint8).transpose(0, 2, 3, 1)
    zoom, columns = max(4, 44 // max(height, width)), min(12, count)
    cells = [
        _image(filter_).convert("RGB").resize((width * zoom, height * zoom), Image.Resampling.NEAREST)
        for filter_ in colours
    ]
    gap, rows = 4, -(-count // columns)
    sheet = Image.new("RGBA", (columns * (width * zoom + gap) - gap, rows * (height * zoom + gap) - gap), (0, 0, 0, 0))
    for i, cell in enumerate(cells):
        sheet.paste(cell, (i % columns * (width * zoom + gap), i // columns * (height * zoom + gap)))
    sheet.save(folder / "assets" / "filters.png")
    own = {"count": int(first.weight.shape[0]), "shown": count, "size": [height, width], "stride": list(first.stride)}
    return own | {"picture": "assets/filters.png"}


def _image(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
