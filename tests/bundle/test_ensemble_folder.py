"""An ensemble is a model folder: it predicts the mean of its members wherever it is, and a change anywhere in it is refused."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import convatlas
from convatlas.bundle.classifier import Classifier
from convatlas.bundle.load import load
from convatlas.bundle.save import config_sha256
from convatlas.data import Views
from convatlas.errors import ConvAtlasError
from convatlas.metrics import softmax
from convatlas.zoo.heads.ensemble import Ensemble, averaged
from convatlas.zoo.inference import normalised
from tiny import CLASSES, content, photo, state, write_model

# networks, sizes, colours, fits and orders of classes that have nothing in common
MEMBERS: dict[str, dict[str, Any]] = {
    "resnet": {"resize": 36},
    "lenet": {"name": "lenet5_modern", "channels": 1, "mean": [0.5], "std": [0.5], "fit": "squash", "classes": CLASSES[::-1]},
    "mobilenet": {"name": "mobilenet_v1_025", "size": 64, "fit": "pad", "classes": ("green", "red", "blue")},
}  # fmt: skip


@pytest.fixture(scope="module")
def members(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    root = tmp_path_factory.mktemp("members")
    return [write_model(root / name, seed=i, **how) for i, (name, how) in enumerate(MEMBERS.items())]


@pytest.fixture(scope="module")
def made(members: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return convatlas.ensemble(members, tmp_path_factory.mktemp("made") / "ensemble").folder


@pytest.fixture(scope="module")
def loaded(made: Path) -> Classifier:
    return load(made)


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    """An ensemble to be tampered with."""
    return Path(shutil.copytree(made, tmp_path / "copied"))


def rewrite(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Changes config.json and puts its checksum right, as somebody would who means to."""
    described = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    change(described)
    described["convatlas"]["config_sha256"] = config_sha256(described)
    (folder / "config.json").write_text(json.dumps(described), encoding="utf-8")


def by_name(classifier: Classifier, image: Any, views: str = "centre") -> dict[str, float]:
    return dict(classifier.predict(image, views=views, top=10)[0].top)


@pytest.mark.parametrize("views", ["centre", "flip", "ten", "dense:64"])
def test_it_predicts_the_mean_of_its_members_class_by_class(
    loaded: Classifier, members: list[Path], views: str
) -> None:
    images = [photo(label, 70 + i) for i, label in enumerate(CLASSES)]
    alone = [load(member) for member in members]
    for image in images:
        found = by_name(loaded, image, views)
        each = [by_name(one, image, views) for one in alone]
        for name in CLASSES:
            assert found[name] == pytest.approx(np.mean([one[name] for one in each]), abs=1e-5)
        assert sum(found.values()) == pytest.approx(1)
    assert loaded.classes == CLASSES and len(loaded.members) == 3


def test_its_members_disagree(loaded: Classifier) -> None:
    """Or else no test here would say anything."""
    shown = [loaded.views(photo(label, i), Views()) for label in CLASSES for i in range(5)]
    said = loaded.judged(shown, Views()).argmax(axis=2)
    assert len({tuple(row) for row in said}) == 3


def test_it_costs_a_pass_for_each_member_and_view(loaded: Classifier) -> None:
    assert [loaded.forward_passes(Views(name)) for name in ("centre", "flip", "ten", "144")] == [3, 6, 30, 432]


def test_the_module_s_softmax_is_the_mean_of_the_members(loaded: Classifier) -> None:
    orders = [member.classes.align(loaded.classes).tolist() for member in loaded.members]
    module = Ensemble([member.model for member in loaded.members], orders)
    image = photo("green", 33)
    batches = []
    for member in loaded.members:
        p = member.preprocessing
        batches.append(normalised(torch.from_numpy(p.pixels(image)[None]), p.mean, p.std))
    with torch.inference_mode():
        found = softmax(module(batches).double().numpy())[0]
    assert dict(zip(loaded.classes, found, strict=True)) == pytest.approx(by_name(loaded, image), abs=1e-5)


def test_the_mean_of_certain_members_is_finite() -> None:
    logits = [torch.tensor([[1e4, 0.0, -1e4]]), torch.tensor([[-1e4, 0.0, 1e4]])]
    found = averaged(logits)
    assert torch.isfinite(found).all()
    np.testing.assert_allclose(softmax(found.double().numpy()), [[0.5, 0, 0.5]], atol=1e-6)


def test_members_are_whole_model_folders_and_nothing_else_is_copied(members: list[Path], tmp_path: Path) -> None:
    private = Path(shutil.copytree(members[0], tmp_path / "fitted"))
    (private / "assets").mkdir()
    photo("red", 1).save(private / "assets/mistake-000.jpg")
    (private / "report.html").write_text("photos of people")
    made = convatlas.ensemble([private, members[1]], tmp_path / "ensemble").folder
    assert content(made / "members/1") == {**content(members[0])} | {".": "folder", "examples": "folder"}
    assert load(made / "members/2").classes == CLASSES[::-1]
    assert {path.suffix for path in made.rglob("*") if path.is_file()} <= {".json", ".safetensors", ".jpg", ".png", ""}


