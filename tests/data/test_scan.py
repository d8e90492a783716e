"""Layouts are read as people have them, and what is ambiguous is refused with what was seen."""

from __future__ import annotations

import os
import pickle
import sys
import zipfile
from pathlib import Path

import nasty
import pytest

from convatlas.data import Dataset, DecodeError, check, examine, scan
from convatlas.errors import ConvAtlasError

JPEG = nasty.encoded(nasty.photo(1, 8, 8))


def make(root: Path, *paths: str) -> Path:
    for number, path in enumerate(paths):
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(nasty.encoded(nasty.photo(number, 8, 8)))
    return root


def kinds(dataset: Dataset) -> set[str]:
    return {problem.kind for problem in dataset.problems}


@pytest.mark.parametrize("val", ["val", "valid", "validation", "VAL", "Validation"])
def test_split_folders(tmp_path: Path, val: str) -> None:
    root = make(
        tmp_path, "Train/a/1.jpg", "Train/b/1.jpg", f"{val}/a/1.jpg", f"{val}/b/1.JPEG", "test/a/x.png", "test/b/y"
    )
    dataset = scan(root)
    assert dataset.layout == "split folders"
    assert dataset.splits == {"train": 2, "val": 2, "test": 2}
    assert dataset.classes == ("a", "b")
    assert [record.path for record in dataset.of("val")] == [f"{val}/a/1.jpg", f"{val}/b/1.JPEG"]
    assert kinds(dataset) == {"few-images"}
    assert pickle.loads(pickle.dumps(dataset)).read(dataset.records[0]) == dataset.read(dataset.records[0])


def test_class_folders_and_order(tmp_path: Path) -> None:
    root = make(tmp_path, "1/a.jpg", "10/a.jpg", "2/a.jpg")
    assert scan(str(root)).classes == ("1", "10", "2")
    assert scan(root, class_order="natural").classes == ("1", "2", "10")
    assert scan(root).splits == {"all": 3}
    with pytest.raises(ConvAtlasError, match="random"):
        scan(root, class_order="random")  # type: ignore[arg-type] - what is wrong with it


def test_train_is_also_a_vehicle(tmp_path: Path) -> None:
    dataset = scan(make(tmp_path, "train/1.jpg", "train/2.jpg", "car/1.jpg", "car/2.jpg"))
    assert dataset.classes == ("car", "train")
    assert dataset.splits == {"all": 4}


def test_wrapping_folders_are_entered(tmp_path: Path) -> None:
    root = make(tmp_path, "download/set/train/a/1.jpg", "download/set/train/b/1.jpg")
    dataset = scan(root)
    assert dataset.splits == {"train": 2}
    assert "wrapped" in kinds(dataset)
    assert dataset.records[0].path == "download/set/train/a/1.jpg"


def test_images_beside_the_splits(tmp_path: Path) -> None:
    dataset = scan(make(tmp_path, "train/a/1.jpg", "train/b/1.jpg", "extra/a/1.jpg", "test/1.jpg"))
    said = {problem.kind: problem.paths for problem in dataset.problems}
    assert said["outside-splits"] == ("extra/a/1.jpg",)
    assert said["unlabelled"] == ("test/1.jpg",)


def test_equal_names_in_two_unicode_forms_are_one_class(tmp_path: Path) -> None:
    dataset = scan(make(tmp_path, "train/café/1.jpg", "train/b/1.jpg", "val/cafe\u0301/1.jpg", "val/b/1.jpg"))
    assert dataset.classes == ("b", "café")
    assert "unknown-class" not in kinds(dataset)


def test_case_clash_and_a_class_that_differs_in_case(tmp_path: Path) -> None:
    root = make(tmp_path, "train/Ants/1.jpg", "train/bees/1.jpg", "val/ants/1.jpg", "val/bees/1.jpg")
    said = {problem.kind: problem for problem in scan(root).problems}
    assert "only in case" in said["unknown-class"].message
    assert "Ants, ants" in said["case-clash"].message


def test_one_class_is_an_error(tmp_path: Path) -> None:
    (problem,) = scan(make(tmp_path, "cats/1.jpg", "cats/2.jpg")).problems
    assert (problem.kind, problem.severity) == ("one-class", "error")


