"""What the features already say of the data: how the accuracy grows with images, how like the source these are, what scores are worth.

It rests on what a fit has in memory, and on a glance at a few images, and is kept in the cache, so that the repeat of a fit pays nothing.
No choice depends on it, and no test image is looked at.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

import numpy as np

import convatlas
from convatlas.cache import Store, code_sha256
from convatlas.data import DECODER, examine
from convatlas.jobs.decide import Decided, Wanted
from convatlas.jobs.images import resolve_device
from convatlas.jobs.material import Material
from convatlas.jobs.result import percent
from convatlas.metrics import independent_number, kendall
from convatlas.metrics.over_seeds import student
from convatlas.transfer.forecast import Forecast, forecast, learning_curve
from convatlas.transfer.logme import logme
from convatlas.transfer.probe import Selection

_LEAST_STAGES = 3  # for a rank correlation
_UNEVEN = 2  # times as many images in the largest class as in the smallest
_LEAST_IMAGES = 10  # independent ones, for a stage to be called better than the last


def evidence(found: Material, decided: Decided, wanted: Wanted) -> dict[str, Any]:
    """`forecast`, `similarity` and `scores`, as fit.json has them."""
    store, key = _kept(found, decided, wanted)
    try:
        if blob := store.get(key):
            return json.loads(blob)
        similarity = _similarity(found, wanted)
        told = {
            "forecast": _forecast(found, decided.selection, decided.rungs, wanted),
            "similarity": similarity,
            "scores": _scores(found, decided.selection, decided.rungs, similarity),
        }
        blob = json.dumps(told).encode()
        store.put([(key, blob)])
        return json.loads(blob)  # the same as from the cache
    finally:
        store.close()


def _kept(found: Material, decided: Decided, wanted: Wanted) -> tuple[Store, str]:
    """Where this is kept, and under which key: all that it depends on."""
    source, train, selection = found.source, found.train, decided.selection
    store = Store(
        "evidence",
        {
            "convatlas": convatlas.__version__,
            "weights": source.sha256(),
            "network": source.name,
            "config": source.config,
            "preprocessing": source.preprocessing.to_json(),
            "code": code_sha256("transfer", "metrics", "zoo", "data", "jobs"),
            "libraries": [DECODER, version("torch"), version("numpy")],
        },
    )
    strengths = {name: probe.strength for name, probe in selection.probes.items()}
    units, classes = found.together.tolist(), len(found.classes)
    facts = [train.sha256s, train.labels.tolist(), classes, units, selection.name, strengths]
    described = json.dumps([*facts, wanted.class_weights, wanted.seed])
    return store, hashlib.sha256(described.encode()).hexdigest()


def _forecast(
    found: Material, selection: Selection, rungs: dict[str, tuple[np.ndarray, ...]], wanted: Wanted
) -> dict[str, Any]:
    probe, labels = selection.probe, found.train.labels
    right = np.where(np.isfinite(probe.losses), probe.held_out.argmax(axis=1) == labels, np.nan)
    curve = learning_curve(
        rungs[selection.name],
        labels,
        len(found.classes),
        probe.strength,
        right,
        together=found.together,
        class_weights=wanted.class_weights,
        seed=wanted.seed,
    )
    ahead, counts = forecast(curve), np.bincount(labels)
    even = bool(counts.max() < _UNEVEN * counts[counts > 0].min())
    return {
        "rung": selection.name,
        "more": ahead.more,
        "even": even,
        "told": not ahead.doubt,
        "gain": ahead.gain,
        "interval": list(ahead.interval),
        "interval95": list(ahead.interval95),
        "words": forecast_in_words(ahead, None if even else curve.classes),
        "points": [{**asdict(point), "per_class": point.images / curve.classes} for point in curve.points],
        "band": [dict(zip(("per_class", "accuracy", "low", "high"), row, strict=True)) for row in ahead.band],
    }


def forecast_in_words(ahead: Forecast, uneven: int | None = None) -> str:
    """A sentence. Of so many classes that are `uneven` it looks ahead to more images of the same mix, not to as many of each."""
    more = f"{ahead.more} more images of each class"
    if uneven:
        more = f"{ahead.more * uneven:,} more images, of each class in proportion to those that there are,"
    if ahead.doubt:
        return f"What {more} would be worth cannot be told: {ahead.doubt}."
    low, high = ahead.interval
    return (
        f"{more} would be worth about {100 * ahead.gain:.1f} ± {50 * (high - low):.1f} percentage points "
        f"of accuracy (80 % interval {_points(ahead.interval)}; 95 % {_points(ahead.interval95)})."
    )


def _points(interval: tuple[float, float]) -> str:
    return " to ".join(f"{100 * bound:+.1f}" for bound in interval).replace("-", "−")


def _similarity(found: Material, wanted: Wanted) -> dict[str, Any]:
    """The distance to the source before every stage, from a few training images, as many of each class as of any other."""
    import torch

    from convatlas.transfer.similarity import FAR, IMAGES, NEAR, likeness
    from convatlas.weights.load import load_network
    from convatlas.zoo.inference import apart, normalised

    p = found.source.preprocessing
    order = _evenly(found.train.labels, wanted.seed)[:IMAGES]
    looked = examine(found.dataset, [found.train.records[i] for i in order], preprocessing=p)
    pixels = [item.pixels for item in looked if item.pixels is not None]
    rows = ()
    if pixels:
        device = resolve_device(wanted.device)
        model, _ = load_network(found.source, num_classes=0, in_channels=p.channels)
        images = apart(normalised(torch.from_numpy(np.stack(pixels)).to(device), p.mean, p.std))
        rows = likeness(model.to(device), images)
    if not rows:
        words = (
            "These weights keep no record of the images they were trained on, in norms of their own, so how like them these images are "
            "cannot be told."
        )
        return {"images": len(pixels), "distance": None, "words": words, "stages": []}
    middle = float(np.median([row.distance for row in rows]))
    how = "near to" if middle < NEAR else "some way from" if middle < FAR else "far from"
    words = (
        f"To the network these images look {how} those it was trained on (distance {middle:.2f}, the median of its stages; where it was "
        f"tried, a network's own images stay below {NEAR} and handwritten digits lie beyond {FAR})."
    )
    stages = [{**asdict(row), "words": row.words} for row in rows]
    return {"images": len(pixels), "distance": middle, "words": words, "stages": stages}


def _evenly(labels: np.ndarray, seed: int) -> list[int]:
    """All images in an order in which classes take turns."""
    order = np.random.default_rng(seed).permutation(len(labels))
    turn = np.empty(len(labels), dtype=np.int64)
    for label in np.unique(labels):
        own = order[labels[order] == label]
        turn[own] = np.arange(len(own))
    return order[np.argsort(turn[order], kind="stable")].tolist()


def _scores(
    found: Material, selection: Selection, rungs: dict[str, tuple[np.ndarray, ...]], similarity: dict[str, Any]
) -> dict[str, Any]:
    """What each score says of the stages beside what was measured, and how far they agree on the order."""
    distances = {row["stage"]: row["distance"] for row in similarity["stages"]}
    singles = [name for name, blocks in rungs.items() if len(blocks) == 1]
    rows = [
        {
            "stage": name,
            "accuracy": selection.probes[name].accuracy,
            "log_loss": selection.probes[name].log_loss,
            "logme": logme(rungs[name][0], found.train.labels, len(found.classes)),
            "distance": distances.get(name),
        }
        for name in singles
    ]
    measured = [row["accuracy"] for row in rows]
    near = [(row["accuracy"], -row["distance"]) for row in rows if row["distance"] is not None]
    return {
        "stages": rows,
        "logme": rank_correlation([row["logme"] for row in rows], measured),
        "nearness": rank_correlation([row[1] for row in near], [row[0] for row in near]),
        "words": _stages_in_words(rows, selection, found.together),
    }


def rank_correlation(score: list[float], measured: list[float]) -> float | None:
    """Kendall's τ; None for too few, or where one of the two ties everything."""
    tau = kendall(score, measured) if len(score) >= _LEAST_STAGES else float("nan")
    return tau if np.isfinite(tau) else None


