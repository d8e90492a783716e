"""`convatlas compare`: a table and a note, JSON alone on stdout, files only where they were asked for."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import convatlas
from convatlas.cli import main
from convatlas.jobs.fit import FitResult

Outcome = tuple[int, str, str]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Outcome]:
    def command(*words: object) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["convatlas", "compare", *map(str, words)])
        code = 0
        try:
            main()
        except SystemExit as leaving:
            code = leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return command


def test_the_table_has_the_networks_in_order_and_marks_the_front(
    run: Callable[..., Outcome], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = run("vgg11", "vgg16", "resnet18", "resnet50")
    assert code == 0
    rows = [line for line in out.splitlines() if line[:2] in ("* ", "  ") and "M" in line and "network" not in line]
    assert [line.split()[:2] for line in rows] == [
        ["*", "resnet18"],
        ["*", "resnet50"],
        ["vgg11", "69.0"],
        ["vgg16", "71.6"],
    ]
    assert "138,357,544" in rows[-1] and "15,470.3 M" in rows[-1]
    assert "IMAGENET1K_V1" in out
    assert err.startswith("note: Publishers give no intervals")
    assert not list(tmp_path.iterdir())


def test_json_is_what_the_function_returns_and_nothing_else(run: Callable[..., Outcome]) -> None:
    code, out, _ = run("densenet1*", "--by", "parameters", "--json")
    found = json.loads(out)
    expected = convatlas.compare("densenet1*", by="parameters").json
    assert code == 0
    assert {**found, "created": "", "command": ""} == {**expected, "created": "", "command": ""}
    assert found["command"] == "convatlas compare 'densenet1*' --by parameters --json"


def test_a_folder_gets_page_json_and_charts_and_is_replaced_by_the_next(
    run: Callable[..., Outcome], tmp_path: Path
) -> None:
    out = tmp_path / "compared"
    for _ in range(2):
        code, text, _ = run("resnet*", "--protocol", "IMAGENET1K_V2", "--out", out)
        assert code == 0 and str(out / "compare.html") in text
    names = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    charts = {
        f"charts/{name}.{kind}"
        for name in ("accuracy_mult_adds", "density", "timeline", "margins")
        for kind in ("png", "svg")
    }
    assert names == {".convatlas", "compare.html", "compare.json", *charts}
    assert json.loads((out / "compare.json").read_text())["command"].startswith("convatlas compare 'resnet*'")
    (out / "mine.txt").write_text("do not touch")
    code, _, err = run("resnet*", "--out", out)
    assert code == 1 and "mine.txt" in err
    assert (out / "mine.txt").read_text() == "do not touch"


def test_several_costs_and_a_model_folder(run: Callable[..., Outcome], fitted: FitResult) -> None:
    words = (
        fitted.bundle,
        "lenet5",
        "--by",
        "latency",
        "--by",
        "throughput",
        "--repeats",
        1,
        "--batch",
        2,
        "--device",
        "cpu",
    )
    code, out, _ = run(*words, "--json")
    found = json.loads(out)
    assert code == 0
    assert (found["by"], found["measured"]["batch"]) == (["latency", "throughput"], 2)
    code, out, _ = run(*words)
    assert "latency, ms" in out and "images/s" in out and "without an accuracy by this protocol: 1" in out


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("resnet5", "vgg16"), 1, "did you mean 'resnet50'"),
        (("vgg16",), 1, "only vgg16"),
        (("vgg16", "./nowhere"), 1, "not a model folder"),
        (("vgg16", "resnet20_cifar"), 1, "nothing comparable"),
        (("vgg*", "--protocol", "guesswork"), 1, "guesswork"),
        (("vgg*", "--by", "flops"), 2, "Usage"),
        (("vgg*", "--batch", "0"), 2, "Usage"),
        (("vgg*", "--repeats", "0"), 2, "Usage"),
        (("vgg*", "--device", "tpu"), 2, "Usage"),
    ],
)
def test_bad_input_is_one_message_and_a_status(
    run: Callable[..., Outcome], words: tuple[str, ...], code: int, message: str
) -> None:
    found, out, err = run(*words)
    assert (found, out) == (code, "")
    assert message in err and "Traceback" not in err
