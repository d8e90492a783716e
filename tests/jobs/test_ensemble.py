"""What each member adds is what evaluating says, on the split that is asked for; what cannot be an ensemble is named, nothing written."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import convatlas
from convatlas.cli.ensemble import gains_text
from convatlas.data import Examined, Facts, Record, scan
from convatlas.errors import ConvAtlasError
from convatlas.jobs.ensemble import EnsembleResult, _gains
from convatlas.jobs.fit import FitResult
from convatlas.jobs.judge import Judgement
from convatlas.metrics import paired_interval, wilson
from tiny import CLASSES, content, photo, state, write_model, write_photos, write_split


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_split(tmp_path_factory.mktemp("data") / "photos", {"train": 1, "val": 9, "test": 5})


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    root = tmp_path_factory.mktemp("models")
    grey = {"name": "lenet5_modern", "channels": 1, "mean": [0.5], "std": [0.5]}
    return [
        write_model(root / "first", seed=1),
        write_model(root / "second", seed=2, classes=CLASSES[::-1], **grey),
        write_model(root / "third", seed=3, classes=("green", "blue", "red"), **grey),
    ]


@pytest.fixture(scope="module")
def made(models: list[Path], data: Path, tmp_path_factory: pytest.TempPathFactory) -> EnsembleResult:
    return convatlas.ensemble(models, tmp_path_factory.mktemp("made") / "ensemble", data=data)


def test_members_alone_and_all_together_are_as_evaluate_says(
    models: list[Path], made: EnsembleResult, data: Path
) -> None:
    rows = made.json["table"]
    for model, row in zip(models, rows, strict=True):
        judged = convatlas.evaluate(model, data, split="val")
        assert (row["model"], row["alone"]["accuracy"]) == (model.name, judged.accuracy)
        assert tuple(row["alone"]["accuracy_interval"]) == judged.accuracy_interval
    whole = convatlas.evaluate(made.folder, data, split="val")
    assert made.json["accuracy"] == rows[-1]["first"]["accuracy"] == whole.accuracy
    assert tuple(made.json["accuracy_interval"]) == whole.accuracy_interval
    assert whole.json["views"]["forward_passes"] == made.json["forward_passes"] == 3
    mean = np.mean([row["alone"]["accuracy"] for row in rows])
    assert made.json["gain"]["difference"] == pytest.approx(whole.accuracy - mean)
    assert len({row["alone"]["accuracy"] for row in rows}) > 1


def test_the_first_so_many_are_an_ensemble_of_them(
    models: list[Path], made: EnsembleResult, data: Path, tmp_path: Path
) -> None:
    two = convatlas.ensemble(models[:2], tmp_path / "two").folder
    row = made.json["table"][1]
    assert row["first"]["accuracy"] == convatlas.evaluate(two, data, split="val").accuracy
    assert made.json["table"][0]["first"] == made.json["table"][0]["alone"]
    assert made.json["table"][0]["adds"] is None


def test_the_json_is_versioned_plain_and_says_its_protocol(made: EnsembleResult, data: Path) -> None:
    found = made.json
    assert found["schema"] == "convatlas.ensemble/1"
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found["data"]["path"] == str(data) and found["data"]["split"] == "val"
    assert found["images"] == 27 and found["unreadable"] == []
    assert found["protocol"].startswith(
        "val split, 27 images, classes matched by name; members and their order as given"
    )
    assert [member["network"] for member in found["members"]] == ["resnet20_cifar", "lenet5_modern", "lenet5_modern"]
    assert found["classes"] == list(CLASSES)


def test_the_bundle_carries_the_table_and_not_where_anything_lay(
    made: EnsembleResult, models: list[Path], data: Path
) -> None:
    about = convatlas.load(made.folder).about
    for key in ("table", "gain", "accuracy", "accuracy_interval", "protocol", "mean_member_accuracy"):
        assert about[key] == made.json[key]
    text = (made.folder / "config.json").read_text(encoding="utf-8")
    assert not any(str(path.parent) in text for path in (data, *models))


@pytest.mark.parametrize(
    ("splits", "asked", "expected", "images"),
    [
        ({"train": 1, "val": 3, "test": 2}, None, "val", 9), ({"train": 1, "val": 3, "test": 2}, "test", "test", 6),
        ({"train": 1, "test": 2}, None, "test", 6), ({"train": 2}, None, "train", 6), ({"train": 1, "val": 1, "test": 1}, "all", "all", 9),
    ],
)  # fmt: skip
def test_the_validation_part_is_told_unless_another_is_asked_for(
    models: list[Path], tmp_path: Path, splits: dict[str, int], asked: str | None, expected: str, images: int
) -> None:
    root = write_split(tmp_path / "photos", splits)
    found = convatlas.ensemble(models[1:], tmp_path / "out", data=root, split=asked).json
    assert (found["data"]["split"], found["images"]) == (expected, images)


def judgement(seed: int, members: int, images: int) -> Judgement:
    """Members that are right about images of every difficulty."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 4, images)
    scores = rng.normal(size=(members, images, 4)) + 1.2 * rng.random(images)[:, None] * np.eye(4)[truth]
    powers = np.exp(2 * scores)
    facts = Facts(format="PNG", width=8, height=8, mode="RGB")
    records = [Record(path=f"{i}.png", label=str(class_), split="val") for i, class_ in enumerate(truth)]
    files = [Examined(record=record, sha256=record.path, facts=facts) for record in records]
    return Judgement(examined=files, read=records, members=powers / powers.sum(axis=2, keepdims=True), truth=truth)


