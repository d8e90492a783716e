"""What a fit says of its confidence is what `evaluate` finds, and where its images are too few it says so."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from convatlas.jobs.evaluate import evaluate
from convatlas.jobs.fit import FitResult, fit
from tiny import CLASSES, write_photos


@pytest.fixture(scope="module")
def found(fitted: FitResult) -> dict[str, Any]:
    return fitted.json["confidence"]


def test_the_rates_are_those_that_evaluate_measures(fitted: FitResult, found: dict[str, Any], photos: Path) -> None:
    assert (found["images"], found["protocol"]) == (24, "8 folds, each held out in turn")
    assert [row["rate"] for row in found["rates"]] == [0.01, 0.05, 0.1]
    for row in found["rates"][1:]:
        measured = evaluate(fitted.bundle, photos, false_reject=row["rate"], sets=1 - row["rate"]).json
        assert row["test"] == {"none_of_these": measured["none_of_these"], "sets": measured["sets"]}
        assert row["refused"] is None


def test_training_images_are_rejected_at_the_rate_itself(found: dict[str, Any]) -> None:
    for row in found["rates"][1:]:
        training = row["training"]["none_of_these"]
        assert training["images"] == 24
        assert row["rate"] - 1 / 24 < training["rejected"] <= row["rate"]
        assert row["training"]["sets"]["coverage"] >= 1 - row["rate"]
        assert row["most_rejected"]["name"] in CLASSES and row["most_rejected"]["images"] == 8


def test_a_rate_that_takes_more_images_is_refused_in_words(found: dict[str, Any]) -> None:
    first = found["rates"][0]
    assert "24 held-out training images cannot show a false-reject rate of 0.01, which takes 99." in first["refused"]
    assert first["training"] is first["test"] is first["most_rejected"] is None


@pytest.mark.parametrize("copies", [0, 3])
def test_without_a_test_part_the_page_says_that_nothing_was_checked(
    backbone: Path, tmp_path: Path, copies: int
) -> None:
    write_photos(tmp_path / "photos", 0, 8)
    for i in range(copies):
        shutil.copy(tmp_path / "photos/red/001.png", tmp_path / f"photos/red/copy{i}.png")
    result = fit(tmp_path / "photos", weights=backbone, out=tmp_path / "model")
    found = result.json["confidence"]
    assert all(row["test"] is None for row in found["rates"])
    assert found["protocol"] == "8 folds, each held out in turn"
    text = (result.bundle / "report.html").read_text(encoding="utf-8")
    assert "There is no test part" in text and "which takes 99" in text
    assert '<a href="#confidence">' in text
