"""The probe's step from regression to discriminant: beside the regression alone, and beside scikit-learn's logistic regression.

On the last stage, whose strength is chosen by held-out images in each way; draws with classes of equal and of unequal size. Judged on
images that are not drawn from, test parts where there are any, and as frequent as the training images say, as well as all classes alike.
The discriminant was settled on training parts, of Tiny ImageNet on other classes, see docs/dev/decisions.md.
"""

from __future__ import annotations

import statistics
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegressionCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from convatlas.data import left_out
from convatlas.metrics import over_seeds, softmax
from convatlas.transfer.probe import fit_probe
from convatlas.transfer.ridge import Ridge
from convatlas.weights.source import find_weights
from drawn import Sets, fresh
from measuring import WEIGHTS, say, section, table, target

COUNTS = (5, 20, 40)  # images a class; where they are uneven, times e to a number from -UNEVEN to UNEVEN
UNEVEN = 1.0
SEEDS = range(5)
SETS = fresh(120, of_tiny=(0, 60))
WAYS = ("discriminant", "regression", "logistic")


@dataclass(frozen=True, kw_only=True)
class Judged:
    """Of one way on one draw."""

    accuracy: float  # on test images as frequent as the training images
    by_class: float  # the mean of the classes' own
    log_loss: float
    seconds: float


def main() -> None:
    found: dict[tuple[str, bool, int], list[dict[str, Judged]]] = {}
    source = find_weights(WEIGHTS)
    with Sets() as sets:
        for drawing, judge in SETS:
            say(f"{drawing.name}: features")
            pool, unseen = sets.features(drawing, source), sets.features(judge, source)
            (x,), (new,) = pool.rungs[pool.last], unseen.rungs[pool.last]
            for uneven in (False, True):
                for count in COUNTS:
                    say(f"{drawing.name}, {count} a class{', uneven' if uneven else ''}")
                    found[drawing.name, uneven, count] = [
                        drawn(x, pool.labels, new, unseen.labels, count, uneven, seed) for seed in SEEDS
                    ]
    rows = [
        (
            f"{name}, {count}{', uneven' if uneven else ''}",
            *(f"{100 * mean(draws, way, 'accuracy'):.1f}" for way in WAYS),
            *(f"{100 * mean(draws, way, 'by_class'):.1f}" for way in WAYS),
            *(f"{mean(draws, way, 'log_loss'):.3f}" for way in WAYS),
        )
        for (name, uneven, count), draws in found.items()
    ]
    targets = []
    for uneven in (False, True):
        draws = [draw for (_, kind, _), each in found.items() if kind == uneven for draw in each]
        for other in WAYS[1:]:
            for what in ("accuracy", "by_class") if uneven else ("accuracy",):
                gains = [getattr(draw["discriminant"], what) - getattr(draw[other], what) for draw in draws]
                low, high = over_seeds(gains)
                gain = f"{100 * statistics.fmean(gains):+.2f} points [{100 * low:+.2f}, {100 * high:+.2f}]"
                sizes = "uneven" if uneven else "even"
                claim = f"{sizes} classes: no worse than the {other}, {'classes alike' if what == 'by_class' else 'accuracy'}"
                targets.append(target(claim, gain, high >= 0))
    every = [draw for each in found.values() for draw in each]
    faster = statistics.median(draw["logistic"].seconds / draw["discriminant"].seconds for draw in every)
    section(
        "The probe: discriminant, regression, logistic regression",
        f"MobileNetV1-0.75 with ImageNet weights, last stage; {len(SEEDS)} draws of each size; judged on test parts, of MNIST on other "
        "digits. Accuracy on test images weighted to be as frequent as the training images, accuracy with all classes alike, and log-loss. "
        "Logistic: scikit-learn's LogisticRegressionCV on standardised features, five strengths, three folds (two "
        "where a class has two images), by log-loss; it takes "
        f"{faster:.0f} times as long. Intervals over draws.",
        table(
            ("set, images a class", *WAYS, *(f"alike: {way}" for way in WAYS), *(f"log-loss: {way}" for way in WAYS)),
            rows,
        ),
        targets=targets,
        peers=("scikit-learn",),
    )


def drawn(
    x: np.ndarray, labels: np.ndarray, unseen: np.ndarray, truth: np.ndarray, count: int, uneven: bool, seed: int
) -> dict[str, Judged]:
    """What each way makes of one draw."""
    generator, classes = np.random.default_rng((seed, count)), int(labels.max()) + 1
    sizes = np.full(classes, count)
    if uneven:
        sizes = np.maximum(2, np.round(count * np.exp(generator.uniform(-UNEVEN, UNEVEN, classes)))).astype(int)
    rows = np.concatenate(
        [generator.permutation(np.flatnonzero(labels == label))[: sizes[label]] for label in range(classes)]
    )
    x, labels = x[rows], labels[rows]
    shares = np.bincount(labels, minlength=classes) / len(labels)
    weights = (shares / np.bincount(truth, minlength=classes))[truth]
    held_out = left_out(labels)
    probe = fit_probe(x, labels, classes, folds=held_out)  # once to warm up

    def discriminant() -> np.ndarray:
        return fit_probe(x, labels, classes, folds=held_out).probabilities(x_new)

    def regression() -> np.ndarray:
        weight, bias = Ridge([x], np.eye(classes)[labels], np.ones(len(x))).solution(probe.strength)
        scale = next(row.scale for row in probe.path if row.strength == probe.strength)
        return softmax(scale * (x_new @ weight + bias))

    def logistic() -> np.ndarray:
        model = LogisticRegressionCV(
            Cs=(1e-4, 1e-3, 1e-2, 1e-1, 1.0),  # pyright: ignore[reportArgumentType] - its annotation is wrong
            cv=min(3, int(np.bincount(labels).min())),
            scoring="neg_log_loss",
            l1_ratios=(0,),  # pyright: ignore[reportArgumentType] - its annotation is wrong
            use_legacy_attributes=False,  # pyright: ignore[reportArgumentType] - its annotation is wrong
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # at its own number of steps, as most people use it
            return make_pipeline(StandardScaler(), model).fit(x, labels).predict_proba(x_new)

    x_new = unseen.astype(np.float64)

    def judged(way: Callable[[], np.ndarray]) -> Judged:
        started = time.perf_counter()
        probabilities = way()
        seconds = time.perf_counter() - started
        right = probabilities.argmax(axis=1) == truth
        losses = -np.log(np.maximum(probabilities[np.arange(len(truth)), truth], 1e-15))
        return Judged(
            accuracy=float(weights @ right),
            by_class=float(np.mean([right[truth == label].mean() for label in range(classes)])),
            log_loss=float(weights @ losses),
            seconds=seconds,
        )

    return {name: judged(way) for name, way in zip(WAYS, (discriminant, regression, logistic), strict=True)}


def mean(draws: list[dict[str, Judged]], way: str, what: str) -> float:
    return statistics.fmean(getattr(draw[way], what) for draw in draws)


if __name__ == "__main__":
    main()