@pytest.mark.parametrize(
    ("paths", "words"),
    [
        ((), "no images"),
        (("1.jpg", "2.jpg"), "no class folders"),
        (("train/1.jpg", "val/2.jpg"), "directly"),
        (("val/a/1.jpg", "valid/a/1.jpg", "train/a/1.jpg"), "2 folders for the val split"),
    ],
)
def test_what_is_no_layout_is_explained(tmp_path: Path, paths: tuple[str, ...], words: str) -> None:
    with pytest.raises(ConvAtlasError, match=words) as caught:
        scan(make(tmp_path, *paths))
    assert caught.value.remedy


def test_table_beside_loose_images_is_pointed_at(tmp_path: Path) -> None:
    make(tmp_path, "1.jpg")
    (tmp_path / "labels.csv").write_text("path,label\n1.jpg,a\n")
    with pytest.raises(ConvAtlasError, match=r"labels\.csv"):
        scan(tmp_path)


def test_paths_that_hold_nothing(tmp_path: Path) -> None:
    make(tmp_path, "photos/a/1.jpg")
    with pytest.raises(ConvAtlasError, match="holds photos"):
        scan(tmp_path / "fotos")
    (tmp_path / "x.txt").write_text("hello")
    with pytest.raises(ConvAtlasError, match="not a folder, a zip or tar archive or a CSV"):
        scan(tmp_path / "x.txt")
    (tmp_path / "x.zip").write_bytes(b"PK\x03\x04 broken")
    with pytest.raises(ConvAtlasError, match="cannot be opened"):
        scan(tmp_path / "x.zip")


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights on Windows")
def test_links_are_followed_once_and_loops_cut(tmp_path: Path) -> None:
    make(tmp_path / "pool", "b1.jpg", "b2.jpg")
    root = make(tmp_path / "set", "train/a/1.jpg", "val/a/1.jpg")
    (root / "train/b").symlink_to(tmp_path / "pool")
    (root / "val/b").symlink_to(tmp_path / "pool")
    (root / "train/a/loop").symlink_to(root)
    (root / "train/a/gone.jpg").symlink_to(root / "nowhere.jpg")
    dataset = scan(root)
    assert dataset.splits == {"train": 4, "val": 3}
    (loop,) = [problem for problem in dataset.problems if problem.kind == "link-loop"]
    assert loop.paths == ("train/a/loop",)
    failures = [entry for entry in examine(dataset, dataset.records) if entry.failure]
    assert [(entry.record.path, entry.failure.kind) for entry in failures if entry.failure] == [
        ("train/a/gone.jpg", "unreadable")
    ]


@pytest.mark.skipif(sys.platform != "linux", reason="names are bytes on Linux only")
def test_names_that_are_not_text(tmp_path: Path) -> None:
    root = make(tmp_path / "set", "a/1.jpg", "b/1.jpg", "b/two words ü.jpg")
    os.makedirs(os.fsencode(root) + b"/c\xff")  # noqa: PTH103 - a name of bytes
    Path(os.fsdecode(os.fsencode(root) + b"/c\xff/x\n\xe9.jpg")).write_bytes(b"")
    result = check(root)
    assert result.dataset.classes == ("a", "b", "c\\udcff")
    (problem,) = [problem for problem in result.problems if problem.kind == "empty"]
    assert problem.paths == ("c\\udcff/x\\n\\udce9.jpg",)
    str(result.to_json()).encode()
    odd = next(record for record in result.dataset.records if record.label.startswith("c"))
    assert result.dataset.read(odd) == b""
    assert pickle.loads(pickle.dumps(result.dataset)).read(odd) == b""


@pytest.mark.skipif(sys.platform == "win32", reason="no pipes in folders on Windows")
def test_pipes_do_not_block(tmp_path: Path) -> None:
    root = make(tmp_path / "set", "a/1.jpg", "b/1.jpg")
    os.mkfifo(root / "a/pipe.jpg")
    assert scan(root).splits == {"all": 2}
    (tmp_path / "t.csv").write_text("path,label\nset/a/pipe.jpg,a\nset/b/1.jpg,b\n")
    dataset = scan(tmp_path / "t.csv")
    with pytest.raises(DecodeError, match="not an ordinary file"):
        dataset.read(dataset.records[0])


