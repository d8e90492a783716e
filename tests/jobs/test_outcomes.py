"""What was right is kept image by image and deal by deal, and two classifiers are compared by it."""

from __future__ import annotations

import numpy as np
import pytest

from convatlas.jobs.outcomes import difference, outcomes_json
from convatlas.metrics import paired_interval

NAMES = [f"{i:064x}" for i in np.random.default_rng(0).permutation(90)]
UNITS = np.arange(90) // 3


def right(share: float, deals: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).random((deals, 90)) < share


def test_several_deals_are_compared_by_their_means() -> None:
    ours, theirs = right(0.9, 5, seed=1), right(0.7, 1, seed=2)
    found = difference(outcomes_json(NAMES, ours, np.arange(90)), outcomes_json(NAMES, theirs, np.arange(90)))
    assert found and found["difference"] == pytest.approx(ours.mean() - theirs.mean())
    apart = (ours.mean(axis=0) - theirs[0])[np.argsort(NAMES)]
    assert found["difference_interval"] == pytest.approx(paired_interval(apart))


def test_images_of_one_unit_count_for_as_many_as_they_tell_of() -> None:
    ours, theirs = (np.repeat(right(share, 1, seed=3)[:, :30], 3, axis=1) for share in (0.9, 0.7))
    kept = [outcomes_json(NAMES, each, UNITS) for each in (ours, theirs)]
    assert kept[0]["together"] and outcomes_json(NAMES, ours, np.arange(90))["together"] is None
    found = difference(*kept)
    assert found and found["difference_interval"] == pytest.approx(
        paired_interval((ours[0].astype(int) - theirs[0])[::3]), abs=0.01
    )


def test_what_an_older_fit_kept_is_understood() -> None:
    new = outcomes_json(NAMES, right(0.8, 1, seed=4), np.arange(90))
    old = {key: new[key] for key in ("of", "images", "right")}
    found = difference(old, new)
    assert found and found["difference"] == 0 and not found["shown"]
    assert difference({**old, "of": "others"}, new) is None
