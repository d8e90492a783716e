"""One pass: in order, each file once, bounded ahead, and what is known is not decoded again."""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path

import nasty
import numpy as np
import pytest

from convatlas.data import Dataset, DecodeError, Facts, Preprocessing, Record, decode, examine, scan
from convatlas.data import examine as public


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    for number in range(40):
        folder = tmp_path / "ab"[number % 2]
        folder.mkdir(exist_ok=True)
        (folder / f"{number:02}.jpg").write_bytes(nasty.encoded(nasty.photo(number, 40, 30)))
    (tmp_path / "a" / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    return scan(tmp_path)


@pytest.mark.parametrize("workers", [1, 4])
def test_in_order_with_pixels(dataset: Dataset, workers: int) -> None:
    small = Preprocessing(size=16, resize=18)
    found = list(examine(dataset, dataset.records, preprocessing=small, workers=workers))
    assert [entry.record for entry in found] == list(dataset.records)
    for entry in found:
        data = dataset.read(entry.record)
        assert entry.sha256 == hashlib.sha256(data).hexdigest()
        if entry.failure:
            assert entry.pixels is None and entry.facts is None
            assert str(entry.failure).startswith(dataset.locate(entry.record))
            assert entry.failure.__traceback__ is None
            continue
        image, facts = decode(data)
        assert entry.facts == facts
        assert entry.pixels is not None
        assert np.array_equal(entry.pixels, small.pixels(image))


def test_what_is_known_is_not_decoded(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    store: dict[str, Facts | DecodeError] = {}
    for entry in examine(dataset, dataset.records):
        store[entry.sha256] = entry.facts or entry.failure or pytest.fail("neither facts nor failure")
    decoded: list[int] = []
    module = __import__("sys").modules[public.__module__]
    monkeypatch.setattr(module, "decode", lambda data, **options: decoded.append(1) or decode(data, **options))
    again = list(examine(dataset, dataset.records, known=store.get))
    assert decoded == []
    assert sum(entry.facts is not None for entry in again) == 40
    assert [entry.failure.kind for entry in again if entry.failure] == ["truncated"]

    chosen = again[3].sha256
    third = list(
        examine(
            dataset, dataset.records, preprocessing=Preprocessing(), known=store.get, wanted=lambda sha: sha == chosen
        )
    )
    assert len(decoded) == 1
    assert [entry.sha256 for entry in third if entry.pixels is not None] == [chosen]


def test_stays_a_bounded_way_ahead_and_stops_when_closed(dataset: Dataset) -> None:
    reads: list[str] = []

    class Counting:
        def __getattr__(self, name: str) -> object:
            return getattr(dataset, name)

        def read(self, record: Record) -> bytes:
            reads.append(record.path)
            return dataset.read(record)

    many = dataset.records * 20
    stream = examine(Counting(), many)  # type: ignore[arg-type] - has what is asked of a data set
    for _ in range(5):
        next(stream)
    stream.close()
    for thread in threading.enumerate():
        if thread.name.startswith("examine"):
            thread.join(10)
    assert 5 <= len(reads) <= 5 + 64 + 8
    assert list(examine(dataset, ())) == []


def test_an_exception_in_the_loop_stops_it(dataset: Dataset) -> None:
    with pytest.raises(KeyboardInterrupt):
        for _ in examine(dataset, dataset.records * 20):
            raise KeyboardInterrupt
