"""Explanations as people get them: a page that stands alone, JSON beside it, and in the fit's report pictures of the answers' reasons."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import convatlas
from convatlas.cli.verbs import app
from convatlas.errors import ConvAtlasError
from convatlas.jobs.ensemble import ensemble
from convatlas.jobs.fit import FitResult, fit
from convatlas.jobs.overlay import overlay
from tiny import photo, write_model, write_split


@pytest.fixture(scope="module")
def explained(fitted: FitResult, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    out = tmp_path_factory.mktemp("explained") / "out"
    broken = out.parent / "broken.jpg"
    broken.write_bytes(b"\xff\xd8\xff nothing")
    images = [photos / "test/red/100.png", photos / "train/blue/002.png", broken]
    found = convatlas.explain(fitted.bundle, images, out=out)
    assert found.page == out / "explain.html"
    return found.json, out


def test_each_image_has_classes_maps_and_neighbours(explained: tuple[dict[str, Any], Path], photos: Path) -> None:
    result, out = explained
    assert result["schema"] == "convatlas.explain/1"
    assert json.loads((out / "explain.json").read_text(encoding="utf-8")) == result
    first, second, broken = result["rows"]
    assert "broken.jpg" in broken["error"] and broken["label"] is None
    for row in (first, second):
        assert row["top"][0]["label"] == row["label"]
        assert sum(answer["probability"] for answer in row["top"]) == pytest.approx(1)
        for answer in row["top"]:
            assert answer["method"] == "class-activation map"
            assert np.mean(answer["map"]) + answer["bias"] == pytest.approx(answer["logit"], abs=1e-3)
        assert all(Path(near["path"]).is_file() for near in row["nearest"])
        cosines = [near["cosine"] for near in row["nearest"]]
        assert len(cosines) == 4 and cosines == sorted(cosines, reverse=True)
    assert second["nearest"][0]["path"] == str(photos / "train/blue/002.png")


def test_the_page_stands_alone_and_shows_everything(explained: tuple[dict[str, Any], Path]) -> None:
    page = (explained[1] / "explain.html").read_text(encoding="utf-8")
    pictures = 2 * (1 + 3 + 4)  # of two images: the photo, three classes, four neighbours
    assert page.count("data:image/jpeg;base64,") == pictures
    assert not re.findall(r'(?:src|href)="(?!data:|#)[^"]*"', page)
    assert "broken.jpg" in page and "Zhou et al. 2016" in page and "Grad-CAM" not in page


def test_files_that_moved_or_changed_are_named_not_shown(fitted: FitResult, tmp_path: Path) -> None:
    photos = write_split(tmp_path / "photos", {"train": 4})
    made = fit(photos, weights=None, backbone=None, out=tmp_path / "model", report=False)
    photo("red", 1).save(tmp_path / "new.png")
    photo("red", 77).save(photos / "train/red/001.png")  # the file is another now
    found = convatlas.explain(made.bundle, tmp_path / "new.png", out=tmp_path / "out", neighbours=12)
    near = {Path(row["path"]).name + row["label"]: row["picture"] for row in found.json["rows"][0]["nearest"]}
    assert near["001.pngred"] is None and sum(picture is None for picture in near.values()) == 1
    moved = photos.rename(tmp_path / "elsewhere")
    again = convatlas.explain(made.bundle, tmp_path / "new.png", out=tmp_path / "again")
    assert {row["picture"] for row in again.json["rows"][0]["nearest"]} == {None}
    assert "no longer there" in (tmp_path / "again/explain.html").read_text(encoding="utf-8")
    told = convatlas.explain(made.bundle, tmp_path / "new.png", out=tmp_path / "told", data=moved)
    assert any(row["picture"] for row in told.json["rows"][0]["nearest"])


def test_the_command_line_writes_the_page(fitted: FitResult, photos: Path, tmp_path: Path) -> None:
    image = str(photos / "test/red/100.png")
    arguments = ["predict", str(fitted.bundle), image, "--explain", str(tmp_path / "why"), "--json"]
    outcome = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert outcome.exit_code == 0
    assert json.loads(outcome.stdout)["rows"][0]["label"] == "red"
    assert (tmp_path / "why/explain.html").is_file()


@pytest.mark.parametrize(
    ("options", "message"),
    [(["--explain", "why", "--views", "ten"], "not the views 'ten'"), (["--trained-on", "photos"], "is for --explain")],
)
def test_options_that_do_not_go_together_are_refused(
    fitted: FitResult, photos: Path, options: list[str], message: str
) -> None:
    with pytest.raises(ConvAtlasError, match=message):
        CliRunner().invoke(
            app, ["predict", str(fitted.bundle), str(photos / "test/red/100.png"), *options], catch_exceptions=False
        )


def test_what_cannot_be_explained_is_an_error_with_a_remedy(tmp_path: Path, photos: Path) -> None:
    image = photos / "test/red/100.png"
    one, two = write_model(tmp_path / "one"), write_model(tmp_path / "two", seed=1)
    both = ensemble([one, two], tmp_path / "both").folder
    with pytest.raises(ConvAtlasError, match="is an ensemble of 2 models") as caught:
        convatlas.explain(both, image)
    assert "members" in caught.value.remedy
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes.txt").write_text("keep")
    with pytest.raises(ConvAtlasError, match="did not write"):
        convatlas.explain(one, image, out=tmp_path / "mine")
    found = convatlas.explain(one, image)
    assert found.page is None and found.json["rows"][0]["nearest"] is None and found.json["remembers"] is None


def test_the_report_shows_where_answers_come_from(backbone: Path, tmp_path: Path) -> None:
    root = write_split(tmp_path / "photos", {"train": 6, "test": 3})
    for number in range(300, 304):
        photo("red", number).save(root / "test/green" / f"{number}.png")
    made = fit(root, weights=backbone, out=tmp_path / "model")
    rows = made.json["mistakes"]
    assert len(rows) >= 4 and len(made.json["right"]) == 3
    for row in [*rows, *made.json["right"]]:
        assert row["map_method"] == "class-activation map"
        assert (made.bundle / row["map"]).read_bytes()[:2] == b"\xff\xd8"
        assert row["nearest"]["path"] != row["path"] and Path(row["nearest"]["path"]).is_file()
    page = (made.bundle / "report.html").read_text(encoding="utf-8")
    assert page.count("nearest in training") == len(rows) + 3
    assert made.json["shapes"]["mode"] == "crop" and sum(b["count"] for b in made.json["shapes"]["histogram"]) == 31
    assert 'class="aspects"' in page


def test_long_images_are_shown_in_several_crops_and_it_is_said(backbone: Path, tmp_path: Path) -> None:
    root = write_split(tmp_path / "photos", {"train": 4})
    for path in root.rglob("*.png"):
        Image.open(path).resize((120, 30)).save(path)
    made = fit(root, weights=backbone, out=tmp_path / "model")
    assert convatlas.load(made.bundle).preprocessing.crops == made.json["shapes"]["crops"] == 5
    assert made.json["shapes"]["mode"] == "multicrop" and made.json["shapes"]["kept_least"] == 1
    assert any("4.0 times as long as wide" in note for note in made.json["notes"])
    assert "made square by 5 crops along the longer side" in (made.bundle / "report.html").read_text(encoding="utf-8")
    kept = fit(root, weights=backbone, out=tmp_path / "kept", resize_mode="crop", report=False)
    assert convatlas.load(kept.bundle).preprocessing.fit == "crop"


def test_the_map_is_drawn_where_the_network_looked(tmp_path: Path) -> None:
    image = Image.new("RGB", (200, 100), (128, 128, 128))
    (tmp_path / "x.jpg").write_bytes(overlay(image, (50, 0, 150, 100), np.array([[1.0, -1.0]]), scale=1.0, side=200))
    drawn = np.asarray(Image.open(tmp_path / "x.jpg").convert("RGB")).astype(int)
    assert drawn.shape == (100, 200, 3)
    for_, against, unseen = drawn[50, 65], drawn[50, 135], drawn[50, 20]
    assert for_[0] > for_[2] + 100 and against[2] > against[0] + 100
    assert unseen.max() < 60 and np.ptp(unseen) < 6


def test_a_deleted_memory_is_no_error(fitted: FitResult, photos: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(fitted.bundle, tmp_path / "model")
    (folder / "training.safetensors").unlink()
    convatlas.explain(folder, photos / "test/red/100.png", out=tmp_path / "out")
    assert "remembers no training images" in (tmp_path / "out/explain.html").read_text(encoding="utf-8")
