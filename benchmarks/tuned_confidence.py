"""What benchmarks/confidence.py says of networks that were tuned: small ones on small images, beside probes on the same images.

A random half of each set is tuned on as by `fit` without a test part, five networks that each leave out a fold and one that does not; the
other half is fresh. What `fit` knows with a test part, where a plan is tried on one fold, is what the first of the five says alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import torch

from convatlas.bundle.confidence import Confidence, Promise
from convatlas.data import ClassMap, Dataset, Record, folds, left_out
from convatlas.jobs.images import extract_features, silent
from convatlas.jobs.pixels import prepared
from convatlas.metrics import fit_temperature, softmax
from convatlas.train.images import InMemory
from convatlas.transfer.advise import Trial
from convatlas.transfer.confidence import confidence_of_trials, fit_confidence
from convatlas.transfer.plans import Plan
from convatlas.transfer.probe import ladder, select
from convatlas.transfer.trials import Trials
from convatlas.transfer.workshop import Workshop
from convatlas.weights.source import WeightsSource, find_weights
from measuring import SHARED, say, table

DRAWS = range(3)
FOLDS, SIDE, OTHERS = 5, 128, 100  # OTHERS: images of each other set
RATES, COVERAGE = (0.05, 0.10), 0.90
PLAN = Plan(kind="tune", at=("stage5",))
WAYS = ("tuned, 5 folds", "tuned, 1 fold", "probe")


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """A set's images, copies left out: as a network sees them, and their features."""

    labels: np.ndarray  # (n,)
    pixels: torch.Tensor  # (n, c, SIDE, SIDE)
    rungs: dict[str, tuple[np.ndarray, ...]]
    last: np.ndarray  # (n, d), the means that a head begins from


@dataclass(frozen=True, kw_only=True)
class Kept:
    """What one way to a classifier showed in one draw."""

    accuracy: float
    rejected: tuple[float, ...]  # a rate each
    covered: float
    size: float
    others: float  # the share of other sets' images rejected at the first rate


Found = dict[tuple[str, str], list[Kept]]  # by set and way, a draw each


def measured(sets: Mapping[str, tuple[Dataset, tuple[Record, ...]]]) -> Found:
    """All draws of all sets."""
    pictures, found = {name: _pictures(*each) for name, each in sets.items()}, Found()
    for name in pictures:
        for seed in DRAWS:
            say(f"{name}, tuned: draw {seed + 1}")
            for way, kept in zip(WAYS, _draw(name, pictures, seed), strict=True):
                found.setdefault((name, way), []).append(kept)
    return found


def off(found: Found, known: Sequence[str]) -> tuple[float, float]:
    """How far the mean false-reject rates of these sets' tuned networks are off, and how short the mean coverage is; of the worst."""
    rates = [np.mean([kept.rejected for kept in found[name, WAYS[0]]], axis=0) - RATES for name in known]
    covered = [np.mean([kept.covered for kept in found[name, WAYS[0]]]) for name in known]
    return float(np.abs(rates).max()), COVERAGE - float(min(covered))


def about(enough: int) -> str:
    """What the table shows, for people."""
    return (
        f"The last table is of MobileNetV1-0.25 at {SIDE} pixels, tuned from {PLAN.at[0]} on by half of each set ({len(DRAWS)} draws), "
        f"by what networks without a fold say of all {FOLDS} folds or of one, beside the best probe on the same images; others are "
        f"{OTHERS} images of each other set but Tiny ImageNet. Its targets are judged with {FOLDS} folds, on sets with {enough} fresh "
        "images or more."
    )


def shown(found: Found, fresh: Mapping[str, int]) -> str:
    """The table."""
    rows = []
    for (name, way), draws in found.items():
        rejected = np.array([kept.rejected for kept in draws]).T
        covered, size = [kept.covered for kept in draws], np.mean([kept.size for kept in draws])
        others = f"{100 * np.mean([kept.others for kept in draws]):.0f} %"
        about = (name, way, fresh[name], f"{np.mean([kept.accuracy for kept in draws]):.3f}")
        rows.append((*about, *map(_spread, rejected), f"{_spread(covered)}, {size:.2f}", others))
    heads = [f"rejected at {100 * rate:.0f} %" for rate in RATES]
    last = (f"sets at {100 * COVERAGE:.0f} %, mean size", f"others rejected at {100 * RATES[0]:.0f} %")
    return table(("fitted to", "", "fresh images", "accuracy", *heads, *last), rows)


