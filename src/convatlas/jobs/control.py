"""The control of a fit: the same network trained on the same images from scratch, which tells what the pretrained weights bought."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from convatlas.jobs.decide import Decided, Wanted, adapted_by
from convatlas.jobs.images import Progress
from convatlas.jobs.material import Material
from convatlas.jobs.scores import accuracy_with_interval
from convatlas.metrics import paired_interval
from convatlas.transfer.plans import Plan


def control_json(found: Material, wanted: Wanted, decided: Decided, *, progress: Progress) -> dict[str, Any]:
    """How a network trained from scratch does on the images that judged the classifier, and how much less that is, image by image."""
    scratch = replace(wanted, plan=Plan(kind="scratch"), budget=None)
    adapted = adapted_by(found, scratch, decided.rungs, decided.selection.name, decided.told, progress)
    assert adapted.trained, "training from scratch leaves a network"
    if len(found.test):
        rows, shares = np.arange(len(decided.judged)), adapted.test
    else:  # the training images that both held out
        place = {id(record): i for i, record in enumerate(found.train.records)}
        own = np.array([place[id(record)] for record in decided.judged.records])
        rows = np.flatnonzero(np.isin(own, adapted.judged))
        shares = adapted.held_out[own[rows]]
    right = shares.argmax(axis=1) == decided.judged.labels[rows]
    apart = decided.right[rows].astype(int) - right
    return {
        **accuracy_with_interval(right),
        "difference": float(apart.mean()),
        "difference_interval": list(paired_interval(apart)),
        "epochs": adapted.trained.settings.config.epochs,
        "seconds": adapted.trained.seconds,
    }
