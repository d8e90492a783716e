"""Plain weights become a model folder, or the file that is wrong is named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import convatlas
from convatlas.data import Preprocessing
from convatlas.errors import ConvAtlasError
from convatlas.jobs.pack import pack, read_classes
from convatlas.weights.load import load_network
from convatlas.weights.source import find_weights
from convatlas.zoo.inference import normalised
from tiny import CARD, NETWORK, photo, write_weights

NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


@pytest.fixture
def classes(tmp_path: Path) -> Path:
    path = tmp_path / "classes.txt"
    path.write_text("\n".join(NAMES))
    return path


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """Weights without a card."""
    path = write_weights(tmp_path / "bare.safetensors")
    path.with_suffix(".json").unlink()
    return path


def test_a_packed_model_has_the_weights_classes_and_preparation(backbone: Path, classes: Path, tmp_path: Path) -> None:
    folder = pack(None, weights=backbone, out=tmp_path / "model", classes=classes)
    assert folder == tmp_path / "model"
    classifier = convatlas.load(folder)
    assert classifier.classes == NAMES
    assert classifier.network == NETWORK
    assert classifier.preprocessing == Preprocessing.from_json(CARD["preprocessing"])
    model, _ = load_network(find_weights(backbone))
    image = photo("green", 1)
    pixels = torch.from_numpy(classifier.preprocessing.pixels(image))[None]
    with torch.inference_mode():
        expected = model(normalised(pixels, classifier.preprocessing.mean, classifier.preprocessing.std)).softmax(1)[0]
    (row,) = classifier.predict(image, top=10)
    found = torch.tensor([dict(row.top)[name] for name in NAMES])
    assert torch.allclose(found, expected, atol=1e-5)


def test_names_in_the_card_need_no_file(tmp_path: Path) -> None:
    weights = write_weights(tmp_path / "w.safetensors", card={**CARD, "labels": list(NAMES)})
    assert convatlas.load(pack(NETWORK, weights=weights, out=tmp_path / "model")).classes == NAMES


@pytest.mark.parametrize("count", [0, 1, 9, 11])
def test_another_number_of_names_is_refused_with_both_numbers(backbone: Path, tmp_path: Path, count: int) -> None:
    path = tmp_path / "names.txt"
    path.write_text("".join(f"class {i}\n" for i in range(count)))
    with pytest.raises(ConvAtlasError, match=rf"names.txt: has {count} class names, the classifier has 10 outputs\."):
        pack(None, weights=backbone, out=tmp_path / "model", classes=path)
    assert not (tmp_path / "model").exists()


def test_without_names_it_is_refused(backbone: Path, tmp_path: Path) -> None:
    with pytest.raises(ConvAtlasError, match="nothing says what its 10 classes are called. Give a file with --classes"):
        pack(None, weights=backbone, out=tmp_path / "model")


def test_weights_without_a_classifier_are_refused(classes: Path, tmp_path: Path) -> None:
    weights = write_weights(tmp_path / "w.safetensors", num_classes=0)
    with pytest.raises(ConvAtlasError, match="have no classifier. Fit one with `convatlas fit`"):
        pack(None, weights=weights, out=tmp_path / "model", classes=classes)


def test_repeated_names_are_told_apart(backbone: Path, tmp_path: Path) -> None:
    """ImageNet has two cranes and two maillots."""
    path = tmp_path / "names.txt"
    path.write_text("\n".join(["crane", "maillot", "crane", "crane (2)", "crane", "maillot", "a", "b", "c", "d"]))
    found = convatlas.load(pack(None, weights=backbone, out=tmp_path / "model", classes=path)).classes
    assert len(set(found)) == 10
    assert (found[0], found[1], found[6:]) == ("crane", "maillot", ("a", "b", "c", "d"))
    assert all(name.startswith("crane (") for name in (found[2], found[3], found[4]))
    assert found[5] == "maillot (2)"


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("plain.txt", "ant\nbee\n", ("ant", "bee")),
        ("labels.txt", "0 cat\n1 dog\n2 none of these\n", ("cat", "dog", "none of these")),  # Teachable Machine's
        ("windows.txt", "\ufeffant\r\nbee\r\n\r\n", ("ant", "bee")),
        ("numbers.txt", "0\n1\n2\n", ("0", "1", "2")),
        ("notquite.txt", "0 cat\n2 dog\n", ("0 cat", "2 dog")),
        ("unicode.txt", "été\n蜂\n", ("été", "蜂")),
        ("list.json", '["ant", "bee", 3]', ("ant", "bee", "3")),
        ("card.json", '{"label_names": ["ant", "bee"]}', ("ant", "bee")),
        ("hub.json", '{"id2label": {"10": "k", "2": "c", "0": "a"}}', ("a", "c", "k")),
    ],
)
def test_class_files_of_every_form(tmp_path: Path, name: str, text: str, expected: tuple[str, ...]) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert read_classes(tmp_path / name) == expected


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("absent.txt", None, "cannot be read as text"),
        ("latin.txt", "été".encode("latin-1"), "cannot be read as text"),
        ("bad.json", b"[", "not JSON"),
        ("other.json", b"{}", "holds no class names"),
        ("number.json", b"7", "JSON object is expected"),
    ],
)
def test_class_files_that_are_none_are_named(tmp_path: Path, name: str, data: bytes | None, words: str) -> None:
    if data is not None:
        (tmp_path / name).write_bytes(data)
    with pytest.raises(ConvAtlasError, match=f"{name}: .*{words}"):
        read_classes(tmp_path / name)


OURS = {
    "size": 48,
    "resize": 54,
    "fit": "crop",
    "interpolation": "bicubic",
    "mean": [0.1, 0.2, 0.3],
    "std": [0.4, 0.5, 0.6],
}
TIMM = {
    "input_size": [3, 48, 48],
    "interpolation": "bicubic",
    "crop_pct": 48 / 54 - 1e-9,
    "mean": OURS["mean"],
    "std": OURS["std"],
}
FORMS: dict[str, dict[str, Any]] = {
    "our card": {"preprocessing": OURS},
    "timm's fields": TIMM,
    "timm's config.json": {"architecture": "some_net", "pretrained_cfg": TIMM},
    "the hub's preprocessor": {
        "do_resize": True, "size": {"shortest_edge": 54}, "do_center_crop": True, "crop_size": {"height": 48, "width": 48},
        "resample": 3, "image_mean": OURS["mean"], "image_std": OURS["std"],
    },
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_preprocessing_of_every_form(form: str, bare: Path, classes: Path, tmp_path: Path) -> None:
    path = tmp_path / "preprocess.json"
    path.write_text(json.dumps(FORMS[form]))
    folder = pack(NETWORK, weights=bare, out=tmp_path / "model", classes=classes, preprocess=path)
    assert convatlas.load(folder).preprocessing == Preprocessing.from_json(OURS)


def test_a_preprocess_file_outranks_the_card(backbone: Path, classes: Path, tmp_path: Path) -> None:
    path = tmp_path / "preprocess.json"
    path.write_text(json.dumps(FORMS["our card"]))
    folder = pack(None, weights=backbone, out=tmp_path / "model", classes=classes, preprocess=path)
    assert convatlas.load(folder).preprocessing.size == 48


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "cannot be read as JSON"),
        ("[1]", "a JSON object is expected, not a list"),
        ("{}", "says nothing of preprocessing. It needs input_size, mean and std"),
        ('{"mean": [0.5], "std": [0.5]}', "not a usable card"),
        ('{"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5], "input_size": [3, 32, 48]}', "not square"),
        ('{"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0], "input_size": [3, 32, 32]}', "must be positive"),
        ('{"mean": [0.5], "std": [0.5], "input_size": [3, 32, 32]}', "needs one value for each of 3 channels"),
        ('{"preprocessing": {"size": "big"}}', "size='big'"),
        ('{"preprocessing": {"sise": 32}}', "sise"),
    ],
)
def test_a_wrong_preprocess_file_is_refused(
    backbone: Path, classes: Path, tmp_path: Path, text: str, words: str
) -> None:
    path = tmp_path / "preprocess.json"
    path.write_text(text)
    with pytest.raises(ConvAtlasError) as caught:
        pack(None, weights=backbone, out=tmp_path / "model", classes=classes, preprocess=path)
    assert words in str(caught.value)
    assert not (tmp_path / "model").exists()


def test_a_wrong_preprocess_file_is_named(backbone: Path, classes: Path, tmp_path: Path) -> None:
    path = tmp_path / "preprocess.json"
    path.write_text('{"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0], "input_size": [3, 32, 32]}')
    with pytest.raises(ConvAtlasError, match="preprocess.json"):
        pack(None, weights=backbone, out=tmp_path / "model", classes=classes, preprocess=path)


def test_grey_weights_need_a_grey_preparation(classes: Path, tmp_path: Path) -> None:
    grey = {"preprocessing": {"size": 32, "resize": 32, "channels": 1, "mean": [0.5], "std": [0.5]}}
    weights = write_weights(tmp_path / "w.safetensors", name="lenet5_modern", card=grey)
    folder = pack(None, weights=weights, out=tmp_path / "model", classes=classes)
    assert convatlas.load(folder).predict(photo("red", 1))[0].label in NAMES
    path = tmp_path / "colour.json"
    path.write_text(json.dumps({"preprocessing": {"size": 32, "resize": 32}}))
    with pytest.raises(ConvAtlasError, match="does not fit the network: other shapes"):
        pack(None, weights=weights, out=tmp_path / "other", classes=classes, preprocess=path)


def test_a_network_must_be_named_by_somebody(bare: Path, classes: Path, tmp_path: Path) -> None:
    with pytest.raises(ConvAtlasError, match="nothing beside it says which network"):
        pack(None, weights=bare, out=tmp_path / "model", classes=classes)


@pytest.mark.parametrize(
    ("name", "words"), [("resnet32_cifar", "its card says resnet20_cifar"), ("resnet2O_cifar", "did you mean")]
)
def test_another_network_than_the_card_s_is_refused(
    backbone: Path, classes: Path, tmp_path: Path, name: str, words: str
) -> None:
    with pytest.raises(ConvAtlasError, match=words):
        pack(name, weights=backbone, out=tmp_path / "model", classes=classes)


def test_a_foreign_folder_is_left_alone(backbone: Path, classes: Path, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model/thesis.doc").write_text("years of work")
    with pytest.raises(ConvAtlasError, match="thesis.doc"):
        pack(None, weights=backbone, out=tmp_path / "model", classes=classes)
    assert [path.name for path in (tmp_path / "model").iterdir()] == ["thesis.doc"]


def test_names_that_are_not_text_stop_nothing(backbone: Path, tmp_path: Path) -> None:
    path = tmp_path / "names.json"
    path.write_text(json.dumps([f"x\ud800{i}\n" for i in range(10)]))
    classes = convatlas.load(pack(None, weights=backbone, out=tmp_path / "model", classes=path)).classes
    assert len(set(classes)) == 10
