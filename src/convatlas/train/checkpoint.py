"""Checkpoints: the tensors of a training run as safetensors, everything else as JSON, there whole or not at all.

A checkpoint is two files, `step-000000123.safetensors` and then `step-000000123.json`, each written beside its place, flushed to the disk
and moved there (Pillai et al. All File Systems Are Not Created Equal. OSDI 2014, on what a crash leaves otherwise). The second holds the
checksums of both, so only its arrival makes the checkpoint: whatever fails before leaves the one before it as it was. A file that has
been damaged since is noticed when it is read, and the checkpoint before it is taken.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from convatlas.errors import ConvAtlasError

SCHEMA = "convatlas.checkpoint/1"
KEPT = 2  # the newest, and one to go back to
_NAME = re.compile(r"\.?step-(\d{9,})\.(json|safetensors)(\.partial)?")


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A run after `step` optimiser steps."""

    step: int
    tensors: Mapping[str, Tensor]  # on the CPU
    state: Mapping[str, Any]  # what JSON can hold


def save(folder: Path, checkpoint: Checkpoint) -> None:
    """Writes the checkpoint into `folder`, then removes all but the `KEPT` newest up to its step: later ones are damaged, or the run would
    have gone on from there. One that is there already is not written again.

    Raises `OSError` as the disk does; the checkpoints that were there can still be read then.
    """
    folder.mkdir(parents=True, exist_ok=True)
    name = f"step-{checkpoint.step:09d}"
    if not _is_sound(folder / f"{name}.json"):
        data = safetensors.torch.save({key: x.detach().cpu().contiguous() for key, x in checkpoint.tensors.items()})
        body = {
            "schema": SCHEMA,
            "step": checkpoint.step,
            "tensors": {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)},
            "state": dict(checkpoint.state),
        }
        written = json.dumps({"sha256": _digest(body), "body": body}, allow_nan=False)
        write_whole(folder / f"{name}.safetensors", data)
        write_whole(folder / f"{name}.json", written.encode())
    _remove_others(folder, checkpoint.step)


def newest(folder: Path, say: Callable[[str], None] = lambda message: None) -> Checkpoint | None:
    """The newest checkpoint that is sound; None where there is none at all. `say` is told of each damaged one that is passed over.

    Raises `ConvAtlasError` where there are checkpoints and all are damaged.
    """
    steps = _steps(folder)
    for step in steps:
        try:
            return _load(folder / f"step-{step:09d}.json")
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            say(f"{folder}/step-{step:09d} is damaged ({error}); going back to the checkpoint before it")
    if steps:
        raise ConvAtlasError(
            f"{folder}: all {len(steps)} checkpoints are damaged.",
            remedy="Start again with another --out, or put back a copy of the folder.",
        )
    return None


def complete(folder: Path) -> int:
    """How many checkpoints arrived there, sound or not."""
    return len(_steps(folder))


def write_whole(path: Path, data: bytes) -> None:
    """`data` at `path`, or what was there before: no crash and no full disk leaves a part of it."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        with partial.open("wb", buffering=0) as file:
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(file.fileno(), rest[: 1 << 24]) :]
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Makes the names in a folder last: what was moved there may be gone after a power failure otherwise."""
    if os.name == "nt":  # where folders cannot be opened, and names last by themselves
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _load(path: Path) -> Checkpoint:
    found = json.loads(path.read_bytes())
    body = found["body"]
    if found["sha256"] != _digest(body):
        raise ValueError(f"{path.name} has another checksum")
    if body["schema"] != SCHEMA:
        raise ValueError(f"{path.name} is of {body['schema']}, not {SCHEMA}")
    data = path.with_suffix(".safetensors").read_bytes()
    if hashlib.sha256(data).hexdigest() != body["tensors"]["sha256"]:
        raise ValueError(f"{path.stem}.safetensors has another checksum")
    return Checkpoint(step=body["step"], tensors=safetensors.torch.load(data), state=body["state"])


def _is_sound(path: Path) -> bool:
    try:
        return bool(_load(path))
    except (OSError, ValueError, KeyError, TypeError, SafetensorError):
        return False


def _digest(body: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True, allow_nan=False).encode()).hexdigest()


def _steps(folder: Path) -> list[int]:
    """Of the checkpoints that arrived, the newest first."""
    names = [_NAME.fullmatch(path.name) for path in folder.glob("step-*.json")]
    return sorted((int(name[1]) for name in names if name), reverse=True)


def _remove_others(folder: Path, step: int) -> None:
    """What is left of older and damaged checkpoints, and of those that never arrived. Only files that are named as ours are."""
    steps = [kept for kept in _steps(folder) if kept <= step][:KEPT]
    for path in folder.iterdir():
        name = _NAME.fullmatch(path.name)
        if name and (name[3] or int(name[1]) not in steps):
            with contextlib.suppress(OSError):  # it will go the next time
                path.unlink()