def _stages_in_words(rows: list[dict[str, Any]], selection: Selection, together: np.ndarray) -> str:
    """Which single stage serves best, and what that tells of the likeness of the task.

    The best of several is taken, so that its lead must be shown at a level shared among them (Bonferroni's).
    """
    if len(rows) < 2:
        return ""
    best, last = min(rows, key=_log_loss), rows[-1]
    serves = (
        f"Of single stages {best['stage']} serves best ({percent(best['accuracy'])}, log-loss {best['log_loss']:.3f})"
    )
    if best is last:
        return f"{serves}, the last: what the network was taught last is of use here."
    gain = selection.probes[last["stage"]].losses - selection.probes[best["stage"]].losses
    scored = np.isfinite(gain)
    gain, number = gain[scored], independent_number(gain[scored], together[scored])
    least = student(1 - 0.05 / (len(rows) - 1), max(int(number) - 1, 1)) * gain.std() / np.sqrt(number)
    if number >= _LEAST_IMAGES and gain.mean() > least:
        return (
            f"{serves}, and shown to be better than the last: what is asked here is unlike what the network was taught."
        )
    return f"{serves}, though by no more over the last, {last['stage']}, than chance may do."


def _log_loss(row: dict[str, Any]) -> float:
    return row["log_loss"]
