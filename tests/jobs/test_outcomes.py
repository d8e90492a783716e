"""What was right is kept image by image and deal by deal, and two classifiers are compared by it."""

from __future__ import annotations

import numpy as np
import pytest

from convatlas.jobs.outcomes import difference, outcomes_json
from convatlas.metrics import paired_interval

NAMES = [f"{i:064x}" for i in np.random.default_rng(0).permutation(90)]
UNITS = np.arange(90) // 3
ALONE = np.arange(90)
LABELS = ["cat", "dog"] * 45


def right(share: float, deals: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).random((deals, 90)) < share


def test_several_deals_are_compared_by_their_means() -> None:
    ours, theirs = right(0.9, 5, seed=1), right(0.7, 1, seed=2)
    found = difference(outcomes_json(NAMES, LABELS, ours, ALONE), outcomes_json(NAMES, LABELS, theirs, ALONE))
    assert found and found["difference"] == pytest.approx(ours.mean() - theirs.mean())
    apart = (ours.mean(axis=0) - theirs[0])[np.argsort(NAMES)]
    assert found["difference_interval"] == pytest.approx(paired_interval(apart))


def test_images_of_one_unit_count_for_as_many_as_they_tell_of() -> None:
    ours, theirs = (np.repeat(right(share, 1, seed=3)[:, :30], 3, axis=1) for share in (0.9, 0.7))
    kept = [outcomes_json(NAMES, LABELS, each, UNITS) for each in (ours, theirs)]
    assert kept[0]["together"] and outcomes_json(NAMES, LABELS, ours, ALONE)["together"] is None
    found = difference(*kept)
    assert found and found["difference_interval"] == pytest.approx(
        paired_interval((ours[0].astype(int) - theirs[0])[::3]), abs=0.01
    )


def test_what_an_older_fit_kept_is_understood() -> None:
    new = outcomes_json(NAMES, LABELS, right(0.8, 1, seed=4), ALONE)
    old = {key: new[key] for key in ("of", "images", "right")}
    found = difference(old, new)
    assert found and found["difference"] == 0 and not found["shown"]
    assert difference({**old, "of": "others"}, new) is None


def test_units_that_only_one_fit_knew_of_count_whichever_is_first() -> None:
    ours, theirs = right(0.9, 1, seed=1), right(0.7, 1, seed=2)
    alone, grouped = outcomes_json(NAMES, LABELS, ours, ALONE), outcomes_json(NAMES, LABELS, theirs, UNITS)
    one, other = difference(alone, grouped), difference(grouped, alone)
    assert (
        one
        and other
        and one["difference_interval"] == pytest.approx([-end for end in other["difference_interval"][::-1]])
    )
    assert one["difference_interval"] == pytest.approx(
        paired_interval((ours[0].astype(int) - theirs[0])[np.argsort(NAMES)], together=UNITS[np.argsort(NAMES)])
    )


def test_by_other_labels_nothing_is_compared() -> None:
    same = right(0.8, 1, seed=4)
    corrected = [*LABELS[:89], "cat"]
    assert difference(outcomes_json(NAMES, LABELS, same, ALONE), outcomes_json(NAMES, corrected, same, ALONE)) is None
