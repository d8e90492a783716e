"""Trains a small network, is killed again and again, and goes on: prints how often, and whether the result is that of a run left alone.

Run as `python kills.py FOLDER KILLS SEED`. One process imports torch and forks a child for each attempt, before it has computed anything;
the child tells through a pipe of each step and each flush to the disk, and is killed with SIGKILL at most 2 ms after a random number of one
kind or the other: "save" counts the kills that were aimed at a flush, which is in the middle of a save.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import torch
import torch._dynamo  # optimisers import it, and it takes seconds: once here, not in every child
from safetensors.torch import save_file
from torch import nn

from convatlas.train import Augment, InMemory, Optim, TrainConfig, train
from convatlas.train.run import open_run

CONFIG = TrainConfig(
    epochs=6,
    batch_size=8,
    image_size=12,
    optim=Optim(lr=0.1, warmup_epochs=1),
    augment=Augment(scale=(0.7, 1.0), flip=0.5, colour=0.2, mixup=0.3, cutmix=0.3, erase=0.3),
    ema=0.9,
)
STEPS = CONFIG.epochs * 5


def run(folder: Path, pipe: int) -> None:
    """Trains to the end in `folder`, going on where it is; writes "s" into `pipe` after a step and "f" at each flush to the disk."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = nn.Sequential(
        *(nn.Conv2d(3, 8, 3, stride=2, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.2)),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2)),
    )
    draws = torch.Generator().manual_seed(1)
    pixels = torch.randint(0, 256, (44, 3, 12, 12), generator=draws, dtype=torch.uint8)
    images = InMemory(pixels, torch.randint(0, 2, (44,), generator=draws))
    flush = os.fsync

    def told(handle: int) -> None:
        os.write(pipe, b"f")
        flush(handle)

    os.fsync = told
    told_to = os.fdopen(pipe, "w")
    with open_run(folder, {"config": {"epochs": CONFIG.epochs}}) as there:
        train(
            *(model, images, CONFIG),
            held_out=images,
            run=there,
            save_every=2,
            progress=lambda step, steps: print("s", end="", file=told_to, flush=True),
        )
    save_file({name: x.contiguous() for name, x in model.state_dict().items()}, folder / "final.safetensors")


def killed(folder: Path, draw: random.Random, within_a_save: bool) -> str:
    """One attempt: "finished", or in what it was killed."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.close(reading)
        try:
            run(folder, writing)
        except BaseException as error:  # which would go on as a second parent
            print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    os.close(writing)
    left, doing = draw.randrange(1, 12), ""
    while told := os.read(reading, 1):
        left -= told == (b"f" if within_a_save else b"s")
        if left <= 0:
            time.sleep(draw.random() * 0.002)
            os.kill(child, signal.SIGKILL)
            doing = "save" if within_a_save else "step"
            break
    os.close(reading)
    _, status = os.waitpid(child, 0)
    if os.WIFEXITED(status):
        if os.WEXITSTATUS(status):
            sys.exit("the run failed by itself")
        return "finished"
    return doing


def digest(folder: Path) -> str:
    """Of the weights, the checkpoint's tensors and the metrics, without times."""
    found = hashlib.sha256()
    for file in ("final.safetensors", f"checkpoints/step-{STEPS:09d}.safetensors"):
        found.update((folder / file).read_bytes())
    for line in (folder / "metrics.jsonl").read_text().splitlines():
        row = json.loads(line)
        del row["seconds"]
        found.update(json.dumps(row).encode())
    return found.hexdigest()


def main() -> None:
    folder, wanted, draw = Path(sys.argv[1]), int(sys.argv[2]), random.Random(int(sys.argv[3]))
    counts = {"save": 0, "step": 0, "runs": 0, "failures": 0}
    left_alone(folder / "alone")
    expected = digest(folder / "alone")
    while counts["save"] + counts["step"] < wanted:
        place = folder / f"run{counts['runs']}"
        while (doing := killed(place, draw, within_a_save=bool(draw.getrandbits(1)))) != "finished":
            counts[doing] += 1
        counts["runs"] += 1
        counts["failures"] += digest(place) != expected
    print(json.dumps(counts))


def left_alone(folder: Path) -> None:
    """A whole run in a child that nobody kills."""
    child = os.fork()
    if not child:
        run(folder, os.open(os.devnull, os.O_WRONLY))
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if status:
        sys.exit("the run failed by itself")


if __name__ == "__main__":
    main()
