"""The lecture's experiments: each at a tiny size from the images to the page, and each verdict from figures that say this or that."""

from __future__ import annotations

import html
import json
import math
import re
import shutil
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import convatlas
from convatlas import zoo
from convatlas.cli.study import Study, study_text
from convatlas.cli.verbs import app
from convatlas.data import scan
from convatlas.errors import ConvAtlasError
from convatlas.jobs.study_images import first_of_each, study_images
from convatlas.report import study_page
from convatlas.report.study_page import read_study, render_study
from convatlas.studies import activations, auxiliary, degradation, ensembles, halves, identity, small_nets, very_deep
from convatlas.studies.finding import Estimate, by_seed, by_seed_ratio
from convatlas.studies.laboratory import LOGITS, RECORD, Counted, Laboratory, Trained
from convatlas.studies.plans import PLANS, Length, plan_of
from convatlas.studies.two_gpus import two_gpus
from convatlas.studies.two_processes import TwoProcesses
from convatlas.train.checkpoint import newest
from convatlas.train.images import InMemory
from convatlas.train.learner import last_result
from convatlas.zoo.resnet import ResNet
from tiny import state, write_split

CLASSES = ("blue", "green", "red")
TRAINED = [name for name, plan in PLANS.items() if plan.usual]
SLOW = ("degradation", "very-deep", "auxiliary")  # deep networks, for which a step is seconds


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four training images of each of three classes, and two to hold out."""
    return write_split(tmp_path_factory.mktemp("data"), {"train": 4, "test": 2})


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where all studies here keep their trainings, so that what two of them have in common is trained once."""
    return tmp_path_factory.mktemp("runs")


@pytest.fixture
def laboratory(tmp_path: Path) -> Laboratory:
    """Random images of ten classes, two seeds."""
    draws = torch.Generator().manual_seed(0)
    images = [
        InMemory(torch.randint(256, (n, 3, 32, 32), generator=draws).byte(), torch.arange(n) % 10) for n in (40, 20)
    ]
    length = Length(epochs=3, images=40, seeds=2)
    return Laboratory(
        runs=tmp_path / "runs", training=images[0], held_out=images[1], classes=tuple("abcdefghij"), length=length
    )


# What there is


def test_the_command_line_and_the_documentation_know_every_study() -> None:
    assert [study.value for study in Study] == ["lecture", *PLANS]
    page = (Path(__file__).parents[2] / "docs/studies.md").read_text(encoding="utf-8")
    for name, plan in PLANS.items():
        row = f"| `{name}` | {plan.question} | {plan.usual or '–'} | {plan.full or '–'} |"
        assert row in page, f"docs/studies.md should have the line\n{row}"


def test_what_is_no_study_is_answered_with_what_there_is(data: Path, tmp_path: Path) -> None:
    with pytest.raises(ConvAtlasError, match="no study 'degradations'") as caught:
        plan_of("degradations")
    assert "did you mean degradation?" in caught.value.remedy and "two-processes" in caught.value.remedy
    outcome = CliRunner().invoke(app, ["study", "degradations"])
    assert outcome.exit_code == 2 and "very-deep" in outcome.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "filters"}, "the study filters trains on images"),
        ({"name": "filters", "data": "nowhere"}, "there is no nowhere"),
        ({"name": "filters", "data": "DATA/train"}, "wants a training and a test part"),
        ({"name": "filters", "data": "DATA", "epochs": 0}, "epochs is 0"),
        ({"name": "identity", "data": "DATA", "seeds": 2}, "trains each network once"),
        ({"name": "two-processes", "full": True}, "trains on no images"),
        ({"name": "filters", "data": "DATA", "device": "abacus"}, "abacus"),
        ({"name": "filters", "data": "DATA", "out": "DATA/train/red/100.png"}, "no such|is a file|cannot"),
        ({"name": "filters", "data": "DATA", "out": "DATA"}, "which is no part of a study"),
        ({"name": "filters", "data": "DATA", "partial": True}, "no seed from which all"),
        ({"name": "degradation", "data": "DATA", "partial": True, "images": 6}, "has finished an epoch"),
        ({"name": "identity", "data": "DATA", "partial": True, "images": 6}, "is not finished"),
        ({"name": "activations", "data": "DATA", "partial": True, "images": 6}, "no training with ReLU is finished"),
        ({"name": "auxiliary", "data": "DATA", "partial": True, "images": 6}, "nothing was begun"),
        ({"name": "very-deep", "data": "DATA", "partial": True, "images": 6}, "nothing was begun"),
        ({"name": "ensemble", "data": "DATA", "partial": True, "images": 6}, "no network is finished"),
    ],
)
def test_what_cannot_be_studied_is_one_clear_error(
    arguments: dict[str, Any], message: str, data: Path, tmp_path: Path
) -> None:
    first = next((data / "train/red").iterdir())
    given = {
        key: value.replace("DATA/train/red/100.png", str(first)).replace("DATA", str(data))
        if isinstance(value, str)
        else value
        for key, value in arguments.items()
    }
    with pytest.raises(ConvAtlasError, match=message) as caught:
        convatlas.study(**{"out": tmp_path / "out", **given})
    assert caught.value.remedy
    assert not (tmp_path / "out").exists() or not any((tmp_path / "out").iterdir())


