"""What of an image a network is shown, and that only very long images change how a folder's are made square."""

from __future__ import annotations

import itertools
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from convatlas.data import Preprocessing, choose, histogram, kept, scan, seen
from convatlas.data.framing import LONG, header_sizes
from convatlas.data.preprocessing import crop_boxes, square_boxes
from convatlas.errors import ConvAtlasError

SIDES = st.integers(1, 900)
OWN = Preprocessing(size=28, resize=32, interpolation="bilinear")


def write(root: Path, sizes: list[tuple[int, int]]) -> Path:
    for i, size in enumerate(sizes):
        folder = root / "ab"[i % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size, (i, 0, 0)).save(folder / f"{i:02d}.png")
    return root


@given(SIDES, SIDES, st.sampled_from(["crop", "pad", "squash"]))
def test_the_square_lies_in_the_middle_and_kept_is_its_share(width: int, height: int, fit: Any) -> None:
    p = replace(OWN, fit=fit)
    left, top, right, bottom = seen(p, width, height)
    assert (left + right, top + bottom) == pytest.approx((width, height))
    share = kept(p, width, height)
    if fit == "crop":
        assert right - left == pytest.approx(bottom - top) == pytest.approx(min(width, height) * 28 / 32)
        assert share == pytest.approx((28 / 32) ** 2 * min(width, height) / max(width, height))
    else:
        assert share == pytest.approx(1)


@given(SIDES, SIDES, st.integers(2, 8))
def test_several_crops_show_all_from_end_to_end(width: int, height: int, crops: int) -> None:
    p = replace(OWN, fit="multicrop", crops=crops)
    assert seen(p, width, height) == (0, 0, width, height) and kept(p, width, height) == 1
    along = np.zeros(max(width, height), bool)
    for left, top, right, bottom in crop_boxes(width, height, crops):
        assert 0 <= left < right <= width and 0 <= top < bottom <= height
        assert min(right - left, bottom - top) == min(width, height)
        along[max(left, top) : max(right * (width > height), bottom * (width <= height))] = True
    assert along.all()
    if max(width, height) <= crops * min(width, height):
        assert crop_boxes(width, height, crops) == square_boxes(width, height, crops)


@pytest.mark.parametrize("fit", ["crop", "pad", "squash"])
@pytest.mark.parametrize("size", [(320, 200), (200, 320), (240, 240)])
def test_the_square_is_what_the_pixels_come_from(fit: Any, size: tuple[int, int]) -> None:
    """Pixels whose colours say where they lie: the corners of what the network gets are those of `seen`."""
    width, height = size
    y, x = np.mgrid[:height, :width]
    image = Image.fromarray(np.stack([255 * x / width, 255 * y / height, 0 * x], axis=-1).astype(np.uint8))
    p = replace(OWN, fit=fit, background=(0, 0, 0))
    shown = p.pixels(image).astype(float)
    left, top, right, bottom = seen(p, width, height)
    for row in (8, 14, 20):
        for column in (8, 14, 20):
            place = left + (column + 0.5) * (right - left) / 28, top + (row + 0.5) * (bottom - top) / 28
            if 0 < place[0] < width and 0 < place[1] < height:
                expected = 255 * place[0] / width, 255 * place[1] / height
                assert shown[row, column, :2] == pytest.approx(expected, abs=6)


@pytest.mark.parametrize("asked", ["crop", "pad", "squash", "multicrop"])
def test_what_is_asked_for_is_done(tmp_path: Path, asked: str) -> None:
    framing = choose(asked, OWN, scan(write(tmp_path, [(40, 30)] * 4)))
    assert (framing.fit, framing.asked, framing.own) == (asked, asked, "crop")
    assert framing.told and "as asked for" in framing.reason


@pytest.mark.parametrize(
    ("sizes", "own", "expected"),
    [
        ([(40, 30)] * 6, "crop", "crop"),
        ([(30, 40)] * 6, "crop", "crop"),
        ([(100, 25)] * 6, "crop", "multicrop"),
        ([(25, 100)] * 6, "crop", "multicrop"),
        ([(100, 25)] * 2 + [(30, 30)] * 4, "crop", "crop"),  # a few long ones are no reason
        ([(100, 25)] * 6, "pad", "pad"),  # nothing would be lost
        ([(100, 25)] * 6, "squash", "squash"),
        ([(175, 100)] * 6, "crop", "multicrop"),
        ([(174, 100)] * 6, "crop", "crop"),
    ],
)
def test_auto_leaves_the_weights_way_only_for_long_images(
    tmp_path: Path, sizes: list[tuple[int, int]], own: Any, expected: str
) -> None:
    assert LONG == 1.75
    framing = choose("auto", replace(OWN, fit=own), scan(write(tmp_path, sizes)))
    assert framing.fit == expected
    assert framing.told == (expected != own)


def test_a_model_that_takes_several_crops_forces_none_on_square_images_nor_do_test_images(tmp_path: Path) -> None:
    several = replace(OWN, fit="multicrop", crops=4)
    framing = choose("auto", several, scan(write(tmp_path / "square", [(30, 30)] * 4)))
    assert (framing.fit, framing.crops) == ("crop", 1)
    write(tmp_path / "parts/train", [(30, 30)] * 4)
    write(tmp_path / "parts/test", [(120, 30)] * 6)
    assert choose("auto", OWN, scan(tmp_path / "parts")).fit == "crop"


@pytest.mark.parametrize(("length", "crops"), [(30, 2), (45, 3), (60, 3), (61, 4), (120, 5), (900, 8)])
def test_crops_overlap_as_far_as_there_may_be_so_many(tmp_path: Path, length: int, crops: int) -> None:
    framing = choose("multicrop", OWN, scan(write(tmp_path, [(length, 30)] * 4)))
    assert framing.crops == crops and f"{crops} crops" in framing.reason


def test_headers_are_read_not_pixels_and_bad_files_are_left_out(tmp_path: Path) -> None:
    root = write(tmp_path, [(40 + i, 30) for i in range(20)])
    (root / "a" / "cut.png").write_bytes((root / "a" / "00.png").read_bytes()[:60])  # a header, no pixels
    (root / "b" / "text.png").write_text("no image")
    dataset = scan(root)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = header_sizes(dataset, dataset.records)
        assert len(found) == 21 and (40, 30) in found
        assert 3 <= len(header_sizes(dataset, dataset.records, most=5)) <= 5


def test_every_image_is_in_one_bar() -> None:
    sizes = [(1, 1), (11, 10), (4, 3), (3, 4), (3, 2), (2, 1), (9, 1), (1, 700)]
    rows = histogram(sizes)
    assert sum(row["count"] for row in rows) == len(sizes)
    assert rows[0]["from"] == 1 and rows[-1] == {"from": 4.0, "to": None, "count": 2}
    assert all(one["to"] == other["from"] for one, other in itertools.pairwise(rows))


def test_an_unknown_way_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConvAtlasError, match="no way 'stretch'") as caught:
        choose("stretch", OWN, scan(write(tmp_path, [(3, 3)] * 2)))
    assert "crop, pad, squash, multicrop" in caught.value.remedy
