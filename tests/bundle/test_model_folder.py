"""A model folder predicts the same everywhere, says so when it cannot, and never a guess in place of an answer."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import convatlas
from convatlas.bundle.examples import example_images
from convatlas.bundle.load import Classifier, load, paths_in
from convatlas.bundle.save import Contents, config_sha256, save, write_config
from convatlas.data import Preprocessing, decode
from convatlas.errors import ConvAtlasError
from convatlas.jobs.fit import FitResult
from convatlas.metrics import softmax
from convatlas.weights.load import load_network
from convatlas.weights.source import find_weights
from convatlas.zoo.inference import normalised
from tiny import CLASSES, photo, write_model, write_weights

FILES = (  # without which it is no model
    "model.safetensors",
    "confidence.safetensors",
    *(f"examples/{name}" for name in example_images()),
)
REMEMBERED = "training.safetensors"  # may be deleted, not changed


@pytest.fixture
def folder(fitted: FitResult, tmp_path: Path) -> Path:
    """A model folder to be tampered with."""
    return Path(shutil.copytree(fitted.bundle, tmp_path / "copied"))


@pytest.fixture(scope="module")
def classifier(fitted: FitResult) -> Classifier:
    return load(fitted.bundle)


def rewrite(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Changes config.json and puts its checksum right, as somebody would who means to."""
    described = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    change(described)
    described["convatlas"]["config_sha256"] = config_sha256(described)
    (folder / "config.json").write_text(json.dumps(described), encoding="utf-8")


WHOLE = [
    ("resnet20_cifar", {"size": 32, "resize": 32}, {}),
    ("lenet5", {"size": 32, "resize": 32, "channels": 1, "mean": [0.5], "std": [0.5]}, {}),
    ("mobilenet_v1_025", {"size": 64, "resize": 72, "fit": "pad", "background": [9, 8, 7]}, {"padding": "tensorflow", "norm_eps": 1e-3}),
    ("resnet18", {"size": 64, "resize": 64, "interpolation": "nearest"}, {}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "preprocessing", "config"), WHOLE)
def test_a_whole_network_comes_back_with_its_logits(
    name: str, preprocessing: dict[str, Any], config: dict[str, Any], tmp_path: Path
) -> None:
    weights = write_weights(
        tmp_path / "w.safetensors", name=name, card={"preprocessing": preprocessing}, num_classes=4, **config
    )
    source = find_weights(weights)
    model, _ = load_network(source, in_channels=source.preprocessing.channels)
    (tmp_path / "model").mkdir()
    about = {"who": "me"}
    contents = Contents(
        name=name, config=config, classes=tuple("abcd"), preprocessing=source.preprocessing, about=about
    )
    save(tmp_path / "model", model, contents)
    loaded = load(tmp_path / "model")
    assert (loaded.classes, loaded.preprocessing, loaded.about) == (tuple("abcd"), source.preprocessing, about)
    side, channels = source.preprocessing.size, source.preprocessing.channels
    pixels = np.random.default_rng(0).integers(0, 256, (9, side, side, channels), dtype=np.uint8)
    with torch.inference_mode():
        images = normalised(torch.from_numpy(pixels), source.preprocessing.mean, source.preprocessing.std).contiguous()
        expected = softmax(model(images).double().numpy())
    assert np.abs(loaded.probabilities(pixels) - expected).max() < 1e-5


def test_a_folder_may_be_moved_renamed_and_read_only(folder: Path, classifier: Classifier) -> None:
    moved = folder.rename(folder.with_name("été 蜂"))
    for path in moved.rglob("*"):
        path.chmod(0o555 if path.is_dir() else 0o444)
    image = photo("red", 5)
    assert load(str(moved)).predict(image) == classifier.predict(image)


def test_the_files_are_config_tensors_and_examples(fitted: FitResult) -> None:
    described = json.loads((fitted.bundle / "config.json").read_text(encoding="utf-8"))
    assert set(described["convatlas"]["sha256"]) == {*FILES, REMEMBERED}
    assert described["label_names"] == list(CLASSES)
    assert described["num_classes"] == 3
    assert described["convatlas"]["about"]["accuracy"] == fitted.accuracy
    assert {path.suffix for path in fitted.bundle.rglob("*") if path.is_file()} <= {
        ".json",
        ".safetensors",
        ".jpg",
        ".png",
        "",
    }


