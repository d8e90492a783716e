"""`convatlas.analyse`: any network by name, as a module or from somebody's code; and what it says where that cannot be."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import convatlas
from convatlas import ConvAtlasError, catalogue
from convatlas.analysis import tables
from convatlas.analysis.conventions import CONVENTIONS
from convatlas.jobs.analyse import build_users, parse_input

QUICK = ("lenet5", "alexnet", "googlenet_aux", "resnet18", "densenet_40_12_cifar", "se_resnet50", "nasnet_a_cifar")


@pytest.mark.parametrize(
    "name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in catalogue.networks()]
)
def test_by_name_it_is_the_catalogue_s_network(name: str) -> None:
    network = catalogue.find(name)
    found = convatlas.analyse(name)
    assert (found.whole.parameters, found.whole.cost.mult_adds) == (network.parameters, network.mult_adds)
    assert found.status == "complete"
    assert found.inputs[0].shape == (1, *network.input_size)
    stages = found.model.get_submodule("stages")
    assert [row.path for row in found.stages] == [*(f"stages.{name}" for name, _ in stages.named_children()), "head"]
    told = json.loads(json.dumps(found.to_json()))
    assert told["schema"] == "convatlas.analysis/1"
    wanted = {"parameters", "mult_adds", "flops", "status", "uncounted", "activation_bytes", "peak_bytes", "layers"}
    assert wanted <= set(told)
    for row in told["layers"]:
        assert {"path", "output_shape", "parameters", "mult_adds", "receptive_field"} <= set(row)
    assert sum(row["mult_adds"] for row in told["layers"]) == told["mult_adds"] == network.mult_adds
    assert sum(row["flops"] for row in told["stages"]) == told["flops"]
    assert sum(row["activation_bytes"] for row in told["blocks"]) == told["activation_bytes"] >= told["peak_bytes"] / 2
    assert set(told["conventions"]) == set(CONVENTIONS)
    assert told["training"]["freeze_depths"][0]["frozen_upto"] is None


def test_freezing_more_never_needs_more() -> None:
    totals = [freeze.memory.total for freeze in convatlas.analyse("mobilenet_v2").training]
    assert totals == sorted(totals, reverse=True) and len(set(totals)) == len(totals)


def test_the_batch_scales_work_and_leaves_parameters() -> None:
    one, eight = (convatlas.analyse("resnet18", batch=n) for n in (1, 8))
    assert eight.whole.cost.mult_adds == 8 * one.whole.cost.mult_adds
    assert eight.whole.parameters == one.whole.parameters
    assert eight.whole.field == one.whole.field


def test_the_largest_batch_grows_with_the_budget_and_the_frozen_part() -> None:
    found = convatlas.analyse("resnet18")
    assert found.largest_batch(10**6) == 0
    small, large = found.largest_batch(2 * 10**9), found.largest_batch(4 * 10**9)
    assert 0 < small < large < found.largest_batch(4 * 10**9, frozen=found.training[-1].upto)
    with pytest.raises(ValueError, match="cannot freeze up to 'stage9'"):
        found.largest_batch(10**9, frozen="stage9")


class Two(nn.Module):
    """Takes two inputs, a map and indices, and gives a dictionary."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.words = nn.Embedding(10, 8)

    def forward(self, image: Tensor, words: Tensor) -> dict[str, Tensor]:
        seen = self.conv(image).mean((2, 3))
        return {"seen": seen, "scores": seen @ self.words(words).mean(1).T}


def test_several_inputs_of_several_types_and_a_dictionary_out() -> None:
    found = convatlas.analyse(Two(), [(3, 8, 8), (5,)], dtypes=[torch.float32, torch.int64])
    assert found.whole.output_shapes == ((1, 8), (1, 1))
    assert found.whole.parameters == 8 * 28 + 80
    assert found.whole.cost.mult_adds == 8 * 27 * 36 + 8


def test_the_model_is_left_as_it_was() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout())
    model[1].eval()
    model[0].weight.requires_grad_(False)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    torch.manual_seed(5)
    state = torch.get_rng_state()
    convatlas.analyse(model, (3, 8, 8))
    assert torch.equal(torch.get_rng_state(), state)
    assert [module.training for module in model.modules()] == [True, True, False, True]
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert model[0].weight.device.type == "cpu" and model[0].weight.grad is None
    assert not model[0]._forward_hooks and not model[0]._forward_pre_hooks


