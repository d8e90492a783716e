"""The pictures of a fit's report that explain answers: for the worst mistakes and a few right answers, where each comes from and the
nearest training image."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from convatlas.data import Dataset, Record, decode, seen
from convatlas.errors import ConvAtlasError
from convatlas.jobs.overlay import GRID, overlay, thumbnail, written

if TYPE_CHECKING:
    from convatlas.bundle.classifier import Classifier

MOST = 12  # mistakes that are explained
RIGHT = 4  # right answers beside them
_SIDE, _NEAR = 256, 160  # pixels
_SHOWN = 1024  # the longer side of what pictures are made of


def right_answers(
    dataset: Dataset, records: Sequence[Record], probabilities: np.ndarray, truth: np.ndarray, classes: Sequence[str]
) -> list[tuple[Record, dict[str, Any]]]:
    """A typical right answer for each of a few classes, those with most images first: the one of median probability."""
    predicted, found = probabilities.argmax(axis=1), []
    counts = np.bincount(truth, minlength=len(classes))
    for label in np.argsort(-counts, kind="stable"):
        right = np.flatnonzero((truth == label) & (predicted == label))
        if len(right) and len(found) < RIGHT:
            order = right[np.argsort(probabilities[right, label], kind="stable")]
            i = int(order[len(order) // 2])
            row = {"path": dataset.locate(records[i]), "truth": classes[label], "predicted": classes[label]}
            row |= {"probability": float(probabilities[i, label]), "truth_probability": float(probabilities[i, label])}
            found.append((records[i], row))
    return found


def explain_rows(
    folder: Path, classifier: Classifier, dataset: Dataset, found: Sequence[tuple[Record, dict[str, Any]]], kind: str
) -> list[dict[str, Any]]:
    """The rows, each with `map` (a picture of the map of the predicted class), `map_method`, `thumbnail` if it had none, and `nearest`.

    Pictures go to FOLDER/assets under names that begin with `kind`. Only the first few rows are explained. The map is that of the
    finished classifier, also where the answer was given by one that had not learned from the image; the image itself and its copies are
    not counted as nearest.
    """
    from convatlas.bundle.activation_maps import activation_maps
    from convatlas.bundle.look import TOGETHER, look

    (folder / "assets").mkdir(exist_ok=True)
    member, training = classifier.members[0], classifier.training
    by_path = {record.path: record for record in dataset.records}
    rows = [{**row, "map": None, "map_method": None, "nearest": None} for _, row in found]
    together = max(1, TOGETHER // member.preprocessing.crops)
    for start in range(0, min(MOST, len(found)), together):
        part = slice(start, min(start + together, MOST))
        own, pixels, sizes, images = list[str](), list[np.ndarray](), list[tuple[int, int]](), list[Image.Image]()
        for record, _ in found[part]:  # one at a time: a scan may take a gigabyte
            data = dataset.read(record)
            image = decode(data, background=classifier.background)[0]
            own.append(hashlib.sha256(data).hexdigest())
            pixels.append(member.preprocessing.pixels(image))
            sizes.append(image.size)
            image.thumbnail((_SHOWN, _SHOWN), Image.Resampling.BILINEAR)  # in place, where it is larger
            images.append(image)
        looked = look(member, np.stack(pixels))
        try:
            usual, wanted = None if training is None else training.centre, [[row["predicted"]] for row in rows[part]]
            maps = [each[0] for each in activation_maps(looked, wanted, usual, sizes=sizes)]
        except ConvAtlasError:  # a network without places
            maps = None
        nearest = None if training is None else training.nearest(looked, 1, without=own)
        for i, (row, image) in enumerate(zip(rows[part], images, strict=True)):
            name = f"{kind}-{start + i:03d}"
            if not row.get("thumbnail"):
                row["thumbnail"] = written(folder, f"{name}.jpg", thumbnail(image, _SIDE))
            if maps is not None:
                values, box = maps[i].on_grid(GRID), seen(member.preprocessing, *image.size)
                drawn = overlay(image, box, values, scale=float(np.abs(values).max()) or 1.0, side=_SIDE)
                row |= {"map": written(folder, f"{name}-map.jpg", drawn), "map_method": maps[i].method}
            for near in nearest[i] if nearest is not None else ():
                record = by_path[near.path]
                small = thumbnail(decode(dataset.read(record), background=classifier.background)[0], _NEAR)
                row["nearest"] = {
                    "path": dataset.locate(record),
                    "label": near.label,
                    "cosine": near.cosine,
                    "thumbnail": written(folder, f"{name}-near.jpg", small),
                }
    return rows