def test_archive_names(tmp_path: Path) -> None:
    archive = tmp_path / "x.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("a/1.jpg", JPEG)
        info = zipfile.ZipInfo("été/1.jpg".encode().decode("cp437"))
        file.writestr(info, JPEG)
        file.writestr("../evil/1.jpg", JPEG)
    raw = archive.read_bytes()
    archive.write_bytes(raw)
    dataset = scan(archive)
    assert dataset.classes[0] == "a"
    assert dataset.layout == "class folders in a zip archive"
    assert len(dataset.records) == 2
    assert dataset.locate(dataset.records[0]) == f"{archive}/a/1.jpg"
    assert pickle.loads(pickle.dumps(dataset)).read(dataset.records[0]) == JPEG


def test_damaged_archive_member_is_named(tmp_path: Path) -> None:
    archive = tmp_path / "x.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("a/1.jpg", JPEG)
        file.writestr("b/1.jpg", JPEG[:100] + b"!" + JPEG[101:])
    archive.write_bytes(archive.read_bytes().replace(JPEG, JPEG[:-3] + b"???", 1))
    result = check(archive)
    (problem,) = [problem for problem in result.problems if problem.kind == "unreadable"]
    assert problem.paths == ("a/1.jpg",)


@pytest.mark.parametrize(
    "header", ["path,label", "image;class", "filename\ttarget", "File_Name,Label", "\ufeffpath,label"]
)
def test_tables(tmp_path: Path, header: str) -> None:
    make(tmp_path, "photos/1.jpg", "photos/2.jpg")
    mark = next(mark for mark in ",;\t" if mark in header)
    lines = [header, f"photos/1.jpg{mark}ant", "", f"photos\\2.jpg{mark} bee "]
    (tmp_path / "t.csv").write_text("\r\n".join(lines) + "\r\n", encoding="utf-8")
    result = check(tmp_path / "t.csv")
    assert result.dataset.layout == "csv"
    assert result.dataset.classes == ("ant", "bee")
    assert result.facts()["decoded"] == 2
    assert pickle.loads(pickle.dumps(result.dataset)) == result.dataset


def test_table_with_splits_groups_and_mistakes(tmp_path: Path) -> None:
    make(tmp_path, *(f"{number}.jpg" for number in range(6)))
    rows = ["path,label,split,group", "0.jpg,a,train,p1", "1.jpg,b,Train,p2", "2.jpg,a,valid,", "3.jpg,b,,p3"]
    rows += ["0.jpg,b,train,p1", "1.jpg,b,train,p2", "4.jpg,,train,", "gone.jpg,a,test,"]
    (tmp_path / "t.csv").write_text("\n".join(rows))
    result = check(tmp_path / "t.csv")
    assert result.dataset.splits == {"train": 3, "val": 1, "test": 1}
    assert {record.path: record.group for record in result.dataset.records}["0.jpg"] == "p1"
    said = {problem.kind: problem.paths for problem in result.problems}
    assert said["conflicting-labels"] == ("0.jpg",)
    assert said["repeated-row"] == ("1.jpg",)
    assert said["unlabelled"] == ("4.jpg",)
    assert said["no-split"] == ("3.jpg",)
    assert said["unreadable"] == ("gone.jpg",)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no column for the path"),
        ("file,label\n", "first line is 'file, label'"),
        ("path,image,label\n", "2 columns for the path"),
        ("path,label\n", "no labelled images"),
        ("path,label,split\n1.jpg,a,dev\n", "line 2.*'dev'"),
        ("path,label\n,a\n", "line 2.*no file"),
    ],
)
def test_tables_that_cannot_be_read(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(ConvAtlasError, match=words):
        scan(tmp_path / "t.csv")


def test_table_in_another_encoding(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes("path,label\n1.jpg,café\n".encode("latin-1"))
    with pytest.raises(ConvAtlasError, match="UTF-8"):
        scan(tmp_path / "t.csv")
