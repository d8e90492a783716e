"""Which images a classifier had right, kept so that two that were judged on the same images can be compared image by image.

A fit keeps one bit an image and a digest of which images they were: no paths, no labels, an eighth of a byte each.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from convatlas.metrics import paired_interval

FIT = "fit.json"


def outcomes_json(sha256s: Sequence[str], right: np.ndarray) -> dict[str, Any]:
    """Of images by their hashes, and whether each was right (n,)."""
    order = sorted(range(len(sha256s)), key=sha256s.__getitem__)
    digest = hashlib.sha256("".join(sha256s[i] for i in order).encode()).hexdigest()
    return {"of": digest, "images": len(order), "right": np.packbits(np.asarray(right, bool)[order]).tobytes().hex()}


def difference(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> dict[str, Any] | None:
    """By how much the first is right more often, with a paired 95 % interval; None where they were judged on different images."""
    if ours["of"] != theirs["of"]:
        return None
    apart = _bits(ours).astype(int) - _bits(theirs)
    low, high = paired_interval(apart)
    return {
        "difference": float(apart.mean()),
        "difference_interval": [low, high],
        "images": len(apart),
        "only_ours": int((apart > 0).sum()),
        "only_theirs": int((apart < 0).sum()),
        "shown": bool(low > 0 or high < 0),
    }


def pairs(folders: Mapping[str, Path]) -> list[dict[str, Any]]:
    """Each pair of the named model folders whose fits were judged on the same images, the more accurate first."""
    known = {name: found for name, folder in folders.items() if (found := _of(folder))}
    rows = []
    for a, b in itertools.combinations(known, 2):
        first, second = (a, b) if _bits(known[a]).mean() >= _bits(known[b]).mean() else (b, a)
        if found := difference(known[first], known[second]):
            rows.append({"better": first, "other": second, **found})
    return rows


def _of(folder: Path) -> dict[str, Any] | None:
    try:
        return json.loads((folder / FIT).read_text(encoding="utf-8")).get("outcomes")
    except (OSError, ValueError, AttributeError):
        return None


def _bits(outcomes: Mapping[str, Any]) -> np.ndarray:
    packed = np.frombuffer(bytes.fromhex(outcomes["right"]), np.uint8)
    return np.unpackbits(packed, count=outcomes["images"]).astype(bool)
