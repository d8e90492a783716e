"""Every layout and every kind of bad file: what is learned from, what is left out, and what is said about it."""

from __future__ import annotations

import csv
import json
import os
import shutil
import sys
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import convatlas
from convatlas.errors import ConvAtlasError
from convatlas.jobs import decide as job
from convatlas.jobs import fit as fitting
from convatlas.jobs.fit import FitResult
from tiny import CLASSES, content, photo, state, write_photos, write_split

Fit = Callable[..., FitResult]


@pytest.fixture
def fit(backbone: Path, tmp_path: Path) -> Fit:
    """`fit(data)` with the tiny backbone, each into a folder of its own, without a report."""

    def run(data: Path, **options: Any) -> FitResult:
        number = len(list(tmp_path.glob("model-*")))
        given = {"weights": backbone, "out": tmp_path / f"model-{number}", "report": False, **options}
        return fitting.fit(data, **given)

    return run


def kinds(result: FitResult) -> dict[str, list[str]]:
    """The paths of each kind of problem."""
    return {problem["kind"]: problem["paths"] for problem in result.json["problems"]}


def same_model(first: FitResult, second: FitResult) -> bool:
    return content(first.bundle)["model.safetensors"] == content(second.bundle)["model.safetensors"]


def write_table(path: Path, header: str, rows: Sequence[tuple[object, ...]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header.split(","), *rows])
    return path


def test_without_a_test_split_the_validation_split_is_read(tmp_path: Path, fit: Fit) -> None:
    result = fit(write_split(tmp_path / "photos", {"train": 6, "validation": 3})).json
    assert (result["headline"], result["images"]["train"], result["images"]["test"]) == ("test", 18, 9)
    assert result["protocol"].startswith("val split of 9 images, read once after every choice")
    assert all(row["test_accuracy"] is not None for row in result["stages"])


def test_with_a_test_split_the_validation_split_trains(tmp_path: Path, fit: Fit) -> None:
    result = fit(write_split(tmp_path / "photos", {"train": 6, "val": 3, "test": 2})).json
    assert (result["headline"], result["images"]["train"], result["images"]["test"]) == ("test", 27, 6)
    assert result["protocol"].startswith("test split of 6 images")


def test_without_any_split_every_image_is_judged_by_an_outer_fold(tmp_path: Path, fit: Fit) -> None:
    write_photos(tmp_path / "photos", 0, 7)
    result = fit(tmp_path / "photos").json
    assert result["headline"] == "outer folds"
    assert "5 outer folds of 21 images" in result["protocol"]
    assert (result["images"]["train"], result["images"]["test"]) == (21, 0)
    assert np.array(result["confusion"]["matrix"]).sum(axis=1).tolist() == [7, 7, 7]
    assert all(row["test_accuracy"] is None and row["test_interval"] is None for row in result["stages"])
    assert result["accuracy"] == 1.0


def test_outer_folds_are_not_fooled_by_labels_without_meaning(tmp_path: Path, fit: Fit) -> None:
    """Of images that differ in nothing but their label, no more is known than the commonest class."""
    for i in range(60):
        place = tmp_path / "photos" / ("heads", "tails")[i % 2]
        place.mkdir(parents=True, exist_ok=True)
        photo("red", i).save(place / f"{i}.png")
    result = fit(tmp_path / "photos").json
    assert result["accuracy_interval"][0] < 0.5 < result["accuracy_interval"][1] + 0.1
    assert result["log_loss"] < 0.9


def test_a_table_gives_the_same_as_folders(photos: Path, fitted: FitResult, fit: Fit, tmp_path: Path) -> None:
    shutil.copytree(photos, tmp_path / "images")
    rows = [
        (path.relative_to(tmp_path).as_posix(), path.parent.name, path.parent.parent.name)
        for path in sorted((tmp_path / "images").rglob("*.png"))
    ]
    result = fit(write_table(tmp_path / "table.csv", "path,label,split", rows))
    assert same_model(result, fitted)
    assert result.json["confusion"] == fitted.json["confusion"]
    assert result.json["data"]["layout"] == "csv"


