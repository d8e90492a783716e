"""Trains a small network, is killed again and again, and goes on: prints how often, and whether the result is that of a run left alone.

Run as `python kills.py FOLDER KILLS SEED [PROCESSES]`. One process imports torch and forks the training processes of each attempt; the
first of these tells through a pipe of each step and each flush to the disk, and at most 2 ms after a random number of one kind or the other
one of them, or all, are killed with SIGKILL: "save" counts the kills that were aimed at a flush, which is in the middle of a save.
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
from forked import finished, forked
from safetensors.torch import save_file
from torch import nn

from convatlas.train import Augment, InMemory, Optim, TrainConfig, train
from convatlas.train.processes import Alone
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


def run(folder: Path, pipe: int, together: Alone) -> None:
    """Trains to the end in `folder`, going on where it is; the first process writes "s" into `pipe` after a step and "f" at each flush to
    the disk."""
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
    told_to = os.fdopen(pipe if together.rank == 0 else os.open(os.devnull, os.O_WRONLY), "w")
    with open_run(folder, {"config": {"epochs": CONFIG.epochs}}, together=together) as there:
        train(
            *(model, images, CONFIG),
            held_out=images,
            together=together,
            run=there,
            save_every=2,
            progress=lambda step, steps: print("s", end="", file=told_to, flush=True),
        )
    if together.rank == 0:
        save_file({name: x.contiguous() for name, x in model.state_dict().items()}, folder / "final.safetensors")


def killed(folder: Path, draw: random.Random, processes: int, within_a_save: bool) -> str:
    """One attempt: "finished", or in what it was killed."""
    reading, writing = os.pipe()

    def work(together: Alone) -> None:
        os.close(reading)
        run(folder, writing, together)

    children = forked(processes, work)
    os.close(writing)
    left, doing = draw.randrange(1, 12), ""
    while told := os.read(reading, 1):
        left -= told == (b"f" if within_a_save else b"s")
        if left <= 0:
            time.sleep(draw.random() * 0.002)
            one = draw.choice(children)
            for child in children if draw.getrandbits(1) else [one]:
                os.kill(child, signal.SIGKILL)
            doing = "save" if within_a_save else "step"
            break
    os.close(reading)
    statuses = finished(children)
    if not any(statuses):
        return "finished"
    if not doing:
        sys.exit("the run failed by itself")
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
    processes = int(sys.argv[4]) if len(sys.argv) > 4 else 1
    counts = {"save": 0, "step": 0, "runs": 0, "failures": 0}
    left_alone(folder / "alone", processes)
    expected = digest(folder / "alone")
    while counts["save"] + counts["step"] < wanted:
        place = folder / f"run{counts['runs']}"
        while (doing := killed(place, draw, processes, within_a_save=bool(draw.getrandbits(1)))) != "finished":
            counts[doing] += 1
        counts["runs"] += 1
        counts["failures"] += digest(place) != expected
    print(json.dumps(counts))


def left_alone(folder: Path, processes: int) -> None:
    """A whole run that nobody kills."""
    if any(finished(forked(processes, lambda together: run(folder, os.open(os.devnull, os.O_WRONLY), together)))):
        sys.exit("the run failed by itself")


if __name__ == "__main__":
    main()
