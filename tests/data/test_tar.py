"""Tar archives are read in place: what is in them is what was put in, from any thread, and what is damaged or unsafe is said."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import tarfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nasty
import pytest
from typer.testing import CliRunner

from convatlas.cli.verbs import app
from convatlas.data import Dataset, DecodeError, check, scan
from convatlas.errors import ConvAtlasError

JPEG = nasty.encoded(nasty.photo(1, 8, 8))
FORMATS = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}
LONG = "x" * 90 + "/" + "é" * 40  # needs what each format does about long names


def tar(path: Path, files: Mapping[str, bytes], format_: int = tarfile.PAX_FORMAT) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=format_, encoding="utf-8") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def photos(*names: str) -> dict[str, bytes]:
    return {name: nasty.encoded(nasty.photo(number, 8 + number, 8)) for number, name in enumerate(names)}


def kinds(dataset: Dataset) -> dict[str, tuple[str, ...]]:
    return {problem.kind: problem.paths for problem in dataset.problems}


@pytest.mark.parametrize("format_", FORMATS.values(), ids=FORMATS)
def test_every_file_is_read_from_any_thread(tmp_path: Path, format_: int) -> None:
    files = photos(*(f"{label}/{number}.jpg" for label in "ab" for number in range(40)))
    files |= {f"./b/{LONG}.jpg": JPEG, "/a/rooted.jpg": JPEG}
    dataset = scan(tar(tmp_path / "x.tar", files, format_))
    expected = {name.removeprefix(".").removeprefix("/"): data for name, data in files.items()}
    assert dataset.layout == "class folders in a tar archive"
    assert {record.path for record in dataset.records} == set(expected)
    for source in (dataset, pickle.loads(pickle.dumps(dataset))):
        with ThreadPoolExecutor(8) as pool:
            read = list(pool.map(source.read, dataset.records * 5))
        assert read == [expected[record.path] for record in dataset.records] * 5
    assert dataset.locate(dataset.records[0]) == f"{tmp_path / 'x.tar'}/{dataset.records[0].path}"
    with pytest.raises(DecodeError, match="no such file"):
        dataset.source.read("a/99.jpg")


def test_the_later_of_two_members_of_one_name_counts(tmp_path: Path) -> None:
    path = tar(tmp_path / "x.tar", {"a/1.jpg": b"old", "b/1.jpg": JPEG})
    with tarfile.open(path, "a") as archive:
        info = tarfile.TarInfo("a/1.jpg")
        info.size = len(JPEG)
        archive.addfile(info, io.BytesIO(JPEG))
    dataset = scan(path)
    assert [dataset.read(record) for record in dataset.records] == [JPEG, JPEG]


def test_what_is_no_plain_file_or_points_outside_is_left_out_and_said(tmp_path: Path) -> None:
    path = tar(tmp_path / "x.tar", {**photos("a/1.jpg", "b/1.jpg"), "../evil/1.jpg": JPEG, "a/../../evil.jpg": JPEG})
    with tarfile.open(path, "a") as archive:
        for number, type_ in enumerate((tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE)):
            info = tarfile.TarInfo(f"a/special{number}.jpg")
            info.type, info.linkname = type_, "/etc/passwd" if type_ == tarfile.SYMTYPE else "b/1.jpg"
            archive.addfile(info)
    dataset = scan(path)
    assert [record.path for record in dataset.records] == ["a/1.jpg", "b/1.jpg"]
    assert kinds(dataset)["not-a-file"] == tuple(f"a/special{number}.jpg" for number in range(4))
    assert kinds(dataset)["junk"] == ("..", "a/..")


def test_an_archive_cut_anywhere_is_refused_or_said(tmp_path: Path) -> None:
    whole = tar(tmp_path / "x.tar", photos("a/1.jpg", "a/2.jpg", "b/1.jpg")).read_bytes()
    end = len(whole.rstrip(b"\0"))
    for length in range(1, end + 1200, 97):
        (tmp_path / "cut.tar").write_bytes(whole[:length])
        try:
            dataset = scan(tmp_path / "cut.tar")
        except ConvAtlasError as error:
            assert "cut.tar" in error.message
            assert error.remedy
        else:
            said = set(kinds(dataset)) & {"no-end-mark", "one-class"}
            assert said or len(dataset.records) == 3, length
            assert all(dataset.read(record) for record in dataset.records)


def test_a_damaged_header_is_named_with_its_place_and_does_not_end_the_archive_silently(tmp_path: Path) -> None:
    path = tar(tmp_path / "x.tar", photos("a/1.jpg", "b/1.jpg", "b/2.jpg"), tarfile.USTAR_FORMAT)
    with tarfile.open(path) as archive:
        offset = archive.getmembers()[1].offset
    data = bytearray(path.read_bytes())
    data[offset + 3] ^= 0x40
    path.write_bytes(data)
    with pytest.raises(ConvAtlasError, match=f"byte {offset:,} is damaged"):
        scan(path)


def test_a_size_below_zero_does_not_read_for_ever(tmp_path: Path) -> None:
    path = tar(tmp_path / "x.tar", photos("a/1.jpg", "b/1.jpg"), tarfile.GNU_FORMAT)
    data = bytearray(path.read_bytes())
    data[124:136] = (-1024).to_bytes(12, "big", signed=True)
    data[148:156] = b" " * 8
    data[148:156] = b"%06o\0 " % sum(data[:512])
    path.write_bytes(data)
    with pytest.raises(ConvAtlasError, match=r"x\.tar"):
        scan(path)


def test_a_file_that_was_there_and_is_gone_or_shorter_is_named(tmp_path: Path) -> None:
    path = tar(tmp_path / "x.tar", photos("a/1.jpg", "b/1.jpg"))
    dataset = scan(path)
    os.truncate(path, 600)
    with pytest.raises(DecodeError, match=r"b/1\.jpg.*ends before"):
        dataset.read(dataset.records[1])
    path.unlink()
    with pytest.raises(DecodeError, match=r"a/1\.jpg"):
        dataset.read(dataset.records[0])


@pytest.mark.parametrize("name", ["x.tar.gz", "x.tgz", "x.tar", "set/0.tar.gz", "set/0.tar"])
def test_compressed_archives_are_refused_with_the_remedy(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(gzip.compress(tar(tmp_path / "plain", photos("a/1.jpg", "b/1.jpg")).read_bytes()))
    with pytest.raises(ConvAtlasError, match="compressed") as caught:
        scan(path.parent if "/" in name else path)
    assert "Unpack" in caught.value.remedy


def shards(tmp_path: Path) -> Iterator[tuple[Path | str, int]]:
    """A folder of shards, a range and a pattern of it, and how many shards each means."""
    for number in range(12):
        tar(tmp_path / f"s/part-{number:03}.tar", photos(f"{'ab'[number % 2]}/{number}.jpg"))
    yield tmp_path / "s", 12
    yield tmp_path / "s" / "part-{000..011}.tar", 12
    yield str(tmp_path / "s" / "part-{002..003}.tar"), 2
    yield tmp_path / "s" / "part-00*.tar", 10


def test_several_archives_are_one_set(tmp_path: Path) -> None:
    for path, number in shards(tmp_path):
        dataset = scan(path)
        assert len(dataset.records) == number
        assert dataset.classes == ("a", "b")
        assert dataset.layout == f"class folders in {number} tar archives"
        again = pickle.loads(pickle.dumps(dataset))
        for record in dataset.records:
            assert again.read(record) == dataset.read(record)
            place = Path(dataset.locate(record))
            assert place.parent.parent.is_file(), place
    with pytest.raises(ConvAtlasError, match=r"of 14 archives .* 2 are not there: part-012\.tar, part-013\.tar"):
        scan(tmp_path / "s" / "part-{000..013}.tar")
    with pytest.raises(ConvAtlasError, match="there is no"):
        scan(tmp_path / "s" / "other-*.tar")


def test_folders_of_archives_are_splits_and_doubled_paths_are_said(tmp_path: Path) -> None:
    tar(tmp_path / "s/train/0.tar", photos("a/1.jpg", "b/1.jpg"))
    tar(tmp_path / "s/train/1.tar", photos("a/1.jpg", "b/2.jpg"))
    tar(tmp_path / "s/val/0.tar", photos("a/1.jpg", "b/1.jpg"))
    dataset = scan(tmp_path / "s")
    assert dataset.splits == {"train": 3, "val": 2}
    assert kinds(dataset)["repeated-member"] == ("train/a/1.jpg",)


def test_class_files_beside_images(tmp_path: Path) -> None:
    """WebDataset's layout: equal keys in two archives are two samples, and what lacks its other half is said."""
    pictures = photos("000.jpg", "001.jpeg", "002.png", "003.jpg", "003.seg.png", "004.jpg")
    labels = {
        "000.cls": b"1",
        "001.cls": b"ant\n",
        "002.cls": b"10",
        "003.cls": b"1",
        "005.cls": b"7",
        "006.cls": b"\xff",
    }
    tar(tmp_path / "s/0.tar", {**pictures, **labels, "000.json": b"{}"})
    tar(tmp_path / "s/1.tar", {**photos("000.jpg"), "000.cls": b"2"})
    dataset = scan(tmp_path / "s")
    assert dataset.layout == "images with .cls files in 2 tar archives"
    assert {record.path: record.label for record in dataset.records} == {
        "0.tar/000.jpg": "1",
        "0.tar/001.jpeg": "ant",
        "0.tar/002.png": "10",
        "0.tar/003.jpg": "1",
        "1.tar/000.jpg": "2",
    }
    said = kinds(dataset)
    assert said["unlabelled"] == ("0.tar/004.jpg",)
    assert said["no-image"] == ("0.tar/005",)
    assert said["unclear-class"] == ("0.tar/006.cls",)
    assert said["ignored-files"] == ("0.tar/000.json", "0.tar/003.seg.png")
    assert dataset.read(dataset.records[0]) == pictures["000.jpg"]
    assert dataset.locate(dataset.records[0]) == str(tmp_path / "s/0.tar/000.jpg")


