"""Rules that depend on the set: what is odd among photos is ordinary among digits."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from convatlas.data import Dataset, DecodeError, Examined, Facts, Problem, Record, check, diagnose, scan


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.jpg").write_bytes(b"")
    return scan(tmp_path)


def entry(number: int, **facts: object) -> Examined:
    values = {"format": "JPEG", "width": 400, "height": 300, "mode": "RGB", "dominant": 0.05} | facts
    record = Record(path=f"a/{number}.jpg", label="a", split="all")
    return Examined(record=record, sha256=str(number), facts=Facts.from_json(values))


def said(dataset: Dataset, examined: list[Examined]) -> Mapping[str, Problem]:
    return {problem.kind: problem for problem in diagnose(dataset, examined)}


def test_an_ordinary_set_is_not_bothered(dataset: Dataset) -> None:
    assert said(dataset, [entry(number) for number in range(50)]) == {}
    assert said(dataset, []) == {}


def test_digits_are_small_and_plain_without_blame(dataset: Dataset) -> None:
    digits = [
        entry(number, width=28, height=28, dominant=0.75 + number / 250, format="JPEG", grey=True)
        for number in range(50)
    ]
    found = said(dataset, digits)
    assert set(found) == {"tiny"}
    assert found["tiny"].severity == "note"
    assert "50 of 50" in found["tiny"].message
    blank = said(dataset, [*digits, entry(99, width=28, height=28, dominant=1.0, grey=True)])
    assert blank["low-information"].paths == ("a/99.jpg",)


def test_huge_and_long(dataset: Dataset) -> None:
    found = said(dataset, [entry(1, width=10_000, height=6000), entry(2, width=2000, height=400), entry(3)])
    assert found["huge"].paths == ("a/1.jpg",)
    assert found["extreme-aspect"].paths == ("a/2.jpg",)


def test_a_class_without_a_sound_image(dataset: Dataset) -> None:
    failure = DecodeError("corrupt", "it is broken")
    broken = Examined(record=Record(path="b/1.jpg", label="b", split="all"), sha256="x", failure=failure)
    found = said(dataset, [entry(1), broken])
    assert found["lost-class"].severity == "error"
    assert found["lost-class"].paths == ("b/1.jpg",)


def test_names_that_say_nothing_are_not_wrong(dataset: Dataset) -> None:
    for name, wrong in (
        ("x.jpeg", False),
        ("x.JPG", False),
        ("x", False),
        ("x.2019", False),
        ("x.png", True),
        ("x.txt", True),
    ):
        image = Examined(record=Record(path=f"a/{name}", label="a", split="all"), sha256="1", facts=entry(1).facts)
        assert ("wrong-extension" in said(dataset, [image])) == wrong, name


def test_the_placeholder_among_real_photos(shared: Path) -> None:
    found = {problem.kind: problem for problem in check(shared / "data/hymenoptera").problems}
    assert found["low-information"].paths == ("train/ants/imageNotFound.gif",)
    assert found["odd-format"].paths == ("train/ants/imageNotFound.gif",)
    assert not any(problem.severity == "error" for problem in found.values())