def test_an_archive_gives_the_same_as_its_folder(photos: Path, fitted: FitResult, fit: Fit, tmp_path: Path) -> None:
    archive = tmp_path / "photos.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in photos.rglob("*"):
            file.write(path, Path("stripes") / path.relative_to(photos))
        file.write(photos / "test/red/100.png", "stripes/test/blue/wrong.png")
        file.writestr("stripes/test/green/wrong.png", b"")
    before = archive.read_bytes()
    result = fit(archive)
    assert same_model(result, fitted)
    assert result.json["data"]["fingerprint"] != fitted.json["data"]["fingerprint"]
    assert "empty" in kinds(result)
    assert archive.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir() if path.suffix] == ["photos.zip"]


def test_mistakes_in_an_archive_are_named_by_archive_and_member(photos: Path, fit: Fit, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as file:
        for path in photos.rglob("*.png"):
            file.write(path, path.relative_to(photos))
        file.writestr("test/blue/wrong.png", (photos / "test/red/100.png").read_bytes()[:-1] + b"\x82")
        shifted = tmp_path / "shifted.png"
        photo("red", 999).save(shifted)
        file.write(shifted, "test/blue/red one.png")
    (row,) = [row for row in fit(tmp_path / "photos.zip").json["mistakes"] if "one" in row["path"]]
    assert row["path"] == f"{tmp_path}/photos.zip/test/blue/red one.png"
    assert (row["truth"], row["predicted"]) == ("blue", "red")


def test_groups_stay_on_one_side(tmp_path: Path, fit: Fit, monkeypatch: pytest.MonkeyPatch) -> None:
    write_photos(tmp_path / "images", 0, 12)
    rows = [
        (path.relative_to(tmp_path).as_posix(), path.parent.name, f"{path.parent.name}-{int(path.stem) // 3}")
        for path in sorted((tmp_path / "images").rglob("*.png"))
    ]
    seen: dict[str, Any] = {}

    def spy(*arguments: Any, **options: Any) -> Any:
        seen["outer"], seen["units"] = arguments[3], options["together"]
        return predictions(*arguments, **options)

    predictions = job.outer_folds_predictions
    monkeypatch.setattr(job, "outer_folds_predictions", spy)
    result = fit(write_table(tmp_path / "table.csv", "path,label,group", rows))
    groups = [row[2] for row in rows]
    for name in ("outer", "units"):
        sides = {(group, int(fold)) for group, fold in zip(groups, seen[name], strict=True)}
        assert len(sides) == len(set(groups)) == 12, name
        assert len({fold for _, fold in sides}) > 1
    assert result.json["headline"] == "outer folds"
    assert "leave-one-out" not in result.json["protocol"]


def test_duplicates_stay_on_one_side(tmp_path: Path, fit: Fit) -> None:
    """Copies of every image under random labels can be recognised but not learned from, so they must not raise the accuracy."""
    generator = np.random.default_rng(0)
    for i in range(40):
        place = tmp_path / "photos" / ("heads", "tails")[int(generator.integers(2))]
        place.mkdir(parents=True, exist_ok=True)
        for copy in range(3):
            photo("red", i).save(place / f"{i}-{copy}.png")
    result = fit(tmp_path / "photos").json
    assert result["accuracy"] < 0.75
    assert "duplicate" in {problem["kind"] for problem in result["problems"]}
    assert result["counts"]["forwarded"] == 40


def test_images_under_two_labels_are_left_out(photos: Path, fitted: FitResult, fit: Fit, tmp_path: Path) -> None:
    root = tmp_path / "stripes"
    shutil.copytree(photos, root)
    for split, number in (("train", 500), ("test", 501)):
        for label in ("red", "blue"):
            photo("green", number).save(root / split / label / "both.png")
    result = fit(root)
    assert same_model(result, fitted)
    assert result.json["confusion"] == fitted.json["confusion"]
    assert (result.json["images"]["train"], result.json["images"]["test"]) == (24, 12)
    conflicts = [p for p in result.json["problems"] if p["kind"] == "conflicting-labels"]
    assert sorted(path for problem in conflicts for path in problem["paths"]) == [
        f"{split}/{label}/both.png" for split in ("test", "train") for label in ("blue", "red")
    ]


def test_an_image_of_both_parts_is_counted_with_and_without(photos: Path, fit: Fit, tmp_path: Path) -> None:
    root = tmp_path / "stripes"
    shutil.copytree(photos, root)
    for number in range(3):
        shutil.copy(root / f"train/red/{number:03d}.png", root / f"test/red/leak{number}.png")
    photo("green", 800).save(root / "test/red/wrong.png")
    result = fit(root).json
    assert result["images"]["test"] == 16
    assert result["accuracy"] == 15 / 16
    without = result["accuracy_without_duplicates"]
    assert (without["images"], without["accuracy"]) == (13, 12 / 13)
    assert without["accuracy_interval"][0] < 12 / 13 < without["accuracy_interval"][1]
    assert result["leak"] | {"pairs": [], "without": None} == {
        "images": 3, "of": 16, "exact": 3, "near": 0, "pairs": [], "without": None
    }  # fmt: skip
    (alarm,) = result["alarms"]
    assert alarm.startswith("Leak: 3 of 16 test images (18.8 %) are also training images, 3 as the same file.")
    assert "the accuracy is 92.3 %" in alarm and "13 images" in alarm


def test_no_image_of_both_parts_is_nothing_to_say(fitted: FitResult) -> None:
    assert fitted.json["accuracy_without_duplicates"] is None


def test_unreadable_files_are_counted_listed_and_left_out(
    photos: Path, fitted: FitResult, fit: Fit, tmp_path: Path
) -> None:
    root = tmp_path / "stripes"
    shutil.copytree(photos, root)
    whole = (root / "train/red/000.png").read_bytes()
    bad = {
        "train/red/zero.png": b"",
        "train/green/cut.png": whole[: len(whole) // 2],
        "test/blue/page.jpg": b"<!DOCTYPE html><html>404</html>",
    }
    for name, data in bad.items():
        (root / name).write_bytes(data)
    (root / "train/red/.DS_Store").write_bytes(b"Bud1")
    result = fit(root)
    assert same_model(result, fitted)
    assert result.json["images"] == {"train": 24, "test": 12, "unreadable": 3, "conflicting": 0, "ignored": 1}
    found = kinds(result)
    assert (found["empty"], found["truncated"], found["not-an-image"]) == tuple([name] for name in bad)
    assert found["junk"] == ["train/red/.DS_Store"]
    assert [p["severity"] for p in result.json["problems"]] == sorted(
        (p["severity"] for p in result.json["problems"]), key=["error", "warning", "note"].index
    )
    assert "The check found 3 errors in the data" in result.json["answer"]


def test_classes_go_by_name_in_a_test_part_with_fewer(photos: Path, fit: Fit, tmp_path: Path) -> None:
    root = tmp_path / "stripes"
    shutil.copytree(photos, root)
    shutil.rmtree(root / "test/blue")  # the first one: indices by position would all shift
    result = fit(root).json
    assert result["accuracy"] == 1.0
    assert result["confusion"] == {"classes": list(CLASSES), "matrix": [[0, 0, 0], [0, 4, 0], [0, 0, 4]]}
    blue = next(row for row in result["classes"] if row["name"] == "blue")
    assert (blue["test"], blue["recall"], blue["recall_interval"]) == (0, None, None)
    assert "missing-class" in {problem["kind"] for problem in result["problems"]}


def test_an_unknown_class_in_the_test_part_is_refused_by_name(photos: Path, fit: Fit, tmp_path: Path) -> None:
    root = tmp_path / "stripes"
    shutil.copytree(photos, root)
    (root / "test/red").rename(root / "test/purple")
    with pytest.raises(ConvAtlasError, match="purple"):
        fit(root)
    assert not list(tmp_path.glob("model-*"))


def test_one_class_is_refused(fit: Fit, tmp_path: Path) -> None:
    write_photos(tmp_path / "photos", 0, 4, ("red",))
    with pytest.raises(ConvAtlasError, match="one class"):
        fit(tmp_path / "photos")


def test_a_class_of_which_nothing_can_be_read_is_said_and_never_predicted(fit: Fit, tmp_path: Path) -> None:
    root = write_split(tmp_path / "stripes", {"train": 4, "test": 2})
    for path in (root / "train/green").iterdir():
        path.write_bytes(b"")
    result = fit(root).json
    assert np.array(result["confusion"]["matrix"])[:, 1].tolist() == [0, 0, 0]
    assert "lost-class" in {problem["kind"] for problem in result["problems"]}
    assert result["accuracy"] == 4 / 6


def test_one_image_a_class_is_refused_with_a_remedy(fit: Fit, tmp_path: Path) -> None:
    write_photos(tmp_path / "photos", 0, 1)
    with pytest.raises(ConvAtlasError, match="can be held out.*Give at least two images of a class"):
        fit(tmp_path / "photos")


@pytest.mark.parametrize("count", [2, 3])
def test_two_images_a_class_are_enough(fit: Fit, tmp_path: Path, count: int) -> None:
    write_photos(tmp_path / "photos", 0, count)
    assert np.array(fit(tmp_path / "photos").json["confusion"]["matrix"]).sum() == 3 * count


def test_an_only_image_of_its_class_is_learned_from_and_never_judged(fit: Fit, tmp_path: Path) -> None:
    write_photos(tmp_path / "photos", 0, 6, ("red", "blue"))
    write_photos(tmp_path / "photos", 0, 1, ("green",))
    result = fit(tmp_path / "photos")
    assert result.json["images"]["train"] == 13
    assert np.array(result.json["confusion"]["matrix"]).sum(axis=1).tolist() == [6, 0, 6]
    (row,) = convatlas.load(result.bundle).predict(tmp_path / "photos/green/000.png")
    assert row.label == "green"


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda root: None, "there is no"),
        (lambda root: root.mkdir(), "no images in"),
        (lambda root: [root.mkdir(), photo("red", 1).save(root / "1.png")], "no class folders"),
        (lambda root: write_split(root, {"test": 3}), "train"),  # nothing to learn from
        (lambda root: [write_split(root, {"train": 2}), *(p.write_bytes(b"") for p in root.rglob("*.png"))], "no training image"),
    ],
    ids=["absent", "empty", "no classes", "test only", "nothing readable"],
)  # fmt: skip
def test_unusable_data_is_refused(make: Callable[[Path], object], words: str, fit: Fit, tmp_path: Path) -> None:
    make(tmp_path / "photos")
    with pytest.raises(ConvAtlasError) as caught:
        fit(tmp_path / "photos")
    assert words in str(caught.value)
    assert caught.value.remedy
    assert not list(tmp_path.glob("*model*"))


