"""`convatlas.fields`: what stages can see beside what they make use of."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from torch import nn

import convatlas
from convatlas import ConvAtlasError


def test_the_stages_of_a_network_that_end_in_a_map() -> None:
    seen = convatlas.fields("lenet5_modern", images=1)
    told = json.loads(json.dumps(seen.to_json()))
    assert told["schema"] == "convatlas.fields/1" and told["weights"] == "random initial weights"
    assert [row["path"] for row in told["fields"]] == ["stages.stem", "stages.stage1", "stages.stage2"]
    for row in told["fields"]:
        assert 1 <= row["effective"] <= max(row["size"])
        assert row["smallest"] <= row["size"]
    assert [cells[1] for cells in seen.table().rows] == [str(row["size"][0]) for row in told["fields"]]
    assert ET.fromstring(seen.picture()).tag.endswith("svg")


def test_the_seed_decides() -> None:
    one, again, other = (convatlas.fields("lenet5_modern", images=1, seed=seed).fields[-1].heat for seed in (1, 1, 2))
    assert one.equal(again) and not one.equal(other)


def test_a_photo_lies_behind(tmp_path: Path, photos: Path) -> None:
    photo = next(photos.rglob("*.png"), None) or next(path for path in photos.rglob("*") if path.is_file())
    seen = convatlas.fields("lenet5_modern", paths=["stages.stem"], images=1, image=photo)
    assert "data:image/jpeg;base64," in seen.picture()


def test_people_s_own_network_has_its_own_weights() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 5, padding=2))
    seen = convatlas.fields(model, (3, 24, 24), ["0", "2"], images=1)
    assert seen.weights == "its own weights"
    assert [field.theoretical.size for field in seen.fields] == [(3, 3), (7, 7)]  # type: ignore[union-attr] - fails if it is unknown


def test_bad_requests_are_named(tmp_path: Path) -> None:
    (tmp_path / "note.jpg").write_text("not an image")
    for options, said in (
        ({"paths": ["stages.stam"]}, "did you mean 'stages.stem'?"),
        ({"image": tmp_path / "absent.jpg"}, "absent.jpg cannot be read"),
        ({"image": tmp_path / "note.jpg"}, "note.jpg"),
        ({"weights": tmp_path / "absent.pth"}, "there is no such weights file"),
    ):
        with pytest.raises(ConvAtlasError, match=said):
            convatlas.fields("lenet5_modern", images=1, **options)  # type: ignore[arg-type] - of several types
    with pytest.raises(ConvAtlasError, match="weights are for networks of ours"):
        convatlas.fields(nn.Conv2d(3, 3, 3), (3, 8, 8), ["0"], weights="x.pth")
