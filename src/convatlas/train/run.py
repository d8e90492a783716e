"""A run is a directory, and repeating the command that made it goes on where it stopped.

    run.json        what is trained: recipe, config, data, initial weights, versions
    metrics.jsonl   a line an epoch; appended to
    checkpoints/    see `checkpoint`

What decides the result is in run.json; a command that would train something else there is refused with the difference. A checkpoint
records how long metrics.jsonl was, and a run that goes on cuts the file back to that, so no line stands there twice.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

from torch import Tensor

from convatlas import cache
from convatlas.errors import ConvAtlasError
from convatlas.locks import locked
from convatlas.train.checkpoint import KEPT, Checkpoint, complete, newest, save, write_whole
from convatlas.train.config import TrainConfig
from convatlas.train.processes import Alone, led

SCHEMA = "convatlas.run/1"
OFTEN = 10.0  # seconds, at least, between two checkpoints of a run that is sparing of them
RARELY = 50  # times what the last one took, at least: so they take no more than a fiftieth of the time
_REMEDY = "Make room or mend the disk, then repeat the command: it goes on from there."
_DRAWN = ("versions.device:", "versions.processes:")  # on which random numbers depend
_DECIDE = ("recipe", "network", "config", "data", "weights")  # a run that differs in these is another run


class Run:
    """The directory of one training run, held open by one process, on behalf of all that train it: use `open_run`."""

    def __init__(
        self,
        folder: Path,
        described: Mapping[str, Any],
        metrics: BinaryIO | None,
        say: Callable[[str], None],
        together: Alone,
        sparing: bool,
    ) -> None:
        self.folder = folder
        self.described = described
        self.stop = False  # asked for by Ctrl-C or SIGTERM; whoever trains saves and leaves after the step
        self._metrics = metrics  # of the process that writes; the others read
        self._say = say
        self._together = together
        self._sparing = sparing
        self.began = self._saved = time.perf_counter()
        self._cost = 0.0  # seconds that the last checkpoint took
        self.before = 0.0  # seconds that others spent on what was taken up
        self.lost = False  # the disk took no checkpoint of a run that can do without

    @property
    def checkpoints(self) -> Path:
        """The folder of the checkpoints."""
        return self.folder / "checkpoints"

    def resume(self) -> Checkpoint | None:
        """The newest sound checkpoint, with metrics.jsonl cut back to what it was then; None at the beginning."""
        found = newest(self.checkpoints, self._say)
        self.before = found.state.get("seconds", 0.0) if found else 0.0
        if self._metrics is None:
            return found
        length = found.state["metrics_bytes"] if found else 0
        if self._metrics.seek(0, os.SEEK_END) < length:
            raise ConvAtlasError(
                f"{self.folder / 'metrics.jsonl'} is shorter than it was at step {found.step if found else 0}.",
                remedy="Put back the file, or start again with another --out.",
            )
        self._metrics.truncate(length)
        self._metrics.seek(length)
        return found

    def log(self, **row: Any) -> None:
        """Appends a line to metrics.jsonl, unless the run is sparing: nobody reads it there."""
        if self._metrics and not self._sparing:
            line = json.dumps(row).encode() + b"\n"
            with self.writing("metrics.jsonl"):
                if self._metrics.write(line) != len(line):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    @contextlib.contextmanager
    def writing(self, what: str) -> Iterator[None]:
        """Says so, and what to do, where the disk does not take it."""
        try:
            yield
        except OSError as error:
            raise ConvAtlasError(f"{self.folder / what}: cannot be written ({error}).", remedy=_REMEDY) from error

    def save(self, step: int, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        """A checkpoint. Raises `ConvAtlasError` where the disk does not take it; the one before it can be read then."""
        if self.lost:
            return
        started = time.perf_counter()
        try:
            led(self._together, lambda: self._save(step, tensors, state))
        except ConvAtlasError as error:
            self._do_without(error)
        self._saved = time.perf_counter()
        self._cost = self._saved - started

    def is_due(self, asked: bool) -> bool:
        """Whether a checkpoint follows this step: where one was `asked` for or, if the run is sparing, some time after the last one."""
        if not self._sparing:
            return asked
        return time.perf_counter() - self._saved >= max(OFTEN, RARELY * self._cost)

    def _do_without(self, error: ConvAtlasError) -> None:
        if not self._sparing:
            raise error
        self.lost = True
        self._say(f"{error.message} The training goes on; stopped, it would begin again from what was saved before.")

    def _save(self, step: int, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        assert self._metrics, "only the process that leads writes"
        try:
            os.fsync(self._metrics.fileno())
            told = {"metrics_bytes": self._metrics.tell(), "seconds": self.before + time.perf_counter() - self.began}
            save(self.checkpoints, Checkpoint(step=step, tensors=tensors, state={**state, **told}))
        except OSError as error:
            raise ConvAtlasError(
                f"{self.checkpoints}: step {step} cannot be saved ({error}); the checkpoint before it is as it was.",
                remedy=_REMEDY,
            ) from error

    def ensure_room(self, bytes_: int) -> None:
        """Raises `ConvAtlasError` where three checkpoints of `bytes_`, those there included, would not fit: two are kept while a third is
        written."""
        free = shutil.disk_usage(self.folder).free
        needed = (KEPT + 1 - min(complete(self.checkpoints), KEPT)) * bytes_
        if free < needed:
            error = ConvAtlasError(
                f"{self.folder}: {free / 1e6:,.1f} MB are free, and checkpoints need {needed / 1e6:,.1f} MB.",
                remedy="Make room, or give a folder on another disk with --out.",
            )
            self._do_without(error)
        elif self._sparing and (limit := cache.size_limit()) < (KEPT + 1) * bytes_:
            words = f"checkpoints need {(KEPT + 1) * bytes_ / 1e6:,.1f} MB"
            self._do_without(ConvAtlasError(f"The cache may hold {limit / 1e6:,.1f} MB, and {words}."))

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """While this lasts Ctrl-C and SIGTERM set `stop`; a second Ctrl-C interrupts at once. Elsewhere than in the main thread nothing
        changes."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def ask(number: int, frame: Any) -> None:
            if self.stop and number == signal.SIGINT:
                raise KeyboardInterrupt
            self.stop = True
            self._say("stopping after this step; once more Ctrl-C stops at once")

        before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


