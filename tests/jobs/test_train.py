"""A network from scratch: a run that goes on, a model folder that says what the run said, and plain words for what cannot be trained."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Literal

import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

import convatlas
from convatlas.cli.train import train_text
from convatlas.cli.verbs import app
from convatlas.errors import ConvAtlasError
from convatlas.report.run_page import render_run
from convatlas.train import TrainConfig
from convatlas.train.recipes import RECIPES
from convatlas.train.recipes.recipe import Formula, Recipe
from tiny import CLASSES, write_split

RECIPE = "resnet20_cifar"
QUICK = ("epochs=2", "batch_size=8", "optim.lr=0.02")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_split(tmp_path_factory.mktemp("data"), {"train": 6, "test": 5})


@pytest.fixture(scope="module")
def trained(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> convatlas.TrainResult:
    return convatlas.train_recipe(RECIPE, photos, out=tmp_path_factory.mktemp("runs") / "run", settings=QUICK)


def test_the_model_folder_judges_as_the_run_did(photos: Path, trained: convatlas.TrainResult) -> None:
    assert convatlas.evaluate(trained.model, photos).accuracy == trained.json["accuracy"]
    assert convatlas.load(trained.model).classes == tuple(sorted(CLASSES))


def test_images_that_it_was_trained_on_are_called_so(photos: Path, trained: convatlas.TrainResult) -> None:
    own, fresh = (convatlas.evaluate(trained.model, photos, split=split).json for split in ("train", "test"))
    assert own["trained_on"] == {"images": own["images"], "without": None} and own["alarms"]
    assert fresh["trained_on"]["images"] == 0 and not fresh["alarms"]
    assert convatlas.load(trained.model).training is None  # nothing is known of how they look


def test_the_run_says_what_decides_it(trained: convatlas.TrainResult) -> None:
    run = json.loads((trained.folder / "run.json").read_text())
    assert (run["schema"], run["recipe"], run["config"]["epochs"]) == ("convatlas.run/1", RECIPE, 2)
    assert run["data"]["images"] == 6 * len(CLASSES) and run["data"]["held_out"] == 5 * len(CLASSES)
    assert len(run["data"]["sha256"]) == len(run["weights"]["initial_sha256"]) == 64
    assert run["read"] == "InMemory" and run["versions"]["processes"] == 1
    result = json.loads((trained.folder / "result.json").read_text())
    assert result == json.loads(json.dumps(trained.json)) and result["schema"] == "convatlas.train/1"
    low, high = result["accuracy_interval"]
    assert low <= result["accuracy"] <= high and "test split" in result["protocol"]
    epochs = [json.loads(line) for line in (trained.folder / "metrics.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in epochs] == [1, 2]
    assert epochs[-1]["held_out"] == result["accuracy"]


def test_repeated_it_trains_nothing_and_says_the_same(photos: Path, trained: convatlas.TrainResult) -> None:
    before = (trained.folder / "metrics.jsonl").read_bytes()
    seen: list[str] = []
    again = convatlas.train_recipe(
        *(RECIPE, photos), out=trained.folder, settings=QUICK, progress=lambda what, done, total: seen.append(what)
    )
    assert again.json == trained.json and "train" not in seen
    assert (trained.folder / "metrics.jsonl").read_bytes() == before


def test_other_settings_or_other_images_are_another_run(
    photos: Path, trained: convatlas.TrainResult, tmp_path: Path
) -> None:
    with pytest.raises(ConvAtlasError, match=r"config.seed: 0 there, 1 now"):
        convatlas.train_recipe(RECIPE, photos, out=trained.folder, settings=(*QUICK, "seed=1"))
    other = write_split(tmp_path / "data", {"train": 6, "test": 4})
    with pytest.raises(ConvAtlasError, match=r"data.held_out: \d+ there, \d+ now"):
        convatlas.train_recipe(RECIPE, other, out=trained.folder, settings=QUICK)


def test_what_cannot_be_read_is_named_and_nothing_held_out_is_said(tmp_path: Path) -> None:
    data = write_split(tmp_path / "data", {"train": 4})
    broken = data / "train" / CLASSES[0] / "broken.jpg"
    broken.write_bytes(b"\xff\xd8\xff\xe0 not much of a photo")
    said: list[str] = []
    result = convatlas.train_recipe(RECIPE, data, out=tmp_path / "run", settings=QUICK, say=said.append)
    assert any(str(broken) in line for line in said)
    assert result.json["data"]["images"] == 4 * len(CLASSES)
    assert result.json["accuracy"] is None and "held out" in result.json["protocol"]


def test_the_verb_answers_as_the_function(photos: Path, trained: convatlas.TrainResult) -> None:
    words = ["train", RECIPE, str(photos), "--out", str(trained.folder), *(x for s in QUICK for x in ("--set", s))]
    outcome = CliRunner().invoke(app, [*words, "--json"], catch_exceptions=False)
    assert json.loads(outcome.stdout) == json.loads(json.dumps(trained.json))
    text = CliRunner().invoke(app, words, catch_exceptions=False).stdout
    assert RECIPE in text and "95 % Wilson interval" in text and str(trained.model) in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("resnet21_cifra",), "there is no recipe"),
        ((RECIPE, "--set", "optim.lrr=1"), "did you mean 'optim.lr'"),
        (("vgg_2014", "--network", "vgg12"), "did you mean vgg1"),
        ((RECIPE, "--set", "auxiliary=0.3"), "has no auxiliary classifiers"),
        (("alexnet_2012", "--set", "image_size=16"), r"alexnet\w* cannot be shown images of 16 pixels"),
    ],
)
def test_bad_words_have_one_clear_message(
    arguments: tuple[str, ...], message: str, photos: Path, tmp_path: Path
) -> None:
    name, *rest = arguments
    with pytest.raises(ConvAtlasError, match=message):
        CliRunner().invoke(
            app, ["train", name, str(photos), "--out", str(tmp_path / "run"), *rest], catch_exceptions=False
        )
    assert not (tmp_path / "run").exists()


def test_a_network_of_the_recipe_s_on_grey_images(photos: Path, tmp_path: Path) -> None:
    result = convatlas.train_recipe(
        *("lenet5_1998", photos), out=tmp_path / "run", network="lenet5_modern", settings=["epochs=1", "batch_size=4"]
    )
    assert (result.json["recipe"], result.json["network"]) == ("lenet5_1998", "lenet5_modern")
    model = convatlas.load(result.model)
    assert model.preprocessing.channels == 1 and model.preprocessing.size == 32
    assert convatlas.evaluate(result.model, photos).accuracy == result.json["accuracy"]


def test_a_plateau_looks_at_a_validation_part_and_never_at_a_test_part(photos: Path, tmp_path: Path) -> None:
    plateau = [*QUICK, "optim.schedule=plateau", "optim.patience=1"]
    with pytest.raises(ConvAtlasError, match=r"only a test part, which nothing may be chosen by.*Give a val part"):
        convatlas.train_recipe(RECIPE, photos, out=tmp_path / "refused", settings=plateau)
    assert not (tmp_path / "refused").exists()
    data = write_split(tmp_path / "data", {"train": 4, "val": 3})
    result = convatlas.train_recipe(RECIPE, data, out=tmp_path / "run", settings=plateau)
    assert "val split" in result.json["protocol"] and "the learning rate lowered by it" in result.json["protocol"]


def test_with_a_validation_and_a_test_part_the_test_part_is_measured_once_at_the_end(tmp_path: Path) -> None:
    data = write_split(tmp_path / "data", {"train": 4, "val": 3, "test": 2})
    settings = ["epochs=9", "batch_size=4", "patience=1"]
    result = convatlas.train_recipe(RECIPE, data, out=tmp_path / "run", settings=settings)
    assert "test split" in result.json["protocol"] and "measured once, at the end" in result.json["protocol"]
    assert f"weights after epoch {result.json['epochs'] - 1}," in result.json["protocol"] and result.json["epochs"] < 9
    assert convatlas.evaluate(result.model, data, split="test").accuracy == result.json["accuracy"]
    assert convatlas.evaluate(tmp_path / "run/last", data, split="val").accuracy is not None
    with pytest.raises(ConvAtlasError, match=r"only a test part.*patience=0"):
        convatlas.train_recipe(
            RECIPE,
            write_split(tmp_path / "other", {"train": 4, "test": 3}),
            out=tmp_path / "no",
            settings=["patience=2"],
        )


def test_what_a_recipe_changes_in_its_network_is_in_the_model_folder(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = {"cells": 1, "width": 4, "stem": 8, "auxiliary": True}

    def small(network: str) -> Recipe:
        config = TrainConfig(epochs=1, batch_size=8, image_size=24, eval_size=32, auxiliary=0.4, ema=0.99)
        return Recipe(network=network, config=config, source="a test", changes=changes)

    monkeypatch.setitem(RECIPES, "small", Formula(make=small, networks=("nasnet_a_cifar",)))
    result = convatlas.train_recipe("small", photos, out=tmp_path / "run")
    model = convatlas.load(result.model)  # which runs its stored examples
    assert model.preprocessing.size == 32
    assert convatlas.evaluate(result.model, photos).accuracy == result.json["accuracy"]
    assert json.loads((tmp_path / "run/run.json").read_text())["changes"] == changes


@pytest.mark.slow
def test_terminated_it_leaves_and_goes_on(photos: Path, tmp_path: Path) -> None:
    def words(out: str) -> list[str]:
        command = [sys.executable, "-m", "convatlas", "train", RECIPE, str(photos), "--out", str(tmp_path / out)]
        return [*command, "--set", "epochs=60", "--set", "batch_size=8", "--json"]

    process = subprocess.Popen(words("run"), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    log = tmp_path / "run/metrics.jsonl"
    while not (log.exists() and log.read_bytes()):
        assert process.poll() is None
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGTERM)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130 and b"repeat the command to go on" in told
    assert 1 <= len(log.read_text().splitlines()) < 60
    finished, alone = (
        subprocess.run(words(out), stdout=subprocess.PIPE, check=True).stdout for out in ("run", "alone")
    )
    assert json.loads(finished) == json.loads(alone)
    weights = [(tmp_path / out / "model/model.safetensors").read_bytes() for out in ("run", "alone")]
    assert weights[0] == weights[1]


@pytest.mark.parametrize("images", ["memory", "cached", "streamed"])
def test_however_images_are_read_the_result_is_the_same(
    photos: Path, trained: convatlas.TrainResult, tmp_path: Path, images: Literal["memory", "cached", "streamed"]
) -> None:
    """Without random crops, which a stream takes from the whole photo."""
    result = convatlas.train_recipe(RECIPE, photos, out=tmp_path / "run", settings=QUICK, images=images)
    read = {"memory": "InMemory", "cached": "Cached", "streamed": "Streamed"}[images]
    assert result.json["read"] == read
    assert result.json["loss"] == pytest.approx(trained.json["loss"], rel=1e-4)
    tensors = [load_file(each.model / "model.safetensors") for each in (result, trained)]
    assert all(torch.allclose(tensors[0][key], x, rtol=1e-3, atol=1e-3) for key, x in tensors[1].items())


@pytest.mark.parametrize("images", ["memory", "cached", "streamed"])
@pytest.mark.parametrize("part", ["train", "test"])
def test_a_part_of_which_too_little_can_be_read_is_an_error(
    photos: Path, tmp_path: Path, part: str, images: Literal["memory", "cached", "streamed"]
) -> None:
    root = Path(shutil.copytree(photos, tmp_path / "photos"))
    for path in sorted((root / part).rglob("*.png"))[part == "train" :]:
        path.unlink() if images == "streamed" and part == "train" else path.write_bytes(b"no image")
    with pytest.raises(ConvAtlasError, match=r"images could be read, and [12] are needed|no images|nothing to tell"):
        convatlas.train_recipe(RECIPE, root, out=tmp_path / "run", settings=QUICK, images=images)
    assert not (tmp_path / "run").exists()


def test_another_way_of_reading_is_named_where_a_run_is_refused(
    photos: Path, trained: convatlas.TrainResult, tmp_path: Path
) -> None:
    shutil.copytree(trained.folder, tmp_path / "run")
    with pytest.raises(ConvAtlasError, match='read: "InMemory" there, "Cached" now'):
        convatlas.train_recipe(RECIPE, photos, out=tmp_path / "run", settings=QUICK, images="cached")


def test_photos_that_are_cropped_are_streamed(photos: Path, tmp_path: Path) -> None:
    settings = ["epochs=1", "batch_size=4", "image_size=96", "augment.scale=0.3,1.0", "augment.pad=0"]
    result = convatlas.train_recipe(RECIPE, photos, out=tmp_path / "run", settings=settings)
    assert result.json["read"] == "Streamed"


def test_the_page_of_a_run_has_its_curves_and_its_result(trained: convatlas.TrainResult, tmp_path: Path) -> None:
    text = (trained.folder / "report.html").read_text(encoding="utf-8")
    assert text.count("<svg") == 6 and "http-equiv" not in text  # three charts, for a desk and for a telephone
    assert trained.json["protocol"].replace("test split", "Test split", 1) in text and "2 of 2 epochs" in text
    for file in ("run.json", "metrics.jsonl"):
        shutil.copy(trained.folder / file, tmp_path)
    going_on = render_run(tmp_path).read_text(encoding="utf-8")
    assert 'http-equiv="refresh"' in going_on and trained.json["protocol"] not in going_on
    (tmp_path / "metrics.jsonl").write_text("")
    assert "No epoch is done yet" in render_run(tmp_path).read_text(encoding="utf-8")


def test_a_folder_that_is_no_run_has_no_page(tmp_path: Path) -> None:
    with pytest.raises(ConvAtlasError, match=r"is no run that can be read.*--out"):
        render_run(tmp_path)
    (tmp_path / "run.json").write_text("{}")
    (tmp_path / "metrics.jsonl").write_text("")
    with pytest.raises(ConvAtlasError, match="is not of the schema"):
        render_run(tmp_path)


def test_learning_rates_are_tried_without_a_run(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["train", RECIPE, str(photos), "--set", "batch_size=4", "--lr-find"]
    told = CliRunner().invoke(app, [*words, "--json"])
    assert told.exit_code == 0, told.output
    found = json.loads(told.stdout)
    assert found["network"] == RECIPE and found["rates"][0] == pytest.approx(1e-6)
    shown = CliRunner().invoke(app, words).stdout
    assert f"try --set optim.lr={found['suggestion']:.2g}" in shown
    assert not list(tmp_path.iterdir())


def test_a_run_needs_a_folder(photos: Path) -> None:
    told = CliRunner().invoke(app, ["train", RECIPE, str(photos)])
    assert told.exit_code == 2 and "--out" in told.output


@pytest.mark.parametrize(
    ("recipe", "settings"),
    [
        (RECIPE, ("batch_size=6",)),
        pytest.param("googlenet_bvlc_quick", ("batch_size=2", "auxiliary=0"), marks=pytest.mark.slow),
    ],
)
def test_two_processes_tell_one_result(photos: Path, tmp_path: Path, recipe: str, settings: tuple[str, ...]) -> None:
    """Also where auxiliary classifiers do not count, and so get no gradient."""
    words = [word for setting in ("epochs=1", *settings) for word in ("--set", setting)]
    command = [sys.executable, "-m", "convatlas", "train", recipe, photos, "--out", tmp_path / "run", *words]
    ran = subprocess.run([*command, "--processes", "2", "--json"], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout)["versions"]["processes"] == 2


def test_a_range_test_makes_no_run(photos: Path, tmp_path: Path) -> None:
    told = CliRunner().invoke(app, ["train", RECIPE, str(photos), "--lr-find", "--out", str(tmp_path / "run")])
    assert told.exit_code == 2 and "--lr-find makes no run" in " ".join(told.output.split())


@pytest.mark.parametrize("part", ["test", "val"])
def test_a_held_out_part_alone_cannot_be_trained_on(tmp_path: Path, part: str) -> None:
    root = write_split(tmp_path / "data", {part: 3})
    with pytest.raises(ConvAtlasError, match=f"has a {part} part only. Add a folder `train`"):
        convatlas.train_recipe(RECIPE, root, out=tmp_path / "run")


def test_one_image_is_enough_to_be_held_out(tmp_path: Path) -> None:
    root = write_split(tmp_path / "data", {"train": 4, "val": 1})
    for folder in list((root / "val").iterdir())[1:]:
        shutil.rmtree(folder)
    result = convatlas.train_recipe(RECIPE, root, out=tmp_path / "run", settings=["epochs=1", "batch_size=4"])
    assert result.json["data"]["held_out"] == 1


def test_other_photos_under_the_same_names_are_another_run(photos: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(photos, tmp_path / "data"))
    settings = ["epochs=1", "batch_size=4"]
    convatlas.train_recipe(RECIPE, root, out=tmp_path / "run", settings=settings, images="streamed")
    one, other, *_ = sorted((root / "train").rglob("*.png"))
    shutil.copyfile(other, one)
    with pytest.raises(ConvAtlasError, match=r"data\.sha256"):
        convatlas.train_recipe(RECIPE, root, out=tmp_path / "run", settings=settings, images="streamed")


def test_copies_and_groups_make_an_interval_wider_and_leaks_are_called_so(tmp_path: Path) -> None:
    """Twelve held-out images that are two of each class, copied: as sure as six. Two of these are training images, too."""
    root, said = write_split(tmp_path / "data", {"train": 4, "test": 2}), list[str]()
    settings = ["epochs=1", "batch_size=4"]
    alone = convatlas.train_recipe(RECIPE, root, out=tmp_path / "alone", settings=settings, say=said.append)
    assert alone.json["leak"]["images"] == 0 and alone.json["alarms"] == [] and "copies" not in alone.json["protocol"]
    for path in [*(root / "test").rglob("*.png")]:
        shutil.copyfile(path, path.with_name(f"again-{path.name}"))
    copied = convatlas.train_recipe(RECIPE, root, out=tmp_path / "copied", settings=settings, say=said.append)
    low, high = alone.json["accuracy_interval"]
    wider = copied.json["accuracy_interval"]  # few units: by Student's quantile
    assert copied.json["accuracy"] == alone.json["accuracy"] and wider[0] < low < high < wider[1]
    assert "12 images (copies and groups together: 6)" in copied.json["protocol"] and not said

    rows = [f"{p.relative_to(root)},{p.parent.name},{p.parts[-3]}" for p in sorted((root).rglob("*.png"))]
    lines = ["path,label,split,group", *(f"{row},{'one' if ',test' in row else ''}" for row in rows)]
    (root / "list.csv").write_text("\n".join(lines) + "\n")
    grouped = convatlas.train_recipe(RECIPE, root / "list.csv", out=tmp_path / "grouped", settings=settings)
    low, high = grouped.json["accuracy_interval"]
    assert "(copies and groups together: 1)" in grouped.json["protocol"] and high - low > 0.7

    shown = sorted((root / "test").rglob("*.png"))[:2]
    for path in shown:
        shutil.copyfile(path, root / "train" / path.parent.name / f"leaked-{path.name}")
    leaking = convatlas.train_recipe(RECIPE, root, out=tmp_path / "leaking", settings=settings, say=said.append)
    leak, without = leaking.json["leak"], leaking.json["leak"]["without"]
    assert any("test images are also training images" in line and str(shown[0]) in line for line in said)
    assert {str(path) for path in shown} <= set(leak["files"]) and len(leak["files"]) == leak["images"]
    assert leak["images"] + without["images"] == leak["of"] == 12 and leak["images"] >= 2
    assert "Leak: " in leaking.json["alarms"][0] and leaking.json["alarms"][0] in train_text(leaking.json)
    assert leaking.json["alarms"][0] in render_run(leaking.folder).read_text()
