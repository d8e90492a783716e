"""Wrong labels found, and how many there are: labels changed on purpose, beside confident learning as in cleanlab.

Both see the same held-out probabilities, those of the probe that `fit` chooses. Changed are none, 5 % at random, or 5 % to the class that
the probe of the labels as they were finds likeliest of the others, which is the hardest. Settings were settled on the training images of
five sets with one network, and parts of four with MobileNetV2 were looked at meanwhile; the second half of the table is of images and of a
network that nobody had looked at. Labels that were wrong before count against whoever finds them.

Usage: `python benchmarks/label_errors.py`
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass

import numpy as np
from cleanlab.filter import find_label_issues  # pyright: ignore[reportMissingImports] - of the peers' environment

from convatlas.data import left_out
from convatlas.metrics import LabelErrors, label_errors, softmax
from convatlas.transfer.probe import select
from convatlas.weights.source import find_weights
from drawn import Drawing, Rungs, Sets
from measuring import SHARED, WEIGHTS, say, section, table, target

CHANGED, SEEDS = 0.05, range(5)
OTHER = SHARED / "weights/mobilenet_v1_100_224_imagenet.safetensors"
SETTLED = (
    Drawing(name="hymenoptera", split="train"),
    Drawing(name="flowers12", split="train"),
    Drawing(name="ucmerced", split="train"),
    Drawing(name="cifar10-train", count=100),
    Drawing(name="mnist-10k", count=100),
)
FRESH = (
    Drawing(name="hymenoptera", split="val"),
    Drawing(name="cifar10-train", skip=500, count=100),
    Drawing(name="mnist-10k", skip=500, count=100),
    Drawing(name="tiny-imagenet-train", classes=(100, 200), count=20),
)


@dataclass(frozen=True, kw_only=True)
class Found:
    """What one draw of changed labels gave."""

    ours: LabelErrors
    theirs: np.ndarray  # indices
    changed: np.ndarray  # indices

    @property
    def indices(self) -> np.ndarray:
        return np.array([one.index for one in self.ours.suspects], dtype=int)

    def recall(self, suspects: np.ndarray) -> float:
        return float(np.isin(self.changed, suspects).mean())

    def precision(self, suspects: np.ndarray) -> float:
        return float(np.isin(suspects, self.changed).mean()) if len(suspects) else 1.0

    @property
    def held(self) -> bool:
        low, high = self.ours.interval
        return low <= len(self.changed) / len(self.ours.chances) <= high


def main() -> None:
    rows, targets, held = [], [], []
    with Sets() as sets:
        for weights, drawings in ((WEIGHTS, SETTLED), (OTHER, FRESH)):
            source = find_weights(weights)
            for drawing in drawings:
                name = f"{drawing.name} {drawing.split or ''}".strip() + (", other network" if weights == OTHER else "")
                say(f"{name}: features")
                given = sets.features(drawing, source)
                classes = len(np.unique(given.labels))
                row, claims, inside = measured(name, given.rungs, given.labels, classes)
                rows.append(row)
                targets += claims
                held += inside
    share = statistics.fmean(held)
    what = f"the 95 % interval holds the share that was changed at random, {len(held)} draws"
    targets.append(target(what, f"{share:.0%}", share >= 0.9))
    section(
        "Wrong labels, beside cleanlab",
        f"{CHANGED:.0%} of the labels changed ({len(SEEDS)} draws; means), all rungs probed and one chosen as in fit; suspects are those "
        "with a chance of one in ten or more, cleanlab's those of `find_label_issues`. *Lookalikes*: changed to the likeliest other class. "
        "MobileNetV1-0.75; the other network is MobileNetV1-1.00.",
        table(
            (
                "at random",
                "held-out accuracy",
                "recall",
                "precision",
                "said to be wrong",
                "cleanlab: recall",
                "precision",
            ),
            [row[0] for row in rows],
        ),
        table(
            (
                "",
                "suspects of unchanged labels",
                "cleanlab",
                "lookalikes: recall",
                "precision",
                "cleanlab: recall",
                "precision",
            ),
            [row[1] for row in rows],
        ),
        targets=targets,
    )


def measured(
    name: str, rungs: Rungs, labels: np.ndarray, classes: int
) -> tuple[tuple[tuple[str, ...], tuple[str, ...]], list[tuple[str, str, str]], list[bool]]:
    """The rows of the two tables, what is claimed, and whether each interval held."""
    likely, accuracy = judged(rungs, labels, classes)
    clean = found(likely, labels, np.empty(0, dtype=int))
    others = np.where(np.eye(classes, dtype=bool)[labels], -1, likely).argmax(axis=1)
    draws: dict[str, list[Found]] = {"random": [], "lookalikes": []}
    for seed in SEEDS:
        generator = np.random.default_rng(seed)
        changed = generator.choice(len(labels), round(CHANGED * len(labels)), replace=False)
        random = (labels[changed] + generator.integers(1, classes, len(changed))) % classes
        for kind, new in (("random", random), ("lookalikes", others[changed])):
            wrong = labels.copy()
            wrong[changed] = new
            draws[kind].append(found(judged(rungs, wrong, classes)[0], wrong, changed))
        say(f"{name}: draw {seed}")

    def means(kind: str, own: bool) -> tuple[float, float]:
        """Recall and precision."""
        pairs = [(one, one.indices if own else one.theirs) for one in draws[kind]]
        recall = statistics.fmean(one.recall(suspects) for one, suspects in pairs)
        return recall, statistics.fmean(one.precision(suspects) for one, suspects in pairs)

    def told(kind: str, own: bool) -> list[str]:
        return [f"{mean:.2f}" for mean in means(kind, own)]

    recall, precision = means("random", own=True)
    claim = f"{name}: ≥ 70 % of those changed at random found at ≥ 50 % precision"
    claims = [target(claim, f"{recall:.1%} at {precision:.1%}", recall >= 0.7 and precision >= 0.5)]
    rate = statistics.fmean(one.ours.rate for one in draws["random"])
    first = (name, f"{accuracy:.3f}", *told("random", own=True), f"{rate:.1%}", *told("random", own=False))
    second = (
        f"{name}, {len(labels):,} images",
        f"{len(clean.indices)}",
        f"{len(clean.theirs)}",
        *told("lookalikes", own=True),
        *told("lookalikes", own=False),
    )
    return (first, second), claims, [one.held for one in draws["random"]]


def judged(rungs: Rungs, labels: np.ndarray, classes: int) -> tuple[np.ndarray, float]:
    """Held-out probabilities of the probe that is chosen, and its held-out accuracy."""
    probe = select(rungs, labels, classes, folds=left_out(labels)).probe
    return softmax(probe.scale * probe.held_out), probe.accuracy


def found(probabilities: np.ndarray, labels: np.ndarray, changed: np.ndarray) -> Found:
    theirs = find_label_issues(labels, probabilities, return_indices_ranked_by="self_confidence", n_jobs=1)
    return Found(ours=label_errors(probabilities, labels), theirs=np.asarray(theirs, dtype=int), changed=changed)


if __name__ == "__main__":
    main()
