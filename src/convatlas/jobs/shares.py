"""A pass over the images by several processes, on one machine or more: each content is decoded and run by one of them, once.

They are started as for training (`train.processes`). Every process hashes its share of the files, all tell each other, and whoever has
the first file of a content runs it; then the first process has the others' features and facts in its cache, and a pass there finds
everything known. Features are the same bits as one process's where a network's kernels do not add in another order for a smaller batch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from convatlas.data import Dataset, DecodeError, Examined
from convatlas.jobs.images import KnownFacts, Progress, extract_features, silent
from convatlas.transfer.features import FeatureStore
from convatlas.weights.source import WeightsSource

if TYPE_CHECKING:
    from convatlas.train.processes import Alone


def share_features(
    dataset: Dataset, source: WeightsSource, together: Alone, *, device: str, progress: Progress = silent
) -> int:
    """Fills the first process's cache with the features of all of `dataset`; returns how many images this process has run."""
    mine = range(together.rank, len(dataset.records), together.count)
    hashes = {i: sha256 for i in mine if (sha256 := _hash(dataset, i))}
    whose: dict[str, int] = {}
    for i, sha256 in sorted((i, sha256) for found in together.all(hashes) for i, sha256 in found.items()):
        whose.setdefault(sha256, i)
    own = [i for i, sha256 in hashes.items() if whose[sha256] == i]
    records = tuple(dataset.records[i] for i in own)
    passed = extract_features(dataset, records, source, device=device, progress=progress)
    sha256s = [item.sha256 for item in passed.examined if item.facts is not None]
    told = together.all((passed.store.widths, passed.store.blobs(sha256s), _facts(passed.examined)))
    if together.rank == 0:
        kept = FeatureStore(source, weights_sha256=source.sha256(), device=device, capacity=0)
        with KnownFacts() as known:
            for widths, blobs, facts in told[1:]:
                kept.receive(widths, blobs)
                known.receive(facts)
        kept.close()
    return passed.extraction.forwarded


def _hash(dataset: Dataset, index: int) -> str:
    """Of a file's bytes; empty where it cannot be read, which the pass itself will say."""
    try:
        return hashlib.sha256(dataset.read(dataset.records[index])).hexdigest()
    except DecodeError:
        return ""


def _facts(examined: Iterable[Examined]) -> dict[str, Any]:
    """What was found out about each content, as JSON."""
    found = ((item.sha256, item.facts or item.failure) for item in examined if item.sha256)
    return {sha256: facts.to_json() for sha256, facts in found if facts is not None}
