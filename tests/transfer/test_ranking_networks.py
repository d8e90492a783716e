"""Ranking networks on the same images: what is not shown is not claimed, and costs decide where nothing is lost."""

from __future__ import annotations

import numpy as np

from convatlas.transfer.networks import Judged, rank


def judged(wrong: int, mult_adds: int, *, images: int = 200, loss: float = 0.3, first: int = 0) -> Judged:
    """The images from `first` on are the wrong ones."""
    right = np.ones(images)
    right[first : first + wrong] = 0
    return Judged(right=right, losses=loss + 0.02 * np.random.default_rng(0).normal(size=images), mult_adds=mult_adds)


def test_a_better_network_is_taken_whatever_it_costs() -> None:
    found = rank({"small": judged(60, 10), "large": judged(10, 1000)})
    assert [row.name for row in found.rows] == ["large", "small"]
    assert found.chosen == "large"
    assert found.rows[1].worse_by == "accuracy"
    assert found.reason == "large is shown to be better than the other."


def test_no_difference_shown_is_an_answer_and_with_few_images_the_best_is_taken() -> None:
    found = rank({"large": judged(10, 1000), "small": judged(12, 10), "middle": judged(11, 100, first=50)})
    assert found.chosen == "large"
    assert not any(row.worse_by for row in found.rows)
    assert "No difference is shown between large" in found.reason
    assert "none that costs less is shown to lose less than a percentage point" in found.reason
    assert found.rows[0].difference_interval is None


def test_the_cheapest_of_those_shown_to_be_as_good_is_taken() -> None:
    many = {"large": judged(500, 1000, images=5000), "middle": judged(505, 100, images=5000)}
    small = judged(502, 10, images=5000)
    found = rank({**many, "small": small})
    assert found.chosen == "small"
    assert "small is taken: it costs 0.01 of the mult-adds of large" in found.reason
    assert "at most 0.1 percentage points" in found.reason or "at most 0.2 percentage points" in found.reason
    unlike = judged(
        502, 10, images=5000, first=2000
    )  # as many mistakes, but on other images: less is known of the difference
    assert rank({**many, "small": unlike}).chosen == "middle"


def test_the_best_that_costs_least_needs_no_evidence() -> None:
    found = rank({"large": judged(12, 1000), "small": judged(10, 10)})
    assert (found.chosen, found.reason.endswith("small costs least of them.")) == ("small", True)


def test_the_log_loss_of_every_image_shows_what_a_few_mistakes_do_not() -> None:
    found = rank({"large": judged(10, 1000), "small": judged(11, 10, loss=0.4)})
    assert found.rows[1].worse_by == "log-loss"
    assert found.chosen == "large"


def test_images_that_were_never_held_out_do_not_count() -> None:
    partly = judged(10, 10)
    partly.right[:20], partly.losses[:20] = np.nan, np.nan
    found = rank({"a": partly, "b": judged(10, 20)})
    assert found.rows[0].accuracy == 1.0
    assert rank({"alone": partly}).reason == "alone was the only one that could be judged."
