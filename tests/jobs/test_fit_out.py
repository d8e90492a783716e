"""The result appears whole or not at all, and nobody's files are lost for it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import convatlas
from convatlas.errors import ConvAtlasError
from convatlas.jobs.fit import FitResult, fit
from tiny import content, photo, state, write_photos


class Broken(Exception):
    """What no code catches."""


def raiser(error: type[BaseException]) -> Callable[..., Any]:
    def fail(*_: object, **__: object) -> Any:
        raise error("in the middle")

    return fail


# Everything that happens between the last choice and the finished folder.
MOMENTS = (
    "convatlas.jobs.decide.select",
    "convatlas.jobs.fit_json.scores",
    "convatlas.jobs.fit.write_thumbnails",
    "convatlas.jobs.probe_model.load_network",
    "safetensors.torch.save_file",
    "convatlas.bundle.save.example_images",
    "convatlas.jobs.probe_model.save",
    "convatlas.jobs.fit._write",
    "convatlas.report.render",
    "os.fsync",
    "convatlas.bundle.folder._swap",
)


@pytest.fixture
def earlier(fitted: FitResult, tmp_path: Path) -> Path:
    """A copy of an earlier result."""
    return Path(shutil.copytree(fitted.bundle, tmp_path / "model"))


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("error", [Broken, KeyboardInterrupt])
def test_a_failure_at_any_moment_leaves_all_as_it_was(
    photos: Path,
    backbone: Path,
    earlier: Path,
    moment: str,
    error: type[BaseException],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fit(photos, weights=backbone, out=earlier.with_name("warm"), report=False)  # so that the cache is full
    before = state(earlier.parent)
    monkeypatch.setattr(moment, raiser(error))
    for out in (earlier, earlier.with_name("new")):
        with pytest.raises(error, match="in the middle"):
            fit(photos, weights=backbone, out=out)
        (after := state(earlier.parent)).pop(".")
        assert after == {name: entry for name, entry in before.items() if name != "."}


@pytest.mark.parametrize("moment", ["safetensors.torch.save_file", "os.fsync", "convatlas.jobs.fit._write"])
def test_a_full_disk_is_said_and_leaves_all_as_it_was(
    photos: Path, backbone: Path, earlier: Path, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = content(earlier.parent)
    monkeypatch.setattr(moment, raiser(OSError))
    with pytest.raises(
        ConvAtlasError, match="model: cannot be written .*in the middle.* Give another folder with --out"
    ):
        fit(photos, weights=backbone, out=earlier)
    assert content(earlier.parent) == before


@pytest.mark.parametrize("which", [1, 2])
@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_a_failure_while_folders_change_places_keeps_the_earlier_result(
    photos: Path, backbone: Path, earlier: Path, which: int, error: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    before, rename, calls = content(earlier), Path.rename, 0

    def fail(self: Path, target: Path) -> Path:
        nonlocal calls
        if self.is_dir():
            calls += 1
            if calls == which:
                raise error("in the middle")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises((ConvAtlasError, KeyboardInterrupt)):
        fit(photos, weights=backbone, out=earlier, report=False)
    assert content(earlier) == before
    assert [path.name for path in earlier.parent.iterdir()] == ["model"]


def test_what_was_computed_before_a_failure_is_not_computed_again(
    photos: Path, backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("convatlas.jobs.decide.select", raiser(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            fit(photos, weights=backbone, out=tmp_path / "m", report=False)
    result = fit(photos, weights=backbone, out=tmp_path / "m", report=False)
    assert result.json["counts"] == {"decoded": 0, "forwarded": 0, "from_cache": 36}


def test_an_earlier_result_is_replaced_whole(photos: Path, backbone: Path, tmp_path: Path) -> None:
    write_photos(tmp_path / "others", 0, 5, ("red", "blue"))
    (tmp_path / "others/red/000.png").write_bytes(photo("blue", 99).tobytes())  # junk: more problems, no mistakes
    first = fit(tmp_path / "others", weights=backbone, out=tmp_path / "model")
    assert first.report is not None and first.report.is_file()
    second = fit(photos, weights=backbone, out=tmp_path / "model", report=False)
    assert not (second.bundle / "report.html").exists()
    assert convatlas.load(second.bundle).classes == ("blue", "green", "red")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "others"]


@pytest.mark.parametrize("name", ["thesis.doc", ".hidden", "assets/mine.jpg", "examples/deep/er.txt"])
def test_a_folder_with_anything_else_is_left_alone(photos: Path, backbone: Path, earlier: Path, name: str) -> None:
    (earlier / name).parent.mkdir(exist_ok=True)
    (earlier / name).write_text("years of work")
    before = state(earlier)
    with pytest.raises(ConvAtlasError, match=f"holds '{name}', which ConvAtlas did not write.* Give another folder"):
        fit(photos, weights=backbone, out=earlier)
    assert state(earlier) == before


def test_a_foreign_folder_is_refused_before_any_work(
    photos: Path, backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/a.txt").write_text("1")
    (tmp_path / "mine/b.txt").write_text("2")
    monkeypatch.setattr("convatlas.jobs.material.extract_features", raiser(Broken))
    with pytest.raises(ConvAtlasError, match="holds 'a.txt' and more"):
        fit(photos, weights=backbone, out=tmp_path / "mine")


@pytest.mark.parametrize("out", ["file", "file/below", "."])
def test_a_place_that_cannot_be_a_folder_of_ours_is_refused(
    photos: Path, backbone: Path, tmp_path: Path, out: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    place = Path(out) if out == "." else tmp_path / out
    with pytest.raises(ConvAtlasError, match=r"Give another folder|Give the name of a new folder"):
        fit(photos, weights=backbone, out=place, report=False)
    assert content(tmp_path).keys() == {".", "file", "empty"}


def test_an_empty_folder_and_missing_parents_will_do(photos: Path, backbone: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for out in (tmp_path / "empty", tmp_path / "a b" / "été" / "model"):
        assert fit(photos, weights=backbone, out=out, report=False).bundle == out
        assert convatlas.load(out).classes == ("blue", "green", "red")


def test_a_link_to_an_earlier_result_can_be_written_through(photos: Path, backbone: Path, earlier: Path) -> None:
    link = earlier.with_name("link")
    link.symlink_to(earlier)
    result = fit(photos, weights=backbone, out=link, report=False)
    assert convatlas.load(link).classes == convatlas.load(result.bundle).classes
    assert {path.name for path in earlier.parent.iterdir()} == {"model", "link"}


def test_relative_and_home_paths(photos: Path, backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    fit(photos, weights=backbone, out="here", report=False)
    fit(photos, weights=backbone, out="~/there", report=False)
    assert (tmp_path / "here/config.json").is_file()
    assert (tmp_path / "there/config.json").is_file()


def test_without_a_name_the_result_goes_beside_earlier_ones(
    photos: Path, backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names = [str(fit(photos, weights=backbone, report=False).bundle) for _ in range(3)]
    assert names == ["stripes-classifier", "stripes-classifier-2", "stripes-classifier-3"]
    assert all((tmp_path / name / "fit.json").is_file() for name in names)


@pytest.mark.parametrize("layout", [".", "..", "named"])
def test_a_result_never_lands_among_the_images(
    backbone: Path, tmp_path: Path, layout: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else its example images would be a class in the next run."""
    root = tmp_path / "here" / "photos"
    write_photos(root, 0, 3)
    monkeypatch.chdir(root if layout != ".." else root / "red")
    before = state(root)
    if layout == "named":
        with pytest.raises(ConvAtlasError, match=r"lies inside the images.* Give a folder elsewhere"):
            fit(root, weights=backbone, out=root / "model", report=False)
    else:
        for _ in range(2):
            result = fit(layout, weights=backbone, report=False)
            assert result.json["images"]["train"] == 9
            assert result.bundle.is_dir()
    assert state(root) == before


