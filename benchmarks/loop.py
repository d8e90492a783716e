"""What the training loop costs over bare PyTorch steps on the same images.

The bare side is what somebody writes who wants nothing but to train: augmented batches, forward, backward, one optimiser step, the same
functions for images and loss as the loop's. The loop draws its order and seeds anew for every batch, so that it can be gone on with, keeps
running statistics for the case that a step fails, asks whether loss and gradients are finite, and counts what was classified right. Where
maps are large it is the faster, since it keeps the memory that a step frees (`train.allocator`); a process that has done so once reuses it
in bare steps too, so every measurement has a process of its own.

Usage: `python benchmarks/loop.py`; with a side and a network, as `loop resnet20_cifar`, one measurement: the milliseconds of a step.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from convatlas import zoo
from convatlas.train import InMemory, TrainConfig, train
from convatlas.train.augment import changed
from convatlas.train.losses import Objective
from convatlas.train.optim import optimiser
from convatlas.train.recipes import recipe
from measuring import Finished, interleaved, python, ratios, section, spread, table, target

REPEATS = 7
MOST = 1.03


@dataclass(frozen=True, kw_only=True)
class Case:
    """A network, the images in a batch and their size, and the steps of a round."""

    network: str
    batch: int
    pixels: int
    steps: int

    @property
    def config(self) -> TrainConfig:
        found = recipe("resnet20_cifar").config
        return TrainConfig(
            epochs=1, batch_size=self.batch, image_size=self.pixels, optim=found.optim, augment=found.augment
        )

    def images(self) -> InMemory:
        draws = torch.Generator().manual_seed(0)
        shape = (self.batch * self.steps, 3, self.pixels, self.pixels)
        pixels = torch.randint(0, 256, shape, dtype=torch.uint8, generator=draws)
        return InMemory(pixels, torch.randint(0, 10, (len(pixels),), generator=draws))


CASES = (
    Case(network="resnet20_cifar", batch=64, pixels=32, steps=25),
    Case(network="mobilenet_v1_075", batch=32, pixels=224, steps=6),
)


def loop(case: Case) -> float:
    model, images = zoo.build(case.network, num_classes=10), case.images()
    told: list[float] = []
    train(model, images, case.config, progress=lambda step, steps: told.append(time.perf_counter()))
    return (told[-1] - told[0]) / (case.steps - 1)


def bare(case: Case) -> float:
    model, images, config = zoo.build(case.network, num_classes=10), case.images(), case.config
    model.to(memory_format=torch.channels_last).train()
    objective, optim = Objective(model, config), optimiser(model, config.optim)
    told: list[float] = []
    for step, chosen in enumerate(torch.randperm(len(images)).split(case.batch)):
        loss, _ = objective(*changed(images.images[chosen], images.labels[chosen], config, step))
        optim.zero_grad()
        loss.backward()
        optim.step()
        loss.item()
        told.append(time.perf_counter())
    return (told[-1] - told[0]) / (case.steps - 1)


SIDES = {"loop": loop, "bare": bare}


def measured(side: str, case: Case) -> Finished:
    return python(Path(__file__), side, case.network)


def main() -> None:
    if sys.argv[1:]:
        side, network = sys.argv[1:]
        print(1000 * SIDES[side](next(case for case in CASES if case.network == network)))
        return
    rows, targets = [], []
    for case in CASES:
        found = interleaved(REPEATS, **{side: partial(measured, side, case) for side in SIDES})
        times = {side: [run.json for run in found[side]] for side in SIDES}
        peaks = [spread([run.peak_bytes / 1e6 for run in found[side]], 0) for side in SIDES]
        ratio = ratios(times["loop"], times["bare"])
        what = f"`{case.network}`, batches of {case.batch} at {case.pixels} px"
        rows.append((what, *(spread(times[side], 0) for side in SIDES), spread(ratio, 3), *peaks))
        middle = sorted(ratio)[len(ratio) // 2]
        targets.append(target(f"{case.network}: at most {MOST} × bare steps", spread(ratio, 3), middle <= MOST))
    section(
        "The training loop",
        f"A step of `convatlas.train.train` and a bare one, ms, the mean of all after the first of a process; {REPEATS} processes of each "
        f"side in turn, of {torch.get_num_threads()} threads. Peaks are of a whole process, imports included.",
        table(("", "loop, ms", "bare, ms", "ratio", "loop, peak MB", "bare, peak MB"), rows),
        targets=targets,
    )


if __name__ == "__main__":
    main()