HOSTILE = (
    "<img src=x onerror=alert(1)>", "\"double\" & 'single'", "{{ 7 * 7 }} {% raw %}", "100%s %(x)s {0}", "__proto__", "nan", "été 蜂 🐝",
    "a,b;c\td", "-rf", "$(id) `id` \\n", "x" * 200,
)  # fmt: skip


def test_hostile_class_names_come_through_unharmed(fit: Fit, tmp_path: Path) -> None:
    names = dict(zip(HOSTILE, CLASSES * 4, strict=False))
    for i, (label, channel) in enumerate(names.items()):
        for split, number in (("train", 0), ("train", 1), ("train", 2), ("test", 3)):
            place = tmp_path / "photos" / split / label
            place.mkdir(parents=True, exist_ok=True)
            photo(channel, 20 * i + number).save(place / f"{label[:50]} {number}.png")
    result = fit(tmp_path / "photos", report=True)
    shown = {label.replace("\t", "\\t") for label in HOSTILE}
    assert {row["name"] for row in result.json["classes"]} == shown
    assert set(convatlas.load(result.bundle).classes) == shown
    page = (result.bundle / "report.html").read_text(encoding="utf-8")
    assert "<img src=x" not in page
    assert "&lt;img src=x" in page
    assert "{{ 7 * 7 }}" in page


