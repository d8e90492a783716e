"""The views of an image are as many, as large and where the papers say, on images of any shape; none sees beside the image."""

from __future__ import annotations

import itertools
import math
from typing import Any

import nasty
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from convatlas.data import Preprocessing, Views
from convatlas.data.preprocessing import square_boxes
from convatlas.data.views import crops, scales, square_side, whole
from convatlas.errors import ConvAtlasError

NAMES = ("centre", "flip", "ten", "144", "dense")
PASSES = {"centre": 1, "flip": 2, "ten": 10, "144": 144, "dense": 2}
SHAPES = [(1, 1), (1, 60), (61, 2), (31, 33), (32, 32), (90, 41), (40, 300)]
PREPROCESSINGS = st.builds(
    lambda size, more, fit, interpolation, channels: Preprocessing(
        size=size,
        resize=max(1, size + more),
        fit=fit,
        interpolation=interpolation,
        channels=channels,
        mean=(0.5,) * channels,
        std=(0.5,) * channels,
        background=(90, 90, 90),
    ),
    st.integers(1, 40),
    st.integers(-6, 9),
    st.sampled_from(["crop", "pad", "squash"]),
    st.sampled_from(["nearest", "bilinear", "bicubic", "lanczos", "box", "hamming"]),
    st.sampled_from([1, 3]),
)


def places(width: int, height: int) -> Image.Image:
    """Every pixel says where it is: red its column, green its row."""
    y, x = np.mgrid[:height, :width]
    return Image.fromarray(np.dstack([x, y, 0 * x]).astype(np.uint8))


@settings(max_examples=40, deadline=None)
@given(p=PREPROCESSINGS, shape=st.sampled_from(SHAPES))
@pytest.mark.parametrize("name", NAMES)
def test_number_size_and_mirrors(name: str, p: Preprocessing, shape: tuple[int, int]) -> None:
    views = Views(name)
    seen = views.of(nasty.photo(7, *shape), p)
    assert len(seen) == views.forward_passes == PASSES[name]
    assert all(view.dtype == np.uint8 and view.shape[2] == p.channels for view in seen)
    if name != "dense":
        assert {view.shape for view in seen} == {(p.size, p.size, p.channels)}
    if name != "centre":
        half = len(seen) // 2
        assert all(np.array_equal(one[:, ::-1], other) for one, other in zip(seen[:half], seen[half:], strict=True))
    if name in ("centre", "flip"):
        assert np.array_equal(seen[0], p.pixels(nasty.photo(7, *shape)))


@settings(max_examples=60, deadline=None)
@given(p=PREPROCESSINGS, shape=st.sampled_from(SHAPES))
@pytest.mark.parametrize("name", ["ten", "144", "dense"])
def test_of_an_even_image_nothing_else_is_seen(name: str, p: Preprocessing, shape: tuple[int, int]) -> None:
    """Also where the model's own crop is larger than the image, which is then on black."""
    for view in Views(name).of(Image.new("RGB", shape, (90, 90, 90)), p):
        assert (view == 90).all()


@settings(max_examples=60, deadline=None)
@given(width=st.integers(1, 80), height=st.integers(1, 80), size=st.integers(1, 30), more=st.integers(1, 9))
def test_ten_is_torchvision_s_of_the_central_square(width: int, height: int, size: int, more: int) -> None:
    from torchvision import transforms

    image = nasty.photo(width * 100 + height, width, height)
    side = size + more
    theirs = transforms.Compose([transforms.Resize(side), transforms.CenterCrop(side)])
    expected = transforms.FiveCrop(size)(theirs(image))
    ours = Views("ten").of(image, Preprocessing(size=size, resize=side, interpolation="bilinear"))
    assert all(np.array_equal(one, np.asarray(other)) for one, other in zip(ours[:5], expected, strict=True))