class Looks(nn.Module):
    """Decides by the values of its input."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        while x.abs().max() > 1:
            x = self.conv(x) * 0.5
        return x


def test_a_network_that_decides_by_values_is_run_and_said_to_be_one_case() -> None:
    found = convatlas.analyse(Looks(), (3, 8, 8))
    assert found.tape.tensors == "real"
    assert any("decides by the values of its input" in note for note in found.notes)
    assert found.whole.cost.mult_adds > 0


def test_numbers_that_are_not_finite_are_named() -> None:
    conv, norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
    state = {**conv.state_dict(), **norm.state_dict()}
    state["running_var"][1:3] = torch.inf
    conv.weight.data[0, 0, 0, 0] = torch.nan
    notes = convatlas.analyse(nn.Sequential(conv, norm), (3, 8, 8)).notes
    assert any(note.startswith("0.weight holds 1 numbers that are not finite") for note in notes)
    assert any(note.startswith("1.running_var holds 2 numbers") for note in notes)


def test_what_the_pass_does_not_reach_is_counted_and_named() -> None:
    found = convatlas.analyse("googlenet_aux")
    assert found.unreached == found.whole.parameters - sum(row.parameters for row in found.layers) > 6 * 10**6
    assert any("does not use" in note for note in found.notes)


class Forwardless(nn.Module):
    pass


MISFIT = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(5, 4, 3))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("resnet5O",), "unknown model 'resnet5O'; did you mean 'resnet50'?"),
        (("alexnet", (3, 20, 20)), "alexnet cannot run on 1×3×20×20"),
        (("resnet18", (224, 224)), "resnet18 takes one image; give its channels, height and width"),
        (("resnet18", (224, 224, 3)), "224 channels cannot be meant; channels come first: 3,224,224"),
        (("resnet18", (3, 0, 224)), r"\(3, 0, 224\) is no size"),
        ((nn.Conv2d(3, 4, 3),), "Conv2d does not say what it takes; give the input's size"),
        ((nn.Conv2d(3, 4, 3), (4, 8, 8)), "Conv2d cannot run on 1×4×8×8: Conv2d cannot take 1×4×8×8"),
        ((MISFIT, (3, 8, 8)), r"after 0 \(Conv2d\) gave 1×4×6×6, 1 \(Conv2d\) cannot take 1×4×6×6"),
        ((Forwardless(), (3, 8, 8)), "Forwardless.* missing the required \"forward\" function"),
        ((3, (3, 8, 8)), "int is no network"),
    ],
)  # fmt: skip
def test_one_clear_message(arguments: tuple, said: str) -> None:
    with pytest.raises(ConvAtlasError, match=said):
        convatlas.analyse(*arguments)


def test_bad_batches_and_optimizers() -> None:
    with pytest.raises(ConvAtlasError, match="a batch of 0 to infer"):
        convatlas.analyse("lenet5", batch=0)
    with pytest.raises(ConvAtlasError, match="unknown optimizer 'lion'"):
        convatlas.analyse("lenet5", optimizer="lion")  # type: ignore[arg-type] - what is wrong with it


@pytest.mark.parametrize(
    "text", ["3,224,224", "3x224x224", "3×224×224", "3, 224, 224", "(3, 224, 224)", "[3,224,224,]", "3 224 224"]
)
def test_sizes_are_read(text: str) -> None:
    assert parse_input(text) == ((3, 224, 224), torch.float32)
    assert parse_input("77:int64") == ((77,), torch.int64)


@pytest.mark.parametrize(("text", "said"), [("3,a,4", "'3,a,4' is no size"), ("3:float99", "'float99' is no type")])
def test_bad_sizes_are_named(text: str, said: str) -> None:
    with pytest.raises(ConvAtlasError, match=said):
        parse_input(text)


CODE = """
import dataclasses
from torch import nn
print("noise")

def build():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())

def broken():
    raise RuntimeError("no weights")

def leaves():
    raise SystemExit(3)

def number():
    return 4

def sized(width):
    return nn.Linear(width, width)

def pair():
    return build(), "transform"

