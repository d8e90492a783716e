"""Which network: what the ranking on held-out training images, and LogME, say of four ImageNet networks, beside test accuracy.

Each set is split once; a ladder of probes is fitted to the training images of every network, as `fit --backbones` does, and the networks
are ranked. Then all are judged on the test images, which had no say. A rank correlation of four networks moves in steps of a third, so
the mean over sets is what counts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from convatlas import catalogue
from convatlas.metrics import kendall, paired_interval
from convatlas.transfer.logme import logme
from convatlas.transfer.networks import Judged, Ranking, rank
from convatlas.transfer.probe import select
from convatlas.weights.source import find_weights
from drawn import Drawing, Features, Sets
from measuring import SHARED, say, section, table, target

WEIGHTS = ("mobilenet_v1_025", "mobilenet_v1_075", "mobilenet_v1_100", "mobilenet_v2")
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
    test: np.ndarray  # (m,) whether each test image is named rightly


def main() -> None:
    rows, contradicted = [], 0
    taus, logmes, regrets, losses = list[float](), list[float](), list[float](), list[float]()
    sources = {name: find_weights(SHARED / "weights" / f"{name}_224_imagenet.safetensors") for name in WEIGHTS}
    with Sets() as sets:
        for one in SETS:
            found: dict[str, Found] = {}
            for name, source in sources.items():
                say(f"{one.train.name}: {name}")
                pool = sets.features(one.train, source)
                test = sets.features(one.test, source) if one.test else None
                found[name] = _found(pool, test, one.first, catalogue.find(name).mult_adds)
            ranking = rank({name: each.judged for name, each in found.items()})
            tests = [each.test.mean() for each in found.values()]
            taus.append(kendall([each.accuracy for each in found.values()], tests))
            logmes.append(kendall([each.logme for each in found.values()], tests))
            regrets.append(100 * (max(tests) - found[ranking.chosen].test.mean()))
            losses.append(100 * (max(tests) - found[ranking.rows[0].name].test.mean()))
            contradicted += _contradicted(ranking, found)
            for name, each in found.items():
                place = next(row for row in ranking.rows if row.name == name)
                beside = "the best" if place.difference_interval is None else place.worse_by or "no difference shown"
                marks = f"{one.train.name}: {name}" + (" (taken)" if name == ranking.chosen else "")
                rows.append((marks, f"{each.accuracy:.3f}", beside, f"{each.logme:.3f}", f"{each.test.mean():.3f}"))
    summary = [
        (one.train.name, f"{tau:+.2f}", f"{score:+.2f}", f"{regret:.1f}", f"{loss:.1f}")
        for one, tau, score, regret, loss in zip(SETS, taus, logmes, regrets, losses, strict=True)
    ]
    summary.append(
        (
            "mean",
            f"{np.mean(taus):+.2f}",
            f"{np.mean(logmes):+.2f}",
            f"{np.mean(regrets):.1f}",
            f"{np.mean(losses):.1f}",
        )
    )
    section(
        "Which network",
        f"{len(WEIGHTS)} MobileNets with ImageNet weights on {len(SETS)} sets. Held out: the chosen rung's probe on the training "
        "images; LogME: of the last stage's features; test: the same probe on images that had no say. What is shown to be worse, by "
        f"accuracy or log-loss, was nevertheless shown to be better than the best on test images in {contradicted} cases.",
        table(("", "held out", "beside the best", "LogME", "test"), rows),
        table(
            (
                "Kendall's τ with test accuracy",
                "held-out accuracy",
                "LogME",
                "points lost by the network taken",
                "by the best held out",
            ),
            summary,
        ),
        targets=[
            target(
                f"mean τ of held-out with test accuracy at least {WANTED}",
                f"{np.mean(taus):.2f}",
                float(np.mean(taus)) >= WANTED,
            ),
            target(
                f"the network taken loses at most {REGRET:.0f} point on average",
                f"{np.mean(regrets):.1f}",
                float(np.mean(regrets)) <= REGRET,
            ),
        ],
    )


def _found(pool: Features, test: Features | None, first: int | None, mult_adds: int) -> Found:
    rows = pool.of_each(0, first)
    labels, classes = pool.labels[rows], int(pool.labels.max()) + 1
    selection = select(pool.rungs, pool.labels, classes, rows=rows)
    probe = selection.probe
    right = np.where(np.isfinite(probe.losses), probe.held_out.argmax(axis=1) == labels, np.nan)
    if test is None:
        rest = pool.of_each(first or 0, None)
        blocks, truth = [block[rest] for block in pool.rungs[selection.name]], pool.labels[rest]
    else:
        blocks, truth = list(test.rungs[selection.name]), test.labels
    return Found(
        judged=Judged(right=right, losses=probe.losses, mult_adds=mult_adds),
        accuracy=probe.accuracy,
        logme=logme(pool.rungs[pool.last][0][rows], labels, classes),
        test=(probe.scores(blocks).argmax(axis=1) == truth).astype(float),
    )


def _contradicted(ranking: Ranking, found: dict[str, Found]) -> int:
    best = found[ranking.rows[0].name].test
    worse = [row.name for row in ranking.rows if row.worse_by]
    return sum(paired_interval(found[name].test - best)[0] > 0 for name in worse)


if __name__ == "__main__":
    main()