def test_the_examples_are_made_up_and_always_the_same() -> None:
    assert example_images() == example_images()
    facts = {name: decode(data)[1] for name, data in example_images().items()}
    assert [fact.format for fact in facts.values()] == ["JPEG", "JPEG", "PNG", "PNG"]
    assert (facts["turned.jpg"].orientation, facts["transparent.png"].alpha, facts["sixteen-bit.png"].bits) == (
        6,
        True,
        16,
    )


@pytest.mark.parametrize("name", [*FILES, REMEMBERED])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 1.0])
def test_a_changed_byte_anywhere_is_refused_and_named(folder: Path, name: str, share: float) -> None:
    data = bytearray((folder / name).read_bytes())
    data[round(share * (len(data) - 1))] ^= 1
    (folder / name).write_bytes(data)
    with pytest.raises(ConvAtlasError, match=re.escape(f"{folder / name}: was changed after it was written.")):
        load(folder)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("how", ["removed", "cut", "longer", "empty"])
def test_a_missing_or_cut_file_is_refused_and_named(folder: Path, name: str, how: str) -> None:
    data = (folder / name).read_bytes()
    if how == "removed":
        (folder / name).unlink()
    else:
        (folder / name).write_bytes({"cut": data[:-1], "longer": data + b"\0", "empty": b""}[how])
    with pytest.raises(ConvAtlasError, match=re.escape(f"{folder / name}: ")) as caught:
        load(folder)
    assert caught.value.remedy == "Copy the model folder again."


