"""`ensemble`, and `--views` of `evaluate` and `predict`, as a shell sees them."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import convatlas
from convatlas.cli import main
from convatlas.cli.verbs import app
from convatlas.jobs.fit import FitResult
from tiny import photo, write_model, write_split


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_split(tmp_path_factory.mktemp("data"), {"train": 1, "val": 4, "test": 2})


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    root = tmp_path_factory.mktemp("models")
    return [
        write_model(root / f"net-{i}", name="lenet5_modern", seed=i, channels=1, mean=[0.5], std=[0.5]) for i in (1, 2)
    ]


def invoke(*words: object) -> Any:
    outcome = CliRunner().invoke(app, list(map(str, words)), catch_exceptions=False)
    assert outcome.exit_code == 0, outcome.output
    return outcome


def test_ensemble_shows_what_each_member_adds(models: list[Path], data: Path, tmp_path: Path) -> None:
    text = invoke("ensemble", tmp_path / "both", *models, "--data", data).stdout
    rows = [line.split() for line in text.splitlines()]
    assert rows[0] == ["member", "alone", "ensemble", "so", "far", "adds,", "points"]
    assert [row[:2] for row in rows[1:3]] == [["1", "net-1"], ["2", "net-2"]]
    found = convatlas.load(tmp_path / "both").about
    shares = [*(row["alone"]["accuracy"] for row in found["table"]), found["accuracy"], found["mean_member_accuracy"]]
    assert all(f"{100 * share:.1f} %" in text for share in shares)
    assert f"gain {100 * found['gain']['difference']:+.1f} [" in text and "these images do not show" in text
    assert "val split, 12 images" in text and f"model: {tmp_path / 'both'} (2 forward passes an image)" in text


def test_ensemble_json_split_and_what_is_left_out(models: list[Path], data: Path, tmp_path: Path) -> None:
    (data / "test/red/broken.png").write_bytes(b"\x89PNG")
    words = ("ensemble", tmp_path / "both", *models, "--data", data, "--split", "test")
    found = json.loads(invoke(*words, "--json").stdout)
    assert (found["schema"], found["data"]["split"], found["images"]) == ("convatlas.ensemble/1", "test", 6)
    outcome = invoke(*words)
    assert f"not counted, unreadable: {data / 'test/red/broken.png'}" in outcome.stderr
    assert "unreadable" not in outcome.stdout


def test_ensemble_without_data_says_where_it_is(models: list[Path], tmp_path: Path) -> None:
    found = invoke("ensemble", tmp_path / "both", *models).stdout
    assert found == f"model: {tmp_path / 'both'} (2 forward passes an image)\n"
    photo("red", 1).save(tmp_path / "new.png")
    assert invoke("predict", tmp_path / "both", tmp_path / "new.png").stdout.startswith(str(tmp_path / "new.png"))


@pytest.mark.parametrize(
    ("views", "passes"), [("flip", 2), ("ten", 10), ("144", 144), ("dense", 2), ("dense:32,40", 4)]
)
def test_evaluate_says_views_and_their_cost(fitted: FitResult, photos: Path, views: str, passes: int) -> None:
    words = ("evaluate", fitted.bundle, photos, "--views", views)
    found = json.loads(invoke(*words, "--json").stdout)
    assert (found["views"]["name"], found["views"]["forward_passes"]) == (views, passes)
    assert (
        found["protocol"]
        == f"test split, 12 images, classes matched by name, probabilities averaged over views ({views})"
    )
    if views == "flip":
        assert found == convatlas.evaluate(fitted.bundle, photos, views=views).json
        assert (
            "views: flip (the model's own preprocessing and its mirror), 2 forward passes an image"
            in invoke(*words).stdout
        )


def test_evaluate_says_that_it_looks_once_by_default(fitted: FitResult, photos: Path) -> None:
    text = invoke("evaluate", fitted.bundle, photos).stdout
    assert "views: centre (the model's own preprocessing), 1 forward pass an image" in text
    found = convatlas.evaluate(fitted.bundle, photos).json
    assert found["views"] == {"name": "centre", "what": "the model's own preprocessing", "forward_passes": 1}


@pytest.mark.parametrize("views", ["centre", "ten"])
def test_predict_looks_as_it_is_told(fitted: FitResult, photos: Path, views: str) -> None:
    path = photos / "test/red/100.png"
    found = json.loads(invoke("predict", fitted.bundle, path, "--views", views, "--json").stdout)
    assert found["views"]["name"] == views
    expected = convatlas.load(fitted.bundle).predict(path, views=views)[0]
    assert found["rows"] == [expected.to_json()]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("evaluate", "{model}", "{data}", "--views", "tenn"), "there are no views 'tenn'."),
        (("predict", "{model}", "{data}", "--views", "dense:8"), "a shorter side of 8 pixels is less than the 32"),
        (("ensemble", "{tmp}/out", "{model}"), "1 model makes no ensemble."),
        (("ensemble", "{tmp}/out", "{model}", "{model}"), "is the same model as"),
        (("ensemble", "{tmp}/out", "{model}", "{data}"), "{data}: not a model folder"),
        (("ensemble", "{data}", "{model}", "{model}"), "which ConvAtlas did not write"),
    ],
)
def test_what_cannot_be_is_status_1_with_a_message(
    models: list[Path],
    data: Path,
    tmp_path: Path,
    words: tuple[str, ...],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    places = {"model": models[0], "data": data, "tmp": tmp_path}
    monkeypatch.setattr(sys, "argv", ["convatlas", *(word.format(**places) for word in words)])
    with pytest.raises(SystemExit) as leaving:
        main()
    captured = capsys.readouterr()
    assert (leaving.value.code, captured.out) == (1, "")
    assert said.format(**places) in captured.err and len(captured.err.splitlines()) == 2
    assert not (tmp_path / "out").exists()
