"""A class-activation map's mean and the bias are the logit; Grad-CAM is called so; the nearest training images are the nearest."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from convatlas import catalogue
from convatlas.bundle.activation_maps import activation_maps
from convatlas.bundle.classifier import Classifier
from convatlas.bundle.load import load
from convatlas.bundle.look import look
from convatlas.bundle.neighbours import TRAINING, TrainingImages, fitted_on
from convatlas.bundle.save import Contents, build, save
from convatlas.data import Preprocessing
from convatlas.errors import ConvAtlasError
from convatlas.jobs.fit import FitResult
from convatlas.zoo.heads.probe import ProbeConfig
from convatlas.zoo.inference import normalised
from tiny import CLASSES, NETWORK, photo, write_model

WIDTHS = {"stage1": 16, "stage2": 32, "stage3": 64}
PROBES = {
    "first stage": ProbeConfig(means=("stage1",), features=16),
    "last stage": ProbeConfig(means=("stage3",), features=64),
    "all stages": ProbeConfig(means=("stage2", "stage3"), deviations=("stage1", "stage2"), features=32 + 64 + 16 + 32),
    "deviations alone": ProbeConfig(means=(), deviations=("stage1",), features=16),
}
GREY = {"channels": 1, "mean": [0.5], "std": [0.5]}
WHOLE = {  # networks whose classifier reads means of maps, each in its own way
    "resnet20_cifar": {},
    "densenet_40_12_cifar": {},
    "mobilenet_v1_025": {"size": 64, "resize": 64},
    "mobilenet_v2": {"size": 64, "resize": 64},
    "googlenet_bn": {"size": 64, "resize": 64},
}
CONNECTED = {"lenet5_modern": GREY, "mobilenet_v3_small": {"size": 64, "resize": 64}}  # and those whose does not


def pixels(classifier: Classifier, count: int = 3) -> np.ndarray:
    return np.stack([classifier.preprocessing.pixels(photo(CLASSES[i % 3], i)) for i in range(count)])


def logits(classifier: Classifier, shown: np.ndarray) -> np.ndarray:
    p = classifier.preprocessing
    with torch.inference_mode():
        return classifier.members[0].model(normalised(torch.from_numpy(shown), p.mean, p.std)).double().numpy()


def check_exact(classifier: Classifier, usual: np.ndarray | None = None) -> None:
    shown = pixels(classifier)
    expected = logits(classifier, shown)
    found = activation_maps(look(classifier.members[0], shown), [CLASSES] * len(shown), usual)
    for row, own in zip(found, expected, strict=True):
        for map_, logit in zip(row, own, strict=True):
            assert map_.method == "class-activation map" and map_.share == 1.0
            assert map_.map.size > 1 and np.ptp(map_.map) > 0
            assert map_.map.mean() + map_.bias == pytest.approx(logit, abs=1e-4 * np.abs(expected).max())
            assert map_.logit == pytest.approx(logit, abs=1e-4 * np.abs(expected).max())
            assert map_.on_grid(3).mean() == pytest.approx(map_.map.mean(), abs=1e-9)


@pytest.mark.parametrize("probe", PROBES)
def test_a_probe_s_maps_add_up_to_its_logits(tmp_path: Path, probe: str) -> None:
    classifier = load(write_model(tmp_path / "model", probe=PROBES[probe]))
    usual = np.random.default_rng(0).normal(size=PROBES[probe].features).astype(np.float32)
    for against in (None, usual):
        check_exact(classifier, against)
        (found,) = activation_maps(look(classifier.members[0], pixels(classifier, 1)), [CLASSES], against)
        for map_ in found:
            assert sum(part.logit for part in map_.parts) + map_.bias == pytest.approx(map_.logit, abs=1e-9)
            assert [part.cut for part in map_.parts] == [*PROBES[probe].means, *PROBES[probe].deviations]


@pytest.mark.parametrize("network", WHOLE)
def test_networks_with_global_pooling_have_exact_maps(tmp_path: Path, network: str) -> None:
    check_exact(load(write_model(tmp_path / "model", name=network, **WHOLE[network])))


def test_a_network_without_a_linear_layer_has_its_bias_in_the_map(tmp_path: Path) -> None:
    """NiN averages the maps of its classes, each behind a rectifier."""
    model = build("nin_cifar", {}, None, num_classes=3, channels=3)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1, generator=torch.Generator().manual_seed(parameter.numel()))
    own = Preprocessing(size=32, resize=32)
    save(tmp_path, model, Contents(name="nin_cifar", config={}, classes=CLASSES, preprocessing=own))
    classifier = load(tmp_path)
    shown = pixels(classifier)
    expected = logits(classifier, shown)
    assert expected.any()
    for row, own_logits in zip(
        activation_maps(look(classifier.members[0], shown), [CLASSES] * 3), expected, strict=True
    ):
        for map_, logit in zip(row, own_logits, strict=True):
            assert (map_.method, map_.bias) == ("class-activation map", 0)
            assert map_.map.mean() == pytest.approx(logit, abs=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("network", CONNECTED)
def test_other_networks_get_grad_cam_by_name(tmp_path: Path, network: str) -> None:
    classifier = load(write_model(tmp_path / "model", name=network, **CONNECTED[network]))
    shown = pixels(classifier, 1)
    (found,) = activation_maps(look(classifier.members[0], shown), [CLASSES])
    assert {map_.method for map_ in found} == {"Grad-CAM"}
    assert all((map_.map >= 0).all() and map_.share is None for map_ in found)
    assert [map_.logit for map_ in found] == pytest.approx(logits(classifier, shown)[0], abs=1e-4)
    assert any(map_.map.max() > 0 for map_ in found)
    assert all(parameter.grad is None for parameter in classifier.members[0].model.parameters())


def test_a_probe_on_hidden_units_gets_grad_cam_and_says_how_much_it_covers(tmp_path: Path) -> None:
    units, maps = catalogue.find("lenet5_modern").shapes[-1][0], catalogue.find("lenet5_modern").shapes[0][0]
    probe = ProbeConfig(means=("head.f6",), deviations=("stage1",), features=units + maps)
    classifier = load(write_model(tmp_path / "model", name="lenet5_modern", probe=probe, **GREY))
    shown = pixels(classifier, 1)
    (found,) = activation_maps(look(classifier.members[0], shown), [CLASSES])
    for map_, logit in zip(found, logits(classifier, shown)[0], strict=True):
        hidden, early = (part.logit for part in map_.parts)
        assert map_.method == "Grad-CAM" and (map_.map >= 0).all()
        assert [part.what for part in map_.parts] == ["units", "deviations"]
        assert map_.share == pytest.approx(abs(hidden) / (abs(hidden) + abs(early)))
        assert hidden + early + map_.bias == pytest.approx(logit, abs=1e-4)


def test_a_map_points_at_what_makes_the_score(tmp_path: Path) -> None:
    """Half of the image is made grey; what changed most is there, not in the other half."""
    classifier = load(write_model(tmp_path / "model", probe=PROBES["first stage"]))
    shown = pixels(classifier, 2)
    shown[1] = shown[0]
    shown[1, :, :12] = 128
    first, second = activation_maps(look(classifier.members[0], shown), [CLASSES] * 2)
    change = np.abs(first[0].map - second[0].map)
    width = change.shape[1]
    assert change[:, -width // 4 :].max() < 1e-9 < change[:, : width // 4].max()


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 12), st.integers(2, 9), st.integers(0, 10**6))
def test_neighbours_are_the_nearest_by_cosine(count: int, width: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    features = generator.normal(size=(count + 3, width)).astype(np.float32)
    training = remembered(features[:count])
    expected = centred(features[count:], features[:count]) @ centred(features[:count], features[:count]).T
    for rows, row in zip(training.nearest(Seen(features[count:]), 4), expected, strict=True):  # type: ignore[arg-type] - all it reads
        assert [near.cosine for near in rows] == pytest.approx(np.sort(row)[::-1][:4], abs=4e-3)


class Seen:
    """Stands for a look whose features are known."""

    def __init__(self, features: np.ndarray) -> None:
        self.rows = features

    def features(self, means: tuple[str, ...], deviations: tuple[str, ...]) -> np.ndarray:
        assert (means, deviations) == (("stage3",), ())
        return self.rows


def centred(rows: np.ndarray, training: np.ndarray) -> np.ndarray:
    moved = rows - training.mean(axis=0)
    return moved / np.maximum(np.linalg.norm(moved, axis=1, keepdims=True), 1e-12)


def remembered(features: np.ndarray, most_bytes: int = 10_000_000) -> TrainingImages:
    count = len(features)
    return TrainingImages.seen(
        [features],
        means=("stage3",),
        deviations=(),
        paths=[f"{i:03d}.png" for i in range(count)],
        labels=["red"] * count,
        sha256s=[f"{i:064x}"[::-1] for i in range(count)],
        most_bytes=most_bytes,
    )


def test_too_many_features_are_projected_and_said_to_be(tmp_path: Path) -> None:
    generator = np.random.default_rng(3)
    features = (generator.normal(size=(400, 40)) @ generator.normal(size=(40, 300))).astype(np.float32)
    whole, small = remembered(features), remembered(features, most_bytes=2 * 400 * 40)
    assert whole.vectors.shape == (400, 300) and whole.kept == 1.0 and whole.axes is None
    assert small.vectors.shape == (400, 40) and 0.99 < small.kept <= 1.0
    small.save(tmp_path)
    again = fitted_on(tmp_path)
    assert isinstance(again, TrainingImages)
    assert again.paths == small.paths and np.array_equal(again.vectors, small.vectors)
    seen = Seen(features[:5] + 0.1)
    for one, other in zip(whole.nearest(seen, 3), again.nearest(seen, 3), strict=True):  # type: ignore[arg-type] - all it reads
        assert [near.path for near in one] == [near.path for near in other]


def test_a_fit_s_training_images_are_their_own_nearest(fitted: FitResult, photos: Path) -> None:
    classifier = load(fitted.bundle)
    assert classifier.training is not None and len(classifier.training.paths) == 24
    for path in ("train/red/003.png", "train/blue/000.png"):
        found = classifier.explain(photos / path)
        assert found.nearest is not None
        assert (found.nearest[0].path, found.nearest[0].label) == (path, path.split("/")[1])
        assert found.nearest[0].cosine == pytest.approx(1.0, abs=2e-3)
        assert found.label == classifier.predict(photos / path)[0].label
        assert [map_.label for map_ in found.maps] == [label for label, _ in found.prediction.top]
        assert all(map_.centred for map_ in found.maps)


def test_of_the_mean_training_image_a_centred_map_has_no_mean(fitted: FitResult, photos: Path) -> None:
    """Over the training images the maps' means average to nothing, and the biases are what is usual."""
    classifier = load(fitted.bundle)
    files = sorted((photos / "train").rglob("*.png"))
    means = [[map_.map.mean() for map_ in sorted(classifier.explain(f).maps, key=lambda m: m.label)] for f in files]
    assert np.abs(np.mean(means, axis=0)).max() < 2e-3 * np.abs(means).max()


def test_a_model_without_the_file_still_loads_and_explains(fitted: FitResult, photos: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(fitted.bundle, tmp_path / "model")
    (folder / TRAINING).unlink()
    found = load(folder).explain(photos / "test/red/100.png")
    assert found.nearest is None
    assert found.maps and not any(map_.centred for map_ in found.maps)


def test_what_cannot_be_explained_says_why(tmp_path: Path) -> None:
    classifier = load(write_model(tmp_path / "model", name=NETWORK))
    with pytest.raises(ConvAtlasError, match="is not an image"):
        classifier.explain(3.5)
    with pytest.raises(ConvAtlasError, match=r"nothing\.png"):
        classifier.explain(tmp_path / "nothing.png")
