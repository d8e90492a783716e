"""A folder appears whole, or everything stays as it was."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from convatlas.bundle.folder import MARK, ensure_replaceable, whole_folder
from convatlas.errors import ConvAtlasError
from tiny import content


def write(target: Path, text: str, *names: str) -> None:
    with whole_folder(target) as folder:
        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_nothing_is_seen_before_the_end(tmp_path: Path) -> None:
    target = tmp_path / "model"
    with whole_folder(target) as folder:
        (folder / "a").write_text("1")
        assert not target.exists()
        assert folder.parent == tmp_path  # on the same disk, so that moving it is one step
    assert names(target) == {"a", MARK}
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_the_mark_lists_what_was_written(tmp_path: Path) -> None:
    write(tmp_path / "model", "1", "b", "a", "sub/été c")
    assert (tmp_path / "model" / MARK).read_text(encoding="utf-8") == "a\nb\nsub/été c\n"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit, GeneratorExit])
@pytest.mark.parametrize("earlier", [True, False])
def test_any_error_leaves_all_as_it_was(tmp_path: Path, error: type[BaseException], earlier: bool) -> None:
    if earlier:
        write(tmp_path / "model", "old", "a", "b/c")
    before = content(tmp_path)
    with pytest.raises(error), whole_folder(tmp_path / "model") as folder:
        (folder / "a").write_text("half")
        raise error
    assert content(tmp_path) == before


def test_a_new_result_replaces_the_earlier_one_with_all_its_files(tmp_path: Path) -> None:
    write(tmp_path / "model", "old", "a", "gone", "sub/gone")
    write(tmp_path / "model", "new", "a", "other/b")
    assert names(tmp_path / "model") == {"a", "other/b", MARK}
    assert (tmp_path / "model/a").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_what_a_user_changed_or_removed_in_it_does_not_matter(tmp_path: Path) -> None:
    write(tmp_path / "model", "old", "a", "b")
    (tmp_path / "model/a").write_text("edited")
    (tmp_path / "model/b").unlink()
    write(tmp_path / "model", "new", "a")
    assert (tmp_path / "model/a").read_text() == "new"


@pytest.mark.parametrize("name", ["mine", ".hidden", "sub/mine", f"sub/{MARK}"])
def test_what_a_user_added_to_it_does(tmp_path: Path, name: str) -> None:
    write(tmp_path / "model", "old", "a", "sub/b")
    (tmp_path / "model" / name).write_text("work")
    before = content(tmp_path)
    with pytest.raises(ConvAtlasError, match=f"holds '{name}'"), whole_folder(tmp_path / "model"):
        raise AssertionError("not reached")
    assert content(tmp_path) == before


@pytest.mark.parametrize("name", [".DS_Store", "sub/Thumbs.db"])
def test_what_looking_into_it_left_behind_does_not(tmp_path: Path, name: str) -> None:
    write(tmp_path / "model", "old", "a", "sub/b")
    (tmp_path / "model" / name).write_text("icons")
    write(tmp_path / "model", "new", "a")
    assert names(tmp_path / "model") == {"a", MARK}


def test_a_folder_without_our_mark_is_foreign(tmp_path: Path) -> None:
    write(tmp_path / "model", "old", "a")
    (tmp_path / "model" / MARK).unlink()
    with pytest.raises(ConvAtlasError, match="holds 'a', which ConvAtlas did not write"):
        ensure_replaceable(tmp_path / "model")


@pytest.mark.parametrize("mark", ["../elsewhere\n", "/etc/passwd\n", "\n"])
def test_a_strange_mark_frees_no_file(tmp_path: Path, mark: str) -> None:
    (tmp_path / "elsewhere").write_text("work")
    (tmp_path / "model").mkdir()
    (tmp_path / "model/mine").write_text("work")
    (tmp_path / "model" / MARK).write_text(mark)
    with pytest.raises(ConvAtlasError, match="holds 'mine'"):
        ensure_replaceable(tmp_path / "model")
    (tmp_path / "model/mine").unlink()
    write(tmp_path / "model", "new", "a")
    assert (tmp_path / "elsewhere").read_text() == "work"


def test_an_empty_folder_is_free_and_a_file_is_not(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("work")
    ensure_replaceable(tmp_path / "empty")
    ensure_replaceable(tmp_path / "absent")
    with pytest.raises(ConvAtlasError, match="is a file"):
        ensure_replaceable(tmp_path / "file")


def test_the_working_directory_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for target in (Path(), tmp_path, Path("../") / tmp_path.name):
        with pytest.raises(ConvAtlasError, match="is the working directory"):
            ensure_replaceable(target)


def test_leftovers_of_a_killed_run_are_not_in_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.getpid", lambda: 77)  # the number may come again
    (tmp_path / ".model.partial-77").mkdir()
    (tmp_path / ".model.partial-77/stale").write_text("half")
    write(tmp_path / "model", "new", "a")
    assert names(tmp_path / "model") == {"a", MARK}
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_disk_error_names_the_place_and_the_remedy(tmp_path: Path) -> None:
    with (
        pytest.raises(
            ConvAtlasError, match=r"model: cannot be written \(no space left\)\. Give another folder with --out\."
        ),
        whole_folder(tmp_path / "model"),
    ):
        raise OSError("no space left")
    assert not list(tmp_path.iterdir())


def test_two_at_once_do_not_mix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = iter(range(100))
    monkeypatch.setattr("os.getpid", lambda: next(numbers))
    with whole_folder(tmp_path / "model") as first:
        (first / "a").write_text("first")
        shutil.copytree(first, tmp_path / "kept")
        with whole_folder(tmp_path / "model") as second:
            assert first != second
            (second / "b").write_text("second")
        assert names(tmp_path / "model") == {"b", MARK}
        assert content(first) == content(tmp_path / "kept")
    assert names(tmp_path / "model") == {"a", MARK}
