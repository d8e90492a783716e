"""Explaining predictions: a page with each photo, where the answer comes from, and the training images that are most like it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convatlas.bundle.folder import ensure_replaceable, whole_folder
from convatlas.data import DecodeError
from convatlas.errors import ConvAtlasError
from convatlas.jobs.images import Progress, resolve_device, silent
from convatlas.jobs.overlay import GRID, overlay, thumbnail, written
from convatlas.jobs.remembered import Remembered, nearest_json

if TYPE_CHECKING:
    from convatlas.bundle.activation_maps import ActivationMap
    from convatlas.bundle.classifier import Classifier
    from convatlas.bundle.explanation import Explanation

SCHEMA = "convatlas.explain/1"
_SIDE, _NEAR = 480, 240  # pixels of the pictures: sharp on dense screens
_GRID = 14  # places a side of the maps in the JSON


@dataclass(frozen=True, kw_only=True)
class ExplainResult:
    """What `explain` found: `json`, versioned, and the page if one was written."""

    json: dict[str, Any]
    page: Path | None


def explain(
    folder: str | Path,
    images: str | Path | Sequence[str | Path],
    *,
    out: str | Path | None = None,
    top: int = 3,
    neighbours: int = 4,
    data: str | Path | None = None,
    device: str = "auto",
    progress: Progress = silent,
) -> ExplainResult:
    """Explains what the model of `folder` says of `images` (files, or folders of them), in order.

    For each: the `top` likeliest classes with probabilities and class-activation maps, and the nearest training images. With `out`, that
    folder gets `explain.html`, which needs no other file, and `explain.json`. `data` is where the training images are now, if they
    moved since the fit. A file that cannot be read gives a row with `error`. Raises `ConvAtlasError` for an ensemble, and for an `out` that
    holds something else.
    """
    from convatlas.bundle.load import load, paths_in

    target = None if out is None else Path(out).expanduser()
    if target is not None:
        ensure_replaceable(target)
    classifier = load(folder, device=resolve_device(device))
    member = classifier.members[0]
    paths = paths_in([images] if isinstance(images, str | Path) else images)
    if not paths:
        raise ConvAtlasError("there are no images to explain.", remedy="Give image files, or folders that hold some.")
    remembered = Remembered(classifier.folder, data)
    result: dict[str, Any] = {
        "schema": SCHEMA,
        "model": str(folder),
        "network": classifier.network,
        "reads": _reads(classifier),
        "classes": list(classifier.classes),
        "preprocessing": member.preprocessing.to_json(),
        "remembers": None
        if classifier.training is None
        else {"images": len(classifier.training.paths), "variance_kept": classifier.training.kept},
        "rows": [],
    }
    if target is None:
        result["rows"] = _rows(classifier, paths, remembered, None, top, neighbours, progress)
        return ExplainResult(json=json.loads(json.dumps(result)), page=None)
    with whole_folder(target) as partial:
        (partial / "assets").mkdir()
        result["rows"] = _rows(classifier, paths, remembered, partial, top, neighbours, progress)
        text = json.dumps(result, indent=1, ensure_ascii=False)
        (partial / "explain.json").write_text(text, encoding="utf-8", errors="backslashreplace")
        from convatlas.report.explain_page import render_explanations

        render_explanations(partial)
    return ExplainResult(json=json.loads(json.dumps(result)), page=target / "explain.html")


def _reads(classifier: Classifier) -> str:
    """What the classifier reads, in words."""
    probe = classifier.probe
    if probe is None:
        return f"{classifier.network} with its own classifier"
    means = f"the means of {_listed(probe.means)}"
    more = f" and the standard deviations of {_listed(probe.deviations)}" if probe.deviations else ""
    return f"a linear probe on {means}{more} of {classifier.network}"


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _rows(
    classifier: Classifier,
    paths: Iterable[Path],
    remembered: Remembered,
    folder: Path | None,
    top: int,
    neighbours: int,
    progress: Progress,
) -> list[dict[str, Any]]:
    rows = []
    every = list(paths)
    for number, path in enumerate(every):
        try:
            found = classifier.explain(path, top=top, neighbours=neighbours)
        except DecodeError as error:
            rows.append({"path": str(path), "label": None, "probability": None, "error": str(error)})
            continue
        rows.append(_row(str(path), number, found, remembered, folder))
        progress("explain", number + 1, len(every))
    return rows


def _row(path: str, number: int, found: Explanation, remembered: Remembered, folder: Path | None) -> dict[str, Any]:
    shown = [map_.on_grid(GRID) for map_ in found.maps]
    scale = max(float(abs(map_).max()) for map_ in shown) or 1.0
    row: dict[str, Any] = {
        "path": path,
        "label": found.label,
        "probability": found.prediction.probability,
        "seen": [round(edge, 1) for edge in found.box],
        "size": list(found.image.size),
        "photo": _kept(folder, f"{number:04d}-photo.jpg", lambda: thumbnail(found.image, _SIDE)),
        "top": [
            {"label": label, "probability": probability, **map_json(map_)}
            | {
                "picture": _kept(
                    folder,
                    f"{number:04d}-map-{i}.jpg",
                    lambda v=values: overlay(found.image, found.box, v, scale=scale, side=_SIDE),
                )
            }
            for i, ((label, probability), map_, values) in enumerate(
                zip(found.prediction.top, found.maps, shown, strict=True)
            )
        ],
        "nearest": None,
    }
    if found.nearest is not None:
        row["nearest"] = nearest_json(found.nearest, remembered)
        for i, (near, one) in enumerate(zip(row["nearest"], found.nearest, strict=True)):
            image = remembered.image(one) if folder is not None else None
            if image is not None:
                near["picture"] = _kept(
                    folder, f"{number:04d}-near-{i}.jpg", lambda image=image: thumbnail(image, _NEAR)
                )
    return row


def map_json(map_: ActivationMap) -> dict[str, Any]:
    """A map as JSON: the method, the logit's parts, and the map on a coarse grid that keeps its mean."""
    coarse = map_.on_grid(_GRID)
    return {
        "method": map_.method,
        "logit": map_.logit,
        "bias": map_.bias,
        "centred": map_.centred,
        "parts": [vars(part) for part in map_.parts],
        "share": map_.share,
        "map": [[round(float(value), 5) for value in row] for row in coarse],
    }


def _kept(folder: Path | None, name: str, made: Any) -> str | None:
    """Writes a picture into the assets, if there is a folder to keep it in; its name there."""
    return None if folder is None else written(folder, name, made())
