"""What the training loop costs over bare PyTorch steps on the same images.

The bare side is what somebody writes who wants nothing but to train: augmented batches, forward, backward, one optimiser step, the same
functions for images and loss as the loop's. The loop draws its order and seeds anew for every batch, so that it can be gone on with, keeps
running statistics for the case that a step fails, asks whether loss and gradients are finite, and counts what was classified right.
"""

from __future__ import annotations

import copy
import time

import torch

from convatlas import zoo
from convatlas.train import InMemory, TrainConfig, train
from convatlas.train.augment import changed
from convatlas.train.losses import Objective
from convatlas.train.optim import optimiser
from convatlas.train.recipes import recipe
from measuring import interleaved, ratios, section, spread, table, target

REPEATS, STEPS = 9, 25
MOST = 1.03
CASES = {"resnet20_cifar": 64}  # network: images in a batch


def config_of(name: str, batch: int) -> TrainConfig:
    found = recipe("resnet20_cifar").config
    return TrainConfig(epochs=1, batch_size=batch, image_size=32, optim=found.optim, augment=found.augment)


def images_of(batch: int) -> InMemory:
    draws = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (batch * STEPS, 3, 32, 32), dtype=torch.uint8, generator=draws)
    return InMemory(pixels, torch.randint(0, 10, (len(pixels),), generator=draws))


def loop(name: str, batch: int) -> float:
    model, images = copy.deepcopy(MODELS[name]), images_of(batch)
    told: list[float] = []
    train(model, images, config_of(name, batch), progress=lambda step, steps: told.append(time.perf_counter()))
    return (told[-1] - told[0]) / (STEPS - 1)


def bare(name: str, batch: int) -> float:
    model, images, config = copy.deepcopy(MODELS[name]), images_of(batch), config_of(name, batch)
    model.to(memory_format=torch.channels_last).train()
    objective, optim = Objective(model, config), optimiser(model, config.optim)
    told: list[float] = []
    for step, chosen in enumerate(torch.randperm(len(images)).split(batch)):
        loss, _ = objective(*changed(images.images[chosen], images.labels[chosen], config, step))
        optim.zero_grad()
        loss.backward()
        optim.step()
        loss.item()
        told.append(time.perf_counter())
    return (told[-1] - told[0]) / (STEPS - 1)


MODELS = {name: zoo.build(name, num_classes=10) for name in CASES}


def main() -> None:
    rows, targets = [], []
    for name, batch in CASES.items():

        def ours(name: str = name, batch: int = batch) -> float:
            return loop(name, batch)

        def theirs(name: str = name, batch: int = batch) -> float:
            return bare(name, batch)

        for side in (ours, theirs):  # threads and kernels are warm in every round
            side()
        found = interleaved(REPEATS, loop=ours, bare=theirs)
        ratio = ratios(found["loop"], found["bare"])
        times = [spread([1000 * seconds for seconds in found[side]], 0) for side in ("loop", "bare")]
        rows.append((f"`{name}`, batches of {batch} at 32 px", *times, spread(ratio, 3)))
        middle = sorted(ratio)[len(ratio) // 2]
        targets.append(target(f"{name}: at most {MOST} × bare steps", spread(ratio, 3), middle <= MOST))
    section(
        "The training loop",
        f"A step of `convatlas.train.train` and a bare one, ms, the mean of {STEPS - 1} after the first; {REPEATS} rounds in turn, "
        f"in one process of {torch.get_num_threads()} threads.",
        table(("", "loop, ms", "bare, ms", "ratio"), rows),
        targets=targets,
    )


if __name__ == "__main__":
    main()
