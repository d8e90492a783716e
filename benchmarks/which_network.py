"""Which network: what the ranking on held-out training images, and LogME, say of four ImageNet networks, beside test accuracy.

Each set is split once; a ladder of probes is fitted to the training images of every network, as `fit --backbones` does, and the networks
are ranked. Then all are judged on the test images, which had no say: the probe, and the network with its last stage tuned, in five orders
of the images. A rank correlation of four networks moves in steps of a third, so the mean over sets is what counts. What tuning reached is
kept in recorded/which_network.json, and not done again.

Usage: `python benchmarks/which_network.py`.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from convatlas import catalogue
from convatlas.data import left_out
from convatlas.jobs.images import silent
from convatlas.jobs.pixels import prepared
from convatlas.metrics import kendall, paired_interval
from convatlas.transfer.logme import logme
from convatlas.transfer.networks import Judged, Ranking, rank
from convatlas.transfer.plans import Plan
from convatlas.transfer.probe import select
from convatlas.transfer.workshop import Workshop
from convatlas.weights.source import WeightsSource, find_weights
from drawn import Drawing, Features, Sets
from measuring import ROOT, SHARED, say, section, table, target

WEIGHTS = ("mobilenet_v1_025", "mobilenet_v1_075", "mobilenet_v1_100", "mobilenet_v2")
RECORD = ROOT / "benchmarks/recorded/which_network.json"
SEEDS = range(5)
WANTED, REGRET = 0.6, 1.0  # mean τ of the ranking; points of test accuracy that the choice may lose on average


@dataclass(frozen=True, kw_only=True)
class Set:
    """A training part and a test part: given, or so many of each class and the rest."""

    train: Drawing
    test: Drawing | None = None
    first: int | None = None  # of each class train, the others test


SETS = (
    Set(train=Drawing(name="hymenoptera", split="train"), test=Drawing(name="hymenoptera", split="val")),
    Set(train=Drawing(name="flowers12", split="train"), test=Drawing(name="flowers12", split="test")),
    Set(train=Drawing(name="ucmerced", split="train"), test=Drawing(name="ucmerced", split="test")),
    Set(train=Drawing(name="cifar10-test", count=100), first=40),
    Set(train=Drawing(name="mnist-10k", skip=500, count=100), first=40),
    Set(train=Drawing(name="tiny-imagenet-val", classes=(100, 150)), first=15),
)


@dataclass(frozen=True, kw_only=True)
class Found:
    """One network on one set."""

    judged: Judged
    accuracy: float  # on held-out training images
    logme: float
    test: np.ndarray  # (m,) whether the probe names each test image rightly
    tuned: float  # test accuracy with its last stage tuned, mean over seeds


@dataclass(frozen=True, kw_only=True)
class Parts:
    """The images of a set as one network sees them."""

    pool: Features
    rows: np.ndarray  # of the pool, to train on
    test: Features  # of which these are judged
    judged: np.ndarray

    @staticmethod
    def of(one: Set, source: WeightsSource, sets: Sets) -> Parts:
        pool = sets.features(one.train, source)
        test = sets.features(one.test, source) if one.test else pool
        judged = np.arange(len(test.labels)) if one.test else pool.of_each(one.first or 0, None)
        return Parts(pool=pool, rows=pool.of_each(0, one.first), test=test, judged=judged)


def main() -> None:
    known: dict[str, list[float]] = json.loads(RECORD.read_text()) if RECORD.exists() else {}
    rows, summary, contradicted = list[tuple[str, ...]](), list[tuple[str, list[float]]](), 0
    sources = {name: find_weights(SHARED / "weights" / f"{name}_224_imagenet.safetensors") for name in WEIGHTS}
    with Sets() as sets:
        for one in SETS:
            found: dict[str, Found] = {}
            for name, source in sources.items():
                say(f"{one.train.name}: {name}")
                parts, key = Parts.of(one, source, sets), f"{one.train.name}/{name}"
                if key not in known:
                    known[key] = tuned(one, parts, source, sets)
                    RECORD.parent.mkdir(parents=True, exist_ok=True)
                    RECORD.write_text(json.dumps(known, indent=1) + "\n")
                found[name] = judged(parts, known[key], catalogue.find(name).mult_adds)
            ranking = rank({name: each.judged for name, each in found.items()})
            contradicted += _contradicted(ranking, found)
            summary.append((one.train.name, list(_correlations(ranking, found))))
            for name, each in found.items():
                place = next(row for row in ranking.rows if row.name == name)
                beside = "the best" if place.difference_interval is None else place.worse_by or "no difference shown"
                marks = f"{one.train.name}: {name}" + (" (taken)" if name == ranking.chosen else "")
                numbers = (each.logme, each.test.mean(), each.tuned)
                rows.append((marks, f"{each.accuracy:.3f}", beside, *(f"{number:.3f}" for number in numbers)))
    means = [statistics.fmean(column) for column in zip(*(each for _, each in summary), strict=True)]
    summary.append(("mean", means))
    signed, lost = slice(0, 4), slice(4, None)
    section(
        "Which network",
        f"{len(WEIGHTS)} MobileNets with ImageNet weights on {len(SETS)} sets. Held out: the chosen rung's probe on the training "
        "images; LogME: of the last stage's features; test: the same probe on images that had no say; tuned: test accuracy with the last "
        f"stage tuned, mean of {len(SEEDS)} seeds. What is shown to be worse, by accuracy or log-loss, was nevertheless shown to be better "
        f"than the best on test images in {contradicted} cases.",
        table(("", "held out", "beside the best", "LogME", "test", "tuned"), rows),
        table(
            (
                "Kendall's τ",
                "held out with test",
                "LogME with test",
                "held out with tuned",
                "LogME with tuned",
                "points lost by the network taken",
                "by the best held out",
                "by the one taken, tuned",
            ),
            [(name, *(f"{x:+.2f}" for x in each[signed]), *(f"{x:.1f}" for x in each[lost])) for name, each in summary],
        ),
        targets=[
            target(f"mean τ of held-out with test accuracy at least {WANTED}", f"{means[0]:.2f}", means[0] >= WANTED),
            target(f"mean τ of held-out with tuned accuracy at least {WANTED}", f"{means[2]:.2f}", means[2] >= WANTED),
            target(
                f"the network taken loses at most {REGRET:.0f} point on average", f"{means[4]:.1f}", means[4] <= REGRET
            ),
        ],
    )


def judged(parts: Parts, tuned: list[float], mult_adds: int) -> Found:
    pool, rows = parts.pool, parts.rows
    labels, classes = pool.labels[rows], int(pool.labels.max()) + 1
    selection = select(pool.rungs, pool.labels, classes, folds=left_out(pool.labels, rows=rows), rows=rows)
    probe = selection.probe
    right = np.where(np.isfinite(probe.losses), probe.held_out.argmax(axis=1) == labels, np.nan)
    blocks = [block[parts.judged] for block in parts.test.rungs[selection.name]]
    return Found(
        judged=Judged(right=right, losses=probe.losses, mult_adds=mult_adds),
        accuracy=probe.accuracy,
        logme=logme(pool.rungs[pool.last][0][rows], labels, classes),
        test=(probe.scores(blocks).argmax(axis=1) == parts.test.labels[parts.judged]).astype(float),
        tuned=statistics.fmean(tuned),
    )


def tuned(one: Set, parts: Parts, source: WeightsSource, sets: Sets) -> list[float]:
    """Test accuracies with the last stage tuned, of each seed."""
    pool, test = parts.pool, parts.test
    records = [pool.records[i] for i in parts.rows] + [test.records[i] for i in parts.judged]
    labels = np.concatenate([pool.labels[parts.rows], test.labels[parts.judged]])
    images = prepared(
        *(sets.dataset(one.train.name), records, torch.from_numpy(labels), source.preprocessing, "auto"),
        progress=silent,
        say=say,
    )
    top = np.concatenate([pool.rungs[pool.last][0][parts.rows], test.rungs[test.last][0][parts.judged]])
    rows, others = np.split(np.arange(len(labels)), [len(parts.rows)])
    plan, found = Plan(kind="tune", at=(catalogue.find(source.name).stages[-1],)), list[float]()
    for seed in SEEDS:
        shop = Workshop(source, images, top, int(labels.max()) + 1, seed=seed)
        found.append(float((shop.train(plan, rows, others).logits.argmax(axis=1) == labels[others]).mean()))
        say(f"seed {seed}: {found[-1]:.3f}")
    return found


def _correlations(ranking: Ranking, found: dict[str, Found]) -> Iterator[float]:
    """Kendall's τ of held-out accuracy and of LogME with test accuracy, of the probe and tuned; then the percentage points that the network
    taken, and the best by held-out accuracy, lose to the best, and that the one taken loses when all are tuned."""
    tests, tuned = [each.test.mean() for each in found.values()], [each.tuned for each in found.values()]
    for truth in (tests, tuned):
        yield kendall([each.accuracy for each in found.values()], truth)
        yield kendall([each.logme for each in found.values()], truth)
    taken, best = found[ranking.chosen], found[ranking.rows[0].name]
    for whole, value in ((tests, taken.test.mean()), (tests, best.test.mean()), (tuned, taken.tuned)):
        yield 100 * float(max(whole) - value)


def _contradicted(ranking: Ranking, found: dict[str, Found]) -> int:
    best = found[ranking.rows[0].name].test
    worse = [row.name for row in ranking.rows if row.worse_by]
    return sum(paired_interval(found[name].test - best)[0] > 0 for name in worse)


if __name__ == "__main__":
    main()
