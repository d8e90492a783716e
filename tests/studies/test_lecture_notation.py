"""The lists of the slides, line for line."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from convatlas.errors import ConvAtlasError
from convatlas.studies.layers import layers, tape_of
from convatlas.studies.lecture_notation import SLIDES, alexnet_rows, as_lecture, rounded, vgg_rows
from convatlas.zoo.alexnet import AlexNet, AlexNetConfig

# Our rows that differ from the slide's, and why. Every other row must be the slide's own.
VGG_ERRATA = {
    # the text of the slide has lost its first row; without the image the rows would not add up to the total
    "INPUT: [224x224x3] memory: 224*224*3=150K params: 0": None,
    # the slide's total is not the sum of its rows
    "TOTAL memory: 15.2M * 4 bytes ~= 61MB / image (for a forward pass)": (
        "TOTAL memory: 24M * 4 bytes ~= 96MB / image (for a forward pass)"
    ),
}


def slide(shared: Path, first: int, last: int) -> list[str]:
    lines = (shared / "lecture.txt").read_text(encoding="utf-8").split("\n")[first - 1 : last]
    return [plain(line) for line in lines if line.strip()]


def plain(line: str) -> str:
    """One space where the slide has several, and as many about each = as it likes."""
    return re.sub(r"\s*=\s*", "=", " ".join(line.split()))


@pytest.mark.parametrize(("first", "last"), [(269, 294), (302, 327), (347, 372), (384, 409), (419, 447)])
def test_alexnet_is_the_slides_list(first: int, last: int, shared: Path) -> None:
    printed: list[str] = []
    for line in slide(shared, first, last):  # two rows stand on one line of the text
        printed += re.split(r" (?=\[4096\] FC7)", line)
    assert [plain(row) for row in alexnet_rows()] == printed


def test_vgg_is_the_slides_list_but_for_its_errata(shared: Path) -> None:
    drawn_beside = {
        "FC 1000",
        "FC 4096",
        "Pool",
        "Input",
        "VGG16",
    }  # words of the picture, between the rows of the text
    printed = [line for line in slide(shared, 553, 583) if line not in drawn_beside]
    expected = [VGG_ERRATA.get(row, row) for row in vgg_rows()]
    assert [plain(row) for row in expected if row is not None] == printed
    assert set(VGG_ERRATA) <= set(vgg_rows())


def test_the_output_says_which_network_it_was_computed_from() -> None:
    assert "Computed from alexnet_lecture" in as_lecture("alexnet")
    assert "CaffeNet" in as_lecture("alexnet")
    assert "24M * 4 bytes" in as_lecture("vgg16").splitlines()[-1]


def test_other_networks_have_no_slide() -> None:
    with pytest.raises(ConvAtlasError, match="resnet50.*alexnet and of vgg16"):
        as_lecture("resnet50")
    assert set(SLIDES) == {"alexnet", "vgg16"}


@pytest.mark.parametrize(
    ("count", "expected"), [(3_211_264, "3.2M"), (802_816, "800K"), (150_528, "150K"), (25_088, "25K"), (999_999, "1M")]
)
def test_figures_are_rounded_as_on_the_slide(count: int, expected: str) -> None:
    assert rounded(count) == expected


def test_rows_follow_the_network_and_not_its_name() -> None:
    """Another stride, another width and two groups are seen, since rows are read from what ran."""
    model = AlexNet(AlexNetConfig(maps=(48, 64, 96, 96, 32), groups=2, layout="zfnet"))
    found = [layer for layer in layers(tape_of(model, (3, 224, 224))) if layer.kind == "conv"]
    assert [(x.kernel, x.stride, x.groups) for x in found] == [(7, 2, 1), (5, 2, 2), (3, 1, 1), (3, 1, 2), (3, 1, 2)]
    assert [x.made[0] for x in found] == [48, 64, 96, 96, 32]
    assert found[1].weights == 64 * 24 * 5 * 5