# From the images to the page


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in TRAINED]
)
def test_a_study_is_made_and_made_again_without_training(
    name: str, data: Path, runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lengths: dict[str, Any] = {"epochs": 1, "images": 12} | ({} if name in ("identity", "very-deep") else {"seeds": 2})
    if name == "very-deep":
        monkeypatch.setattr(very_deep, "BATCH", 4)
        monkeypatch.setattr(
            very_deep.find, "__defaults__", ({"plain-110": "plain110_cifar", "ResNet-110": "resnet110_cifar"},)
        )
    found = convatlas.study(name, data, out=tmp_path / "out", runs=runs, device="cpu", **lengths)
    written = json.loads((tmp_path / "out/study.json").read_text(encoding="utf-8"))
    assert written == found.json and written["schema"] == "convatlas.study/1"
    assert written["shortened"], "a dozen images are no whole study"
    assert all(len(row) == len(written["columns"]) for row in written["rows"])
    assert_is_a_page(tmp_path / "out", written)
    assert written["paragraph"].split()[0] in study_text(written)

    monkeypatch.setattr(study_page, "render_study", lambda folder: folder)  # the page was seen
    kept = state(runs)
    again = convatlas.study(name, data, out=tmp_path / "out", runs=runs, device="cpu", **lengths)
    assert again.json == found.json
    now = state(runs)
    files = [file for file in now if file.endswith((".safetensors", "run.json"))]
    assert files and all(now[file] == kept[file] for file in files), "something was trained again"
    partial = convatlas.study(name, data, out=tmp_path / "out", runs=runs, device="cpu", partial=True, **lengths)
    assert partial.json["rows"] == found.json["rows"] and partial.json["paragraph"] == found.json["paragraph"]

    with pytest.raises(ConvAtlasError, match="holds another run"):
        convatlas.study(name, data, out=tmp_path / "other", runs=runs, device="cpu", **{**lengths, "images": 9})
    other = "filters" if name != "filters" else "inception"
    with pytest.raises(ConvAtlasError, match=f"holds the study {name}"):
        convatlas.study(other, data, out=tmp_path / "out", runs=runs, device="cpu", **lengths)


def assert_is_a_page(folder: Path, written: dict[str, Any]) -> None:
    page = html.unescape((folder / "study.html").read_text(encoding="utf-8"))
    assert written["question"] in page and "Shortened" in page and "http:" not in page.replace("http://www.w3.org", "")
    for column in written["columns"]:
        assert f'<th scope="col">{column["name"]}</th>' in page
    drawn = re.findall(r"<svg.*?</svg>", page, re.DOTALL)
    assert len(drawn) == 2  # for a desk, and for a telephone
    widths = [float(ET.fromstring(svg).attrib["width"]) for svg in drawn]
    assert widths[0] <= 900 and widths[1] <= 360, widths
    ET.parse(folder / "chart.svg")
    with Image.open(folder / "chart.png") as chart:
        assert chart.width > 400


def test_a_study_that_was_stopped_goes_on(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from convatlas.studies import laboratory

    whole = convatlas.study("filters", data, out=tmp_path / "whole", epochs=2, images=12, seeds=1, device="cpu")
    train, calls = laboratory.train, []

    def broken(model: Any, images: Any, config: Any, **rest: Any) -> Any:
        calls.append(config)
        if len(calls) == 2:  # in the middle of the second network
            rest["progress"] = lambda done, steps: (_ for _ in ()).throw(KeyboardInterrupt) if done == steps else None
        return train(model, images, config, **rest)

    monkeypatch.setattr(laboratory, "train", broken)
    with pytest.raises(KeyboardInterrupt):
        convatlas.study("filters", data, out=tmp_path / "cut", epochs=2, images=12, seeds=1, device="cpu")
    assert not (tmp_path / "cut/study.json").exists()
    found = convatlas.study("filters", data, out=tmp_path / "cut", epochs=2, images=12, seeds=1, device="cpu")
    assert len(calls) == 3, "the first network was not trained again"
    assert found.json["rows"] == whole.json["rows"] and found.json["figures"] == whole.json["figures"]


@pytest.mark.parametrize("name", ["filters", pytest.param("auxiliary", marks=pytest.mark.slow)])
def test_settings_change_every_training_and_the_page_says_so(data: Path, tmp_path: Path, name: str) -> None:
    changed = ["optim.warmup_epochs=0.5", "optim.momentum=0.8"]
    found = convatlas.study(
        name, data, out=tmp_path / "out", epochs=1, images=12, seeds=1, settings=changed, device="cpu"
    ).json
    configs = [json.loads(file.read_text())["config"] for file in (tmp_path / "out/runs").glob("*/run.json")]
    assert configs and all((c["optim"]["warmup_epochs"], c["optim"]["momentum"]) == (0.5, 0.8) for c in configs)
    assert "Every training has optim.warmup_epochs=0.5, optim.momentum=0.8" in found["changed"]
    assert "--set=optim.warmup_epochs=0.5" in found["command"] and found["settings"] == changed


@pytest.mark.parametrize(
    ("name", "setting", "said"),
    [
        ("filters", "optim.lrr=1", "did you mean 'optim.lr'"),
        ("filters", "epochs=3", "a study has its own epochs; give --epochs"),
        ("filters", "lr", "sets nothing"),
        ("two-processes", "optim.lr=1", "trains on no images; leave out --set"),
        ("quadrants", "optim.lr=1", "takes no --set"),
    ],
)
def test_settings_that_are_none_are_refused(data: Path, tmp_path: Path, name: str, setting: str, said: str) -> None:
    with pytest.raises(ConvAtlasError, match=re.escape(said)):
        convatlas.study(name, data, out=tmp_path / "out", settings=[setting], device="cpu")
    assert not (tmp_path / "out").exists()


def test_a_run_of_the_verb_train_is_taken_as_it_is(data: Path, tmp_path: Path) -> None:
    settings = ["epochs=1", "seed=0"]
    run = tmp_path / "runs/plain20_cifar-0"
    convatlas.train_recipe("plain20_cifar", data, out=run, settings=settings, device="cpu")
    kept = state(run / "checkpoints")
    found = convatlas.study(
        "identity", data, out=tmp_path / "out", runs=tmp_path / "runs", epochs=1, images=12, device="cpu", partial=True
    )
    assert state(run / "checkpoints") == kept
    trained, made = found.json["rows"]
    assert trained[2:] == made[2:] and "exactly as" in found.json["paragraph"]
    assert found.json["figures"]["largest_difference_of_a_logit"] <= 1e-5


def test_where_weights_are_averaged_the_average_is_judged(laboratory: Laboratory) -> None:
    """As in the curves, which are of what a training results in."""
    laboratory = replace(laboratory, settings=("ema=0.9",))
    (found,) = laboratory.trained([laboratory.of_recipe("resnet20_cifar", 0)])
    checkpoint = newest(laboratory.runs / laboratory.of_recipe("resnet20_cifar", 0).folder / "checkpoints")
    assert checkpoint and found.counted
    average, last = last_result(checkpoint.tensors), checkpoint.tensors["model.head.fc.weight"]
    assert all(torch.equal(found.state[key], x) for key, x in average.items())
    assert not torch.equal(found.state["head.fc.weight"], last)
    assert found.counted.held_out_error == pytest.approx(1 - found.epochs[-1]["held_out"])


def test_of_a_finished_run_the_record_is_enough_where_weights_are_not_needed(
    laboratory: Laboratory, monkeypatch: pytest.MonkeyPatch
) -> None:
    laboratory = replace(laboratory, length=replace(laboratory.length, epochs=1, seeds=1))
    training = laboratory.of_recipe("resnet20_cifar", 0)
    (whole,) = laboratory.trained([training])
    folder = laboratory.runs / training.folder
    shutil.rmtree(folder / "checkpoints")
    (folder / LOGITS).unlink()
    forbidden = replace(laboratory, partial=True)
    assert forbidden.trained([training]) == [], "without its weights it is none of those that a study may need"
    for kept in (laboratory, forbidden):
        (recorded,) = kept.trained([training], records=True)
        assert whole.counted and recorded.counted and not recorded.state
        assert (recorded.epochs, recorded.counted.training_error) == (whole.epochs, whole.counted.training_error)
        assert recorded.counted.held_out_error == whole.counted.held_out_error and not len(recorded.counted.training)
    assert not (folder / "checkpoints").exists()
    longer = replace(laboratory, length=replace(laboratory.length, epochs=2))
    with pytest.raises(ConvAtlasError, match="holds another run"):
        longer.trained([longer.of_recipe("resnet20_cifar", 0)], records=True)
    (folder / RECORD).write_text("{}")
    assert forbidden.trained([training], records=True) == []


def test_the_first_images_of_each_class_are_taken(data: Path, tmp_path: Path) -> None:
    training, held_out, classes = study_images(data, 6)
    assert classes == CLASSES and training.labels.tolist() == [0, 0, 1, 1, 2, 2] and len(held_out) == 3  # one of each
    whole, rest, _ = study_images(data, 10_000)
    assert len(whole) == 12 and len(rest) == 6 and torch.equal(whole.images[[0, 1, 4, 5, 8, 9]], training.images)
    records = scan(data).of("train")
    assert [record.path for record in first_of_each(records, 1)] == [records[i].path for i in (0, 4, 8)]
    shutil.copytree(data, tmp_path / "broken")
    next((tmp_path / "broken/train/red").iterdir()).write_bytes(b"no image")
    with pytest.raises(ConvAtlasError, match="cannot be read"):
        study_images(tmp_path / "broken", 12)


# Networks


@pytest.mark.parametrize("blocks", [(3, 3, 3), (4, 3, 5), (9, 9, 9)])
@pytest.mark.parametrize("seed", range(3))
def test_identity_blocks_change_nothing_whatever_the_weights(seed: int, blocks: tuple[int, int, int]) -> None:
    torch.manual_seed(seed)
    model = zoo.build("plain20_cifar", num_classes=5)
    assert isinstance(model, ResNet)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            assert module.running_mean is not None and module.running_var is not None
            module.running_mean.normal_()
            module.running_var.uniform_(0.2, 5)
            torch.nn.init.normal_(module.weight)
            torch.nn.init.normal_(module.bias)
    deep = identity.deepened(model.eval(), blocks)
    image = torch.randn(4, 3, 32, 32)
    with torch.no_grad():
        assert (deep(image) - model(image)).abs().max() <= 1e-5
    if blocks == (9, 9, 9):
        zoo.build("plain56_cifar", num_classes=5).load_state_dict(deep.state_dict(), strict=True)


def test_only_a_plain_network_is_deepened() -> None:
    for name, blocks in (("resnet20_cifar", (9, 9, 9)), ("plain20_cifar", (2, 9, 9)), ("plain20_cifar", (9, 9))):
        model = zoo.build(name)
        assert isinstance(model, ResNet)
        with pytest.raises(ValueError, match="plain|deepened"):
            identity.deepened(model, blocks)


def test_three_3x3_see_what_one_7x7_sees() -> None:
    reach = []
    for kernels in ((3, 3, 3), (7,)):
        stack = small_nets.filters(kernels, classes=2)[1 : 1 + len(kernels)].eval()
        image = torch.randn(1, 32, 21, 21, requires_grad=True)
        stack(image)[0, :, 10, 10].sum().backward()
        assert image.grad is not None
        seen = image.grad.abs().sum((0, 1)) > 0
        reach.append((seen.any(0).nonzero().flatten().tolist(), seen.any(1).nonzero().flatten().tolist()))
    assert reach[0] == reach[1] == ([*range(7, 14)], [*range(7, 14)])
    stacks = [small_nets.filters(kernels, classes=2)[1 : 1 + len(kernels)] for kernels in ((3, 3, 3), (7,))]
    weights = [sum(p.numel() for p in stack.parameters() if p.ndim > 1) for stack in stacks]
    assert weights == [27 * 32**2, 49 * 32**2]


@pytest.mark.parametrize("reduced", [True, False])
def test_small_networks_answer_with_a_number_for_each_class(reduced: bool) -> None:
    image = torch.randn(2, 3, 32, 32)
    nets = [small_nets.inception(reduced=reduced, classes=7), small_nets.four_layers(torch.nn.Tanh, classes=7)]
    nets += [small_nets.like_alexnet(norm=norm, dropout=0.5, classes=7) for norm in ("response", "batch", "none")]
    for net in nets:
        assert net(image).shape == (2, 7)


# Verdicts


def run(name: str, seed: int, error: float, laboratory: Laboratory, *, epochs: int = 3) -> Trained:
    """A training that ended with this share of the training images wrong; unfinished if it has fewer epochs than it should."""
    labels = laboratory.training.labels
    wrong = round(error * len(labels))
    answers = torch.nn.functional.one_hot((labels + (torch.arange(len(labels)) < wrong)) % 10, 10).float()
    held_out = torch.nn.functional.one_hot(laboratory.held_out.labels, 10).float()
    counted = Counted(training=answers, held_out=held_out, training_error=wrong / len(labels), held_out_error=0.0)
    rows = tuple({"epoch": i + 1, "loss": 1.0, "lr": 0.1, "top1": 1 - error, "held_out": 0.5} for i in range(epochs))
    whole = epochs == laboratory.length.epochs
    return Trained(name=name, seed=seed, epochs=rows, state={}, counted=counted if whole else None)


def four(
    laboratory: Laboratory, plain: float, residual: float, *, seeds: int = 2, epochs: int = 3
) -> Iterator[Trained]:
    """Runs whose deep networks differ by so much from the shallow ones in training error."""
    for seed in range(seeds):
        for (shallow, deep), gap in zip(degradation.PAIRS.values(), (plain, residual), strict=True):
            yield run(shallow, seed, 0.5, laboratory, epochs=epochs)
            yield run(deep, seed, 0.5 + gap, laboratory, epochs=epochs)


@pytest.mark.parametrize(
    ("plain", "residual", "said", "not_said"),
    [
        (0.2, -0.2, ["plain-56 fits its training images worse", "the shortcuts turn it round"], ["not shown here"]),
        (
            0.2,
            0.0,
            ["That is degradation; whether the shortcuts cure all of it, these runs leave open"],
            ["turn it round"],
        ),
        (0.2, 0.2, ["degradation of both kinds"], ["turn it round"]),
        (-0.2, -0.2, ["plain-56 fits its training images better", "degradation is not shown here"], ["That is"]),
        (0.0, 0.0, ["do not show a difference between plain-56 and plain-20", "not shown here"], ["That is"]),
    ],
)
def test_the_verdict_on_degradation_follows_from_the_errors(
    plain: float, residual: float, said: list[str], not_said: list[str], laboratory: Laboratory
) -> None:
    found = degradation.judged(list(four(laboratory, plain, residual)), laboratory)
    told = found.paragraph[0].lower() + found.paragraph[1:]
    assert all(words.lower() in told.lower() for words in said), told
    assert not any(words in told for words in not_said), told
    assert f"{100 * plain:+.1f} points" in told and "so far" not in told
    assert found.rows[1][1] == 2


def test_one_seed_is_of_these_networks_alone_and_part_of_the_runs_says_so(laboratory: Laboratory) -> None:
    one = replace(laboratory, length=replace(laboratory.length, seeds=1))
    told = degradation.judged(list(four(one, 0.3, 0.0, seeds=1)), one).paragraph
    assert "40 images" in told and "so far" not in told
    begun = list(four(laboratory, 0.3, 0.0, epochs=2))
    told = degradation.judged(begun, laboratory).paragraph
    assert (
        "so far: 0 of 8 runs are finished" in told
        and "has done 2 of 3 epochs" in told
        and "the training error during epoch 2, on augmented images, differs" in told
    )
    told = degradation.judged(begun[:2], laboratory).paragraph
    assert "one seed only" in told and "ResNet-20 and ResNet-56 cannot be compared yet" in told
    assert "That is degradation" not in told


def learned(*curves: list[float]) -> activations.Learned:
    return activations.Learned(rate=0.01, curves=dict(enumerate(curves)))


def test_epochs_to_the_goal_lie_between_two_epochs() -> None:
    assert activations.reached([0.5, 0.3, 0.2]) == pytest.approx(2.5)
    assert activations.reached([0.25, 0.1]) == pytest.approx(1.0)
    assert activations.reached([0.5, 0.26]) is None
    for goal in (0.6, 0.4, 0.3):  # sooner for a lower goal it cannot be
        sooner, later = (activations.reached([0.7, 0.5, 0.3, 0.2], g) for g in (goal, goal - 0.05))
        assert sooner is not None and later is not None and sooner < later


def test_the_verdict_on_rectifiers_follows_from_the_curves() -> None:
    fast, slow = [0.5, 0.25, 0.1, 0.1, 0.1, 0.1], [0.7, 0.6, 0.5, 0.4, 0.3, 0.24]
    both = [(fast, slow), (slow, fast), (fast, fast), (fast, [0.9] * 6), ([0.9] * 6, [0.9] * 6)]
    said = [
        "Rectifiers learn faster than tanh",
        "Tanh learns faster than rectifiers",
        "do not show which learns faster",
        "with tanh it is not reached in 6 from any seed, so it takes more than 3.0 times",
        "0 of 2 seeds with ReLU and 0 with tanh",
    ]
    for (relu, tanh), words in zip(both, said, strict=True):
        told = activations.told({"ReLU": learned(relu, relu), "tanh": learned(tanh, tanh)}, 6)
        assert words in told, told
    one = activations.told({"ReLU": learned(fast), "tanh": learned(slow)}, 6)
    assert "do not show which learns faster" in one and "1 seed, so no interval" in one


def test_the_verdict_on_auxiliary_classifiers_follows_from_the_ratios() -> None:
    more, less, either = (by_seed_ratio(ratios) for ratios in ([2.0, 2.1, 1.9], [0.5, 0.4, 0.6], [0.3, 1.0, 3.0]))
    assert "So they do bring gradient" in auxiliary.told(more, more, 9)
    told = auxiliary.told(less, either, 9)
    assert "smaller, to 0.493 times" in told and "do not show that the auxiliary" in told and "So they do" not in told


def test_the_gain_of_an_ensemble_is_told_only_where_it_is_shown(laboratory: Laboratory) -> None:
    many = 400
    labels = torch.arange(many) % 10
    held_out = InMemory(torch.zeros(many, 3, 1, 1).byte(), labels)
    laboratory = replace(laboratory, held_out=held_out)
    draws = torch.Generator().manual_seed(0)
    truth = torch.nn.functional.one_hot(labels, 10).float()
    members = [truth + torch.randn(many, 10, generator=draws) for _ in range(7)]
    found = ensembles.judged(dict(enumerate(members)), laboratory)
    assert "is better than the mean member" in found.paragraph and found.title.startswith("Seven")
    gain = found.figures["gain"]
    accuracies = found.figures["accuracies"]
    together = float((torch.stack(members).softmax(2).mean(0).argmax(1) == labels).double().mean())
    assert gain["value"] == pytest.approx(together - sum(accuracies) / 7, abs=1e-12)
    same = ensembles.judged(dict.fromkeys((0, 2, 3), members[0]), laboratory)
    assert [row[0] for row in same.rows[:3]] == ["member, seed 0", "member, seed 2", "member, seed 3"]
    assert "is not shown to be better" in same.paragraph and same.figures["gain"]["value"] == 0


def steps(losses: list[float]) -> list[dict[str, Any]]:
    return [
        {"step": i, "loss": loss, "gradients": {"first": 1.0}, "resident_bytes": 10**9, "allocated_bytes": 9 * 10**8 if i == 2 else None}
        for i, loss in enumerate(losses, start=1)
    ]  # fmt: skip


def test_the_verdict_on_very_deep_networks_follows_from_the_steps(laboratory: Laboratory) -> None:
    foretold = {"ResNet-1202": very_deep.memory_of(very_deep.training_of(laboratory, "plain110_cifar"))}
    down = [3 - 0.015 * i + 0.1 * (i % 2) for i in range(120)]
    config = very_deep.training_of(laboratory, "plain110_cifar").config
    found = very_deep.judged({"ResNet-1202": steps(down)}, foretold, laboratory, config)
    assert "the loss falls over 120 steps" in found.paragraph and not found.shortened
    assert "900 MB allocated at the most, not within the 88 MB" in found.paragraph
    assert "loss is below that of guessing" in found.paragraph
    wide = {"ResNet-1202": replace(foretold["ResNet-1202"], saved=10**9)}
    flat = very_deep.judged({"ResNet-1202": steps([3 + 0.1 * (i % 2) for i in range(30)])}, wide, laboratory, config)
    assert "the loss is not shown to fall" in flat.paragraph and "30 steps of 100" in flat.shortened
    assert "above that of guessing" in flat.paragraph and ", within the 1,0" in flat.paragraph


def two(difference: float) -> TwoProcesses:
    zeros = {"loss_difference": 0.0, "weight_difference": difference, "gradient_difference": 0.0}
    return TwoProcesses(steps=3, images=4, dtype="float64", losses=(1.0,) * 3, bytes_sent=1, norm_across=1e-3, **zeros)


def test_two_processes_are_called_one_network_only_if_they_are() -> None:
    sizes = two_gpus()
    same, other = (halves.told(two(difference), sizes) for difference in (1e-15, 1e-3))
    assert "trained to the same network" in same.paragraph and "did not train to the same" in other.paragraph
    *layers, all_ = same.rows
    assert [row[0] for row in layers] == ["CONV3", "FC6", "FC7", "FC8"]
    assert all_[4] == sum(row[4] for row in layers if isinstance(row[4], int)) == sizes.sent


@pytest.mark.slow  # AlexNet whole, three times
def test_two_processes_from_the_command_line(tmp_path: Path) -> None:
    outcome = CliRunner().invoke(
        app, ["study", "two-processes", "--out", str(tmp_path / "out"), "--json"], catch_exceptions=False
    )
    found = json.loads(outcome.stdout)
    assert "trained to the same network" in found["paragraph"] and found == read_study(tmp_path / "out")
    assert found["figures"]["weight_difference"] <= halves.EQUAL


# What is shown


def test_a_difference_is_shown_only_beyond_its_interval() -> None:
    for values, shown in (
        ([0.1, 0.11, 0.12], "more"),
        ([-0.1, -0.11], "less"),
        ([-0.1, 0.2], "neither"),
        ([0.3], "unknown"),
    ):
        assert by_seed(values).shown == shown
    bounded = by_seed([0.9, 0.99], within=(0.0, 1.0))
    assert bounded.high == 1.0 and bounded.low is not None and bounded.low >= 0


def test_a_page_shows_what_is_in_the_json_and_escapes_it(tmp_path: Path) -> None:
    found = halves.told(two(0.0), two_gpus())
    exact = replace(
        found, title="A <b> & B", rows=[["x & y", Estimate(value=1.0, low=None, high=None, of="1"), None, 2, 3]]
    )
    about = {
        "schema": "convatlas.study/1",
        "study": "x",
        "version": "0",
        "question": "?",
        "shortened": "",
        "command": "c",
    }
    (tmp_path / "study.json").write_text(json.dumps({**exact.to_json(), **about}))
    page = render_study(tmp_path).read_text(encoding="utf-8")
    assert "A &lt;b&gt; &amp; B" in page and "x &amp; y" in page and "Shortened" not in page
    (tmp_path / "study.json").write_text(json.dumps({"schema": "convatlas.study/9"}))
    with pytest.raises(ConvAtlasError, match="not of the schema"):
        read_study(tmp_path)
    with pytest.raises(ConvAtlasError, match="no such file"):
        read_study(tmp_path / "nowhere")


def test_json_has_no_infinities(laboratory: Laboratory) -> None:
    found = degradation.judged(list(four(laboratory, 0.1, 0.0)), laboratory)
    spoilt = replace(found, figures={"lost": math.inf, "inner": [math.nan, 1.0]})
    assert json.loads(json.dumps(spoilt.to_json(), allow_nan=False))["figures"] == {"lost": None, "inner": [None, 1.0]}


def test_settings_that_single_steps_do_not_know_are_refused(data: Path, tmp_path: Path) -> None:
    for setting in ("label_smoothing=0.1", "optim.clip_norm=1", "augment.flip_mode=alternate"):
        with pytest.raises(ConvAtlasError, match=f"{setting.partition('=')[0]} changes nothing"):
            convatlas.study("very-deep", data, out=tmp_path / "out", settings=[setting], images=12, device="cpu")


def test_memory_is_foretold_of_the_batch_that_is_trained(laboratory: Laboratory) -> None:
    larger = replace(laboratory, settings=("batch_size=16",))
    foretold = [
        very_deep.memory_of(each.changed(very_deep.training_of(each, "resnet110_cifar"))).total
        for each in (laboratory, larger)
    ]
    assert foretold[1] > 1.5 * foretold[0]
