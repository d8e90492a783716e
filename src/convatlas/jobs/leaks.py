"""Test images that training has seen: the same file, or a near copy. How many, which, and the accuracy without them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from convatlas.data import NearPair
from convatlas.jobs.decide import Decided
from convatlas.jobs.material import Material
from convatlas.jobs.result import percent
from convatlas.jobs.scores import accuracy_with_interval


@dataclass(frozen=True, kw_only=True)
class Leaked:
    """Which test images are also training images."""

    mask: np.ndarray  # (test,)
    copies: dict[int, NearPair | None]  # test image → its closest near copy; None where the file itself is in training


def leaked(found: Material) -> Leaked:
    """Found by content and by near copies."""
    train = set(found.train.sha256s)
    near: dict[str, NearPair] = {}
    for pair in found.near:  # the closest first
        for one, other in (pair.sha256s, pair.sha256s[::-1]):
            if other in train:
                near.setdefault(one, pair)
    copies = {
        i: None if sha256 in train else near[sha256]
        for i, sha256 in enumerate(found.test.sha256s)
        if sha256 in train or sha256 in near
    }
    mask = np.zeros(len(found.test), dtype=bool)
    mask[list(copies)] = True
    return Leaked(mask=mask, copies=copies)


def leak_json(found: Material, decided: Decided) -> dict[str, Any]:
    """`images` of the test part that leak, how many of them `exact` and `near`, `without` them the accuracy, and the `pairs`."""
    train = dict(zip(found.train.sha256s, found.train.records, strict=True))
    known = leaked(found)
    pairs: list[dict[str, Any]] = []
    for i, pair in known.copies.items():
        own = found.test.sha256s[i]
        source = own if pair is None else next(each for each in pair.sha256s if each in train and each != own)
        pairs.append(
            {
                "test": found.dataset.locate(found.test.records[i]),
                "train": found.dataset.locate(train[source]),
                "exact": pair is None,
                "distance": 0.0 if pair is None else round(pair.distance, 6),
                "cosine": None if pair is None or pair.cosine is None else round(pair.cosine, 4),
            }
        )
    count, exact, others = len(pairs), sum(row["exact"] for row in pairs), ~known.mask
    without = (decided.right[others], found.test.together[others])
    return {
        "images": count,
        "of": len(found.test),
        "exact": exact,
        "near": count - exact,
        "without": accuracy_with_interval(*without) if 0 < count < len(found.test) else None,
        "pairs": pairs,
    }


def leak_in_words(result: dict[str, Any], what: str = "test images") -> Iterator[str]:
    """What must be read before the accuracy, if images that judge leak. Where a leak has no `near`, near copies were not looked for."""
    leak = result["leak"]
    if not leak or not leak["images"]:
        return
    count, of, without = leak["images"], leak["of"], leak["without"]
    kinds = [f"{leak['exact']:,} as the same file"] * bool(leak["exact"])
    if leak.get("near"):
        kinds.append(f"{leak['near']:,} as a near copy (saved again, resized, cropped or brightened)")
    said = f"Leak: {count:,} of {of:,} {what} ({percent(count / of)}) are also training images, {' and '.join(kinds)}. "
    if without is None:
        yield said + "None is left without them, so the accuracy says nothing of new images."
        return
    low, high = map(percent, without["accuracy_interval"])
    yield (
        f"{said}Without them the accuracy is {percent(without['accuracy'])} (95 % interval {low} to {high}, {without['images']:,} images) "
        f"instead of {percent(result['accuracy'])}; that is the figure to trust."
    )
