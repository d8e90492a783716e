"""Probabilities are means over views, whatever the batch; sliding is what a network says of each window; what cannot be is said at once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from convatlas.bundle.classifier import Classifier
from convatlas.bundle.load import load
from convatlas.data import Views
from convatlas.errors import ConvAtlasError
from convatlas.jobs.fit import fit
from convatlas.metrics import softmax
from convatlas.zoo.heads.probe import ProbeConfig
from convatlas.zoo.inference import normalised
from tiny import photo, write_model

GREY = {"channels": 1, "mean": [0.5], "std": [0.5]}
SLIDING = {
    "resnet20_cifar": {"resize": 36},
    "lenet5_modern": GREY,
    "mobilenet_v1_025": {"size": 64, "resize": 72},
}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Classifier]:
    root = tmp_path_factory.mktemp("models")
    return {name: load(write_model(root / name, name=name, **p)) for name, p in SLIDING.items()}


def noise(seed: int, width: int, height: int) -> Image.Image:
    """Patches of colour, of any shape."""
    small = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


def probabilities(classifier: Classifier, image: Image.Image, views: str) -> np.ndarray:
    found = classifier.predict(image, views=views, top=len(classifier.classes))[0].top
    return np.array([dict(found)[name] for name in classifier.classes])


@pytest.mark.parametrize("network", SLIDING)
@pytest.mark.parametrize("views", ["centre", "flip", "ten", "144"])
def test_probabilities_are_the_mean_over_views(models: dict[str, Classifier], network: str, views: str) -> None:
    classifier = models[network]
    image = noise(11, 61, 45)
    seen = Views(views).of(image, classifier.preprocessing)
    expected = classifier.probabilities(np.stack(seen)).mean(axis=0)
    assert np.abs(probabilities(classifier, image, views) - expected).max() < 3e-5
    assert expected.sum() == pytest.approx(1)


def test_views_see_different_things(models: dict[str, Classifier]) -> None:
    classifier = models["resnet20_cifar"]
    found = {views: probabilities(classifier, photo("red", 3), views) for views in ("centre", "flip", "ten", "144")}
    found["dense"] = probabilities(classifier, photo("red", 3), "dense:48")
    values = list(found.values())
    assert all(np.abs(a - b).max() > 1e-4 for i, a in enumerate(values) for b in values[:i])


@pytest.mark.parametrize("network", SLIDING)
@pytest.mark.parametrize("views", ["flip", "ten", "144"])
def test_of_an_even_image_every_view_says_the_same(models: dict[str, Classifier], network: str, views: str) -> None:
    image = Image.new("RGB", (70, 44), (120, 60, 30))
    alone = probabilities(models[network], image, "centre")
    assert np.abs(probabilities(models[network], image, views) - alone).max() < 3e-5


@pytest.mark.parametrize("network", SLIDING)
def test_at_the_network_s_own_size_sliding_is_running(models: dict[str, Classifier], network: str) -> None:
    classifier = models[network]
    size = classifier.preprocessing.size
    member = classifier.members[0]
    image = noise(4, size, size)
    seen = Views(f"dense:{size}").of(image, classifier.preprocessing)
    plain = member.probabilities([[view] for view in seen])
    slid = member.probabilities([[view] for view in seen], dense=True)
    assert np.abs(plain - slid).max() < 1e-5
    assert np.abs(probabilities(classifier, image, f"dense:{size}") - plain.mean(axis=0)).max() < 1e-5


def test_sliding_is_the_mean_of_what_the_network_says_of_each_window(models: dict[str, Classifier]) -> None:
    """LeNet has no padding, so its windows, four pixels apart, are exact."""
    classifier = models["lenet5_modern"]
    p = classifier.preprocessing
    image = noise(9, 44, 40)
    expected = []
    for view in Views("dense:40").of(image, p):
        windows = [view[y : y + 32, x : x + 32] for y in range(0, 9, 4) for x in range(0, 13, 4)]
        assert view.shape == (40, 44, 1) and len(windows) == 12
        with torch.inference_mode():
            scores = classifier.members[0].model(normalised(torch.from_numpy(np.stack(windows)), p.mean, p.std))
        expected.append(softmax(scores.double().mean(0, keepdim=True).numpy())[0])
    assert np.abs(probabilities(classifier, image, "dense:40") - np.mean(expected, axis=0)).max() < 1e-5


def test_a_probe_of_maps_slides_too(photos: Path, backbone: Path, tmp_path: Path) -> None:
    classifier = load(fit(photos, weights=backbone, out=tmp_path / "model", plan="probe:all").bundle)
    image = photo("green", 50).resize((32, 32))
    native, flipped = (probabilities(classifier, image, views) for views in ("dense:32", "flip"))
    assert np.abs(native - flipped).max() < 1e-5
    assert classifier.predict(photo("green", 51), views="dense:48")[0].label == "green"


@pytest.mark.parametrize("views", ["flip", "ten", "dense", "dense:32,48"])
def test_shape_order_and_company_of_an_image_do_not_matter(models: dict[str, Classifier], views: str) -> None:
    classifier = models["resnet20_cifar"]
    images = [noise(i, width, height) for i, (width, height) in enumerate([(40, 36), (36, 40), (90, 33), (40, 36)])]
    together = classifier.predict(images, views=views)
    for image, row in zip(images, together, strict=True):
        alone = classifier.predict(image, views=views)[0]
        assert [label for label, _ in alone.top] == [label for label, _ in row.top]
        assert row.probability == pytest.approx(alone.probability, abs=3e-5)


def test_files_that_cannot_be_read_keep_their_place(models: dict[str, Classifier], tmp_path: Path) -> None:
    photo("red", 1).save(tmp_path / "good.png")
    (tmp_path / "bad.png").write_bytes(b"\x89PNG not much")
    rows = models["resnet20_cifar"].predict(
        [tmp_path / name for name in ("bad.png", "good.png", "bad.png")], views="ten"
    )
    assert [row.label is None for row in rows] == [True, False, True]
    assert [row.error is None for row in rows] == [False, True, False]


def test_a_network_that_cannot_slide_is_one_clear_error(tmp_path: Path) -> None:
    """The paper's LeNet ends in distances to prototypes."""
    classifier = load(write_model(tmp_path / "lenet", name="lenet5", **GREY))
    assert classifier.predict(photo("red", 1), views="ten")[0].label
    with pytest.raises(ConvAtlasError, match=r"lenet: this model cannot be slid .*head\.fc has no form") as caught:
        classifier.predict(tmp_path / "absent.png", views="dense")
    assert caught.value.remedy == "Use the views ten or 144 instead of dense."


def test_a_probe_of_a_hidden_layer_cannot_slide(tmp_path: Path) -> None:
    probe = ProbeConfig(means=("head.f6",), features=84)
    classifier = load(write_model(tmp_path / "hidden", name="lenet5_modern", probe=probe, **GREY))
    with pytest.raises(ConvAtlasError, match=r"hidden: this model cannot be slid .*head\.f6 of lenet5_modern"):
        classifier.predict(photo("red", 1), views="dense")


@pytest.mark.parametrize(
    ("views", "said"), [("twelve", "there are no views 'twelve'"), ("dense:24", "24 pixels is less than the 32")]
)
def test_views_that_cannot_be_are_refused_before_an_image_is_read(
    models: dict[str, Classifier], tmp_path: Path, views: str, said: str
) -> None:
    with pytest.raises(ConvAtlasError, match=said):
        models["resnet20_cifar"].predict(tmp_path / "absent.png", views=views)
