"""The geometry is torchvision's, pixel for pixel; the other fits keep what they promise."""

from __future__ import annotations

import json
import time
from pathlib import Path

import nasty
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from convatlas.data import Preprocessing, decode
from convatlas.errors import ConvAtlasError


def theirs(image: Image.Image, size: int, resize: int, interpolation: str, channels: int = 3) -> np.ndarray:
    from torchvision import transforms

    steps = [transforms.Resize(resize, transforms.InterpolationMode(interpolation)), transforms.CenterCrop(size)]
    if channels == 1:
        steps.insert(0, transforms.Grayscale())
    return np.asarray(transforms.Compose(steps)(image)).reshape(size, size, channels)


@settings(max_examples=150, deadline=None)
@given(
    width=st.integers(1, 90),
    height=st.integers(1, 90),
    size=st.integers(1, 40),
    resize=st.integers(1, 48),
    interpolation=st.sampled_from(["nearest", "bilinear", "bicubic", "lanczos", "box", "hamming"]),
    channels=st.sampled_from([1, 3]),
)
def test_crop_equals_torchvision(
    width: int, height: int, size: int, resize: int, interpolation: str, channels: int
) -> None:
    image = nasty.photo(width * 100 + height, width, height)
    ours = Preprocessing.from_json(
        {
            "size": size,
            "resize": resize,
            "interpolation": interpolation,
            "channels": channels,
            "mean": [0.5] * channels,
            "std": [0.5] * channels,
        }
    ).pixels(image)
    assert ours.dtype == np.uint8
    assert np.array_equal(ours, theirs(image, size, resize, interpolation, channels))


def test_photos_equal_torchvision(shared: Path) -> None:
    for path in sorted((shared / "data/hymenoptera/val").rglob("*.jpg"))[::10]:
        image, _ = decode(path.read_bytes())
        for interpolation in ("bicubic", "bilinear"):
            ours = Preprocessing(interpolation=interpolation).pixels(image)
            assert np.array_equal(ours, theirs(image, 224, 256, interpolation)), path


def test_pad_keeps_the_whole_image_on_the_background() -> None:
    image = Image.new("RGB", (100, 50), (200, 0, 0))
    pixels = Preprocessing(size=40, fit="pad", background=(0, 0, 255)).pixels(image)
    assert pixels.shape == (40, 40, 3)
    assert (pixels[10:30] == (200, 0, 0)).all()
    assert (pixels[:10] == (0, 0, 255)).all()
    assert (pixels[30:] == (0, 0, 255)).all()


def test_squash_is_a_plain_resize() -> None:
    image = nasty.photo(1)
    expected = np.asarray(image.resize((32, 32), Image.Resampling.BICUBIC))
    assert np.array_equal(Preprocessing(size=32, fit="squash").pixels(image), expected)


@pytest.mark.parametrize(("width", "height"), [(90, 30), (30, 90), (31, 30), (40, 40)])
@pytest.mark.parametrize("crops", [2, 3, 8])
def test_several_crops_go_from_end_to_end_and_stand_one_under_the_other(width: int, height: int, crops: int) -> None:
    noise = np.random.default_rng(width).integers(0, 256, (height, width, 3), dtype=np.uint8)
    image, short = Image.fromarray(noise), min(width, height)
    found = Preprocessing(size=32, fit="multicrop", crops=crops).pixels(image)
    assert found.shape == Preprocessing(size=32, fit="multicrop", crops=crops).shape == (32 * crops, 32, 3)
    length = max(short, max(width, height) // crops)  # two crops of an image three times as long are not square
    wide, high = (length, short) if width > height else (short, length)
    for i, square in enumerate(np.split(found, crops)):
        left, top = (round(i / (crops - 1) * spare) for spare in (width - wide, height - high))
        cut = image.crop((left, top, left + wide, top + high))
        assert np.array_equal(square, np.asarray(cut.resize((32, 32), Image.Resampling.BICUBIC)))


@pytest.mark.parametrize("fit", ["crop", "pad", "squash", "multicrop"])
@pytest.mark.parametrize("size", [(1, 60_000), (60_000, 1), (1, 1), (3, 2000)])
@pytest.mark.parametrize("resize", [256, 100])
def test_extreme_shapes_stay_cheap(fit: str, size: tuple[int, int], resize: int) -> None:
    start = time.perf_counter()
    image = Image.new("RGB", size, (1, 2, 3))
    p = Preprocessing.from_json({"fit": fit, "resize": resize, "crops": 8 if fit == "multicrop" else 1})
    pixels = p.pixels(image)
    assert pixels.shape == (224 * p.crops, 224, 3)
    assert (pixels == (1, 2, 3)).all(axis=-1).any()
    assert time.perf_counter() - start < 5


def test_the_middle_is_kept_of_an_extreme_image() -> None:
    strip = Image.new("RGB", (40_000, 10))
    strip.paste((255, 255, 255), (20_000, 0, 40_000, 10))
    pixels = Preprocessing().pixels(strip)
    assert pixels[:, :60].max() < 30
    assert pixels[:, 164:].min() > 225


def test_json_is_exact() -> None:
    chosen = Preprocessing(size=32, resize=36, fit="pad", mean=(0.1,), std=(0.3,), channels=1, background=(1, 2, 3))
    for own in (chosen, Preprocessing(fit="multicrop", crops=5)):
        assert Preprocessing.from_json(json.loads(json.dumps(own.to_json()))) == own
    with pytest.raises(ConvAtlasError, match="crop_pct"):
        Preprocessing.from_json({"crop_pct": 0.9})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("size", 0),
        ("resize", 1.5),
        ("fit", "stretch"),
        ("interpolation", "cubic"),
        ("mean", (0.5,)),
        ("std", (1.0, 0.0, 1.0)),
        ("channels", 4),
        ("background", (0, 0, 256)),
    ],
)
def test_nonsense_is_refused_with_its_value(field: str, value: object) -> None:
    with pytest.raises(ConvAtlasError, match=field):
        Preprocessing.from_json({field: value})


@pytest.mark.parametrize(("fit", "crops"), [("crop", 2), ("pad", 0), ("multicrop", 1), ("multicrop", 9)])
def test_crops_that_do_not_go_with_the_fit_are_refused(fit: str, crops: int) -> None:
    with pytest.raises(ConvAtlasError, match=f"crops={crops}"):
        Preprocessing.from_json({"fit": fit, "crops": crops})
    with pytest.raises(ConvAtlasError, match="crops=2.5"):
        Preprocessing.from_json({"fit": "multicrop", "crops": 2.5})