def test_labels_of_a_table_may_hold_anything(fit: Fit, tmp_path: Path) -> None:
    labels = {"../../up": "red", "</script><script>": "green", "a/b": "blue"}
    rows: list[tuple[object, ...]] = []
    for label, channel in labels.items():
        write_photos(tmp_path / "images", 0, 4, (channel,))
        rows += [(f"images/{channel}/{i:03d}.png", label, "test" if i == 3 else "train") for i in range(4)]
    result = fit(write_table(tmp_path / "table.csv", "image,class,split", rows), report=True)
    assert set(convatlas.load(result.bundle).classes) == set(labels)
    assert "</script><script>" not in (result.bundle / "report.html").read_text(encoding="utf-8")


def test_file_names_of_any_script_are_found_again(fit: Fit, tmp_path: Path) -> None:
    root = write_split(tmp_path / "mes photos 蜂" / "ensemble n°1", {"train": 4, "test": 2})
    for i, name in enumerate(("été 蜂.png", "with space .png", "emoji 🐝.png", "a'b\"c.png", "#%?&.png")):
        photo("red", 600 + i).save(root / "test/green" / name)
    result = fit(root)
    wrong = {path.name for path in (root / "test/green").iterdir() if not path.stem.isdigit()}
    assert {Path(row["path"]).name for row in result.json["mistakes"]} == wrong
    assert all(Path(row["path"]).is_file() for row in result.json["mistakes"])


