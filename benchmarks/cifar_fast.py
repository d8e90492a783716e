"""How much arithmetic an accuracy on CIFAR-10 takes: the recipe `cifar_fast` beside a ResNet-20 by its paper's, shortened to 30 epochs.

Each run is a folder that `train_recipe` made: what was stopped goes on. What a finished one reached is kept in recorded/cifar_fast, and not
trained again; runs may be made in any order, on several machines too. All 50,000 training images (JPEG copies) are used; the 10,000 test
images are looked at after every epoch and nothing is chosen by them. The recipe was tuned on 5,000 of the training images, see its
docstring.

Usage: `python benchmarks/cifar_fast.py` trains what is missing, the cheapest first, and prints the section;
`python benchmarks/cifar_fast.py resnet20_cifar/30/0 …` (recipe/epochs/seed) trains those only; `--as-is` trains nothing.
"""

from __future__ import annotations

import json
import math
import statistics
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import convatlas
from convatlas import zoo
from convatlas.analysis.analysis import analyse
from convatlas.errors import Stopped
from convatlas.train.recipes import recipe
from measuring import ROOT, SHARED, folder, python, say, section, table, target

RUNS = ROOT / "runs/cifar_fast"
RECORDED = ROOT / "benchmarks/recorded/cifar_fast"
KEPT = ("recipe", "accuracy", "accuracy_interval", "protocol", "versions")  # of result.json
SEEDS = (0, 1, 2)
BASELINE = ("resnet20_cifar", 30)
FAST = (("cifar_fast_025", 6), ("cifar_fast_050", 7), ("cifar_fast_050", 14))  # about 20, 5 and 2.6 times fewer FLOPs
IMAGES = 50_000
WANTED, STRETCH = 5, 20  # times fewer FLOPs at the accuracy of the baseline
STUDENT = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776}  # 97.5 % quantiles of t, by degrees of freedom


@dataclass(frozen=True, kw_only=True)
class Budget:
    """A recipe and its length, and what its finished runs reached."""

    recipe: str
    epochs: int
    flops: float  # of the training, counted
    accuracies: tuple[float, ...]  # a seed each

    @property
    def accuracy(self) -> float:
        return statistics.fmean(self.accuracies)

    @property
    def half_width(self) -> float:
        """Of the 95 % interval of the mean over seeds, by Student's t; without bound for one seed."""
        n = len(self.accuracies)
        return STUDENT[n - 1] * statistics.stdev(self.accuracies) / math.sqrt(n) if n > 1 else math.inf


def training_mult_adds(name: str) -> int:
    """Mult-adds of one image's forward and backward pass, of convolutions and fully connected layers.

    A layer's weights take as many for their gradient as its forward pass, if they train; its input takes as many again if anything
    before it trains. Torch's own counter, of the operations that it runs, must find the same.
    """
    size, classes = zoo.native(name)
    with torch.device("meta"):
        model, image = zoo.build(name, num_classes=classes, in_channels=size[0]), torch.empty(1, *size)
    trained, total = False, 0
    for row in analyse(model, image).layers:
        layer = model.get_submodule(row.path)
        if isinstance(layer, nn.Conv2d | nn.Linear):
            total += row.cost.mult_adds * (1 + layer.weight.requires_grad + trained)
        trained = trained or any(p.requires_grad for p in layer.parameters(recurse=False))
    with FlopCounterMode(display=False) as counter:
        model.eval()(image).sum().backward()
    if counter.get_total_flops() != 2 * total:
        raise RuntimeError(f"{name}: {2 * total} FLOPs by our count, {counter.get_total_flops()} by torch's")
    return total


def flops(name: str, epochs: int) -> float:
    """Two for each mult-add; of the images of whole batches, which are those that are trained on."""
    found = recipe(name)
    seen = IMAGES // found.config.batch_size * found.config.batch_size * epochs
    return 2.0 * training_mult_adds(found.network) * seen


def record(name: str, epochs: int, seed: int) -> Path:
    """What a finished run reached."""
    return RECORDED / f"{name}-{epochs}-{seed}.json"


def train(wanted: Sequence[tuple[str, int, int]]) -> None:
    """Those runs of `wanted` that are not finished, one after the other."""
    missing = [run for run in wanted if not record(*run).exists()]
    if not missing:
        return
    with folder() as scratch:
        say("unpacking")
        python(SHARED / "data/unpack.py", scratch, "cifar10-train", "cifar10-test")
        data = scratch / "data"
        data.mkdir()
        for split in ("train", "test"):
            (scratch / f"cifar10-{split}").rename(data / split)
        for name, epochs, seed in missing:
            say(f"{name}, {epochs} epochs, seed {seed}")
            settings = (f"epochs={epochs}", f"seed={seed}")
            try:
                out = RUNS / f"{name}-{epochs}-{seed}"
                result = convatlas.train_recipe(name, data, out=out, settings=settings, device="cpu").json
            except Stopped as stopped:
                sys.exit(f"{stopped}; the same command goes on")
            RECORDED.mkdir(parents=True, exist_ok=True)
            kept = {key: result[key] for key in KEPT if key in result}
            record(name, epochs, seed).write_text(json.dumps(kept, indent=1) + "\n")


