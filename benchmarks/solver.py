"""The probe's solver beside scikit-learn's LogisticRegressionCV: a regularisation path, held-out scores and calibration.

Ours: every strength of the path by leave-one-out in closed form, a temperature for each, the best refitted. Theirs: ten strengths by five
folds, the best refitted, no calibration. Both on the same 10,000 rows of 2,048 features, rectified and of low effective dimension as a
network's are, 100 classes; judged on as many others, and on real features too. Theirs takes minutes, so fewer rounds than elsewhere.
"""

from __future__ import annotations

import sys
import time
import warnings
from dataclasses import dataclass

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegressionCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from convatlas.metrics import expected_calibration_error, log_loss, softmax
from convatlas.transfer.probe import fit_probe
from measuring import interleaved, ratios, section, spread, table, target

ROWS, FEATURES, CLASSES = 10_000, 2_048, 100
STRENGTHS, FOLDS, STEPS = 10, 5, 100
REPEATS = 5
FASTER, WITHIN = 30, 0.005


@dataclass(frozen=True, kw_only=True)
class Side:
    """A fitted classifier and what it says of the other rows."""

    seconds: float
    probabilities: np.ndarray


def drawn(rows: int, features: int, classes: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Training and test rows: rectified mixtures of 128 latent directions, classes that overlap."""
    draws = np.random.default_rng(0)
    centres, mixing = draws.normal(size=(classes, 128)), draws.normal(size=(128, features)) / np.sqrt(128)
    labels = draws.integers(0, classes, 2 * rows)
    latent = centres[labels] + 4.0 * draws.normal(size=(2 * rows, 128))
    seen = np.maximum(latent @ mixing + 0.3 * draws.normal(size=(2 * rows, features)), 0).astype(np.float32)
    return seen[:rows], labels[:rows], seen[rows:], labels[rows:]


def main() -> None:
    rows, features, classes = map(int, sys.argv[1:4] or (ROWS, FEATURES, CLASSES))
    x, y, unseen, truth = drawn(rows, features, classes)

    def ours() -> Side:
        started = time.perf_counter()
        probe = fit_probe(x, y, classes)
        seconds = time.perf_counter() - started
        return Side(seconds=seconds, probabilities=softmax(probe.scale * probe.scores(unseen)))

    def theirs() -> Side:
        started = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # the section says how many steps it gets
            model = make_pipeline(
                StandardScaler(),
                LogisticRegressionCV(
                    Cs=STRENGTHS,
                    cv=FOLDS,
                    max_iter=STEPS,
                    scoring="neg_log_loss",
                    l1_ratios=(0,),  # pyright: ignore[reportArgumentType] - its annotation is wrong
                    use_legacy_attributes=False,  # pyright: ignore[reportArgumentType] - its annotation is wrong
                ),
            ).fit(x, y)
        return Side(seconds=time.perf_counter() - started, probabilities=model.predict_proba(unseen))

    ours()
    found = interleaved(REPEATS, ours=ours, theirs=theirs)
    seconds = {side: [each.seconds for each in found[side]] for side in found}
    faster = ratios(seconds["theirs"], seconds["ours"])
    accuracy = {side: float((found[side][0].probabilities.argmax(axis=1) == truth).mean()) for side in found}
    names = {"ours": "`fit_probe`", "theirs": "LogisticRegressionCV, standardised"}
    lines = [
        (
            name,
            spread(seconds[side]),
            f"{accuracy[side]:.4f}",
            f"{log_loss(found[side][0].probabilities, truth):.3f}",
            f"{expected_calibration_error(found[side][0].probabilities, truth):.3f}",
        )
        for side, name in names.items()
    ]
    difference = accuracy["ours"] - accuracy["theirs"]
    section(
        "The probe's solver beside scikit-learn",
        f"{rows:,} × {features:,}, {classes} classes, made up; accuracy, log-loss and calibration error on as many other rows. "
        f"Theirs: {STRENGTHS} strengths, {FOLDS} folds, at most {STEPS} steps of L-BFGS each; ours: 17 strengths, "
        f"leave-one-out. Rounds: {REPEATS}.",
        table(("", "seconds", "accuracy", "log-loss", "calibration error"), lines),
        targets=[
            target(f"at least {FASTER} × faster", spread(faster, 0), sorted(faster)[len(faster) // 2] >= FASTER),
            target(
                f"accuracy within {100 * WITHIN:.1f} points", f"{100 * difference:+.2f} points", difference >= -WITHIN
            ),
        ],
        peers=("scikit-learn",),
    )


if __name__ == "__main__":
    main()