def test_a_changed_byte_of_the_config_is_refused_or_changes_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every 23rd byte, each with another bit flipped; only one that JSON does not read (white space) may pass."""
    monkeypatch.setattr("convatlas.bundle.load._check_logits", lambda *_: None)
    monkeypatch.setattr("convatlas.bundle.load.read_tensors", lambda *_: pytest.fail("the change went unnoticed"))
    path = folder / "config.json"
    whole = path.read_bytes()
    refused = 0
    for place in range(0, len(whole), 23):
        changed = bytearray(whole)
        changed[place] ^= 1 << place % 8
        path.write_bytes(changed)
        try:
            if json.loads(changed.decode("utf-8")) == json.loads(whole):
                continue
        except ValueError:
            pass
        with pytest.raises(ConvAtlasError) as caught:
            load(folder)
        assert str(path) in str(caught.value)
        refused += 1
    assert refused > 100


VALUES: list[Callable[[dict[str, Any]], object]] = [
    lambda d: d["label_names"].reverse(),
    lambda d: d["convatlas"]["preprocessing"].update(interpolation="bicubic"),
    lambda d: d["convatlas"]["preprocessing"]["mean"].reverse(),
    lambda d: d["convatlas"]["examples"].clear(),
    lambda d: d["convatlas"]["examples"][0]["logits"].reverse(),
    lambda d: d["convatlas"]["about"].update(accuracy=1.0, note="x"),
    lambda d: d["convatlas"]["sha256"].pop("model.safetensors"),
    lambda d: d["convatlas"].update(config={"x": 1}),
    lambda d: d["convatlas"].pop("config_sha256"),
    lambda d: d.update(num_classes=4),
]


@pytest.mark.parametrize("change", range(len(VALUES)))
def test_a_changed_value_of_the_config_is_refused(folder: Path, change: int) -> None:
    described = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    VALUES[change](described)
    (folder / "config.json").write_text(json.dumps(described), encoding="utf-8")
    with pytest.raises(ConvAtlasError, match=re.escape(f"{folder / 'config.json'}: was changed after it was written.")):
        load(folder)


def test_another_layout_of_the_config_s_json_is_the_same_config(folder: Path) -> None:
    described = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps(dict(reversed(described.items())), indent=7), encoding="utf-8")
    load(folder)


@pytest.mark.parametrize("amount", [1e-3, float("nan")])
def test_weights_that_give_other_logits_are_refused_as_drift(folder: Path, amount: float) -> None:
    tensors = load_file(folder / "model.safetensors")
    key = next(key for key in tensors if key.endswith("fc.bias"))
    tensors[key] = tensors[key] + amount * 100
    save_file(tensors, folder / "model.safetensors")
    digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    rewrite(folder, lambda d: d["convatlas"]["sha256"].update({"model.safetensors": digest}))
    with pytest.raises(
        ConvAtlasError, match="gives other logits than when the model was saved .*torch .*install those"
    ):
        load(folder)


@pytest.mark.parametrize("example", range(4))
def test_each_example_is_compared(folder: Path, example: int) -> None:
    def change(described: dict[str, Any]) -> None:
        logits = described["convatlas"]["examples"][example]["logits"]
        logits[0] += 1e-3 * max(map(abs, logits))

    rewrite(folder, change)
    name = list(example_images())[example]
    with pytest.raises(ConvAtlasError, match=f"examples/{name} gives other logits"):
        load(folder)


def test_rounding_of_another_processor_is_not_drift(folder: Path) -> None:
    def change(described: dict[str, Any]) -> None:
        for example in described["convatlas"]["examples"]:
            largest = max(map(abs, example["logits"]))
            example["logits"] = [logit + 5e-5 * largest for logit in example["logits"]]

    rewrite(folder, change)
    load(folder)


@pytest.mark.parametrize("what", ["decoder", "resize"])
def test_a_decoder_or_a_resize_that_differs_is_drift(folder: Path, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if what == "decoder":

        def unturned(data: bytes, **options: Any) -> Any:
            image, facts = decode(data, **options)
            return (image.rotate(90, expand=True) if facts.orientation == 6 else image), facts

        monkeypatch.setattr("convatlas.bundle.load.decode", unturned)
    else:
        crop = Preprocessing._crop
        monkeypatch.setattr(Preprocessing, "_crop", lambda self, image: crop(self, image.reduce(2)))
    with pytest.raises(ConvAtlasError, match="gives other logits"):
        load(folder)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d["convatlas"].update(schema="convatlas.bundle/9"), "has the format convatlas.bundle/9"),
        (lambda d: d["convatlas"].update(network="resnet9000"), "does not know .*resnet9000"),
        (lambda d: d["convatlas"].update(config={"ghosts": True}), "does not know .*ghosts"),
    ],
)
def test_a_model_of_a_later_version_is_refused(
    folder: Path, change: Callable[[dict[str, Any]], object], words: str
) -> None:
    rewrite(folder, change)
    with pytest.raises(ConvAtlasError, match=f"config.json: .*{words}.* Update ConvAtlas."):
        load(folder)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"convatlas": 1}', '{"architecture": "resnet50"}', "\xff"])
def test_what_is_not_our_config_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text, encoding="latin-1")
    with pytest.raises(ConvAtlasError, match=re.escape(str(tmp_path / "config.json"))):
        load(tmp_path)


@pytest.mark.parametrize("path", ["absent", "."])
def test_what_is_no_model_folder_is_refused(tmp_path: Path, path: str) -> None:
    with pytest.raises(ConvAtlasError, match="not a model folder, it has no config.json"):
        load(tmp_path / path)


def test_nothing_in_the_folder_is_run(folder: Path) -> None:
    """A pickle in place of the tensors is refused even with the checksum put right."""
    marker = folder / "ran"

    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(marker),)

    buffer = io.BytesIO()
    torch.save({"head.fc.weight": Evil()}, buffer)
    (folder / "model.safetensors").write_bytes(buffer.getvalue())
    digest = hashlib.sha256(buffer.getvalue()).hexdigest()
    rewrite(folder, lambda d: d["convatlas"]["sha256"].update({"model.safetensors": digest}))
    with pytest.raises(ConvAtlasError, match="not a whole safetensors file"):
        load(folder)
    assert not marker.exists()


def encoded(image: Image.Image, format_: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format_, **options)
    return buffer.getvalue()


def kinds_of_files() -> dict[str, bytes]:
    base, grey = photo("green", 3), np.asarray(photo("green", 3).convert("L"))
    orientation = Image.Exif()
    orientation[0x0112] = 8
    return {
        **example_images(),
        "plain.png": encoded(base, "PNG"),
        "photo.jpg": encoded(base, "JPEG"),
        "turned.webp": encoded(base, "WEBP", exif=orientation, lossless=True),
        "grey.png": encoded(base.convert("L"), "PNG"),
        "grey-alpha.png": encoded(base.convert("LA"), "PNG"),
        "palette.gif": encoded(base.convert("P"), "GIF"),
        "palette-alpha.png": encoded(base.convert("P"), "PNG", transparency=3),
        "colour-key.png": encoded(base, "PNG", transparency=(20, 30, 40)),
        "bits.bmp": encoded(base.convert("1"), "BMP"),
        "print.jpg": encoded(base.convert("CMYK"), "JPEG"),
        "deep.tif": encoded(Image.fromarray(grey.astype(np.uint16) * 257), "TIFF"),
        "float.tif": encoded(Image.fromarray(grey.astype(np.float32) / 255), "TIFF"),
    }


@pytest.mark.parametrize("name", kinds_of_files())
def test_path_pil_image_and_array_give_one_answer(classifier: Classifier, tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(kinds_of_files()[name])
    image, _ = decode(path.read_bytes(), background=classifier.preprocessing.background)
    with Image.open(path) as opened:
        ((by_path,), (by_text,), (by_pil,)) = map(classifier.predict, (path, str(path), opened))
    by_array = classifier.predict(np.asarray(image.convert("RGB")))[0]
    assert by_path.top == by_text.top == by_pil.top == by_array.top
    assert (by_path.path, by_text.path, by_pil.path, by_array.path) == (str(path), str(path), None, None)


def test_grey_arrays_are_grey_images(classifier: Classifier) -> None:
    grey = np.asarray(photo("red", 8).convert("L"))
    three = np.dstack([grey] * 3)
    assert classifier.predict(grey) == classifier.predict(grey[..., None]) == classifier.predict(three)
    assert classifier.predict(three[::-1, ::-1]) == classifier.predict(three[::-1, ::-1].copy())


def test_a_row_is_a_calibrated_ranking(classifier: Classifier) -> None:
    (row,) = classifier.predict(photo("blue", 40))
    labels, probabilities = zip(*row.top, strict=True)
    assert set(labels) == set(CLASSES)
    assert sum(probabilities) == pytest.approx(1)
    assert list(probabilities) == sorted(probabilities, reverse=True)
    assert (row.label, row.probability, row.error) == (labels[0], probabilities[0], None)
    assert row.label == "blue"
    assert len(classifier.predict(photo("blue", 40), top=1)[0].top) == 1
    assert set(row.to_json()) == {"path", "label", "probability", "top"}
    assert row.to_json()["top"][0] == {"label": "blue", "probability": row.probability}


def test_rows_come_in_order_whatever_the_batch(classifier: Classifier) -> None:
    images = [photo(label, number) for number in range(15) for label in ("red", "blue", "green")]
    together = classifier.predict(images)
    assert [row.label for row in together] == ["red", "blue", "green"] * 15
    alone = [classifier.predict(image)[0] for image in images]
    for one, other in zip(together, alone, strict=True):
        assert one.probability == pytest.approx(other.probability, abs=1e-6)


def test_one_image_or_several(classifier: Classifier, photos: Path) -> None:
    path = photos / "test/red/100.png"
    array = np.asarray(photo("red", 1))
    for single in (path, str(path), array, photo("red", 1)):
        assert len(classifier.predict(single)) == 1
    for several in ([path, path], (path, path), iter([path, path]), np.stack([array, array]), [array, path]):
        assert len(classifier.predict(several)) == 2
    assert classifier.predict([]) == []


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((8, 8, 3), np.float32), np.zeros((8, 8, 3), np.float64), np.zeros((8, 8), np.uint16), np.zeros((8, 8, 3), np.int64),
        np.zeros((8, 8), bool), np.zeros((8, 8, 4), np.uint8), np.zeros((3, 8, 8), np.uint8), np.zeros(8, np.uint8),
        np.zeros((0, 8, 3), np.uint8), [torch.zeros(3, 8, 8)], [None], [3], [b"bytes"],
    ],
    ids=lambda image: str(getattr(image, "dtype", image))[:20],
)  # fmt: skip
def test_what_may_mean_several_things_is_refused(classifier: Classifier, image: Any) -> None:
    with pytest.raises(ConvAtlasError, match="is not an image"):
        classifier.predict(image)


def test_files_that_cannot_be_read_do_not_stop_the_others(classifier: Classifier, photos: Path, tmp_path: Path) -> None:
    good = photos / "test/red/100.png"
    (tmp_path / "cut.png").write_bytes(good.read_bytes()[:300])
    (tmp_path / "page.jpg").write_bytes(b"<html></html>")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    names = ("cut.png", "page.jpg", "folder", "pipe", "absent.png", "nul\0.png")
    rows = classifier.predict([good, *(tmp_path / name for name in names), good])
    assert [row.label for row in rows] == ["red", *[None] * 6, "red"]
    for name, row in zip(names, rows[1:-1], strict=True):
        assert row.path == str(tmp_path / name)
        assert row.probability is None and row.top == ()
        assert row.error and name.split("\0")[0] in row.error
        assert re.search(r"\. [A-Z]|\.$", row.error) and ".." not in row.error, "the message, then the remedy"
        assert row.to_json()["error"] == row.error


@pytest.mark.parametrize("mode", ["F", "I", "HSV"])
def test_pil_images_without_a_settled_meaning_are_not_guessed_at(classifier: Classifier, mode: str) -> None:
    (row, other) = classifier.predict([photo("red", 1).convert(mode), photo("red", 1)])
    assert row.label is None and row.error
    assert other.label == "red"


def test_a_cut_pil_image_is_an_error_of_its_own(classifier: Classifier) -> None:
    cut = Image.open(io.BytesIO(encoded(photo("red", 1), "JPEG", quality=95)[:-400]))
    (row, other) = classifier.predict([cut, photo("red", 1)])
    assert row.error and "cannot be read" in row.error
    assert other.label == "red"


@pytest.mark.parametrize("index", range(3))
def test_images_on_the_background_of_the_model(tmp_path: Path, index: int) -> None:
    """Each channel of the stated background is what lies under a transparent image."""
    background = tuple(200 if i == index else 0 for i in range(3))
    weights = write_weights(
        tmp_path / "w.safetensors", card={"preprocessing": {"size": 32, "resize": 32, "background": background}}
    )
    folder = convatlas.pack(None, weights=weights, out=tmp_path / "m", classes=_ten(tmp_path))
    clear = Image.new("RGBA", (40, 40), (9, 99, 199, 0))
    solid = Image.new("RGB", (40, 40), background)
    clear.save(tmp_path / "clear.png")
    classifier = load(folder)
    assert classifier.predict(clear) == classifier.predict(solid)
    assert classifier.predict(tmp_path / "clear.png")[0].top == classifier.predict(solid)[0].top


def _ten(place: Path) -> Path:
    path = place / "classes.txt"
    path.write_text("\n".join("abcdefghij"))
    return path


def test_an_unknown_device_is_an_error_of_ours(fitted: FitResult) -> None:
    with pytest.raises(ConvAtlasError, match="unknown device 'tpu'"):
        load(fitted.bundle, device="tpu")
    assert load(fitted.bundle, device="auto").device.type in ("cpu", "cuda", "mps")


def test_paths_in_folders_come_sorted_without_hidden_ones(tmp_path: Path) -> None:
    for name in ("b/2.png", "b/10.png", "a.png", ".hidden/x.png", "b/.DS_Store"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "b/to-nowhere.png").symlink_to(tmp_path / "gone.png")  # somebody's image, to be told of
    absent = tmp_path / "absent.png"
    found = paths_in([tmp_path, absent, tmp_path / "a.png"])
    assert [path.relative_to(tmp_path).as_posix() for path in found] == [
        "a.png",
        "b/10.png",
        "b/2.png",
        "b/to-nowhere.png",
        "absent.png",
        "a.png",
    ]
    hidden = tmp_path / ".hidden"
    assert paths_in([hidden]) == [hidden / "x.png"]


@pytest.mark.parametrize("name", ["../evil", "a/../../evil", "/etc/evil", "C:/evil", "..\\evil", "./evil", ""])
@pytest.mark.parametrize("listed", ["sha256", "examples"])
def test_a_folder_that_names_files_elsewhere_is_refused(tmp_path: Path, name: str, listed: str) -> None:
    """Whoever made it could have computed the checksums, and making an ensemble copies what is listed."""
    folder = write_model(tmp_path / "there/model")
    described = json.loads((folder / "config.json").read_text())
    (tmp_path / "there/evil").write_text("code")
    if listed == "sha256":
        described["convatlas"]["sha256"][name] = hashlib.sha256(b"code").hexdigest()
    else:
        described["convatlas"]["examples"][0]["file"] = name
    write_config(folder, described)
    with pytest.raises(ConvAtlasError, match="which is not one of the folder's own"):
        convatlas.load(folder)
    with pytest.raises(ConvAtlasError, match="which is not one of the folder's own"):
        convatlas.ensemble([folder, write_model(tmp_path / "other", seed=2)], tmp_path / "out/both")
    assert not (tmp_path / "out").exists()