@pytest.mark.parametrize(("size", "resize"), [(224, 256), (24, 32), (32, 36), (20, 28)])
@pytest.mark.parametrize("shape", [(64, 41), (40, 65), (50, 50)])
def test_the_centre_of_ten_is_the_centre_view(size: int, resize: int, shape: tuple[int, int]) -> None:
    p = Preprocessing(size=size, resize=resize)
    image = nasty.photo(3, *shape)
    assert np.array_equal(Views("ten").of(image, p)[4], Views("centre").of(image, p)[0])


def test_ten_has_corners_even_where_the_model_resizes_to_what_it_sees() -> None:
    p = Preprocessing(size=28, resize=28, interpolation="nearest")
    assert square_side(p) == 32  # 256 for 224
    seen = Views("ten").of(places(40, 32), p)
    assert [tuple(view[0, 0, :2]) for view in seen[:5]] == [(4, 0), (8, 0), (4, 4), (8, 4), (6, 2)]


def as_the_paper_words_it(image: Image.Image, size: int) -> list[np.ndarray]:
    """GoogLeNet's section 7: the image is resized first, squares and crops are taken of that, then everything is mirrored."""
    found = []
    for scale in scales(size):
        width, height = image.size
        short = min(width, height)
        resized = image.resize((round(width * scale / short), round(height * scale / short)), Image.Resampling.BILINEAR)
        wide, high = resized.size
        for share in (0, 0.5, 1):
            left, top = round(share * (wide - scale)), round(share * (high - scale))
            square = resized.crop((left, top, left + scale, top + scale))
            end, middle = scale - size, round((scale - size) / 2)
            for x, y in ((0, 0), (end, 0), (0, end), (end, end), (middle, middle)):
                found.append(np.asarray(square.crop((x, y, x + size, y + size))))
            found.append(np.asarray(square.resize((size, size), Image.Resampling.BILINEAR)))
    return found + [view[:, ::-1] for view in found]


@pytest.mark.parametrize("shape", [(120, 90), (77, 200), (100, 100), (64, 64), (250, 61)])
def test_144_are_the_paper_s(shape: tuple[int, int]) -> None:
    """Of an image whose pixels say where they are, a view a pixel off would be a pixel's value off."""
    ours = Views("144").of(places(*shape), Preprocessing(size=56, interpolation="bilinear"))
    theirs = as_the_paper_words_it(places(*shape), 56)
    pixel = min(shape) / 64  # of the least scale, in those of the image
    for one, other in zip(ours, theirs, strict=True):
        assert np.abs(one.astype(int) - other).max() <= max(2, 1.5 * pixel)


def test_the_scales_are_the_paper_s() -> None:
    assert scales(224) == (256, 288, 320, 352)
    assert scales(112) == (128, 144, 160, 176)
    assert all(side >= size for size in range(1, 400) for side in scales(size))


@given(side=st.integers(1, 30), size=st.integers(1, 30))
def test_crops_lie_inside_and_touch_every_border(side: int, size: int) -> None:
    side, size = max(side, size), min(side, size)
    seen = crops(np.asarray(places(side, side)), size)
    assert {view.shape for view in seen} == {(size, size, 3)}
    assert min(view[..., :2].min() for view in seen) == 0
    assert max(view[..., :2].max() for view in seen) == side - 1


@pytest.mark.parametrize("shape", [(40, 20), (20, 41), (20, 20)])
def test_squares_begin_and_end_with_the_image(shape: tuple[int, int]) -> None:
    found = Preprocessing(size=20, interpolation="nearest").cut(places(*shape), square_boxes(*places(*shape).size, 3))
    axis = 0 if shape[0] > shape[1] else 1
    starts = [int(square[..., axis].min()) for square in found]
    assert starts == [0, round((max(shape) - 20) / 2), max(shape) - 20]
    assert all(square[..., 1 - axis].max() == 19 for square in found)


@given(width=st.integers(1, 90), height=st.integers(1, 90), side=st.integers(1, 50))
def test_dense_has_all_of_the_image_at_its_aspect(width: int, height: int, side: int) -> None:
    p = Preprocessing(size=side, resize=side)
    high, wide, _ = whole(Image.new("RGB", (width, height)), side, p).shape
    assert min(high, wide) == side
    longer = max(width, height) / min(width, height)
    assert max(high, wide) == (int(side * longer + 1e-9) if longer <= 8 else pytest.approx(8 * side, abs=2 * side))