@pytest.mark.parametrize("several", [False, True])
def test_class_files_in_splits(tmp_path: Path, several: bool) -> None:
    if several:
        for split in ("train", "val"):
            tar(tmp_path / f"s/{split}/0.tar", {**photos("0.jpg", "1.jpg"), "0.cls": b"a", "1.cls": b"b"})
        dataset = scan(tmp_path / "s")
    else:
        names = [f"{split}/{key}" for split in ("train", "val", "extra") for key in "01"]
        files = photos(*(f"{name}.jpg" for name in names)) | {f"{name}.cls": name[-1:].encode() for name in names}
        dataset = scan(tar(tmp_path / "x.tar", files))
        assert kinds(dataset)["outside-splits"] == ("extra/0.jpg", "extra/1.jpg")
    assert dataset.splits == {"train": 2, "val": 2}


def test_class_files_without_any_image(tmp_path: Path) -> None:
    with pytest.raises(ConvAtlasError, match="no image"):
        scan(tar(tmp_path / "x.tar", {"0.cls": b"a", "1.jpg": JPEG}))


def test_check_takes_an_archive(tmp_path: Path) -> None:
    path = tar(tmp_path / "photos.tar", photos(*(f"{label}/{number}.jpg" for label in "ab" for number in range(3))))
    assert check(path).facts()["decoded"] == 6
    outcome = CliRunner().invoke(app, ["check", str(path)])
    assert outcome.exit_code == 0, outcome.output
    assert "class folders in a tar archive" in outcome.output
