"""Whether "50 more images a class are worth X ± Y" comes true: the forecast from n a class beside what n + 50 then measure.

Each case draws n images a class, chooses a rung and forecasts as `fit` does; then a probe on it learns from these and 50 more, and both
are judged on images that neither learned from. The interval is widened by the standard error of that measurement, which large test parts
make small. The forecast's settings were settled on other images: CIFAR-10's training part, the first 20 classes of Tiny ImageNet, other
digits, and inside the training parts of the photo sets.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from convatlas.data import left_out
from convatlas.metrics import wilson
from convatlas.transfer.forecast import forecast, learning_curve
from convatlas.transfer.probe import Probe, fit_probe, select
from convatlas.weights.source import find_weights
from drawn import Drawing, Features, Sets
from measuring import SHARED, say, section, table, target

SEEDS = range(5)
WANTED = 0.80
SECONDS = 5.0  # that a forecast from 1,000 images may take
SMALL, LARGE = "mobilenet_v1_025_224_imagenet", "mobilenet_v1_075_224_imagenet"


@dataclass(frozen=True, kw_only=True)
class Case:
    """A set, and how many images of a class are there and how many more come."""

    drawing: Drawing
    judge: Drawing | None = None  # a part of its own to judge on; else what is left over
    weights: str
    steps: tuple[tuple[int, int], ...]


CASES = (
    Case(drawing=Drawing(name="cifar10-test", count=300), weights=SMALL, steps=((20, 50), (50, 50), (100, 50))),
    Case(drawing=Drawing(name="mnist-10k", skip=500, count=380), weights=SMALL, steps=((10, 50), (30, 50), (100, 50))),
    Case(
        drawing=Drawing(name="tiny-imagenet-train", classes=(20, 40)),
        weights=SMALL,
        steps=((20, 50), (50, 50)),
    ),
    Case(
        drawing=Drawing(name="flowers12", split="train"),
        judge=Drawing(name="flowers12", split="test"),
        weights=LARGE,
        steps=((10, 50), (20, 40)),
    ),
    Case(
        drawing=Drawing(name="ucmerced", split="train"),
        judge=Drawing(name="ucmerced", split="test"),
        weights=LARGE,
        steps=((10, 30), (20, 20)),
    ),
    Case(
        drawing=Drawing(name="hymenoptera", split="train"),
        judge=Drawing(name="hymenoptera", split="val"),
        weights=LARGE,
        steps=((40, 50), (60, 50)),
    ),
)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    truth: float
    gain: float
    held80: bool
    held95: bool
    half: float  # of the 80 % interval, without the measurement's own error
    seconds: float
    doubt: str
    images: int


def main() -> None:
    rows, outcomes = [], list[Outcome]()
    with Sets() as sets:
        for case in CASES:
            source = find_weights(SHARED / "weights" / f"{case.weights}.safetensors")
            say(f"{case.drawing.name}: features")
            pool = sets.features(case.drawing, source)
            judge = sets.features(case.judge, source) if case.judge else None
            for n, more in case.steps:
                say(f"{case.drawing.name}: {n} + {more}")
                found = [_outcome(pool, judge, n, more, seed) for seed in SEEDS]
                outcomes += found
                rows.append(_row(f"{case.drawing.name}, {n} + {more}", found))
    told = [one for one in outcomes if not one.doubt]
    held, held95 = sum(one.held80 for one in told), sum(one.held95 for one in told)
    low, high = wilson(held, len(told))
    slowest = max((one.seconds * 1000 / max(one.images, 1000) for one in outcomes), default=0.0)
    error = np.mean([abs(one.truth - one.gain) for one in told])
    none = np.mean([abs(one.truth) for one in told])
    section(
        "The forecast of more images",
        f"From n images a class, what 50 more (as many as there are, where fewer) are worth; {len(SEEDS)} draws each. Measured: the "
        "difference in accuracy of the probe on the chosen rung, on images that neither learned from. All in percentage points. "
        f"The interval holds in {held} of {len(told)} ({100 * held / len(told):.0f} %, 95 % interval {100 * low:.0f} to {100 * high:.0f}, "
        f"draws of one set taken as independent), that of 95 % in {held95}; {len(outcomes) - len(told)} cases that could not be told do "
        f"not count. The forecast is off by {100 * error:.1f} points on average; foretelling no gain would be by {100 * none:.1f}.",
        table(("set, n + more", "measured", "forecast", "± (80 %)", "off by", "80 % held", "95 % held", "told"), rows),
        targets=[
            target(
                f"the 80 % interval holds in at least {100 * WANTED:.0f} %",
                f"{100 * held / len(told):.0f} %",
                held >= WANTED * len(told),
            ),
            target(f"at most {SECONDS:.0f} s for 1,000 images", f"{slowest:.1f} s", slowest <= SECONDS),
        ],
    )


def _outcome(pool: Features, judge: Features | None, n: int, more: int, seed: int) -> Outcome:
    generator = np.random.default_rng((seed, n, more))
    classes = int(pool.labels.max()) + 1
    order = [generator.permutation(np.flatnonzero(pool.labels == label)) for label in range(classes)]
    few = np.concatenate([own[:n] for own in order])
    many = np.concatenate([own[: n + more] for own in order])
    selection = select(pool.rungs, pool.labels, classes, folds=left_out(pool.labels, rows=few), rows=few)
    rung, probe = pool.rungs[selection.name], selection.probe
    if judge is None:
        unseen = np.concatenate([own[n + more :] for own in order])
        blocks, truth = [block[unseen] for block in rung], pool.labels[unseen]
    else:
        blocks, truth = list(judge.rungs[selection.name]), judge.labels
    before = _right(probe, blocks, truth)
    after = _right(
        fit_probe(rung, pool.labels, classes, folds=left_out(pool.labels, rows=many), rows=many), blocks, truth
    )
    started = time.perf_counter()
    labels = pool.labels[few]
    right = np.where(np.isfinite(probe.losses), probe.held_out.argmax(axis=1) == labels, np.nan)
    curve = learning_curve([block[few] for block in rung], labels, classes, probe.strength, right, seed=seed)
    plain = forecast(curve, more)
    seconds = time.perf_counter() - started
    gain = float((after - before).mean())
    widened = forecast(curve, more, measured=float((after - before).std() / np.sqrt(len(truth))))
    return Outcome(
        truth=gain,
        gain=plain.gain,
        held80=widened.interval[0] <= gain <= widened.interval[1],
        held95=widened.interval95[0] <= gain <= widened.interval95[1],
        half=(plain.interval[1] - plain.interval[0]) / 2,
        seconds=seconds,
        doubt=plain.doubt,
        images=len(few),
    )


def _right(probe: Probe, blocks: list[np.ndarray], truth: np.ndarray) -> np.ndarray:
    return (probe.scores(blocks).argmax(axis=1) == truth).astype(float)


def _row(name: str, found: list[Outcome]) -> tuple[object, ...]:
    told = [one for one in found if not one.doubt]

    def mean(values: list[float]) -> str:
        return f"{100 * np.mean(values):+.1f}" if values else "–"

    return (
        name,
        mean([one.truth for one in found]),
        mean([one.gain for one in told]),
        mean([one.half for one in told]).removeprefix("+"),
        mean([abs(one.truth - one.gain) for one in told]).removeprefix("+"),
        f"{sum(one.held80 for one in told)} of {len(told)}",
        f"{sum(one.held95 for one in told)} of {len(told)}",
        f"{len(told)} of {len(found)}",
    )


if __name__ == "__main__":
    main()
