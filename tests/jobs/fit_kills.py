"""Fits with plans that train, is ended again and again by SIGKILL or SIGTERM, and repeats the command until it is done.

Run as `python fit_kills.py FOLDER PHOTOS WEIGHTS KILLS SEED PLAN…`; of each plan there are so many KILLS. One process imports torch and
forks one for each attempt, which tells of every step through a pipe. Prints how attempts ended, how many steps they made beyond those of
fits left alone, and whether each gave the same as one left alone.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import torch
import torch._dynamo  # optimisers import it, and it takes seconds: once here, not in every child

from convatlas.errors import Stopped
from convatlas.jobs.fit import fit
from convatlas.train import run
from convatlas.transfer import finetune

DONE, STOPPED = 0, 3


def attempt(out: Path, photos: str, weights: str, plan: str, pipe: int) -> int:
    """One fit in this process; its exit status. Writes a byte into the pipe after every step of a training."""
    torch.set_num_threads(1)
    finetune.STEPS, finetune.LEAST_EPOCHS, finetune.SCRATCH = 4, 3, 1
    run.OFTEN, run.RARELY = 0.0, 0

    def told(what: str, done: int, total: int) -> None:
        if what == plan:
            os.write(pipe, b"s")

    try:
        fit(photos, weights=weights, out=out, plan=plan, report=False, progress=told)
    except Stopped:
        return STOPPED
    return DONE


def forked(out: Path, photos: str, weights: str, plan: str, draw: random.Random | None) -> tuple[str, int]:
    """An attempt, ended after a random number of its steps where there is something to draw it from: how it ended, and its steps."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        status = 1
        try:
            os.close(reading)
            status = attempt(out, photos, weights, plan, writing)
        except BaseException:  # which would go on as a second parent
            traceback.print_exc()
        os._exit(status)
    os.close(writing)
    left, steps = draw.randrange(1, 8) if draw else 0, 0
    while os.read(reading, 1):
        steps += 1
        if draw and steps == left:
            time.sleep(draw.random() * 0.01)
            os.kill(child, draw.choice((signal.SIGKILL, signal.SIGTERM)))
    os.close(reading)
    _, status = os.waitpid(child, 0)
    ends = {DONE: "finished", STOPPED: "stopped"}
    ended = "killed" if os.WIFSIGNALED(status) else ends.get(os.waitstatus_to_exitcode(status), "failed")
    return ended, steps


def found(out: Path) -> dict[str, Any]:
    """What a fit gave, without times."""
    result = json.loads((out / "fit.json").read_text())
    kept = ("accuracy", "log_loss", "confusion", "outcomes", "temperature", "plan")
    return {
        "weights": hashlib.sha256((out / "model.safetensors").read_bytes()).hexdigest(),
        "examples": json.loads((out / "config.json").read_text())["convatlas"].get("examples"),
        "losses": result["training"]["losses"],
        **{key: result[key] for key in kept},
    }


def main() -> None:
    folder, photos, weights = Path(sys.argv[1]), *sys.argv[2:4]
    wanted, draw = int(sys.argv[4]), random.Random(int(sys.argv[5]))
    counts = {"killed": 0, "stopped": 0, "finished": 0, "failed": 0, "beyond": 0}
    same, out = True, folder
    for plan in sys.argv[6:]:
        os.environ["CONVATLAS_CACHE"] = str(folder / plan / "cache of the one left alone")
        _, alone = forked(folder / plan / "alone", photos, weights, plan, None)
        ended, ends = "", 0
        while ends < wanted or ended != "finished":
            if ended in ("", "finished"):
                out = folder / plan / f"fit {counts['finished']}"
                os.environ["CONVATLAS_CACHE"] = f"{out} cache"
                counts["beyond"] -= alone
            ended, steps = forked(out, photos, weights, plan, draw)
            ends += ended != "finished"
            counts[ended] += 1
            counts["beyond"] += steps
            if ended == "failed":
                sys.exit("a fit failed by itself")
            if ended == "finished":
                same = same and found(out) == found(folder / plan / "alone")
    print(json.dumps({**counts, "same": same}))


if __name__ == "__main__":
    main()
