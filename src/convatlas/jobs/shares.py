"""A pass over the images by several processes, on one machine or more: each content is decoded and run by one of them, once.

They are started as for training (`train.processes`). Every process hashes its share of the files, all tell each other, and whoever has
the first file of a content runs it; then the first process has the others' features and facts in its cache, and a pass there finds
everything known. Features are the same bits as one process's where a network's kernels do not add in another order for a smaller batch.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from convatlas.data import Dataset, DecodeError, Examined, Record
from convatlas.errors import ConvAtlasError
from convatlas.jobs.images import KnownFacts, Pass, Progress, extract_features, silent
from convatlas.transfer.features import FeatureStore
from convatlas.weights.source import WeightsSource

if TYPE_CHECKING:
    from convatlas.train.processes import Alone


def share_features(
    dataset: Dataset,
    records: Sequence[Record],
    source: WeightsSource,
    together: Alone,
    *,
    device: str,
    progress: Progress = silent,
) -> int:
    """Fills the first process's cache with the features of `records`; returns how many images this process has run.

    Where weights or memory do not serve, nothing is shared: the first process will meet that in its own pass, and say so.
    """
    hashes = {
        i: found for i in range(together.rank, len(records), together.count) if (found := _hash(dataset, records[i]))
    }
    whose: dict[str, int] = {}
    for i, sha256 in sorted((i, sha256) for found in together.all(hashes) for i, sha256 in found.items()):
        whose.setdefault(sha256, i)
    own = tuple(records[i] for i, sha256 in hashes.items() if whose[sha256] == i)
    passed: Pass | None = None
    with contextlib.suppress(ConvAtlasError, ValueError, RuntimeError):
        passed = extract_features(dataset, own, source, device=device, progress=progress)
    found = None
    if passed:
        sha256s = [item.sha256 for item in passed.examined if item.facts is not None]
        found = passed.store.widths, passed.store.blobs(sha256s), _facts(passed.examined)
    others = [answer for answer in together.all(found)[1:] if answer]
    if together.rank == 0 and passed:
        kept = FeatureStore(source, weights_sha256=source.sha256(), device=device, capacity=0)
        with KnownFacts(source.preprocessing.background) as known:
            for widths, blobs, facts in others:
                kept.receive(widths, blobs)
                known.receive(facts)
        kept.close()
    return passed.extraction.forwarded if passed else 0


def _hash(dataset: Dataset, record: Record) -> str:
    """Of a file's bytes; empty where it cannot be read, which the pass itself will say."""
    try:
        return hashlib.sha256(dataset.read(record)).hexdigest()
    except DecodeError:
        return ""


def _facts(examined: Iterable[Examined]) -> dict[str, Any]:
    """What was found out about each content, as JSON."""
    found = ((item.sha256, item.facts or item.failure) for item in examined if item.sha256)
    return {sha256: facts.to_json() for sha256, facts in found if facts is not None}