def test_the_members_are_only_read(members: list[Path], tmp_path: Path) -> None:
    before = [state(member) for member in members]
    convatlas.ensemble(members, tmp_path / "ensemble")
    assert [state(member) for member in members] == before


def test_it_may_be_moved_renamed_and_read_only(folder: Path, loaded: Classifier) -> None:
    moved = folder.rename(folder.with_name("été 蜂"))
    for path in moved.rglob("*"):
        path.chmod(0o555 if path.is_dir() else 0o444)
    assert load(moved).predict(photo("red", 5)) == loaded.predict(photo("red", 5))


FILES = (
    "config.json",
    "examples/jpeg.jpg",
    "members/1/config.json",
    "members/3/model.safetensors",
    "members/2/examples/turned.jpg",
)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("how", ["changed", "removed", "cut"])
def test_a_change_anywhere_is_refused_and_named(folder: Path, name: str, how: str) -> None:
    data = bytearray((folder / name).read_bytes())
    if how == "removed":
        (folder / name).unlink()
    else:
        data[len(data) // 2] ^= 1
        (folder / name).write_bytes(data if how == "changed" else data[:-2])
    with pytest.raises(ConvAtlasError) as caught:
        load(folder)
    where = folder if name == "config.json" and how == "removed" else folder / name
    assert str(where) in str(caught.value) and caught.value.remedy


def test_a_member_exchanged_for_another_sound_model_is_refused(folder: Path, tmp_path: Path) -> None:
    shutil.rmtree(folder / "members/1")
    write_model(folder / "members/1", seed=99)
    with pytest.raises(ConvAtlasError, match=re.escape(f"{folder / 'members/1/config.json'}: was changed")):
        load(folder)


@pytest.mark.parametrize("amount", [0.1, -0.1, float("nan")])
def test_other_outputs_than_when_it_was_saved_are_drift(folder: Path, amount: float) -> None:
    def change(described: dict[str, Any]) -> None:
        described["convatlas"]["examples"][2]["log_probabilities"][1] += amount

    rewrite(folder, change)
    with pytest.raises(
        ConvAtlasError, match="transparent.png gives other probabilities .*make the ensemble again here"
    ):
        load(folder)


def test_rounding_of_another_processor_is_not_drift(folder: Path) -> None:
    def change(described: dict[str, Any]) -> None:
        for example in described["convatlas"]["examples"]:
            example["log_probabilities"] = [value + 1e-5 for value in example["log_probabilities"]]

    rewrite(folder, change)
    load(folder)


def test_an_ensemble_is_no_member(folder: Path, made: Path) -> None:
    shutil.rmtree(folder / "members/1")
    shutil.copytree(made, folder / "members/1")
    rewrite(folder, lambda d: d["convatlas"]["sha256"].pop("members/1/config.json"))
    with pytest.raises(ConvAtlasError, match=r"members/1/config\.json: has the format convatlas\.bundle\.ensemble/1"):
        load(folder)


def test_what_only_one_network_has_is_asked_of_the_members(loaded: Classifier) -> None:
    asked: list[Callable[[], Any]] = [
        lambda: loaded.preprocessing,
        lambda: loaded.network,
        lambda: loaded.probe,
        lambda: loaded.probabilities(np.zeros((1, 32, 32, 3), np.uint8)),
    ]
    for ask in asked:
        with pytest.raises(ConvAtlasError, match="is an ensemble of 3 models") as caught:
            ask()
        assert str(loaded.folder / "members/1") in caught.value.remedy
    assert [member.network for member in loaded.members] == ["resnet20_cifar", "lenet5_modern", "mobilenet_v1_025"]


def test_compare_asks_for_the_members_too(made: Path) -> None:
    with pytest.raises(ConvAtlasError, match="is an ensemble of 3 models"):
        convatlas.compare([made, "lenet5"])


def test_its_config_claims_no_architecture_that_others_know(made: Path) -> None:
    described = json.loads((made / "config.json").read_text(encoding="utf-8"))
    assert described["architecture"] == "convatlas ensemble of 3 models"
    assert described["num_classes"] == 3 and described["label_names"] == list(CLASSES)
    assert not {"pretrained_cfg", "model_args"} & set(described) and not (made / "model.safetensors").exists()


def test_views_that_one_member_cannot_have_are_refused_with_its_folder(members: list[Path], tmp_path: Path) -> None:
    lenet = write_model(tmp_path / "lenet", name="lenet5", channels=1, mean=[0.5], std=[0.5])
    classifier = load(convatlas.ensemble([members[2], lenet], tmp_path / "ensemble").folder)
    with pytest.raises(ConvAtlasError, match="48 pixels is less than the 64"):
        classifier.predict(photo("red", 1), views="dense:48")
    with pytest.raises(ConvAtlasError, match="members/2: this model cannot be slid"):
        classifier.predict(photo("red", 1), views="dense")
