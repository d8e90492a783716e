"""What a fit says is what it found: figures that agree, a choice that never saw the test part, a model that predicts the same."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import convatlas
from convatlas.jobs import decide as job
from convatlas.jobs.evaluate import evaluate
from convatlas.jobs.fit import FitResult, fit
from convatlas.transfer.probe import Selection
from tiny import CLASSES, NETWORK, STAGES, content, photo, write_photos, write_split, write_weights

RUNGS = (*STAGES, "all stages")
NUMBER = (int, float)


@pytest.fixture(scope="module")
def result(fitted: FitResult) -> dict[str, Any]:
    return fitted.json


@pytest.fixture(scope="module")
def mixed_up(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photos of which some test images lie in the wrong class, so that there are mistakes to show."""
    root = write_split(tmp_path_factory.mktemp("mixed") / "mixed up", {"train": 8, "test": 3})
    for number in range(300, 330):
        photo("red", number).save(root / "test/green" / f"été {number}.png")
    return root


def values(result: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every number and text of a JSON value with the path to it."""
    if isinstance(result, dict):
        for key, value in result.items():
            yield from values(value, f"{path}.{key}")
    elif isinstance(result, list):
        for i, value in enumerate(result):
            yield from values(value, f"{path}.{i}")
    else:
        yield path, result


@pytest.mark.parametrize(
    ("key", "kind"),
    [
        ("schema", str), ("version", str), ("created", str), ("command", str), ("question", str), ("answer", str),
        ("accuracy", NUMBER), ("accuracy_interval", list), ("balanced_accuracy", NUMBER), ("balanced_accuracy_interval", list),
        ("log_loss", NUMBER), ("expected_calibration_error", NUMBER), ("temperature", NUMBER), ("protocol", str),
        ("headline", str), ("backbone", str), ("plan", str), ("stage", str), ("strength", NUMBER), ("stages", list),
        ("classes", list), ("images", dict), ("confusion", dict), ("mistakes", list), ("calibration", list), ("problems", list),
        ("seconds", dict), ("counts", dict), ("notes", list), ("bundle", str), ("environment", dict), ("data", dict), ("weights", dict),
    ],
)  # fmt: skip
def test_every_promised_entry_is_there(result: dict[str, Any], key: str, kind: Any) -> None:
    assert isinstance(result[key], kind)


def test_the_json_is_versioned_plain_and_the_one_in_the_folder(fitted: FitResult) -> None:
    result = fitted.json
    assert result["schema"] == "convatlas.fit/1"
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    assert json.loads((fitted.bundle / "fit.json").read_text(encoding="utf-8")) == result
    assert result["report"] is None


def test_figures_agree(result: dict[str, Any], photos: Path) -> None:
    matrix = np.array(result["confusion"]["matrix"])
    assert result["confusion"]["classes"] == [row["name"] for row in result["classes"]] == list(CLASSES)
    assert matrix.sum() == result["images"]["test"] == 12
    assert result["images"] == {"train": 24, "test": 12, "unreadable": 0, "conflicting": 0, "ignored": 0}
    assert result["accuracy"] == pytest.approx(np.trace(matrix) / matrix.sum())
    assert [row["test"] for row in result["classes"]] == matrix.sum(axis=1).tolist() == [4, 4, 4]
    assert [row["train"] for row in result["classes"]] == [8, 8, 8]
    assert [row["recall"] for row in result["classes"]] == pytest.approx(np.diag(matrix) / matrix.sum(axis=1))
    low, high = result["accuracy_interval"]
    assert 0 <= low <= result["accuracy"] <= high <= 1
    assert sum(bin_["count"] for bin_ in result["calibration"]) == 12
    assert result["data"]["path"] == str(photos)
    assert result["data"]["layout"] == "split folders"
    assert result["backbone"] == NETWORK
    assert len(result["weights"]["sha256"]) == 64
    assert "for 100.0 % of 12 images it never saw" in result["answer"]


def test_an_easy_set_is_learned(result: dict[str, Any]) -> None:
    assert result["accuracy"] == 1.0
    assert result["log_loss"] < 0.3


def test_the_ladder_has_every_stage_and_one_choice(result: dict[str, Any]) -> None:
    rows = {row["name"]: row for row in result["stages"]}
    assert tuple(rows) == RUNGS
    (chosen,) = [row for row in rows.values() if row["chosen"]]
    assert (chosen["name"], chosen["strength"]) == (result["stage"], result["strength"])
    assert result["plan"] == f"probe:{result['stage']}"
    assert (chosen["test_accuracy"], chosen["test_interval"]) == (result["accuracy"], result["accuracy_interval"])
    assert {name for name, row in rows.items() if row["note"] == "not used for the choice"} == {*RUNGS} - {
        result["stage"]
    }
    best = min(rows.values(), key=lambda row: row["cv_log_loss"])
    assert chosen["name"] in {STAGES[-1], best["name"]}
    assert chosen["cv_log_loss"] == best["cv_log_loss"] or "by chance" in result["choice"]
    for row in rows.values():
        for kind in ("cv", "test"):
            low, high = row[f"{kind}_interval"]
            assert 0 <= low <= row[f"{kind}_accuracy"] <= high <= 1
    assert [rows[stage]["features"] for stage in STAGES] == [16, 32, 64]


def test_time_and_work_are_accounted_for(result: dict[str, Any]) -> None:
    seconds = result["seconds"]
    assert set(seconds) == {"import", "decode", "forward", "solve", "rank", "adapt", "control", "report", "total"}
    assert seconds["report"] is None
    parts = [seconds[name] for name in ("import", "decode", "forward", "solve")]
    assert all(part >= 0 for part in parts)
    assert sum(parts) <= seconds["total"]
    assert result["counts"] == {"decoded": 36, "forwarded": 36, "from_cache": 0}


def test_the_device_is_the_one_that_computed(result: dict[str, Any]) -> None:
    assert result["environment"]["device"] in ("cpu", "cuda", "mps")
    assert result["environment"]["convatlas"] == convatlas.__version__


def test_the_result_object_speaks_for_its_json(fitted: FitResult) -> None:
    assert fitted.accuracy == fitted.json["accuracy"]
    assert list(fitted.accuracy_interval) == fitted.json["accuracy_interval"]
    assert fitted.stage == fitted.json["stage"]
    assert fitted.report is None
    hostile = FitResult({**fitted.json, "answer": "<script>", "stages": [{**fitted.json["stages"][0], "name": "<b>"}]})
    assert "<script>" not in hostile._repr_html_()
    assert "<b>" not in hostile._repr_html_()
    assert fitted.json["answer"] in fitted._repr_html_()


def same_choice(first: FitResult, second: FitResult) -> None:
    """Everything that was decided, and every tensor, is equal."""
    assert (first.bundle / "model.safetensors").read_bytes() == (second.bundle / "model.safetensors").read_bytes()
    for key in ("stage", "strength", "temperature", "choice"):
        assert first.json[key] == second.json[key], key
    for mine, other in zip(first.json["stages"], second.json["stages"], strict=True):
        for key in ("name", "cv_accuracy", "cv_interval", "cv_log_loss", "chosen", "strength"):
            assert mine[key] == other[key], key


def test_a_fit_repeats(fitted: FitResult, photos: Path, backbone: Path, tmp_path: Path) -> None:
    again = fit(photos, weights=backbone, out=tmp_path / "model", report=False)
    same_choice(again, fitted)
    varying = ("created", "seconds", "command", "bundle")
    assert {k: v for k, v in again.json.items() if k not in varying} == {
        k: v for k, v in fitted.json.items() if k not in varying
    }


@pytest.mark.parametrize("what", ["labels", "images", "fewer"])
def test_the_test_part_takes_no_part_in_any_choice(
    fitted: FitResult, photos: Path, backbone: Path, tmp_path: Path, what: str
) -> None:
    root = tmp_path / "stripes"
    shutil.copytree(photos, root)
    if what == "labels":
        for old, new in (("red", "kept"), ("green", "red"), ("blue", "green"), ("kept", "blue")):
            (root / "test" / old).rename(root / "test" / new)
    elif what == "images":
        shutil.rmtree(root / "test")
        write_photos(root / "test", 700, 9)
    else:
        for path in [*(root / "test/red").iterdir()][1:]:
            path.unlink()
    changed = fit(root, weights=backbone, out=tmp_path / "model", report=False)
    same_choice(changed, fitted)
    assert changed.json["confusion"] != fitted.json["confusion"]
    if what == "labels":
        assert changed.accuracy == 0.0


def test_the_training_part_does(fitted: FitResult, backbone: Path, tmp_path: Path) -> None:
    """The comparison above can fail."""
    root = write_split(tmp_path / "stripes", {"train": 7, "test": 4})
    with pytest.raises(AssertionError):
        same_choice(fit(root, weights=backbone, out=tmp_path / "model", report=False), fitted)


@pytest.mark.parametrize(
    ("name", "rung"),
    [*((NETWORK, rung) for rung in RUNGS), *(("lenet5_modern", rung) for rung in RUNGS if rung != "stage3")],
)
def test_the_saved_model_predicts_what_the_fit_found(
    photos: Path, tmp_path: Path, name: str, rung: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, Any] = {}

    def choose(rungs: Any, *arguments: Any, **options: Any) -> Selection:
        seen["rungs"], seen["selection"] = rungs, replace(select(rungs, *arguments, **options), name=rung)
        return seen["selection"]

    select = job.select
    monkeypatch.setattr(job, "select", choose)
    weights = write_weights(tmp_path / "own.safetensors", name=name)
    result = fit(photos, weights=weights, out=tmp_path / "model", report=False)
    classifier = convatlas.load(result.bundle)
    assert classifier.classes == CLASSES
    paths = sorted((photos / "train").rglob("*.png"))
    tops = [dict(row.top) for row in classifier.predict(paths)]
    found = np.array([[top[label] for label in CLASSES] for top in tops])
    expected = seen["selection"].probe.probabilities(seen["rungs"][rung])
    assert np.abs(found - expected).max() < 1e-5
    judged = evaluate(result.bundle, photos).json
    assert judged["confusion"] == result.json["confusion"]
    assert judged["log_loss"] == pytest.approx(result.json["log_loss"], abs=1e-5)


def test_mistakes_can_be_looked_at(mixed_up: Path, backbone: Path, tmp_path: Path) -> None:
    result = fit(mixed_up, weights=backbone, out=tmp_path / "model", report=True)
    rows = result.json["mistakes"]
    matrix = np.array(result.json["confusion"]["matrix"])
    wrong = matrix.sum() - np.trace(matrix)
    assert wrong >= 30
    assert len(rows) == 24
    assert [row["probability"] for row in rows] == sorted((row["probability"] for row in rows), reverse=True)
    for row in rows:
        assert Path(row["path"]).is_file()
        assert Path(row["path"]).parent.name == row["truth"] != row["predicted"]
        assert row["truth_probability"] <= row["probability"]
        assert (result.bundle / row["thumbnail"]).read_bytes()[:3] == b"\xff\xd8\xff"
    assert len({row["path"] for row in rows}) == len({row["thumbnail"] for row in rows}) == 24
    assert result.accuracy == pytest.approx(1 - wrong / matrix.sum())
    bare = fit(mixed_up, weights=backbone, out=tmp_path / "bare", report=False)  # pictures are for the report
    drawn = dict.fromkeys(("thumbnail", "map", "map_method", "nearest"))
    assert [{**row, **drawn} for row in rows] == bare.json["mistakes"]
    assert not (bare.bundle / "assets").exists()


def test_a_report_is_written_and_shows_the_result(mixed_up: Path, backbone: Path, tmp_path: Path) -> None:
    result = fit(mixed_up, weights=backbone, out=tmp_path / "model")
    assert result.report == tmp_path / "model/report.html"
    page = (result.bundle / "report.html").read_text(encoding="utf-8")
    assert result.stage is not None
    for text in (result.stage, *CLASSES, "été 300.png"):
        assert text in page
    assert result.json["seconds"]["report"] > 0
    assert json.loads((result.bundle / "fit.json").read_text(encoding="utf-8")) == result.json


def test_class_weights_change_what_is_learned_from_uneven_classes(backbone: Path, tmp_path: Path) -> None:
    root = write_split(tmp_path / "uneven", {"train": 2, "test": 2})
    write_photos(root / "train", 10, 30, ("red",))
    plain = fit(root, weights=backbone, out=tmp_path / "plain", report=False)
    balanced = fit(root, weights=backbone, out=tmp_path / "balanced", class_weights="balanced", report=False)
    assert content(plain.bundle)["model.safetensors"] != content(balanced.bundle)["model.safetensors"]
    noise = np.random.default_rng(0).integers(0, 256, (20, 32, 32, 3)).astype(np.uint8)
    rare = [convatlas.load(result.bundle).probabilities(noise)[:, :2].mean() for result in (plain, balanced)]
    assert rare[0] < rare[1]  # the prior shows


def test_the_seed_deals_the_folds(backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_photos(tmp_path / "photos", 0, 6)
    dealt: list[tuple[int, ...]] = []

    def spy(*arguments: Any, **options: Any) -> Any:
        dealt.append(tuple(arguments[3].tolist()))
        return predictions_of(*arguments, **options)

    predictions_of = job.outer_folds_predictions
    monkeypatch.setattr(job, "outer_folds_predictions", spy)
    for i, seed in enumerate((0, 0, 5)):
        fit(tmp_path / "photos", weights=backbone, out=tmp_path / f"{i}", seed=seed, report=False)
    assert len(dealt) == 15 and len(set(dealt[:5])) == 5  # so few images are dealt five times
    assert dealt[:5] == dealt[5:10] != dealt[10:]


def test_progress_tells_of_both_kinds_of_work(photos: Path, backbone: Path, tmp_path: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    fit(photos, weights=backbone, out=tmp_path / "m", report=False, progress=lambda *step: seen.append(step))
    assert seen == [*(("decode and forward", i, 36) for i in range(1, 37)), ("solve", 0, 1), ("solve", 1, 1)]


@pytest.mark.parametrize("device", ["tpu", "cuda:0"])
def test_an_unknown_device_is_refused(photos: Path, backbone: Path, tmp_path: Path, device: str) -> None:
    with pytest.raises(convatlas.ConvAtlasError, match=f"unknown device '{device}'; use auto, cpu, cuda or mps"):
        fit(photos, weights=backbone, out=tmp_path / "m", device=device)


def test_without_weights_the_embedded_backbone_is_taken_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "none"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "none"))
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    root = write_split(tmp_path / "photos", {"train": 3, "test": 1})
    result = fit(root, out=tmp_path / "model", report=False)
    assert result.json["weights"]["source"] == "embedded"
    (note,) = [note for note in result.json["notes"] if "--download would fetch" in note]
    assert note in result.json["weights"]["note"]
    assert result.accuracy == 1.0
