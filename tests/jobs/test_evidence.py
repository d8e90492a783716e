"""What a fit says of the data: from training images alone, the same from the cache, and honest where it cannot know."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from convatlas.jobs import evidence
from convatlas.jobs.fit import FitResult, fit
from tiny import STAGES, write_split


def test_every_part_is_there(fitted: FitResult) -> None:
    found: dict[str, Any] = fitted.json["evidence"]
    assert found["forecast"]["points"][-1]["images"] == 24
    assert found["forecast"]["rung"] == fitted.stage
    assert [row["stage"] for row in found["similarity"]["stages"]] == list(STAGES)
    assert found["similarity"]["images"] == 24
    assert "the median of its stages" in found["similarity"]["words"]
    assert [row["stage"] for row in found["scores"]["stages"]] == list(STAGES)
    by_stage = {row["name"]: row["cv_accuracy"] for row in fitted.json["stages"]}
    for row in found["scores"]["stages"]:
        assert row["accuracy"] == by_stage[row["stage"]]
        assert row["distance"] > 0


def test_the_repeat_asks_the_cache(
    photos: Path, backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = fit(photos, weights=backbone, out=tmp_path / "a", report=False)
    monkeypatch.setattr(evidence, "learning_curve", None)
    again = fit(photos, weights=backbone, out=tmp_path / "b", report=False)
    assert again.json["evidence"] == first.json["evidence"]


def test_test_images_change_nothing(backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few, many = (write_split(tmp_path / name, {"train": 6, "test": count}) for name, count in (("few", 1), ("many", 5)))
    found = []
    for data in (few, many):
        monkeypatch.setenv(
            "CONVATLAS_CACHE", str(tmp_path / f"{data.name}-cache")
        )  # or the first would answer for both
        found.append(fit(data, weights=backbone, out=tmp_path / f"{data.name}-model", report=False))
    assert found[0].json["evidence"] == found[1].json["evidence"]


def test_weights_without_a_record_of_their_source_are_said_to_have_none(
    photos: Path, backbone: Path, tmp_path: Path
) -> None:
    tensors = load_file(backbone)
    for key in tensors:
        if key.endswith("running_mean"):
            tensors[key].zero_()
        elif key.endswith("running_var"):
            tensors[key].fill_(1 - 1e-5)
    save_file(tensors, tmp_path / "folded.safetensors")
    (tmp_path / "folded.json").write_text(backbone.with_suffix(".json").read_text())
    similarity = fit(photos, weights=tmp_path / "folded.safetensors", out=tmp_path / "model").json["evidence"][
        "similarity"
    ]
    assert similarity["stages"] == []
    assert similarity["distance"] is None
    assert "cannot be told" in similarity["words"]


def test_one_stage_that_was_asked_for_has_no_correlation(photos: Path, backbone: Path, tmp_path: Path) -> None:
    scores = fit(photos, weights=backbone, out=tmp_path / "model", plan="probe:stage2").json["evidence"]["scores"]
    assert [row["stage"] for row in scores["stages"]] == ["stage2"]
    assert scores["logme"] is None
    assert scores["words"] == ""


def test_too_few_images_promise_nothing(backbone: Path, tmp_path: Path) -> None:
    data = write_split(tmp_path / "photos", {"train": 2, "test": 1})
    found = fit(data, weights=backbone, out=tmp_path / "model").json["evidence"]["forecast"]
    assert not found["told"]
    assert "cannot be told" in found["words"]
