"""Whatever fails while a checkpoint is written, and whatever is damaged later, there is one to go on from."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from convatlas.errors import ConvAtlasError
from convatlas.train import checkpoint
from convatlas.train.checkpoint import Checkpoint, newest, save


def made(step: int) -> Checkpoint:
    tensors = {"a": torch.full((3, 4), step / 3), "counter": torch.tensor(step), "half": torch.rand(5).half()}
    return Checkpoint(step=step, tensors=tensors, state={"total": 0.1 * step, "rows": [{"loss": 1 / 3}]})


def same(one: Checkpoint | None, other: Checkpoint) -> bool:
    return (
        one is not None
        and (one.step, one.state, one.tensors.keys()) == (other.step, other.state, other.tensors.keys())
        and all(torch.equal(one.tensors[key], x) for key, x in other.tensors.items())
    )


def test_what_was_saved_is_read_and_two_are_kept(tmp_path: Path) -> None:
    for step in (3, 7, 20):
        save(tmp_path, last := made(step))
    assert same(newest(tmp_path), last)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        f"step-{step:09d}.{ending}" for step in (7, 20) for ending in ("json", "safetensors")
    ]


def test_no_checkpoint_is_none(tmp_path: Path) -> None:
    assert newest(tmp_path / "nowhere") is None


@pytest.fixture
def fails_at(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, BaseException], list[int]]:
    """Makes the nth call that changes the disk fail, counted over all kinds; the list holds how many there were."""

    def arm(n: int, error: BaseException) -> list[int]:
        count = [0]

        def failing(real: Callable[..., Any], partly: bool = False) -> Callable[..., Any]:
            def call(*args: Any, **kwargs: Any) -> Any:
                count[0] += 1
                if count[0] == n:
                    if partly:  # half of it arrives before the disk is full
                        real(args[0], args[1][: len(args[1]) // 2])
                    raise error
                return real(*args, **kwargs)

            return call

        monkeypatch.setattr(os, "write", failing(os.write, partly=True))
        monkeypatch.setattr(os, "fsync", failing(os.fsync))
        monkeypatch.setattr(Path, "replace", failing(Path.replace))
        monkeypatch.setattr(Path, "open", failing(Path.open))
        return count

    return arm


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device"), OSError(5, "Input/output error"), KeyboardInterrupt()]
)
def test_whichever_call_fails_the_checkpoint_before_can_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails_at: Callable[..., list[int]], error: BaseException
) -> None:
    before, after = made(1), made(2)
    failures = 0
    for n in range(1, 100):
        folder = tmp_path / str(n)
        save(folder, before)
        with monkeypatch.context(), pytest.MonkeyPatch.context():
            count = fails_at(n, error)
            try:
                save(folder, after)
            except (OSError, KeyboardInterrupt):
                failures += 1
            reached = count[0] >= n
            monkeypatch.undo()
        found = newest(folder)
        assert same(found, before) or same(found, after)
        save(folder, after)  # once the disk is well again
        assert same(newest(folder), after)
        assert len(list(folder.iterdir())) == 4
        if not reached:
            break
    assert failures >= 8  # two files: open, write, flush, move, and the folder's names


@pytest.mark.parametrize("ending", ["json", "safetensors"])
@pytest.mark.parametrize("damage", ["cut", "bit", "gone", "empty"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_taken(tmp_path: Path, ending: str, damage: str) -> None:
    save(tmp_path, first := made(1))
    save(tmp_path, made(2))
    file = tmp_path / f"step-000000002.{ending}"
    data = bytearray(file.read_bytes())
    if damage == "gone":
        file.unlink()
    else:
        data[len(data) // 2] ^= 1
        file.write_bytes({"cut": data[: len(data) // 2], "bit": data, "empty": b""}[damage])
    said: list[str] = []
    assert same(newest(tmp_path, said.append), first)
    assert len(said) == (0 if (ending, damage) == ("json", "gone") else 1)  # without it, it never arrived
    assert all("step-000000002 is damaged" in line for line in said)


def test_a_damaged_one_takes_no_place_of_a_sound_one(tmp_path: Path) -> None:
    save(tmp_path, made(1))
    save(tmp_path, made(9))
    (tmp_path / "step-000000009.safetensors").write_bytes(b"")
    save(tmp_path, second := made(2))  # gone on from 1
    save(tmp_path, third := made(3))
    assert same(newest(tmp_path), third)
    (tmp_path / "step-000000003.safetensors").write_bytes(b"")
    assert same(newest(tmp_path), second)


def test_all_damaged_is_an_error(tmp_path: Path) -> None:
    save(tmp_path, made(1))
    (tmp_path / "step-000000001.json").write_text(json.dumps({"sha256": "", "body": {}}))
    with pytest.raises(ConvAtlasError, match="all 1 checkpoints are damaged"):
        newest(tmp_path)


def test_files_of_others_stay(tmp_path: Path) -> None:
    (tmp_path / "step-notes.json").write_text("mine")
    for step in range(4):
        save(tmp_path, made(step))
    assert (tmp_path / "step-notes.json").read_text() == "mine"
    assert checkpoint.KEPT == 2