def test_dense_at_an_image_s_own_size_changes_no_pixel() -> None:
    image = nasty.photo(5, 70, 48)
    for name in ("dense:48", "dense"):
        seen = Views(name).of(image, Preprocessing(size=40, resize=48))
        assert np.array_equal(seen[0], np.asarray(image))


def test_dense_at_several_sides_and_of_models_that_do_not_crop() -> None:
    views = Views("dense:24,32,40")
    assert (views.forward_passes, views.sides, views.dense) == (6, (24, 32, 40), True)
    image = nasty.photo(5, 60, 48)
    assert [view.shape[:2] for view in views.of(image, Preprocessing(size=24))[:3]] == [(24, 30), (32, 40), (40, 50)]
    for fit in ("pad", "squash"):
        p = Preprocessing.from_json({"size": 24, "fit": fit})
        assert [view.shape[:2] for view in views.of(image, p)[:3]] == [(24, 24), (32, 32), (40, 40)]
        assert np.array_equal(Views("dense").of(image, p)[0], p.pixels(image))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", [(1, 60_000), (60_000, 1)])
def test_extreme_shapes_stay_small(name: str, shape: tuple[int, int]) -> None:
    seen = Views(name).of(Image.new("RGB", shape, (1, 2, 3)), Preprocessing(size=56, resize=64))
    assert max(view.nbytes for view in seen) <= 64 * 64 * 10 * 3
    assert all((view == (1, 2, 3)).all() for view in seen)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("tenn", "Did you mean 'ten'"), ("center", "Did you mean 'centre'"), ("", "Use centre, flip"), ("ten:3", "no views 'ten:3'"),
        ("Dense", "dense"), ("dense:", "shorter sides"), ("dense:a", "shorter sides"), ("dense:0", "1 to 8192"),
        ("dense:9000", "1 to 8192"), ("dense:-4", "shorter sides"), ("dense:3²", "shorter sides"), ("dense:32,", "shorter sides"),
    ],
)  # fmt: skip
def test_a_name_that_is_none_is_refused(name: str, said: str) -> None:
    with pytest.raises(ConvAtlasError, match=said) as caught:
        Views(name)
    assert caught.value.remedy


def test_a_side_below_what_the_network_sees_is_refused() -> None:
    calls: list[Any] = [lambda v, p: v.require(p), lambda v, p: v.of(Image.new("RGB", (9, 9)), p)]
    for call in calls:
        with pytest.raises(ConvAtlasError, match="side of 31 pixels is less than the 32"):
            call(Views("dense:64,31"), Preprocessing(size=32))


@settings(max_examples=60, deadline=None)
@given(long=st.integers(20, 250), short=st.integers(20, 60), turned=st.booleans())
def test_along_a_long_image_nothing_is_left_out(long: int, short: int, turned: bool) -> None:
    shape = (short, long) if turned else (long, short)
    p = Preprocessing(size=20, resize=20, interpolation="bilinear")
    seen = Views("along").of(places(*shape), p)
    ratio = max(shape) / min(shape)
    assert len(seen) == (1 if ratio < 1.25 else min(8, math.ceil(ratio))) <= Views("along").forward_passes
    if ratio < 1.25:
        assert np.array_equal(seen[0], p.pixels(places(*shape)))
        return
    axis = 0 if shape[0] > shape[1] else 1
    step = min(shape) / 20  # pixels of the image between those of a view
    covered = [(int(view[..., axis].min()), int(view[..., axis].max())) for view in seen]
    assert covered[0][0] <= step and covered[-1][1] >= min(255, max(shape) - 1 - step) - 1
    if ratio <= 8:
        assert all(after[0] <= before[1] + 2 * step + 1 for before, after in itertools.pairwise(covered))
