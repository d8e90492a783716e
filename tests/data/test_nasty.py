"""Every case is named with its files and a remedy, in a folder and in an archive, and nothing is changed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path

import nasty
import pytest

from convatlas.data import CheckResult, check
from convatlas.data.problems import Problem


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return nasty.build(tmp_path_factory.mktemp("nasty") / "insects")


@pytest.fixture(scope="module")
def result(folder: Path) -> CheckResult:
    return check(folder)


def by_kind(result: CheckResult) -> Mapping[str, list[Problem]]:
    found: dict[str, list[Problem]] = {}
    for problem in result.problems:
        found.setdefault(problem.kind, []).append(problem)
    return found


def test_nothing_else_is_said(result: CheckResult) -> None:
    assert set(by_kind(result)) == set(nasty.EXPECTED)


@pytest.mark.parametrize("kind", nasty.EXPECTED)
def test_each_case_is_named(result: CheckResult, kind: str) -> None:
    severity, paths, words = nasty.EXPECTED[kind]
    (problem,) = by_kind(result)[kind]
    assert problem.severity == severity
    if paths:
        assert set(problem.paths) == paths
    said = f"{problem.message} {problem.remedy}"
    for word in words:
        assert word in said
    assert problem.remedy.endswith(".")
    for path in problem.paths[:3]:
        assert path in problem.message


def test_sound_files_are_accepted(result: CheckResult) -> None:
    decoded = {entry.record.path for entry in result.examined if entry.facts}
    for name in ("UPPER.JPG", "no_extension", "été 蜂 bee.jpg", "good00.jpg"):
        assert f"train/ants/{name}" in decoded


def test_errors_come_first_and_make_it_unsound(result: CheckResult) -> None:
    severities = [problem.severity for problem in result.problems]
    assert severities == sorted(severities, key=["error", "warning", "note"].index)
    assert not result.sound
    assert result.count("error") == sum(severity == "error" for severity, _, _ in nasty.EXPECTED.values())


@pytest.mark.parametrize("inside", ["", "wrapping folder"])
@pytest.mark.parametrize("pack", [nasty.zipped, nasty.tarred, nasty.sharded])
def test_archive_says_the_same(
    folder: Path, result: CheckResult, tmp_path: Path, pack: Callable[..., Path], inside: str
) -> None:
    ending = {nasty.zipped: "zip", nasty.tarred: "tar"}.get(pack, "d")
    archive = check(pack(folder, tmp_path / f"insects.{ending}", inside=inside))
    prefix = f"{inside}/" if inside else ""
    ours = [
        json.dumps(problem.to_json(), ensure_ascii=False) for problem in archive.problems if problem.kind != "wrapped"
    ]
    theirs = [json.dumps(problem.to_json(), ensure_ascii=False) for problem in result.problems]
    assert sorted(text.replace(prefix, "") for text in ours) == sorted(theirs)
    assert archive.dataset.classes == result.dataset.classes
    assert archive.dataset.splits == result.dataset.splits


def test_json(result: CheckResult, folder: Path) -> None:
    said = json.loads(json.dumps(result.to_json()))
    assert said["schema"] == "convatlas.check/1"
    assert said["path"] == str(folder)
    assert said["layout"] == "split folders"
    assert said["classes"] == ["ants", "bees", "flies"]
    assert said["splits"]["val"] == {"ants": 4, "bees": 3, "flies": 0, "hornets": 1}
    assert said["images"] == sum(sum(counts.values()) for counts in said["splits"].values())
    assert said["facts"]["failed"] == sum(entry.failure is not None for entry in result.examined) == 10
    assert set(said["problems"][0]) == {"kind", "severity", "paths", "message", "remedy"}


def test_progress_and_nothing_is_changed(folder: Path) -> None:
    def state() -> dict[str, str]:
        return {
            str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*") if path.is_file()
        }

    before, seen = state(), list[tuple[int, int]]()
    result = check(folder, progress=lambda done, total: seen.append((done, total)))
    total = len(result.dataset.records)
    assert seen == [(done, total) for done in range(1, total + 1)]
    assert state() == before
