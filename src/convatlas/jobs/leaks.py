"""Test images that training has seen: the same file, or a near copy. How many, which, and the accuracy without them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from convatlas.jobs.decide import Decided
from convatlas.jobs.material import Material
from convatlas.jobs.result import percent
from convatlas.jobs.scores import accuracy_with_interval


def leak_json(found: Material, decided: Decided) -> dict[str, Any]:
    """`images` of the test part that leak, how many of them `exact` and `near`, `without` them the accuracy, and the `pairs`."""
    train = dict(zip(found.train.sha256s, found.train.records, strict=True))
    near: dict[str, tuple[str, float, float | None]] = {}  # content → the closest copy in training
    for pair in found.near:  # the closest first
        for one, other in (pair.sha256s, pair.sha256s[::-1]):
            if other in train:
                near.setdefault(one, (other, pair.distance, pair.cosine))
    pairs: list[dict[str, Any]] = []
    leaks = np.zeros(len(found.test), dtype=bool)
    for i, (record, sha256) in enumerate(zip(found.test.records, found.test.sha256s, strict=True)):
        exact = sha256 in train
        if not exact and sha256 not in near:
            continue
        leaks[i] = True
        source, distance, cosine = (sha256, 0.0, 1.0) if exact else near[sha256]
        row = {"test": found.dataset.locate(record), "train": found.dataset.locate(train[source]), "exact": exact}
        pairs.append({**row, "distance": distance, "cosine": cosine})
    count, exact = int(leaks.sum()), sum(row["exact"] for row in pairs)
    return {
        "images": count,
        "of": len(leaks),
        "exact": exact,
        "near": count - exact,
        "without": accuracy_with_interval(decided.right[~leaks]) if 0 < count < len(leaks) else None,
        "pairs": pairs,
    }


def leak_in_words(result: dict[str, Any]) -> Iterator[str]:
    """What must be read before the accuracy, if test images leak."""
    leak = result["leak"]
    if not leak or not leak["images"]:
        return
    count, of, without = leak["images"], leak["of"], leak["without"]
    kinds = [f"{leak['exact']:,} as the same file"] * bool(leak["exact"])
    kinds += [f"{leak['near']:,} as a near copy (saved again, resized, cropped or brightened)"] * bool(leak["near"])
    said = f"Leak: {count:,} of {of:,} test images ({percent(count / of)}) are also training images, {' and '.join(kinds)}. "
    if without is None:
        yield said + "No test image is left without them, so the accuracy says nothing of new images."
        return
    low, high = map(percent, without["accuracy_interval"])
    yield (
        f"{said}Without them the accuracy is {percent(without['accuracy'])} (95 % interval {low} to {high}, {without['images']:,} images) "
        f"instead of {percent(result['accuracy'])}; that is the figure to trust."
    )
