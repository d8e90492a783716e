"""The choice of a stage from few images: what is chosen as `fit` does it, beside the usual way and the last stage always.

The usual way leaves out one image at a time and takes the stage with the least log-loss. Draws of a few images a class; judged on images
that are not drawn from, test parts where there are any. The rule was settled on training parts, by other draws and partly other networks,
see docs/dev/decisions.md.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass

import numpy as np

from convatlas.data import left_out
from convatlas.metrics import over_seeds
from convatlas.transfer.probe import Selection, select
from convatlas.weights.source import find_weights
from drawn import Features, Sets, fresh
from measuring import WEIGHTS, say, section, table, target

COUNTS = (3, 5, 10, 20, 40)  # images a class
SEEDS = range(10)
SETS = fresh(60, of_tiny=(20, 40))


@dataclass(frozen=True, kw_only=True)
class Draw:
    """Test accuracies of what each way chooses from one draw, and how far off held-out accuracies of the last stage are."""

    ours: float
    usual: float
    last: float
    best: float  # of the stages as we fit them, with hindsight
    bias: float
    usual_bias: float


def main() -> None:
    found: dict[tuple[str, int], list[Draw]] = {}
    source = find_weights(WEIGHTS)
    with Sets() as sets:
        for drawing, judge in SETS:
            say(f"{drawing.name}: features")
            pool, unseen = sets.features(drawing, source), sets.features(judge, source)
            for count in COUNTS:
                say(f"{drawing.name}, {count} a class")
                found[drawing.name, count] = [drawn(pool, unseen, count, seed) for seed in SEEDS]
    every = [draw for draws in found.values() for draw in draws]
    gain, (low, high) = _difference(every, "usual")
    over_last, (least, most) = _difference(every, "last")
    section(
        "A stage chosen from few images",
        f"MobileNetV1-0.75 with ImageNet weights; {len(SEEDS)} draws of each size, as many of each class; judged on test parts, of MNIST "
        "on other digits. Usual: one image is left out at a time, and the stage with the least log-loss is taken. Best: the best stage "
        "with hindsight. Too high: the held-out accuracy of the last stage less its test accuracy. Means over draws, in %. "
        f"Ours is {100 * gain:+.2f} points [{100 * low:+.2f}, {100 * high:+.2f}] from the usual way, and "
        f"{100 * over_last:+.2f} [{100 * least:+.2f}, {100 * most:+.2f}] from the last stage always (95 % over draws).",
        table(
            ("set, images a class", "ours", "usual", "last stage", "best", "too high by", "usual: too high by"),
            [(f"{name}, {count}", *_row(draws)) for (name, count), draws in found.items()],
        ),
        targets=[
            target("better than the usual way, shown", f"{100 * gain:+.2f} points", low > 0),
            target("better than the last stage always, shown", f"{100 * over_last:+.2f} points", least > 0),
            *(
                target(f"{count} images a class: no worse than the usual way", f"{100 * value:+.2f} points", top >= 0)
                for count in COUNTS
                for value, (_, top) in [
                    _difference([d for (_, n), ds in found.items() if n == count for d in ds], "usual")
                ]
            ),
        ],
    )


def drawn(pool: Features, unseen: Features, count: int, seed: int) -> Draw:
    generator, classes = np.random.default_rng((seed, count)), int(pool.labels.max()) + 1
    rows = np.concatenate(
        [generator.permutation(np.flatnonzero(pool.labels == label))[:count] for label in range(classes)]
    )
    mine = {rung: [block[rows] for block in blocks] for rung, blocks in pool.rungs.items()}
    labels = pool.labels[rows]

    def right(selection: Selection, rung: str) -> float:
        scores = selection.probes[rung].scores(unseen.rungs[rung])
        return float((scores.argmax(axis=1) == unseen.labels).mean())

    ours = select(mine, labels, classes, folds=left_out(labels))
    usual = select(mine, labels, classes)
    least = min(usual.probes, key=lambda rung: usual.probes[rung].log_loss)
    return Draw(
        ours=right(ours, ours.name),
        usual=right(usual, least),
        last=right(ours, pool.last),
        best=max(right(ours, rung) for rung in mine),
        bias=ours.probes[pool.last].accuracy - right(ours, pool.last),
        usual_bias=usual.probes[pool.last].accuracy - right(usual, pool.last),
    )


def _difference(draws: list[Draw], other: str) -> tuple[float, tuple[float, float]]:
    differences = [draw.ours - getattr(draw, other) for draw in draws]
    return statistics.fmean(differences), over_seeds(differences)


def _row(draws: list[Draw]) -> tuple[str, ...]:
    shares = [statistics.fmean(getattr(d, n) for d in draws) for n in ("ours", "usual", "last", "best")]
    biases = [statistics.fmean(getattr(d, n) for d in draws) for n in ("bias", "usual_bias")]
    return (*(f"{100 * x:.1f}" for x in shares), *(f"{100 * x:+.1f}" for x in biases))


if __name__ == "__main__":
    main()
