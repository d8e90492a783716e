"""The control of a fit: the same network trained on the same images from scratch, which tells what the pretrained weights bought."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from convatlas.jobs.decide import Decided, Wanted, adapted_by
from convatlas.jobs.images import Progress
from convatlas.jobs.material import Material
from convatlas.jobs.result import percent
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
    right, together = shares.argmax(axis=1) == decided.judged.labels[rows], decided.judged.together[rows]
    apart = decided.rights[:, rows].mean(axis=0) - right
    told = {
        **accuracy_with_interval(right, together),
        "difference": float(apart.mean()),
        "difference_interval": list(paired_interval(apart, together=together)),
        "epochs": adapted.trained.settings.config.epochs,
        "seconds": adapted.trained.seconds,
    }
    return {**told, "words": control_in_words(told)}


def control_in_words(control: Mapping[str, Any]) -> str:
    """What the pretrained weights bought, or that it is not shown that they did."""
    low, high = control["difference_interval"]
    points = f"{100 * control['difference']:+.1f} percentage points"
    between = f"95 % interval {100 * low:+.1f} to {100 * high:+.1f}, image by image"
    verdict = (
        f"The classifier with pretrained weights is better by {points} ({between})."
        if low > 0
        else f"The classifier with pretrained weights is worse, by {points} ({between}): transfer did not pay."
        if high < 0
        else f"No difference to the classifier with pretrained weights is shown ({points}, {between})."
    )
    return (
        f"The same network trained on the same images from scratch, for {control['epochs']} epochs ({control['seconds']:,.0f} s), names "
        f"the right class for {percent(control['accuracy'])} of the same {control['images']:,} images. {verdict}"
    )
