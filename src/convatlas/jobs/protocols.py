"""Which accuracies may stand in one chart: those measured alike, on the same images in the same way.

A published figure is grouped by its data set and how it was measured (`zoo/papers.json`, where a reference to a table of some paper says
nothing of that and is dropped); a model folder's by the fingerprint of the data it was fitted and judged on. No torch here.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from convatlas.cards import card
from convatlas.errors import ConvAtlasError

IMAGENET = "ImageNet-1k"
MIXED = "mixed"  # asks for one chart of figures that were not measured alike

_TABLE = re.compile(r"\s*\([^()]*\btable\b[^()]*\)")
_TIMM_TAG = re.compile(r"^timm's [\w.]+,")


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """A data set and a way to measure on it."""

    dataset: str
    measured: str

    def __str__(self) -> str:
        return f"{self.dataset}: {self.measured}"


@dataclass(frozen=True, kw_only=True)
class Accuracy:
    """One accuracy as shares of 1, with how it was measured and how we know it."""

    top1: float
    top5: float | None = None
    interval: tuple[float, float] | None = None  # 95 %; publishers give none
    protocol: Protocol
    basis: str


def published(name: str) -> dict[Protocol, Accuracy]:
    """The published top-1 accuracies of the network `name` alone (no ensembles), one for each protocol."""
    found: dict[Protocol, Accuracy] = {}
    for result in card(name).results:
        if result.of or result.top1_error is None:
            continue
        measured = _TIMM_TAG.sub("timm's metadata,", _TABLE.sub("", result.protocol))
        protocol = Protocol(dataset=result.dataset, measured=measured)
        accuracy = Accuracy(
            top1=_share(result.top1_error),
            top5=None if result.top5_error is None else _share(result.top5_error),
            protocol=protocol,
            basis=result.basis,
        )
        if protocol not in found or accuracy.top1 > found[protocol].top1:
            found[protocol] = accuracy
    return found


def judged(about: Mapping[str, Any]) -> dict[Protocol, Accuracy]:
    """The accuracy that a model folder carries (`about` of its config.json); none where it was packed rather than fitted."""
    if about.get("accuracy") is None or "fingerprint" not in about.get("data", {}):
        return {}
    # The same fingerprint is the same images, labels and splits, and so the same rule of what is held out.
    protocol = Protocol(dataset=f"data {about['data']['fingerprint'][:12]}", measured="held out by convatlas fit")
    low, high = about["accuracy_interval"]
    accuracy = Accuracy(
        top1=about["accuracy"], interval=(low, high), protocol=protocol, basis=f"measured: {about['protocol']}"
    )
    return {protocol: accuracy}


def covered(accuracies: Iterable[Mapping[Protocol, Accuracy]]) -> dict[Protocol, list[Accuracy]]:
    """Each protocol with the accuracies it has: first the one that most networks have a checked figure of, then the one of most."""
    groups: dict[Protocol, list[Accuracy]] = {}
    for found in accuracies:
        for protocol, accuracy in found.items():
            groups.setdefault(protocol, []).append(accuracy)
    checked = {protocol: sum("memory" not in accuracy.basis for accuracy in rows) for protocol, rows in groups.items()}
    return dict(sorted(groups.items(), key=lambda item: (-checked[item[0]], -len(item[1]))))


def matching(groups: Mapping[Protocol, list[Accuracy]], wanted: str) -> list[Protocol]:
    """The protocols whose name holds `wanted` or matches it as a shell pattern; `ConvAtlasError` with what there is if none does."""
    pattern = wanted.lower()
    found = [p for p in groups if pattern in str(p).lower() or fnmatch.fnmatchcase(str(p).lower(), pattern)]
    if not found:
        there = "; ".join(f"{protocol} ({len(rows)})" for protocol, rows in list(groups.items())[:8]) or "none"
        raise ConvAtlasError(
            f"no accuracy of these networks was measured by {wanted!r}.", remedy=f"There are, with how many: {there}."
        )
    return found


def _share(error: float) -> float:
    return round(1 - error / 100, 6)  # errors have three decimals at most