@pytest.mark.parametrize("seed", range(3))
def test_the_table_is_what_counting_gives(data: Path, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    judged = judgement(seed, 5, 200)
    found = _gains(scan(data), "val", judged, [f"m{i}" for i in range(5)])
    before: list[bool] = []
    singles = [[bool(p.argmax() == t) for p, t in zip(each, judged.truth, strict=True)] for each in judged.members]
    for k, row in enumerate(found["table"], start=1):
        right = [bool(judged.members[:k, i].mean(axis=0).argmax() == t) for i, t in enumerate(judged.truth)]
        assert row["alone"]["accuracy"] == sum(singles[k - 1]) / 200
        assert row["first"]["accuracy"] == sum(right) / 200
        assert row["first"]["accuracy_interval"] == list(wilson(sum(right), 200))
        if before:
            differences = [float(now) - was for now, was in zip(right, before, strict=True)]
            assert row["adds"]["difference"] == pytest.approx(sum(differences) / 200)
            assert row["adds"]["interval"] == list(paired_interval(differences))
        before = right
    gains = [now - sum(each[i] for each in singles) / 5 for i, now in enumerate(before)]
    assert found["gain"]["difference"] == pytest.approx(sum(gains) / 200)
    assert found["gain"]["interval"] == pytest.approx(paired_interval(gains))
    low, high = found["gain"]["interval"]
    assert found["gain"]["shown"] == (low > 0 or high < 0)
    assert math.isclose(found["mean_member_accuracy"], np.mean(singles))


def test_images_that_members_were_fitted_on_are_called_so(
    fitted: FitResult, photos: Path, models: list[Path], tmp_path: Path
) -> None:
    """In the table, and by whoever judges the ensemble later, wherever the members lay."""
    one = Path(shutil.move(shutil.copytree(fitted.bundle, tmp_path / "one"), tmp_path / "moved"))
    seen, unseen = (
        convatlas.ensemble([models[0], one], tmp_path / split, data=photos, split=split).json
        for split in ("train", "test")
    )
    assert unseen["alarms"] == [] and unseen["trained_on"]["images"] == 0
    assert seen["trained_on"] == {"images": seen["images"], "without": None}
    assert "members were fitted on" in seen["alarms"][0] and gains_text(seen).startswith(f"! {seen['alarms'][0]}")
    shutil.rmtree(one)
    assert convatlas.evaluate(tmp_path / "test", photos, split="train").json["alarms"] == seen["alarms"]
    every = convatlas.evaluate(tmp_path / "test", photos, split="all").json
    assert every["trained_on"]["without"]["accuracy"] == unseen["accuracy"]
    assert convatlas.load(tmp_path / "train").about["alarms"] == seen["alarms"]


def test_without_data_nothing_is_claimed(models: list[Path], tmp_path: Path) -> None:
    found = convatlas.ensemble(models[:2], tmp_path / "out")
    assert not {"table", "accuracy", "gain", "protocol"} & set(found.json)
    assert set(convatlas.load(found.folder).about) == {"members"}


def test_runs_are_members_under_their_names(models: list[Path], tmp_path: Path) -> None:
    for i, model in enumerate(models[1:]):
        run = tmp_path / f"run-{i}"
        shutil.copytree(model, run / "model")
        (run / "run.json").write_text("{}")
    found = convatlas.ensemble([tmp_path / "run-0", models[0], tmp_path / "run-1" / "model"], tmp_path / "out").json
    assert [member["model"] for member in found["members"]] == ["run-0", "first", "run-1"]


def test_repeated_it_replaces_what_it_made(models: list[Path], tmp_path: Path) -> None:
    first = convatlas.ensemble(models, tmp_path / "out").folder
    before = content(first)
    convatlas.ensemble(models[:2], tmp_path / "out")
    assert not (first / "members/3").exists()
    convatlas.ensemble(models, tmp_path / "out")
    assert content(first) == before


def test_an_unreadable_image_is_left_out_and_listed(models: list[Path], tmp_path: Path) -> None:
    root = write_split(tmp_path / "photos", {"val": 2})
    (root / "val/red/broken.png").write_bytes(b"\x89PNG")
    found = convatlas.ensemble(models[1:], tmp_path / "out", data=root).json
    assert (found["images"], found["unreadable"]) == (6, [str(root / "val/red/broken.png")])


def test_another_class_is_named_with_both_folders(models: list[Path], tmp_path: Path) -> None:
    other = write_model(tmp_path / "other", seed=5, classes=("blue", "green", "purple"))
    with pytest.raises(
        ConvAtlasError, match=r"other beside .*first: .*unknown here: red; missing there: purple"
    ) as caught:
        convatlas.ensemble([models[0], other], tmp_path / "out")
    assert caught.value.remedy and not (tmp_path / "out").exists()
    fewer = write_model(tmp_path / "fewer", seed=5, classes=("blue", "green"))
    with pytest.raises(ConvAtlasError, match=r"fewer beside .*unknown here: red"):
        convatlas.ensemble([models[0], fewer], tmp_path / "out")


def test_a_label_in_the_data_that_is_no_class_is_named(models: list[Path], tmp_path: Path) -> None:
    write_photos(tmp_path / "photos", 0, 2)
    (tmp_path / "photos/purple").mkdir()
    photo("red", 30).save(tmp_path / "photos/purple/a.png")
    with pytest.raises(ConvAtlasError, match="purple"):
        convatlas.ensemble(models, tmp_path / "out", data=tmp_path / "photos")
    assert not (tmp_path / "out").exists()


Call = Callable[[list[Path], Path, Path], Any]
WRONG: dict[str, tuple[Call, str]] = {
    "none": (lambda m, out, data: convatlas.ensemble([], out), "0 model"),
    "one": (lambda m, out, data: convatlas.ensemble(m[:1], out), "1 model makes no ensemble"),
    "twice": (lambda m, out, data: convatlas.ensemble([m[0], m[1], m[0]], out), "first is the same model as .*first"),
    "absent": (lambda m, out, data: convatlas.ensemble([m[0], m[0] / "absent"], out), "absent: not a model folder"),
    "a copy": (lambda m, out, data: convatlas.ensemble([m[0], shutil.copytree(m[0], out.with_name("copy"))], out), "copy is the same"),
    "no data": (lambda m, out, data: convatlas.ensemble(m, out, data=out / "absent"), "there is no"),
    "no such split": (lambda m, out, data: convatlas.ensemble(m, out, data=data, split="validation"), "has no validation split"),
    "a split of nothing": (lambda m, out, data: convatlas.ensemble(m, out, split="val"), "split 'val' of what"),
    "no such device": (lambda m, out, data: convatlas.ensemble(m, out, device="tpu"), "unknown device 'tpu'"),
    "into a member": (lambda m, out, data: convatlas.ensemble(m, m[1] / "out"), "would replace, or lie in, the member"),
    "over a member": (lambda m, out, data: convatlas.ensemble(m, m[1].parent), "ConvAtlas did not write|would replace"),
    "over other things": (lambda m, out, data: convatlas.ensemble(m, data), "ConvAtlas did not write, so it is left alone"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_made_is_an_error_of_ours_and_leaves_nothing(
    models: list[Path], data: Path, tmp_path: Path, case: str
) -> None:
    before = [state(folder) for folder in (*models, data)]
    call, message = WRONG[case]
    with pytest.raises(ConvAtlasError, match=message) as caught:
        call(models, tmp_path / "out", data)
    assert caught.value.remedy
    assert [state(folder) for folder in (*models, data)] == before
    assert {path.name for path in tmp_path.iterdir()} <= {"copy"}


def test_a_member_is_not_replaced_by_the_ensemble_although_it_is_ours(models: list[Path], tmp_path: Path) -> None:
    first = convatlas.ensemble(models[:2], tmp_path / "first").folder
    with pytest.raises(ConvAtlasError, match="would replace, or lie in, the member"):
        convatlas.ensemble([first / "members/1", models[2]], first)
    with pytest.raises(ConvAtlasError, match="is an ensemble itself"):
        convatlas.ensemble([first, models[2]], tmp_path / "second")
    taken = convatlas.ensemble([first / "members/1", models[2]], tmp_path / "second").json
    assert [member["network"] for member in taken["members"]] == ["resnet20_cifar", "lenet5_modern"]


def test_a_run_without_a_model_is_told_to_go_on(models: list[Path], tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run/run.json").write_text("{}")
    with pytest.raises(ConvAtlasError, match="run: is a run that has no model yet. Repeat its `convatlas train`"):
        convatlas.ensemble([tmp_path / "run", models[0]], tmp_path / "out")


def test_members_on_different_backgrounds_are_refused(models: list[Path], tmp_path: Path) -> None:
    other = write_model(tmp_path / "other", background=[0, 0, 0])
    with pytest.raises(ConvAtlasError, match=r"other puts transparent images on the background \(0, 0, 0\)"):
        convatlas.ensemble([models[0], other], tmp_path / "out")


def test_a_tampered_member_makes_no_ensemble(models: list[Path], tmp_path: Path) -> None:
    copied = Path(shutil.copytree(models[0], tmp_path / "copied"))
    (copied / "examples/jpeg.jpg").write_bytes(b"")
    with pytest.raises(ConvAtlasError, match="was changed after it was written"):
        convatlas.ensemble([models[1], copied], tmp_path / "out")
    assert not (tmp_path / "out").exists()