def _draw(name: str, pictures: Mapping[str, Pictures], seed: int) -> list[Kept]:
    own, count = pictures[name], len(pictures[name].labels)
    strange = {other: _some(each) for other, each in pictures.items() if other != name}
    order = np.random.default_rng(seed).permutation(count)
    half, fresh = np.sort(order[: count // 2]), order[count // 2 :]
    truth, classes = own.labels[half], int(own.labels.max()) + 1

    pixels = torch.cat([own.pixels, *[pictures[other].pixels[index] for other, index in strange.items()]])
    last = np.concatenate([own.last, *[pictures[other].last[index] for other, index in strange.items()]])
    labels = np.concatenate([own.labels, np.zeros(len(pixels) - count, np.int64)])  # of the strangers none is looked at
    shop = Workshop(_source(), InMemory(pixels, torch.from_numpy(labels)), last, classes, seed=seed)
    trials = Trials(shop, half, folds(truth, np.arange(len(half)), k=FOLDS, seed=seed))
    told = [trials.run(PLAN, fold) for fold in range(FOLDS)]
    tuned = shop.train(PLAN, half, np.concatenate([fresh, np.arange(count, len(pixels))]), remember=True)
    assert tuned.own
    kept = []
    for some in (told, told[:1]):
        scale = _scale(some, truth)
        confidence = confidence_of_trials(some, truth, tuned.own.read, scale=scale, folds=FOLDS)
        kept.append(_kept(confidence, tuned.read, scale * tuned.logits, own.labels[fresh]))

    rungs = {rung: [block[half] for block in blocks] for rung, blocks in own.rungs.items()}
    held_out = left_out(truth)
    chosen = select(rungs, truth, classes, folds=held_out)
    probe, blocks = chosen.probe, [own.rungs[chosen.name]]
    read = [[block[fresh] for block in blocks[0]]]
    read += [[block[index] for block in pictures[other].rungs[chosen.name]] for other, index in strange.items()]
    features = [np.concatenate(parts) for parts in zip(*read, strict=True)]
    confidence = fit_confidence(rungs[chosen.name], truth, probe, folds=held_out)
    logits = probe.scale * probe.scores(features)
    return [*kept, _kept(confidence, np.concatenate(features, axis=1), logits, own.labels[fresh])]


def _kept(confidence: Confidence, read: np.ndarray, logits: np.ndarray, truth: np.ndarray) -> Kept:
    """Of fresh images, whose classes are `truth`, and of strangers after them."""
    typicality, shares = confidence.typicality(read, logits), softmax(logits[: len(truth)])
    known, others = typicality[: len(truth)], typicality[len(truth) :]
    sets = Promise(confidence=confidence, false_reject=None, coverage=COVERAGE).sets(shares)
    return Kept(
        accuracy=float((shares.argmax(axis=1) == truth).mean()),
        rejected=tuple(float((known <= rate).mean()) for rate in RATES),
        covered=float(sets[np.arange(len(truth)), truth].mean()),
        size=float(sets.sum(axis=1).mean()),
        others=float((others <= RATES[0]).mean()),
    )


def _scale(trials: Sequence[Trial], truth: np.ndarray) -> float:
    rows = np.concatenate([trial.rows for trial in trials])
    return fit_temperature(np.concatenate([trial.logits for trial in trials]), truth[rows])


def _some(pictures: Pictures) -> np.ndarray:
    return np.random.default_rng(0).permutation(len(pictures.labels))[:OTHERS]


@cache
def _source() -> WeightsSource:
    found = find_weights(SHARED / "weights/mobilenet_v1_025_224_imagenet.safetensors")
    square = found.preprocessing
    return replace(found, preprocessing=replace(square, size=SIDE, resize=round(square.resize * SIDE / square.size)))


def _pictures(dataset: Dataset, records: tuple[Record, ...]) -> Pictures:
    passed = extract_features(dataset, records, _source(), device="cpu")
    usable = {item.sha256: item.record for item in passed.examined if item.facts is not None}
    hashes, records = list(usable), tuple(usable.values())
    labels = ClassMap(dataset.classes).indices([record.label for record in records])
    truth = torch.from_numpy(labels.astype(np.int64))
    images = prepared(dataset, records, truth, _source().preprocessing, "memory", progress=silent, say=say)
    assert isinstance(images, InMemory) and len(images) == len(hashes)
    means = passed.store.means(hashes)
    rungs = ladder(means, passed.store.deviations(hashes))
    return Pictures(
        labels=labels,
        pixels=images.images,
        rungs={name: tuple(map(np.array, blocks)) for name, blocks in rungs.items()},
        last=np.array(list(means.values())[-1]),
    )


def _spread(shares: Sequence[float] | np.ndarray) -> str:
    found = 100 * np.asarray(shares)
    return f"{found.mean():.1f} % ({found.min():.1f}–{found.max():.1f})"
