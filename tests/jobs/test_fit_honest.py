"""What a fit says against its own figures: test images that training has seen."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from convatlas.cli.fit import fit_text
from convatlas.data import scan
from convatlas.jobs.fit import FitResult, fit
from convatlas.jobs.images import silent
from convatlas.jobs.material import gather
from convatlas.weights.source import find_weights
from scenes import AGAIN, brighter, scene

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
    assert leaking.report is not None
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
    assert found.passed.extraction.decoded == 0 or found.passed.extraction.forwarded > 0


def test_what_is_known_is_not_decoded_for_its_looks(leaking: FitResult, backbone: Path, tmp_path: Path) -> None:
    again = fit(leaking.json["data"]["path"], weights=backbone, out=tmp_path / "model", report=False).json
    more = fit(leaking.json["data"]["path"], weights=backbone, out=tmp_path / "more", report=False).json
    assert more["counts"]["decoded"] == 0
    assert again["leak"] == more["leak"] == leaking.json["leak"]