made = build()
constant = 7
"""


def test_people_s_own_code_is_run_and_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "my_nets.py"
    file.write_text(CODE)
    built = build_users(f"{file}:build")
    assert built.ran == f"imported {file} and ran build()"
    assert build_users(f"{file}:made").ran == f"imported {file}"
    assert build_users("torch.nn:ReLU").model.__class__ is nn.ReLU
    printed = capsys.readouterr()
    assert printed.out == "" and "noise" in printed.err
    assert convatlas.analyse(f"{file}:build", (3, 8, 8)).whole.parameters == 4 * 28


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("broken", "broken.. failed: RuntimeError: no weights"),
        ("leaves", "leaves.. failed: SystemExit: 3"),
        ("number", "number.. gave a int; it must return an nn.Module"),
        ("constant", "constant is a int; name a function"),
        ("absent", "has no 'absent'; it has build, broken, leaves, number"),
        ("buidl", "has no 'buidl'; did you mean 'build'"),
        (
            "sized",
            "missing 1 required positional argument: 'width'. It is called without arguments: name a function that",
        ),
        ("pair", "gave a tuple of Sequential, str; it must return an nn.Module and nothing else"),
    ],
)
def test_code_that_gives_no_network_is_named(tmp_path: Path, what: str, said: str) -> None:
    file = tmp_path / "my_nets.py"
    file.write_text(CODE)
    with pytest.raises(ConvAtlasError, match=said):
        build_users(f"{file}:{what}")


def test_a_file_is_imported_as_its_own_code_would_be(tmp_path: Path) -> None:
    package = tmp_path / "user_package" / "nets"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package.parent / "__init__.py").touch()
    (package / "user_block.py").write_text("from torch import nn\nmake = nn.ReLU\n")
    (package / "relative.py").write_text("from .user_block import make\ndef build(): return make()\n")
    (package / "absolute.py").write_text("from user_package.nets.user_block import make as build\n")
    (tmp_path / "user_sibling.py").write_text("from torch import nn\nmake = nn.ReLU\n")
    (tmp_path / "with-dash.py").write_text("def build():\n    from user_sibling import make\n    return make()\n")
    path, argv = list(sys.path), list(sys.argv)
    for file in (package / "relative.py", package / "absolute.py", tmp_path / "with-dash.py"):
        assert isinstance(build_users(f"{file}:build").model, nn.ReLU)
    assert (sys.path, sys.argv) == (path, argv)


def test_a_file_does_not_stand_in_for_a_module_of_its_name(tmp_path: Path) -> None:
    before = sys.modules["random"]
    (tmp_path / "random.py").write_text("from torch import nn\nbuild = nn.ReLU\n")
    assert isinstance(build_users(f"{tmp_path / 'random.py'}:build").model, nn.ReLU)
    assert sys.modules["random"] is before


class Talking(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        print("passing", x.shape)
        return x


def test_what_a_network_prints_stays_off_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    convatlas.analyse(Talking(), (3, 8, 8))
    printed = capsys.readouterr()
    assert printed.out == "" and "passing" in printed.err


def test_code_that_cannot_be_imported_is_named(tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text("1 / 0")
    (tmp_path / "script.py").write_text(
        "import argparse\np = argparse.ArgumentParser()\np.add_argument('data')\np.parse_args()"
    )
    for spec, said in {
        f"{tmp_path / 'bad.py'}:build": "failed: ZeroDivisionError",
        f"{tmp_path / 'script.py'}:build": "ended the program; keep what a script does under",
        f"{tmp_path / 'absent.py'}:build": "there is no such file",
        "no_such_package.nets:build": "No module named 'no_such_package'",
        "json:not a name": "names no function",
    }.items():
        with pytest.raises(ConvAtlasError, match=said):
            build_users(spec)


def test_tables_hold_what_the_rows_hold() -> None:
    found = convatlas.analyse("se_resnet50")
    for by, rows in (("stage", found.stages), ("block", found.blocks), ("layer", found.layers)):
        table = tables.parts(found, by)  # type: ignore[arg-type] - the loop makes a plain string of it
        assert len(table.rows) == len(rows) + 1
        assert [cells[3] for cells in table.rows[:-1]] == [f"{row.parameters:,}" for row in rows]
    text = found.markdown("stage")
    assert text.count("\n|") > 20 and f"{found.whole.parameters:,}" in text
    page = found._repr_html_()
    assert page.startswith("<svg") and "<table>" in page and "http:" not in page.replace("http://www.w3.org", "")


def test_a_partial_total_says_so_everywhere() -> None:
    class Unusual(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.erfinv(x)

    found = convatlas.analyse(Unusual(), (3, 8, 8))
    assert found.status == found.to_json()["status"] == "partial"
    assert found.to_json()["uncounted"] == {"erfinv": 1}
    assert "PARTIAL: not counted are erfinv (1)" in found.markdown()


@pytest.mark.parametrize("count", [0, 7, 512, 999, 1000, 1234, 12_345, 999_499, 999_500, 4_089_184_256, 15_470_000_000])
def test_short_numbers_have_three_digits_and_their_value(count: int) -> None:
    text = tables.short(count)
    number, _, unit = text.partition(" ")
    value = float(number) * {"": 1, "k": 1e3, "M": 1e6, "G": 1e9}[unit]
    assert value == pytest.approx(count, rel=0.006)
    assert len(number.replace(".", "")) <= 3