@pytest.mark.skipif(sys.platform != "linux", reason="file names are bytes on Linux only")
@pytest.mark.parametrize("where", ["file", "class", "root"])
def test_names_that_are_not_text_stop_nothing(fit: Fit, tmp_path: Path, where: str) -> None:
    root = write_split(tmp_path / "photos", {"train": 4, "test": 2})
    name = os.fsdecode(b"caf\xe9")
    for victim in {"file": ["test/red/100.png"], "class": ["train/red", "test/red"], "root": ["."]}[where]:
        (root / victim).rename((root / victim).with_name(name))
    result = fit(root.with_name(name) if where == "root" else root, report=True)
    assert result.accuracy == 1.0
    assert json.loads((result.bundle / "fit.json").read_text(encoding="utf-8")) == result.json
    if where == "class":
        assert "caf\\udce9" in convatlas.load(result.bundle).classes


def test_the_data_are_not_touched(fit: Fit, tmp_path: Path) -> None:
    root = write_split(tmp_path / "photos", {"train": 4, "test": 2})
    (root / "train/red/bad.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    before = state(root)
    fit(root, report=True)
    fit(root, report=True)
    assert state(root) == before


def test_a_read_only_folder_will_do(fit: Fit, tmp_path: Path) -> None:
    root = write_split(tmp_path / "photos", {"train": 3, "test": 2})
    places = [root, *root.rglob("*")]
    try:
        for path in places:
            path.chmod(0o555 if path.is_dir() else 0o444)
        assert fit(root).accuracy == 1.0
    finally:
        for path in places:
            path.chmod(0o755)


def test_images_of_every_kind_train(fit: Fit, tmp_path: Path) -> None:
    root = write_split(tmp_path / "photos", {"train": 4, "test": 2})
    base = photo("red", 900)
    grey = np.asarray(base.convert("L"))
    see_through = base.convert("RGBA")
    see_through.putalpha(128)
    Image.new("RGB", (1, 1), "red").save(root / "train/red/pixel.png")
    base.resize((700, 3)).save(root / "train/red/strip.jpg")
    see_through.save(root / "train/red/alpha.png")
    Image.fromarray(grey.astype(np.uint16) * 257).save(root / "train/red/deep.png")
    base.convert("CMYK").save(root / "train/red/print.jpg")
    base.convert("P").save(root / "train/red/palette.gif", save_all=True, append_images=[photo("blue", 1).convert("P")])
    base.convert("1").save(root / "train/red/bits.bmp")
    result = fit(root)
    assert result.json["images"]["train"] == 19
    assert result.json["images"]["unreadable"] == 0
    assert {"tiny", "extreme-aspect", "transparent", "sixteen-bit", "cmyk", "animated"} <= set(kinds(result))
