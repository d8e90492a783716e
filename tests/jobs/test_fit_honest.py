"""What a fit says against its own figures: leaks, doubtful labels, a test part unlike the training part, the luck of the deal."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path

import pytest
from PIL import Image

from convatlas.cli.fit import fit_text
from convatlas.data import scan
from convatlas.jobs.fit import FitResult, fit
from convatlas.jobs.images import silent
from convatlas.jobs.material import gather
from convatlas.weights.source import find_weights
from scenes import AGAIN, brighter, scene
from tiny import write_photos, write_split

TINTS = ("red", "green", "blue")


def write_scenes(root: Path, train: int, test: int) -> Path:
    """Split folders of scenes, a class a tint; each split is numbered on."""
    for tint, label in enumerate(TINTS):
        for split, first, count in (("train", 0, train), ("test", 500, test)):
            (root / split / label).mkdir(parents=True)
            for number in range(first, first + count):
                scene(1000 * tint + number, 96, tint).save(root / split / label / f"{number}.png")
    return root


@pytest.fixture(scope="module")
def leaking(tmp_path_factory: pytest.TempPathFactory, backbone: Path) -> FitResult:
    """Of 18 test images four are copies of training images, one of them in the same bytes; two training images are near copies."""
    root = write_scenes(tmp_path_factory.mktemp("leaking") / "tints", 12, 4)
    for number, how in enumerate(("saved badly", "cropped", "brightened")):
        AGAIN[how](scene(number, 96, 0)).save(root / f"test/red/copy{number}.png")
    shutil.copy(root / "train/green/7.png", root / "test/green/same.png")
    for label in ("red", "blue"):
        shutil.copy(root / f"test/{label}/500.png", root / f"test/{label}/again.png")
    brighter(scene(2003, 96, 2)).save(root / "train/blue/brighter.png")
    return fit(root, weights=backbone, out=root.parent / "model")


def test_leaks_are_counted_paired_and_left_out_beside(leaking: FitResult) -> None:
    leak = leaking.json["leak"]
    assert (leak["images"], leak["of"], leak["exact"], leak["near"]) == (4, 18, 1, 3)
    named = {(Path(pair["test"]).name, Path(pair["train"]).name, pair["exact"]) for pair in leak["pairs"]}
    copies = {(f"copy{i}.png", f"{i}.png", False) for i in range(3)}
    assert named == {*copies, ("same.png", "7.png", True)}
    assert leak["without"]["images"] == 14
    assert leaking.json["accuracy_without_duplicates"] == leak["without"]
    kinds = {problem["kind"]: problem for problem in leaking.json["problems"]}
    assert kinds["near-duplicate-across-splits"]["severity"] == "error"
    assert set(kinds["near-duplicate"]["paths"]) == {"train/blue/3.png", "train/blue/brighter.png"}


def test_the_first_screen_says_so(leaking: FitResult) -> None:
    (alarm,) = leaking.json["alarms"]
    assert alarm.startswith(
        "Leak: 4 of 18 test images (22.2 %) are also training images, 1 as the same file and 3 as a near"
    )
    assert fit_text(leaking.json).startswith(f"! {alarm}")
    assert alarm in leaking._repr_html_()
    assert leaking.report is not None and leaking.json["shift"]["images"] == [37, 14]
    page = leaking.report.read_text()
    assert page.index("Leak: 4 of 18") < page.index('class="answer"') < page.index('id="leak"')
    assert "copy2.png" in page[page.index('id="leak"') :]


def test_near_copies_in_training_are_held_out_together(leaking: FitResult, backbone: Path) -> None:
    root = Path(leaking.json["data"]["path"])
    found = gather(scan(root), find_weights(backbone), "auto", device="cpu", progress=silent)
    paths = [record.path for record in found.train.records]
    one, other = paths.index("train/blue/3.png"), paths.index("train/blue/brighter.png")
    assert found.together[one] == found.together[other]
    assert len(set(found.together.tolist())) == len(paths) - 1
    assert found.held_out is not None and found.held_out[one] == found.held_out[other]


def test_what_is_known_is_not_decoded_for_its_looks(leaking: FitResult, backbone: Path, tmp_path: Path) -> None:
    again = fit(leaking.json["data"]["path"], weights=backbone, out=tmp_path / "model", report=False).json
    more = fit(leaking.json["data"]["path"], weights=backbone, out=tmp_path / "more", report=False).json
    assert more["counts"]["decoded"] == 0
    assert again["leak"] == more["leak"] == leaking.json["leak"]


@pytest.fixture(scope="module")
def doubtful(tmp_path_factory: pytest.TempPathFactory, backbone: Path) -> FitResult:
    """Two training images in the wrong class, and a test part of which one class has lost its colour."""
    root = write_split(tmp_path_factory.mktemp("doubtful") / "stripes", {"train": 24, "test": 20})
    shutil.move(root / "train/red/003.png", root / "train/blue/mine.png")
    shutil.move(root / "test/red/101.png", root / "test/green/mine.png")
    for path in (root / "test/blue").iterdir():
        Image.open(path).transpose(Image.Transpose.ROTATE_90).split()[1].convert("RGB").save(path)
    return fit(root, weights=backbone, out=root.parent / "model")


def test_wrong_labels_are_named_with_what_they_should_be(doubtful: FitResult) -> None:
    suspects = doubtful.json["label_suspects"]
    (row,) = suspects["train"]
    assert (Path(row["path"]).name, row["given"], row["suggested"]) == ("mine.png", "blue", "red")
    assert row["chance"] > 0.3
    assert suspects["rate_interval"][0] <= 1 / 72 <= suspects["rate_interval"][1]
    assert suspects["words"].startswith(
        "1 of 72 training images may be labelled wrongly, with a chance of one in ten or more; about "
    )
    assert (doubtful.bundle / row["thumbnail"]).is_file()
    assert "test/green/mine.png" in {row["path"][-19:] for row in suspects["test"]}
    assert "1 of 72 training images may be labelled wrongly" in fit_text(doubtful.json)
    assert doubtful.report is not None
    page = doubtful.report.read_text()
    assert "train/blue/mine.png" in page[page.index('id="labels"') :]


def test_many_wrong_labels_are_an_alarm_and_explain_an_easy_test_part(tmp_path: Path, backbone: Path) -> None:
    root = write_scenes(tmp_path / "tints", 60, 40)
    for label, other in itertools.permutations(TINTS, 2):
        for path in sorted((root / "train" / label).glob("[0-9]*.png"))[:3]:
            shutil.move(path, root / "train" / other / f"from-{label}-{path.name}")
    found = fit(root, weights=backbone, out=tmp_path / "model", report=False).json
    low, high = found["label_suspects"]["rate_interval"]
    assert 0.02 <= low <= 18 / 180 <= high
    assert found["alarms"][0] == "Labels: " + found["label_suspects"]["words"]
    assert found["shift"]["difference"] > 0 and found["shift"]["shown"]
    assert "of the training labels are wrong" in found["shift"]["words"]
    assert found["label_suspects"]["test"] == []


def test_a_harder_test_part_is_called_out_with_its_class(doubtful: FitResult) -> None:
    shift = doubtful.json["shift"]
    assert shift["shown"] and shift["difference"] < -0.15
    assert [row["name"] for row in shift["classes"] if row["shown"]] == ["blue"]
    assert shift["classes"][0]["name"] == "blue" and shift["classes"][0]["difference"] < -0.5
    assert shift["unlike"]["shown"]
    (alarm,) = doubtful.json["alarms"]
    assert alarm.startswith("Shift: cross-validation on the training images foretold ")
    assert "It is carried by blue (" in alarm
    assert "can be told from training images" in alarm


def test_an_ordinary_test_part_raises_no_alarm(fitted: FitResult) -> None:
    assert fitted.json["alarms"] == []
    shift = fitted.json["shift"]
    assert not shift["shown"] and "no more than chance may do" in shift["words"]
    assert fitted.json["leak"]["images"] == 0
    assert fitted.json["label_suspects"]["train"] == []
    assert "wrongly labelled" not in fit_text(fitted.json)


def test_without_a_test_part_folds_are_dealt_again(backbone: Path, tmp_path: Path) -> None:
    write_photos(tmp_path / "photos", 0, 8)
    shutil.move(tmp_path / "photos/red/003.png", tmp_path / "photos/blue/mine.png")
    result = fit(tmp_path / "photos", weights=backbone, out=tmp_path / "model")
    found = result.json
    assert len(found["deals"]) == 5
    assert found["accuracy"] == pytest.approx(sum(found["deals"]) / 5)
    low, high = found["accuracy_interval"]
    assert low < found["accuracy"] < high
    assert "dealt 5 times and averaged" in found["protocol"]
    assert found["leak"] is None and found["shift"] is None
    assert sum(map(sum, found["confusion"]["matrix"])) == 24


def test_a_test_part_of_copies_alone_says_nothing(backbone: Path, tmp_path: Path) -> None:
    root = write_split(tmp_path / "stripes", {"train": 8})
    shutil.copytree(root / "train", root / "test")
    found = fit(root, weights=backbone, out=tmp_path / "model").json
    assert found["leak"]["images"] == found["leak"]["of"] == 24
    assert found["leak"]["without"] is None
    assert "says nothing of new images" in found["alarms"][0]
    assert found["shift"]["words"].startswith("Every test image is a training image too")