def test_a_cache_that_cannot_be_used_costs_time_only(
    photos: Path, backbone: Path, tmp_path: Path, fitted: FitResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("CONVATLAS_CACHE", str(tmp_path / "file"))
    with pytest.warns(UserWarning, match="the run goes on without it"):
        result = fit(photos, weights=backbone, out=tmp_path / "model", report=False)
    assert result.json["confusion"] == fitted.json["confusion"]
    assert (tmp_path / "file").read_text() == "in the way"


def test_the_cache_is_pruned_but_not_of_what_was_just_used(
    photos: Path, backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = Path(os.environ["CONVATLAS_CACHE"])
    (cache / "old.sqlite").write_bytes(b"x" * 10_000)
    monkeypatch.setenv("CONVATLAS_CACHE_LIMIT", "1K")
    fit(photos, weights=backbone, out=tmp_path / "model", report=False)
    assert not (cache / "old.sqlite").exists()
    assert fit(photos, weights=backbone, out=tmp_path / "model", report=False).json["counts"]["forwarded"] == 0


def test_a_limit_that_is_no_size_is_refused_before_any_work(
    photos: Path, backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONVATLAS_CACHE_LIMIT", "plenty")
    with pytest.raises(ConvAtlasError, match="'plenty' is not a size"):
        fit(photos, weights=backbone, out=tmp_path / "model", report=False)
    assert not (tmp_path / "model").exists()


def test_two_fits_without_a_folder_s_name_take_two(
    photos: Path, backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second has begun and ended while the first was at work; a third is being written when the first comes to it."""
    monkeypatch.chdir(tmp_path)
    decide, others = convatlas.jobs.fit.decide, list[Path]()

    def slowly(*args: Any, **options: Any) -> Any:
        if not others:
            others.append(tmp_path)  # those that begin now do not wait for another
            others.append(fit(photos, weights=backbone, report=False).bundle)
            (tmp_path / f".{others[-1].name}-2.partial-0").mkdir()
        return decide(*args, **options)

    monkeypatch.setattr("convatlas.jobs.fit.decide", slowly)
    first = fit(photos, weights=backbone, report=False).bundle
    assert others[-1].is_dir() and first.name == f"{others[-1].name}-3"