@contextlib.contextmanager
def open_run(
    folder: Path,
    described: Mapping[str, Any],
    say: Callable[[str], None] = lambda message: None,
    together: Alone | None = None,
    *,
    sparing: bool = False,
) -> Iterator[Run]:
    """The run in `folder`, a new one or the one that is there if it trains the same thing. Of several processes the first writes.

    `described` is what goes into run.json: `recipe`, `network`, `config`, `data` and `weights` decide the result, anything else is for
    the record. A `sparing` run is one that can be lost, as in the cache: it is saved every so often, whatever epochs and `save_every` say,
    and goes on without where the disk takes no checkpoint. Raises `ConvAtlasError` where the folder holds another run, something else, or
    a run that another process trains.
    """
    described = json.loads(json.dumps({"schema": SCHEMA, **described}))  # as it will be read
    together = together or Alone()
    with contextlib.ExitStack() as open_:
        metrics = led(together, lambda: _opened(folder, described, say, open_))
        yield Run(folder, described, metrics, say, together, sparing)


def _opened(
    folder: Path, described: Mapping[str, Any], say: Callable[[str], None], open_: contextlib.ExitStack
) -> BinaryIO:
    """The run's metrics.jsonl, once the folder is known to be this run's and nobody else's."""
    try:
        return _prepared(folder, described, say, open_)
    except OSError as error:
        raise ConvAtlasError(
            f"{folder}: cannot be written ({error}).", remedy="Give another folder with --out."
        ) from error


