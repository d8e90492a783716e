"""The picture of receptive fields is a drawing that stands alone and shows what the fields say."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest
import torch
from torch import nn

from convatlas.analysis.effective import EffectiveField, effective_fields
from convatlas.analysis.field_picture import field_picture
from convatlas.analysis.receptive import Field, Unknown

SVG = "{http://www.w3.org/2000/svg}"


def fields() -> list[EffectiveField]:
    torch.manual_seed(0)
    model = nn.Sequential(*(nn.Conv2d(3, 3, 5, padding=2) for _ in range(20)))
    return list(effective_fields(model, (3, 44, 44), ["0", "2", "19"], images=1).values())


def shapes(drawing: str, kind: str) -> list[str]:
    root = ElementTree.fromstring(drawing)
    panels = root.findall(f"{SVG}g")[:-1]  # the last is the key
    return [shape.get("d", "") for panel in panels for shape in panel.iter(f"{SVG}path") if shape.get("class") == kind]


def test_boxes_stand_where_the_fields_are() -> None:
    drawn = fields()
    boxes = shapes(field_picture(drawn), "box largest")
    assert len(boxes) == 2, "the last field is larger than the frame and its margin"
    for field, box in zip(drawn, boxes, strict=False):
        place = field.box()
        assert place is not None
        (top, bottom), (left, right) = place
        corners = [float(number) for number in re.findall(r"[-\d.]+", box)]
        scale = 220 / 44
        assert corners[:3] == [left * scale, top * scale, (right + 1) * scale]
        assert (bottom + 1) * scale in corners


def test_the_heat_fills_the_pixels_that_matter() -> None:
    (first, *_) = fields()
    paths = shapes(field_picture([first]), "heat")
    assert 1 <= len(paths) <= 8
    covered = sum(float(width) * float(height) for width, height in re.findall(r"h([\d.]+)v([\d.]+)", "".join(paths)))
    assert covered == pytest.approx(25 * (220 / 44) ** 2, rel=0.2), "25 pixels, the faintest perhaps left out"


def test_it_says_in_words_what_it_shows() -> None:
    drawing = field_picture(fields())
    root = ElementTree.fromstring(drawing)
    assert "0: can see 5 × 5 pixels, 95 % within 5" in root.get("aria-label", "")
    text = " ".join(node.text or "" for node in root.iter(f"{SVG}text"))
    assert "can see 81 × 81, beyond the frame" in text
    assert "prefers-color-scheme: dark" in drawing


def test_a_photograph_is_embedded_once_and_names_are_escaped() -> None:
    (field, *_) = fields()
    odd = EffectiveField("a<b>&'\"", field.heat, field.middle, field.unit, Unknown("<none>"))
    drawing = field_picture([odd, field], image=b"\x89PNG", media_type="image/png")
    root = ElementTree.fromstring(drawing)
    (photo,) = root.iter(f"{SVG}image")
    assert photo.get("href") == "data:image/png;base64,iVBORw=="
    assert [use.get("href") for use in root.iter(f"{SVG}use")] == [f"#{photo.get('id')}"] * 2
    assert "a<b>&'\"" in [node.text for node in root.iter(f"{SVG}text")]
    assert len(shapes(drawing, "box largest")) == 1
    assert "http" not in drawing.replace("http://www.w3.org/2000/svg", "")


def test_fields_that_see_everything_are_framed() -> None:
    (field,) = effective_fields(
        nn.Sequential(nn.Conv2d(3, 2, 3), nn.AdaptiveAvgPool2d(1)), (3, 20, 20), ["1"], images=1
    ).values()
    assert isinstance(field.theoretical, Field)
    (box,) = shapes(field_picture([field]), "box largest")
    assert box.startswith("M0 0H220")


def test_what_cannot_be_drawn_is_refused() -> None:
    (line,) = effective_fields(nn.Conv1d(1, 1, 3), (1, 9), [""]).values()
    with pytest.raises(ValueError, match="images of 1 axes; only those of two can be drawn"):
        field_picture([line])
    with pytest.raises(ValueError, match="no fields"):
        field_picture([])
