"""Which images a classifier had right, kept so that two that were judged on the same images can be compared image by image.

A fit keeps one bit an image, of each deal of folds where there were several, and a digest of which images they were: no paths, no labels.
Where images belong together, copies or one patient's, it keeps which do.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from convatlas.data import units
from convatlas.metrics import paired_interval

FIT = "fit.json"


def outcomes_json(
    sha256s: Sequence[str], labels: Sequence[str], right: np.ndarray, together: np.ndarray
) -> dict[str, Any]:
    """Of images by their hashes and labels (n,), whether each was right in each deal (deals, n), and the ids of their units (n,)."""
    images = list(zip(sha256s, labels, strict=True))
    order = sorted(range(len(images)), key=images.__getitem__)
    digest = hashlib.sha256(json.dumps([images[i] for i in order]).encode()).hexdigest()
    unit = np.unique(np.asarray(together)[order], return_inverse=True)[1]
    return {
        "of": digest,
        "images": len(order),
        "deals": len(right),
        "right": np.packbits(np.asarray(right, bool)[:, order]).tobytes().hex(),
        "together": unit.tolist() if len(order) > unit.max(initial=-1) + 1 else None,
    }


def difference(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> dict[str, Any] | None:
    """By how much the first is right more often, with a paired 95 % interval; None where images or labels were others."""
    if ours["of"] != theirs["of"]:
        return None
    apart = _shares(ours) - _shares(theirs)
    together = units(*(each.get("together") or [None] * len(apart) for each in (ours, theirs)))
    low, high = paired_interval(apart, together=together)
    return {
        "difference": float(apart.mean()),
        "difference_interval": [low, high],
        "images": len(apart),
        "only_ours": int((apart > 0).sum()),
        "only_theirs": int((apart < 0).sum()),
        "shown": bool(low > 0 or high < 0),
    }


def pairs(folders: Mapping[str, Path]) -> list[dict[str, Any]]:
    """Each pair of the named model folders whose fits were judged on the same images and labels, the more accurate first."""
    known = {name: found for name, folder in folders.items() if (found := _of(folder))}
    rows = []
    for a, b in itertools.combinations(known, 2):
        first, second = (a, b) if _shares(known[a]).mean() >= _shares(known[b]).mean() else (b, a)
        if found := difference(known[first], known[second]):
            rows.append({"better": first, "other": second, **found})
    return rows


def _of(folder: Path) -> dict[str, Any] | None:
    try:
        return json.loads((folder / FIT).read_text(encoding="utf-8")).get("outcomes")
    except (OSError, ValueError, AttributeError):
        return None


def _shares(outcomes: Mapping[str, Any]) -> np.ndarray:
    """(n,) in what share of the deals each image was right."""
    packed = np.frombuffer(bytes.fromhex(outcomes["right"]), np.uint8)
    images, deals = outcomes["images"], outcomes.get("deals", 1)
    return np.unpackbits(packed, count=deals * images).reshape(deals, images).mean(axis=0)
