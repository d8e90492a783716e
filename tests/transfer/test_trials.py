"""Trials of a probe say calibrated probabilities, whatever each fold's own scale is, and as much as is trained on is charged."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from convatlas.metrics import log_loss, softmax
from convatlas.transfer.probe import fit_probe
from convatlas.transfer.trials import Trials


def trials(labels: np.ndarray, fold_of: np.ndarray) -> Trials:
    shop = SimpleNamespace(labels=labels, num_classes=int(labels.max()) + 1, held_out=lambda rows: None)
    return Trials(cast(Any, shop), np.arange(len(labels)), fold_of)


def test_probes_of_folds_are_on_one_scale() -> None:
    """Of a fold's few images each probe has its own strength, and with it a scale that may be many times another's."""
    generator = np.random.default_rng(0)
    labels, fold_of = np.repeat([0, 1], 30), np.tile(np.arange(5), 12)
    scales, apart = [], []
    for _ in range(12):
        features = generator.normal(size=(60, 40)) + 0.5 * labels[:, None] * (np.arange(40) < 8)
        found = trials(labels, fold_of).probed(features)
        for fold, trial in enumerate(found):
            probe = fit_probe(features, labels, 2, rows=np.flatnonzero(fold_of != fold))
            assert softmax(trial.logits) == pytest.approx(probe.probabilities(features[fold_of == fold]))
            scales.append(probe.scale)
        rows = np.concatenate([trial.rows for trial in found])
        said = softmax(np.concatenate([trial.logits for trial in found]))
        apart.append(log_loss(said, labels[rows]))
    assert max(scales) > 3 * min(scales)
    assert np.mean(apart) < np.log(2)  # better than knowing nothing


@pytest.mark.parametrize(
    ("fold_of", "share"),
    [([0, 1, 2, 3, 4], 0.8), ([0, 0, -1, -1], 0.5), ([0, 1, -1, -1], 0.75), ([-1, 0, 1, 0], 0.625)],
)
def test_a_trial_trains_on_what_is_not_held_out(fold_of: list[int], share: float) -> None:
    assert trials(np.arange(len(fold_of)) % 2, np.array(fold_of)).share == share