def finished(name: str, epochs: int) -> Budget:
    results = [record(name, epochs, seed) for seed in SEEDS]
    return Budget(
        recipe=name,
        epochs=epochs,
        flops=flops(name, epochs),
        accuracies=tuple(json.loads(path.read_text())["accuracy"] for path in results if path.exists()),
    )


def flops_for(accuracy: float, budgets: Sequence[Budget]) -> float | None:
    """Between the two budgets around `accuracy`, linear in the logarithm of the FLOPs; None above the best. Below the least it is the
    least's, which is more than it takes."""
    ordered = sorted(budgets, key=lambda budget: budget.flops)
    if accuracy <= ordered[0].accuracy:
        return ordered[0].flops
    for less, more in pairwise(ordered):
        if less.accuracy < accuracy <= more.accuracy:
            share = (accuracy - less.accuracy) / (more.accuracy - less.accuracy)
            return less.flops * (more.flops / less.flops) ** share
    return None


def rows(budgets: Sequence[Budget], most: float) -> Iterator[tuple[str, ...]]:
    for b in budgets:
        if not b.accuracies:
            yield b.recipe, str(b.epochs), f"{b.flops:.2e}", f"{most / b.flops:.1f}", "not run", ""
            continue
        each = ", ".join(f"{100 * a:.2f}" for a in b.accuracies)
        told = f"{100 * b.accuracy:.2f} ± {100 * b.half_width:.2f}" if len(b.accuracies) > 1 else each
        yield b.recipe, str(b.epochs), f"{b.flops:.2e}", f"{most / b.flops:.1f}", told, each


def targets(base: Budget, fast: Sequence[Budget]) -> Iterator[tuple[str, str, str]]:
    """The ratio at the baseline's mean accuracy, and at both ends of its interval."""
    ran = [b for b in fast if b.accuracies]
    if not base.accuracies or not ran:
        return
    ends = [base.accuracy + sign * base.half_width for sign in (0, -1, 1)] if len(base.accuracies) > 1 else []
    needed = [flops_for(accuracy, ran) for accuracy in ends or [base.accuracy]]
    times = [base.flops / found if found else None for found in needed]
    most = max(base.flops / b.flops for b in ran)  # where the least budget is already better, it is no less than that
    words = [("at least " * (ratio == most) + f"{ratio:.1f}") if ratio else "not reached" for ratio in times]
    measured = words[0] + (f" ({words[1]} and {words[2]} at the ends of its interval)" if words[1:] else "")
    for factor in (WANTED, STRETCH):
        yield target(
            f"{factor} × fewer FLOPs at the mean accuracy of the ResNet-20", measured, (times[0] or 0) >= factor
        )


def main() -> None:
    asked = [word for word in sys.argv[1:] if word != "--as-is"]
    by_cost = sorted((*FAST, BASELINE), key=lambda run: flops(*run))
    wanted = [(name, epochs, seed) for name, epochs in by_cost for seed in SEEDS]
    named = {f"{name}/{epochs}/{seed}": (name, epochs, seed) for name, epochs, seed in wanted}
    if unknown := set(asked) - set(named):
        sys.exit(f"unknown runs {sorted(unknown)}; there are {', '.join(named)}")
    if "--as-is" not in sys.argv:
        train([named[word] for word in asked] if asked else wanted)
    if asked:
        return
    base, fast = finished(*BASELINE), [finished(*run) for run in FAST]
    section(
        "CIFAR-10 in little arithmetic",
        f"Accuracy on the 10,000 test images after training on all 50,000 (JPEG copies), against the FLOPs of the training: two for each "
        f"mult-add of convolutions and fully connected layers, forward and backward (weights that do not train and inputs that need no "
        f"gradient take none), times the images seen; not of norms, augmentation, the optimiser or the evaluation. Mean over the seeds "
        f"{', '.join(map(str, SEEDS))} with its 95 % interval by Student's t. FLOPs at an accuracy between two budgets are interpolated, "
        f"linear in their logarithm. `{BASELINE[0]}` is its paper's recipe shortened to {BASELINE[1]} epochs.",
        table(
            ("recipe", "epochs", "training FLOPs", f"times fewer than {BASELINE[0]}", "accuracy, %", "each seed"),
            list(rows([*sorted(fast, key=lambda b: b.flops), base], base.flops)),
        ),
        targets=list(targets(base, fast)),
    )


if __name__ == "__main__":
    main()
