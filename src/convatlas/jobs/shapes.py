"""The shapes of a folder's images, and what of them the network was shown, as the JSON of a fit has it."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from convatlas.data import Examined, Framing, Preprocessing, histogram, kept


def shapes_json(framing: Framing, preprocessing: Preprocessing, examined: Sequence[Examined]) -> dict[str, Any]:
    """How images were made square and why, their aspect ratios, and the shares of their areas that the network saw."""
    facts = [item.facts for item in examined if item.facts is not None]
    sizes = [(found.height, found.width) if found.orientation > 4 else (found.width, found.height) for found in facts]
    shares = [kept(preprocessing, *size) for size in sizes]
    return {
        "mode": framing.fit,
        "crops": framing.crops,
        "asked": framing.asked,
        "own": framing.own,
        "reason": framing.reason,
        "images": len(sizes),
        "histogram": histogram(sizes),
        "kept_median": statistics.median(shares) if shares else None,
        "kept_least": min(shares, default=None),
    }
