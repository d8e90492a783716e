"""The demonstration: digits as files, and the very same fit, without any network."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import convatlas
from convatlas.errors import ConvAtlasError
from convatlas.jobs.demo import demo, write_digits


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks for the network fails."""

    def refuse(*_: object, **__: object) -> Any:
        raise AssertionError("the network was asked for")

    for name in ("socket", "create_connection", "getaddrinfo"):
        monkeypatch.setattr(socket, name, refuse)


@pytest.fixture
def few_digits(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first ninety digits only."""
    import sklearn.datasets

    digits: Any = sklearn.datasets.load_digits()

    class Few:
        images, target = digits.images[:90], digits.target[:90]

    monkeypatch.setattr(sklearn.datasets, "load_digits", Few)


def test_the_digits_become_png_files(tmp_path: Path) -> None:
    from sklearn.datasets import load_digits

    write_digits(tmp_path / "digits")
    files = sorted((tmp_path / "digits").rglob("*.png"))
    assert len(files) == 1797
    assert {file.relative_to(tmp_path / "digits").parts[0] for file in files} == {"train", "test"}
    assert sum("test" in file.parts for file in files) == 599
    digits: Any = load_digits()
    for file in files[::200]:
        number = int(file.stem.removeprefix("digit-"))
        assert file.parent.name == str(digits.target[number])
        with Image.open(file) as image:
            small = np.asarray(image.resize((8, 8), Image.Resampling.BOX), np.float64) * 16 / 255
        assert np.abs(small - digits.images[number]).mean() < 1


def test_which_digit_goes_where_is_fixed(few_digits: None, tmp_path: Path) -> None:
    names = []
    for place in ("one", "two"):
        write_digits(tmp_path / place)
        names.append(sorted(path.relative_to(tmp_path / place) for path in (tmp_path / place).rglob("*.png")))
    assert names[0] == names[1]


def test_the_demonstration_on_a_few_digits(offline: None, few_digits: None, tmp_path: Path) -> None:
    result = demo(tmp_path / "demo")
    assert result.bundle == tmp_path / "demo/classifier"
    assert result.json["weights"]["source"] == "embedded"
    assert result.json["images"] == {"train": 60, "test": 30, "unreadable": 0, "conflicting": 0, "ignored": 0}
    assert [row["name"] for row in result.json["classes"]] == [str(digit) for digit in range(10)]
    assert result.accuracy > 0.5
    assert "<svg" in (tmp_path / "demo/classifier/report.html").read_text(encoding="utf-8")
    (row,) = convatlas.load(result.bundle).predict(next((tmp_path / "demo/digits/train/7").iterdir()))
    assert row.label == "7"
    again = demo(tmp_path / "demo")
    assert again.json["counts"] == {"decoded": 0, "forwarded": 0, "from_cache": 90}
    assert again.json["confusion"] == result.json["confusion"]


def test_somebody_s_digits_are_left_alone(few_digits: None, tmp_path: Path) -> None:
    (tmp_path / "demo/digits").mkdir(parents=True)
    (tmp_path / "demo/digits/mine.txt").write_text("work")
    with pytest.raises(ConvAtlasError, match="no images"):
        demo(tmp_path / "demo")
    assert [path.name for path in (tmp_path / "demo/digits").iterdir()] == ["mine.txt"]


@pytest.mark.slow
def test_the_whole_demonstration(offline: None, tmp_path: Path) -> None:
    result = demo(tmp_path / "demo")
    assert result.accuracy > 0.97
    assert json.loads((result.bundle / "fit.json").read_text(encoding="utf-8"))["images"]["test"] == 599
    assert result.report is not None and result.report.is_file()