def _prepared(
    folder: Path, described: Mapping[str, Any], say: Callable[[str], None], open_: contextlib.ExitStack
) -> BinaryIO:
    file = folder / "run.json"
    begun = {".lock", ".run.json.partial"}  # all that a run has that was killed at its very beginning
    if not file.is_file() and folder.exists() and any(path.name not in begun for path in folder.iterdir()):
        raise ConvAtlasError(f"{folder} holds something that is no run.", remedy="Give a new folder with --out.")
    folder.mkdir(parents=True, exist_ok=True)
    open_.enter_context(_alone(folder))
    if file.is_file() and not (_description(file) and _made_no_step(folder)):
        _ensure_same(file, described, say)
    else:
        write_whole(file, json.dumps(described, indent=1).encode() + b"\n")
    path = folder / "metrics.jsonl"
    path.touch()
    return open_.enter_context(path.open("r+b", buffering=0))  # nothing is left to be written when it is closed


def _description(file: Path) -> dict[str, Any] | None:
    """What a run.json says; None where it is none."""
    try:
        there = json.loads(file.read_text(encoding="utf-8"))
    except ValueError:
        return None
    return there if isinstance(there, dict) and there.get("schema") == SCHEMA else None


def _made_no_step(folder: Path) -> bool:
    """Whether nothing would be lost if the run there were another: it failed before its first step."""
    names = {path.name for path in folder.iterdir()} - {".lock", "run.json", "report.html"}
    empty = (
        not any((folder / name).iterdir()) if name == "checkpoints" else not (folder / name).stat().st_size
        for name in names
    )
    return names <= {"metrics.jsonl", "checkpoints"} and all(empty)


def _ensure_same(file: Path, described: Mapping[str, Any], say: Callable[[str], None]) -> None:
    there = _description(file)
    if there is None:
        raise ConvAtlasError(f"{file} is no description of a run.", remedy="Give another folder with --out.")
    if differing := deciding(there, described):
        raise ConvAtlasError(
            f"{file.parent} holds another run:\n  " + "\n  ".join(differing) + "\n",
            remedy="Give another folder with --out, or the same settings to go on with it.",
        )
    for line in differences(there.get("versions"), described.get("versions"), "versions"):
        drawn = line.startswith(_DRAWN)
        how = "is drawn otherwise than" if drawn else "may differ in the last bits from what"
        say(f"{line}: the rest of this run {how} it would have been")


def deciding(there: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Where the descriptions of two runs differ in what decides the result, a line each."""
    pairs = {key: (there.get(key), now.get(key)) for key in _DECIDE}
    pairs["config"] = _completed(there.get("config")), _completed(now.get("config"))
    if pairs["data"][0] != pairs["data"][1]:  # perhaps for no more than how they are read
        pairs["read"] = there.get("read"), now.get("read")
    return [line for key, (old, new) in pairs.items() for line in differences(old, new, key)]


def _completed(config: Mapping[str, Any] | None) -> dict[str, Any]:
    """With the defaults of fields that were not there yet when the run began."""
    known = json.loads(json.dumps(asdict(TrainConfig(epochs=1))))

    def filled(part: Mapping[str, Any], default: Mapping[str, Any]) -> dict[str, Any]:
        inner = {key: filled(value, default[key]) for key, value in part.items() if isinstance(default.get(key), dict)}
        return {**default, **part, **inner}

    return filled(config or {}, known)


def differences(there: Any, now: Any, name: str) -> Iterator[str]:
    """What differs, a line a field: `config.optim.lr: 0.1 there, 0.05 now`."""
    if isinstance(there, dict) and isinstance(now, dict):
        for key in dict.fromkeys((*there, *now)):
            yield from differences(there.get(key), now.get(key), f"{name}.{key}")
    elif there != now:
        yield f"{name}: {json.dumps(there)} there, {json.dumps(now)} now"


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(locked(folder / ".lock", wait=False))
        except BlockingIOError:
            raise ConvAtlasError(
                f"{folder} is being trained by another process.",
                remedy="Wait for it, or give another folder with --out.",
            ) from None
        yield
