"""A model that sees several squares of an image: what it says is the mean over them, and its maps are of the whole image."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from convatlas.bundle.activation_maps import activation_maps
from convatlas.bundle.classifier import Classifier
from convatlas.bundle.load import load
from convatlas.bundle.look import look
from convatlas.data import Views
from convatlas.data.preprocessing import crop_boxes
from convatlas.errors import ConvAtlasError
from convatlas.jobs.candidates import candidates
from convatlas.jobs.ensemble import ensemble
from convatlas.jobs.fit import fit
from convatlas.jobs.measure import measure
from convatlas.jobs.sees import sees
from convatlas.jobs.which_network import _costs
from convatlas.metrics import softmax
from convatlas.weights.source import find_weights
from convatlas.zoo.heads.probe import ProbeConfig
from convatlas.zoo.inference import apart, by_image, normalised
from tiny import CLASSES, NETWORK, photo, write_model, write_split

CROPS = 3
SEVERAL = {"fit": "multicrop", "crops": CROPS}
PROBES = {
    "no probe": None,
    "last stage": ProbeConfig(means=("stage3",), features=64),
    "all stages": ProbeConfig(means=("stage2", "stage3"), deviations=("stage1", "stage2"), features=32 + 64 + 16 + 32),
}


@pytest.fixture(scope="module", params=PROBES)
def classifier(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Classifier:
    return load(write_model(tmp_path_factory.mktemp("model") / "model", probe=PROBES[request.param], **SEVERAL))


def long_image(number: int, *, upright: bool = False) -> Image.Image:
    """Different stripes at either end."""
    image = Image.new("RGB", (120, 40))
    for i, label in enumerate(CLASSES):
        image.paste(photo(label, number + i), (40 * i, 0))
    return image.transpose(Image.Transpose.ROTATE_90) if upright else image


def of_squares(classifier: Classifier, image: Image.Image) -> np.ndarray:
    """(crops, classes), the logits of each square alone."""
    p = classifier.preprocessing.single
    squares = [
        image.crop(box).resize((p.size, p.size), Image.Resampling.BILINEAR) for box in crop_boxes(*image.size, CROPS)
    ]
    pixels = torch.from_numpy(np.stack([np.asarray(square) for square in squares]))
    with torch.inference_mode():
        return classifier.members[0].model(normalised(pixels, p.mean, p.std)).double().numpy()


def said(classifier: Classifier, image: Any, **how: Any) -> list[np.ndarray]:
    rows = [dict(row.top) for row in classifier.predict(image, top=len(CLASSES), **how)]
    return [np.array([row[name] for name in CLASSES]) for row in rows]


def test_squares_taken_apart_come_together_by_image() -> None:
    stacked = torch.arange(2 * 3 * 12 * 4.0).reshape(2, 3, 12, 4)
    squares = apart(stacked)
    assert squares.shape == (6, 3, 4, 4)
    assert torch.equal(squares[4], stacked[1, :, 4:8])
    assert torch.equal(by_image(squares, 2)[1], squares[3:].mean(0))
    assert apart(squares) is squares and by_image(squares, 6) is squares


@pytest.mark.parametrize("upright", [False, True])
def test_an_answer_is_of_the_mean_score_whatever_the_batch(classifier: Classifier, upright: bool) -> None:
    images = [long_image(i, upright=upright) for i in range(11)]
    images.append(images[0].resize((400, 40)))  # too long for so many squares
    for image, found in zip(images, said(classifier, images), strict=True):
        logits = of_squares(classifier, image)
        assert np.ptp(logits, axis=0).max() > 0.1  # squares differ
        assert found == pytest.approx(softmax(logits.mean(0)[None])[0], abs=1e-5)
        assert found == pytest.approx(said(classifier, image)[0], abs=1e-5)
        assert found == pytest.approx(said(classifier, image, views="flip")[0], abs=0.5)


def test_other_views_are_those_of_a_model_that_crops(classifier: Classifier, tmp_path: Path) -> None:
    own = load(write_model(tmp_path / "crop", probe=classifier.probe))
    image = long_image(5)
    for views in ("ten", "144", "along", "dense"):
        both = [Views(views).of(image, model.preprocessing) for model in (classifier, own)]
        assert all(np.array_equal(one, other) for one, other in zip(*both, strict=True))
        assert classifier.forward_passes(Views(views)) == own.forward_passes(Views(views))
    assert [classifier.forward_passes(Views(views)) for views in ("centre", "flip")] == [CROPS, 2 * CROPS]


@pytest.mark.parametrize("upright", [False, True])
def test_a_map_is_of_the_whole_image_and_its_mean_still_the_score(classifier: Classifier, upright: bool) -> None:
    images = [long_image(i, upright=upright) for i in range(2)]
    shown = np.stack([classifier.preprocessing.pixels(image) for image in images])
    seen = look(classifier.members[0], shown)
    found = activation_maps(seen, [CLASSES] * 2, sizes=[image.size for image in images])
    assert len(seen) == 2
    for image, row in zip(images, found, strict=True):
        for map_, logit in zip(row, of_squares(classifier, image).mean(0), strict=True):
            assert map_.map.shape[0] / map_.map.shape[1] == pytest.approx(image.height / image.width, rel=0.02)
            assert map_.logit == pytest.approx(logit, abs=1e-4)
            assert map_.map.mean() + map_.bias == pytest.approx(logit, abs=1e-4)
            if classifier.probe is not None:
                assert sum(part.logit for part in map_.parts) + map_.bias == pytest.approx(logit, abs=1e-4)


def test_a_map_points_at_the_square_that_changed(classifier: Classifier) -> None:
    before = long_image(0)
    after = before.copy()
    after.paste((128, 128, 128), (90, 0, 120, 40))
    shown = np.stack([classifier.preprocessing.pixels(image) for image in (before, after)])
    first, second = activation_maps(look(classifier.members[0], shown), [CLASSES] * 2, sizes=[before.size] * 2)
    change = np.abs(first[0].map - second[0].map - (first[0].map - second[0].map).flat[0])
    third = change.shape[1] // 3
    assert change[:, : third // 2].max() < 1e-6 < change[:, -third:].max()
    explained = classifier.explain(before)
    assert explained.box == (0, 0, 120, 40)


def test_a_fit_s_model_says_of_a_training_image_what_its_features_say(tmp_path: Path, backbone: Path) -> None:
    root = write_split(tmp_path / "photos", {"train": 6, "test": 3})
    for path in root.rglob("*.png"):
        strip = Image.new("RGB", (120, 40), (128, 128, 128))
        strip.paste(Image.open(path).resize((40, 40)), (40 * (int(path.stem) % 3), 0))
        strip.save(path)
    made = fit(root, weights=backbone, out=tmp_path / "model", resize_mode="multicrop", report=False)
    model = load(made.bundle)
    assert (model.preprocessing.fit, model.preprocessing.crops) == ("multicrop", 4)
    paths = sorted((root / "test").rglob("*.png"))
    right = [row.label == path.parent.name for row, path in zip(model.predict(paths), paths, strict=True)]
    assert np.mean(right) == pytest.approx(made.json["accuracy"])
    own = sorted((root / "train").rglob("*.png"))
    told = model.predict(own, false_reject=0.1)
    assert sum(row.label == path.parent.name for row, path in zip(told, own, strict=True)) >= 0.8 * len(own)
    nearest = model.explain(own[0], neighbours=1).nearest
    assert (
        nearest is not None
        and nearest[0].path == str(own[0].relative_to(root))
        and nearest[0].cosine == pytest.approx(1, abs=1e-3)
    )


def test_an_ensemble_may_have_members_of_both_kinds(classifier: Classifier, tmp_path: Path) -> None:
    one = write_model(tmp_path / "one", seed=3)
    ensemble([classifier.folder, one], tmp_path / "both")
    both, image = load(tmp_path / "both"), long_image(3)
    assert said(both, image)[0] == pytest.approx(
        np.mean([said(classifier, image), said(load(one), image)], axis=0)[0], abs=1e-5
    )
    assert both.forward_passes(Views()) == CROPS + 1


@pytest.mark.parametrize("size", [(60_000, 2), (1, 9_000), (700, 100), (120, 40), (41, 40)])
def test_maps_of_any_image_are_small_and_of_all_of_it(classifier: Classifier, size: tuple[int, int]) -> None:
    """Changing any part of an image changes its map there, and a map has no more places than the crops have."""
    image = long_image(1).resize(size)
    found = classifier.explain(image)
    for map_ in found.maps:
        assert max(map_.map.shape) <= 32 * CROPS and map_.map.mean() + map_.bias == pytest.approx(map_.logit, abs=1e-3)
        assert min(map_.on_grid(14).shape) == 14 and max(map_.on_grid(14).shape) <= 14 * CROPS
    assert found.box == (0, 0, *size)


def test_sizes_are_needed_for_maps_of_several_squares(classifier: Classifier) -> None:
    shown = classifier.preprocessing.pixels(long_image(0))[None]
    with pytest.raises(ValueError, match="sizes"):
        activation_maps(look(classifier.members[0], shown), [CLASSES])
    with pytest.raises(ConvAtlasError, match="views"):
        classifier.predict(long_image(0), views="flip", false_reject=0.1)


def test_what_it_costs_is_counted_of_all_crops(classifier: Classifier, tmp_path: Path) -> None:
    one = write_model(tmp_path / "one", probe=classifier.probe)
    several, single = candidates([classifier.folder, one])
    assert several.mult_adds == CROPS * single.mult_adds
    assert (several.row()["crops"], single.row()["crops"]) == (CROPS, 1)
    found = measure([several.subject(), single.subject()], ["latency"], device="cpu", repeats=3).figures
    taken = [found[each.name]["latency"].value or 0 for each in (several, single)]
    assert taken[0] > taken[1]
    if classifier.probe is None:
        source = find_weights(classifier.folder)
        parameters, mult_adds = _costs(replace(source, preprocessing=source.preprocessing.single))
        assert _costs(source) == (parameters, CROPS * mult_adds)


def test_its_weights_are_looked_at_through_one_square(tmp_path: Path) -> None:
    own = write_model(tmp_path / "model", **SEVERAL)
    root = write_split(tmp_path / "photos", {"train": 2})
    for model, weights in ((own, None), (NETWORK, own)):
        found = sees(model, root, weights=weights, images=4).json
        assert found["size"] == 32
        assert [stage["maps"][1:] for stage in found["stages"]] == [[32, 32], [16, 16], [8, 8]]
