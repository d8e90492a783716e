"""Trainings that are kept: what was trained on the way to a result is not trained again, whatever ended the command before it was there.

A training is a folder of the cache, named by the hash of all that decides its numbers: the network as it begins, bit for bit, the images
and which of them, the settings, versions and threads. While it goes on the folder is a run (see `train.run`) with a checkpoint every so
often. Once it is finished only what came of it stays: what it says of the images that judge it, its losses, the seconds that it took and,
of a network that is handed out, the weights. Nothing here is precious: what is damaged is trained anew, and where nothing can be kept a
training goes on without.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from convatlas import cache
from convatlas.errors import ConvAtlasError
from convatlas.train.checkpoint import Checkpoint, newest, save
from convatlas.train.run import Run, open_run

CODE = ("train", "transfer", "zoo")  # parts of the package by which a training's numbers are made


class Kept:
    """The trainings that the cache has, and those that come to it."""

    def __init__(self, say: Callable[[str], None]) -> None:
        """`say` is told of what is damaged and of what cannot be kept, each thing once."""
        self._tell, self._told = say, set[str]()

    def found(self, described: Mapping[str, Any]) -> Checkpoint | None:
        """What came of the training that is so `described`; None where it was not finished."""
        folder, described = cache.training_path(described), _read_back(described)
        try:
            result = newest(folder / "result")
            if result and result.state["described"] != described:
                raise KeyError("it is another training")
        except (OSError, KeyError, ConvAtlasError):
            self._say(f"{folder}: what came of the training is damaged. It is trained anew.")
            cache.remove(folder)
            return None
        if result:
            with contextlib.suppress(OSError):  # of a cache that can only be read
                os.utime(folder / "run.json")  # when it was last used, for pruning
        return result

    @contextlib.contextmanager
    def run(self, described: Mapping[str, Any], reads: str) -> Iterator[Run | None]:
        """The run of that training, which goes on where it stopped if it is there; None where it cannot be kept.

        `reads` says what it trains on, maps or images: the bits are the same, but not what a checkpoint holds.
        """
        folder = cache.training_path(described)
        with contextlib.ExitStack() as open_:
            run = self._opened(folder, {**described, "data": {**described["data"], "reads": reads}}, open_)
            yield run

    def _opened(self, folder: Path, described: Mapping[str, Any], open_: contextlib.ExitStack) -> Run | None:
        why = ""
        for _ in range(2):
            try:
                with contextlib.ExitStack() as tried:
                    run = tried.enter_context(open_run(folder, described, self._say, sparing=True))
                    run.resume()  # now, so that what is damaged is met here
                    open_.push(tried.pop_all())
                    return run
            except ConvAtlasError as error:
                why = error.message.strip()
            if not folder.exists() or not cache.remove(folder):
                break
            self._say(f"{why} It is trained anew.")
        self._say(f"{why} The training is not kept: stopped, it would begin again.")
        return None

    def finish(
        self, run: Run, described: Mapping[str, Any], tensors: Mapping[str, Tensor], state: Mapping[str, Any]
    ) -> None:
        """Keeps what came of a training instead of its checkpoints."""
        result = Checkpoint(step=1, tensors=tensors, state={**state, "described": _read_back(described)})
        try:
            save(run.folder / "result", result)
            for path in run.checkpoints.glob("*"):
                path.unlink()
        except OSError as error:
            self._say(f"{run.folder}: what came of the training cannot be kept ({error}).")

    def _say(self, message: str) -> None:
        if message not in self._told:
            self._told.add(message)
            self._tell(message)


def _read_back(described: Mapping[str, Any]) -> dict[str, Any]:
    return json.loads(json.dumps(described))
