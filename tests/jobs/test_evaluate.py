"""A model is judged on labelled images: classes matched by name, every image counted once or said to be left out."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import convatlas
from convatlas.cli.predict import scores_text
from convatlas.errors import ConvAtlasError
from convatlas.jobs.evaluate import EvaluateResult, evaluate
from convatlas.jobs.fit import FitResult
from tiny import CLASSES, photo, state, write_photos, write_split


def test_on_the_test_part_it_says_what_the_fit_said(fitted: FitResult, photos: Path) -> None:
    result = evaluate(fitted.bundle, photos)
    for key in ("accuracy", "accuracy_interval", "balanced_accuracy", "balanced_accuracy_interval", "confusion"):
        assert result.json[key] == fitted.json[key], key
    assert result.json["log_loss"] == pytest.approx(fitted.json["log_loss"], abs=1e-5)
    assert result.accuracy == fitted.accuracy
    assert result.accuracy_interval == fitted.accuracy_interval
    assert "of 12 images" in result._repr_html_()


def test_the_json_is_versioned_and_plain(fitted: FitResult, photos: Path) -> None:
    result = evaluate(str(fitted.bundle), str(photos)).json
    assert result["schema"] == "convatlas.evaluate/1"
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    assert result["model"] == str(fitted.bundle)
    assert result["data"] == {"path": str(photos), "split": "test"}
    assert result["protocol"] == "test split, 12 images, classes matched by name"
    assert (result["images"], result["unreadable"]) == (12, [])


@pytest.mark.parametrize(("split", "count"), [(None, 6), ("test", 6), ("val", 9), ("train", 12), ("all", 27)])
def test_the_split_can_be_chosen(fitted: FitResult, tmp_path: Path, split: str | None, count: int) -> None:
    root = write_split(tmp_path / "photos", {"train": 4, "val": 3, "test": 2})
    result = evaluate(fitted.bundle, root, split=split).json
    assert (result["images"], result["data"]["split"]) == (count, split or "test")


@pytest.mark.parametrize(
    ("splits", "expected"),
    [({"train": 2, "valid": 3}, "val"), ({"train": 2}, "train"), ({"testing": 2, "val": 1}, "test")],
)
def test_by_default_the_part_furthest_from_training(
    fitted: FitResult, tmp_path: Path, splits: dict[str, int], expected: str
) -> None:
    root = write_split(tmp_path / "photos", splits)
    assert evaluate(fitted.bundle, root).json["data"]["split"] == expected


def test_a_split_that_is_not_there_is_refused(fitted: FitResult, photos: Path, tmp_path: Path) -> None:
    with pytest.raises(ConvAtlasError, match="has no val split. It has train, test; `all` takes everything"):
        evaluate(fitted.bundle, photos, split="val")
    write_photos(tmp_path / "photos", 0, 2)
    assert evaluate(fitted.bundle, tmp_path / "photos").json["images"] == 6
    with pytest.raises(ConvAtlasError, match="has no test split"):
        evaluate(fitted.bundle, tmp_path / "photos", split="test")


def test_a_table_in_any_order_with_some_classes_is_matched_by_name(fitted: FitResult, tmp_path: Path) -> None:
    write_photos(tmp_path / "images", 50, 3, ("red", "green"))
    rows = [f"images/{label}/{number:03d}.png,{label}" for number in (52, 50, 51) for label in ("red", "green")]
    (tmp_path / "table.csv").write_text("\n".join(["path,label", *rows]))
    result = evaluate(fitted.bundle, tmp_path / "table.csv").json
    assert result["confusion"] == {"classes": list(CLASSES), "matrix": [[0, 0, 0], [0, 3, 0], [0, 0, 3]]}
    blue = next(row for row in result["classes"] if row["name"] == "blue")
    assert (blue["test"], blue["recall"]) == (0, None)
    assert result["balanced_accuracy"] == 1.0


def test_one_class_alone_can_be_judged(fitted: FitResult, tmp_path: Path) -> None:
    write_photos(tmp_path / "images", 50, 3, ("red",))
    (tmp_path / "table.csv").write_text(
        "path,label\n" + "".join(f"images/red/{n:03d}.png,red\n" for n in range(50, 53))
    )
    assert evaluate(fitted.bundle, tmp_path / "table.csv").accuracy == 1.0


def test_a_class_the_model_does_not_know_is_refused_by_name(fitted: FitResult, tmp_path: Path) -> None:
    root = write_split(tmp_path / "photos", {"train": 1, "test": 2})
    shutil.copytree(root / "test/red", root / "test/purple")
    shutil.copytree(root / "test/red", root / "train/purple")
    with pytest.raises(ConvAtlasError, match="unknown here: purple"):
        evaluate(fitted.bundle, root)


def test_a_foreign_class_elsewhere_does_not_matter(fitted: FitResult, tmp_path: Path) -> None:
    root = write_split(tmp_path / "photos", {"train": 1, "test": 2})
    shutil.copytree(root / "train/red", root / "train/purple")
    assert evaluate(fitted.bundle, root, split="test").json["images"] == 6


def test_unreadable_files_are_left_out_and_listed(fitted: FitResult, tmp_path: Path) -> None:
    root = write_split(tmp_path / "photos", {"test": 2})
    (root / "test/red/cut.png").write_bytes((root / "test/red/000.png").read_bytes()[:400])
    (root / "test/blue/zero.jpg").write_bytes(b"")
    before = state(root)
    result = evaluate(fitted.bundle, root).json
    assert result["images"] == 6
    assert sorted(result["unreadable"]) == [str(root / "test/blue/zero.jpg"), str(root / "test/red/cut.png")]
    assert {"truncated", "empty"} <= {problem["kind"] for problem in result["problems"]}
    assert state(root) == before


def test_nothing_readable_is_an_error(fitted: FitResult, tmp_path: Path) -> None:
    root = write_split(tmp_path / "photos", {"test": 1})
    for path in root.rglob("*.png"):
        path.write_bytes(b"")
    with pytest.raises(ConvAtlasError, match="no image could be read"):
        evaluate(fitted.bundle, root)


def test_mistakes_name_their_files_worst_first(fitted: FitResult, tmp_path: Path) -> None:
    root = write_split(tmp_path / "photos", {"test": 1})
    for number in range(3):
        photo("red", 70 + number).save(root / f"test/blue/{number} été.png")
    rows = evaluate(fitted.bundle, root).json["mistakes"]
    assert {row["path"] for row in rows} == {str(root / f"test/blue/{number} été.png") for number in range(3)}
    assert [row["probability"] for row in rows] == sorted((row["probability"] for row in rows), reverse=True)
    assert all((row["truth"], row["predicted"]) == ("blue", "red") for row in rows)


@pytest.mark.parametrize("count", [1, 32, 33])
def test_every_image_is_counted_once_whatever_the_batches(fitted: FitResult, tmp_path: Path, count: int) -> None:
    write_photos(tmp_path / "photos", 0, count)
    seen: list[tuple[str, int, int]] = []
    result = evaluate(fitted.bundle, tmp_path / "photos", progress=lambda *step: seen.append(step)).json
    assert np.array(result["confusion"]["matrix"]).sum() == 3 * count
    assert seen == [("evaluate", i + 1, 3 * count) for i in range(3 * count)]


@pytest.mark.parametrize(
    "call",
    [
        lambda model, data: evaluate(model, data / "absent"),
        lambda model, data: evaluate(data, data),
        lambda model, data: evaluate(model, data, split="validation"),
        lambda model, data: evaluate(model, data, device="tpu"),
    ],
    ids=["no data", "no model", "no such split", "no such device"],
)
def test_what_cannot_be_evaluated_is_an_error_of_ours(
    fitted: FitResult, photos: Path, call: Callable[[Path, Path], EvaluateResult]
) -> None:
    with pytest.raises(ConvAtlasError) as caught:
        call(fitted.bundle, photos)
    assert caught.value.remedy


def test_a_tampered_model_is_not_judged(fitted: FitResult, photos: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(fitted.bundle, tmp_path / "model"))
    (folder / "examples/jpeg.jpg").write_bytes(b"")
    with pytest.raises(convatlas.ConvAtlasError, match="was changed after it was written"):
        evaluate(folder, photos)


def test_what_is_promised_is_counted_image_by_image(fitted: FitResult, photos: Path) -> None:
    plain = evaluate(fitted.bundle, photos, split="all").json
    assert (plain["none_of_these"], plain["sets"]) == (None, None)
    result = evaluate(fitted.bundle, photos, split="all", false_reject=0.2, sets=0.9).json
    same = {key: plain[key] for key in ("accuracy", "confusion", "images", "classes")}
    assert {key: result[key] for key in same} == same
    assert result["log_loss"] == pytest.approx(plain["log_loss"], abs=1e-5)

    paths = sorted(photos.rglob("*.png"))
    rows = convatlas.load(fitted.bundle).predict(paths, false_reject=0.2, sets=0.9)
    truth = [path.parent.name for path in paths]
    rejected = [bool(row.rejected) for row in rows]
    held = [label in (row.one_of or ()) for label, row in zip(truth, rows, strict=True)]
    sizes = [len(row.one_of or ()) for row in rows]
    others = [row.label == label for label, row in zip(truth, rows, strict=True) if not row.rejected]
    found, sets = result["none_of_these"], result["sets"]
    assert (found["rejected"], found["images"], found["stated"]) == (np.mean(rejected), 36, 0.2)
    assert found["accuracy_of_others"] == np.mean(others)
    assert (sets["coverage"], sets["mean_size"]) == (np.mean(held), np.mean(sizes))
    assert sets["single"] == np.mean(np.array(sizes) == 1)
    for figures, name in ((found, "rejected"), (sets, "coverage"), (sets, "mean_size"), (sets, "single")):
        low, high = figures[f"{name}_interval"]
        assert low <= figures[name] <= high


def test_no_rate_is_measured_that_cannot_be_stated(fitted: FitResult, photos: Path) -> None:
    with pytest.raises(ConvAtlasError, match="24 held-out training images cannot show a false-reject rate of 0.03"):
        evaluate(fitted.bundle, photos, false_reject=0.03)


def test_images_that_it_was_fitted_on_are_called_so(fitted: FitResult, photos: Path, tmp_path: Path) -> None:
    fresh = evaluate(fitted.bundle, photos).json
    assert fresh["alarms"] == [] and fresh["trained_on"]["images"] == 0
    own = evaluate(fitted.bundle, photos, split="train").json
    assert own["trained_on"] == {"images": own["images"], "without": None}
    assert "they say nothing of new images" in own["alarms"][0] and own["alarms"][0] in scores_text(own)
    every = evaluate(fitted.bundle, photos, split="all").json
    assert every["trained_on"]["without"]["accuracy"] == fresh["accuracy"]
    assert f"on the other {fresh['images']} the accuracy is" in every["alarms"][0]
    (shutil.copytree(fitted.bundle, tmp_path / "model") / "training.safetensors").unlink()
    unknown = evaluate(tmp_path / "model", photos, split="train").json
    assert unknown["trained_on"] is None and unknown["alarms"] == []


def test_images_of_one_patient_are_not_independent(fitted: FitResult, tmp_path: Path) -> None:
    write_photos(tmp_path, 0, 6)
    rows = [f"{name}/{i:03d}.png,{name},{name}{i // 3}" for name in CLASSES for i in range(6)]
    (tmp_path / "list.csv").write_text("\n".join(["path,label,group", *rows]))
    alone, grouped = (evaluate(fitted.bundle, where).json for where in (tmp_path, tmp_path / "list.csv"))
    assert alone["accuracy"] == grouped["accuracy"]
    assert grouped["accuracy_interval"][0] < alone["accuracy_interval"][0]
    assert grouped["balanced_accuracy_interval"][0] < alone["balanced_accuracy_interval"][0]


def test_copies_make_no_interval_narrower(fitted: FitResult, tmp_path: Path) -> None:
    """Not of the scores, of a bin of the calibration, of what was promised, or of the images that are new."""
    once, thrice = tmp_path / "once", tmp_path / "thrice"
    write_photos(once, 100, 8)
    shutil.copytree(once, thrice)
    for path in sorted(thrice.rglob("*.png")):
        for i in range(2):
            shutil.copy(path, path.with_stem(f"{path.stem}-{i}"))
    alone, copied = (evaluate(fitted.bundle, where, false_reject=0.2, sets=0.9).json for where in (once, thrice))
    assert copied["images"] == 3 * alone["images"]

    def widths(found: object) -> list[float]:
        if isinstance(found, dict):
            own = [found[key][1] - found[key][0] for key in found if key.endswith("_interval") and found[key]]
            return own + [width for value in found.values() for width in widths(value)]
        return [width for value in found for width in widths(value)] if isinstance(found, list) else []

    assert len(widths(alone)) > 10
    assert widths(copied) == pytest.approx(widths(alone), abs=0.03)
