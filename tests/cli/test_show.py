"""`convatlas show`: every form of it, for networks of ours and for people's own."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from test_verbs import Run
from test_verbs import run as run

import convatlas
from convatlas import catalogue
from convatlas.analysis.conventions import CONVENTIONS

NETS = """
from torch import nn

def build():
    print("building")
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(5))

def small():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
"""


@pytest.fixture
def nets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "my_nets.py").write_text(NETS)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", ["lenet5", "resnet18", "googlenet", "mobilenet_v3_small"])
def test_the_text_has_the_card_and_the_tables(run: Run, name: str) -> None:
    outcome = run("show", name)
    assert (outcome.code, outcome.err) == (0, "")
    network = catalogue.find(name)
    assert convatlas.card(name).paper.title.split()[0] in outcome.out
    assert f"{network.parameters:,}" in outcome.out and f"{network.mult_adds:,}" in outcome.out
    for convention in CONVENTIONS:
        assert f"\n {convention} " in outcome.out
    for row in convatlas.analyse(name).blocks:
        assert f"\n {row.path} " in outcome.out


@pytest.mark.parametrize("by", ["stage", "block", "layer"])
def test_a_row_for_each(run: Run, by: str) -> None:
    found = convatlas.analyse("alexnet")
    rows = {"stage": found.stages, "block": found.blocks, "layer": found.layers}[by]
    lines = run("show", "alexnet", "--by", by, "--as", "markdown").out.splitlines()
    table = lines[lines.index(f"**alexnet by {by}**") :]
    shown = [line.split("|")[1].strip() for line in table if line.startswith("|")][: len(rows) + 3]
    assert shown == [by, "---", *(row.path for row in rows), "total"]


def test_json_is_the_analysis_with_the_card(run: Run) -> None:
    told = run("show", "resnet18", "--json").json
    own = json.loads(json.dumps(convatlas.analyse("resnet18").to_json()))
    assert {key: told[key] for key in own} == own
    assert told["card"]["schema"] == "convatlas.card/1"
    assert told["largest_batch"] is None


def test_the_diagram_is_svg_and_can_go_to_a_file(run: Run, tmp_path: Path) -> None:
    shown = run("show", "resnet18", "--diagram").out
    assert ET.fromstring(shown).tag.endswith("svg")
    file = tmp_path / "resnet18.svg"
    assert run("show", "resnet18", "--diagram", "--out", file).out == ""
    assert file.read_text(encoding="utf-8").strip() == shown.strip()
    assert list(tmp_path.iterdir()) == [file]


def test_the_page_is_one_offline_file(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "page.html"
    assert run("show", "resnet18", "--as", "html", "--out", file).code == 0
    page = file.read_text(encoding="utf-8")
    assert "<svg" in page and "Deep Residual Learning" in page and "11,689,512" in page
    addresses = set(re.findall(r"""(?:src|href)=["']([^"']+)""", page))
    assert addresses == {convatlas.card("resnet18").paper.url}  # a link to read, nothing that is fetched
    assert run("show", "torch.nn:ReLU", "--input", "3,8,8", "--as", "html").out.startswith("<!doctype html>")


def test_the_input_s_size_and_the_batch(run: Run) -> None:
    told = run("show", "resnet18", "--input", "1,64,96", "--batch", "3", "--json").json
    assert told["inputs"] == [{"shape": [3, 1, 64, 96], "dtype": "float32"}]


def test_one_convention_alone(run: Run) -> None:
    said = run("show", "resnet18", "--convention", "fvcore").out
    count = convatlas.analyse("resnet18").count("fvcore")
    assert said.splitlines()[0] == f"{count.total:,} {count.unit}"
    assert count.why in said
    assert run("show", "resnet18", "--convention", "fvcore", "--json").json["total"] == count.total


def test_the_largest_batch_for_a_budget(run: Run) -> None:
    told = run("show", "resnet18", "--budget", "2G", "--optimizer", "adam", "--json").json["largest_batch"]
    found = convatlas.analyse("resnet18", optimizer="adam")
    assert told == {
        freeze.upto or "nothing": found.largest_batch(2 * 10**9, frozen=freeze.upto) for freeze in found.training
    }
    assert "largest batch to train in 2G" in run("show", "resnet18", "--budget", "2G").out


def test_people_s_own_function_is_run_and_said_to_be(run: Run, nets: Path) -> None:
    outcome = run("show", "my_nets:small", "--input", "3,8,8", "--json")
    assert outcome.code == 0
    assert outcome.json["parameters"] == 4 * 28 + 8
    assert outcome.json["card"] is None
    assert f"imported {nets / 'my_nets.py'} and ran small()" in outcome.err


def test_what_people_s_code_prints_does_not_spoil_the_json(run: Run, nets: Path) -> None:
    outcome = run("show", f"{nets / 'my_nets.py'}:build", "--input", "3,8,8", "--json")
    assert "building" in outcome.err and "building" not in outcome.out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("my_nets:absent",), "has no 'absent'; it has build, small"),
        (("my_nets:small",), "does not say what it takes; give the input's size"),
        (("my_nets:small", "--input", "4,8,8"), "after"),
        (("resnet18", "--input", "3,a"), "'3,a' is no size"),
        (("resnet18", "--input", "3,224,224", "--input", "3,224,224"), "takes one image"),
        (("resnet18", "--convention", "thop"), "unknown convention 'thop'; there are paper"),
        (("resnet18", "--budget", "much"), "'much' is not a size"),
        (("resnet18", "--diagram", "--out", "absent/x.svg"), "absent/x.svg cannot be written"),
        (("resnet5O",), "did you mean 'resnet50'?"),
        (("resnet5O", "--as", "card"), "did you mean 'resnet50'?"),
    ],
    ids=" ".join,
)
def test_bad_requests_are_status_1_with_one_message(run: Run, nets: Path, words: tuple[str, ...], said: str) -> None:
    outcome = run("show", *words)
    assert (outcome.code, outcome.out) == (1, "")
    assert "Traceback" not in outcome.err
    message = " ".join(line.strip() for line in outcome.err.splitlines())
    assert said in message or (said == "after" and "cannot take 1×4×8×8" in message)


def test_wrong_usage_is_status_2(run: Run) -> None:
    for words in (("--batch", "0"), ("--by", "pixel"), ("--as", "poem"), ("--training-batch", "1")):
        assert run("show", "lenet5", *words).code == 2
