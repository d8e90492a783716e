"""He et al. Deep Residual Learning. 2015. https://arxiv.org/abs/1512.03385, section 4.2: a residual network of 1,202 layers trains.

Two questions of the first steps: does the loss fall, and did the analyser say rightly how much memory a step needs? Beside it a residual
and a plain network of 110 layers, for what reaches the first layer through so many: the norm of the gradient there, step by step.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean, median
from typing import Any

from torch import nn

from convatlas import zoo
from convatlas.analysis.memory import TrainingMemory, training_memory
from convatlas.errors import ConvAtlasError
from convatlas.studies.finding import Cell, Chart, Column, Estimate, Finding, by_seed
from convatlas.studies.laboratory import Laboratory, Training, skeleton
from convatlas.studies.layers import tape_of
from convatlas.studies.steps import watched
from convatlas.train.config import TrainConfig
from convatlas.train.recipes import recipe
from convatlas.zoo.resnet import ResNet

NETWORKS = {"ResNet-1202": "resnet1202_cifar", "ResNet-110": "resnet110_cifar", "plain-110": "plain110_cifar"}
BATCH = 8  # what two cores step through in seconds
LR = 0.001  # the 0.01 with which the paper began its 110 layers is of a batch of 128
FIRST = "stages.stem.conv.weight"
WINDOW = 10  # steps whose losses are averaged at the beginning and at the end
LEAST = 100  # steps that the study is about


def find(laboratory: Laboratory, networks: dict[str, str] = NETWORKS) -> Finding:
    """Trains each from the first seed, in small batches, and compares."""
    trainings = {told: laboratory.changed(training_of(laboratory, name)) for told, name in networks.items()}
    steps = {told: watched(laboratory, training, {"first": FIRST}) for told, training in trainings.items()}
    begun = {told: rows for told, rows in steps.items() if rows}
    if not begun:
        raise ConvAtlasError(f"{laboratory.runs}: nothing was begun.", remedy="Leave out --partial to train.")
    foretold = {told: memory_of(trainings[told]) for told in begun}
    return judged(begun, foretold, laboratory, next(iter(trainings.values())).config)


def training_of(laboratory: Laboratory, name: str) -> Training:
    """As the paper trained it, but for the batch and the rate that goes with it."""
    plain = name == "plain110_cifar"  # no variant of the zoo: the residual one without its shortcuts
    found = recipe("resnet110_cifar" if plain else name)
    classes = len(laboratory.classes)

    def build() -> nn.Module:
        if plain:
            return ResNet(replace(zoo.config_of("resnet110_cifar"), shortcut="none"), num_classes=classes)
        return zoo.build(name, num_classes=classes, in_channels=3)

    optim = replace(found.config.optim, lr=LR, warmup_epochs=0, drops=())
    config = replace(found.config, epochs=laboratory.length.epochs, batch_size=BATCH, optim=optim, seed=0)
    return Training(name=name, recipe="study very-deep", network=name, source=found.source, config=config, build=build)


def memory_of(training: Training) -> TrainingMemory:
    """What the analyser foretells for a step."""
    side = training.config.image_size
    tape = tape_of(skeleton(training), (3, side, side), batch=training.config.batch_size, training=True)
    return training_memory(tape)


def judged(
    steps: dict[str, list[dict[str, Any]]],
    foretold: dict[str, TrainingMemory],
    laboratory: Laboratory,
    config: TrainConfig,
) -> Finding:
    """What the steps show."""
    falls = {told: fall(rows) for told, rows in steps.items()}
    over = {told: above_guessing(rows, len(laboratory.classes)) for told, rows in steps.items()}
    peaks, resident = (
        {told: max((row[kind] for row in rows if row[kind] is not None), default=None) for told, rows in steps.items()}
        for kind in ("allocated_bytes", "resident_bytes")
    )
    norms = {told: median(row["gradients"]["first"] for row in rows) for told, rows in steps.items()}
    rows: list[list[Cell]] = [
        [
            told,
            len(found),
            fmean(row["loss"] for row in found[:WINDOW]),
            fmean(row["loss"] for row in found[-WINDOW:]),
            foretold[told].total,
            peaks[told],
            resident[told],
            norms[told],
        ]
        for told, found in steps.items()
    ]
    few = min(len(found) for found in steps.values())
    return Finding(
        title="A residual network of 1,202 layers",
        protocol=(
            f"Batches of {config.batch_size} of {len(laboratory.training):,} training images, SGD with momentum at a rate of "
            f"{config.optim.lr}, shifts and flips as in He et al. 2015, section 4.2, one seed. Loss: the mean of the "
            f"first and of the last {WINDOW} steps. Memory foretold: "
            "weights, gradients, momentum and the activations that autograd saves, from the analyser, which runs nothing; allocated: the "
            "most that torch's allocator had handed out in a step; resident: how much more the process held at the most, with what the "
            "system's allocator keeps of what was freed. Gradient: the median norm, over the steps, at the first layer's weights."
        ),
        columns=(
            Column(name="network", kind="text"),
            Column(name="steps", kind="count"),
            Column(name="loss, first", kind="number"),
            Column(name="loss, last", kind="number"),
            Column(name="memory foretold", kind="bytes"),
            Column(name="allocated", kind="bytes"),
            Column(name="resident", kind="bytes"),
            Column(name="gradient at the first layer", kind="number"),
        ),
        rows=rows,
        chart=Chart(
            kind="lines",
            caption=f"Each step's loss, as the mean of the last {WINDOW} steps, and the norm of the gradient at the first layer's weights.",
            x="step",
            y="",
            logarithmic=True,
            rows=[
                {
                    "panel": panel,
                    "line": told,
                    "x": found[i]["step"],
                    "y": fmean(values[max(0, i - WINDOW + 1) : i + 1]),
                }
                for panel, of in (("loss", _loss), ("gradient norm at the first layer", _gradient))
                for told, found in steps.items()
                for values in [of(found)]
                for i in range(len(found))
            ],
        ),
        paragraph=_told(steps, falls, over, len(laboratory.classes), peaks, resident, foretold, norms),
        shortened=f"{few} steps of {LEAST} at least were made." if few < LEAST else "",
        figures={"steps": steps, "foretold_bytes": {told: memory.total for told, memory in foretold.items()}},
    )


def fall(rows: Sequence[dict[str, Any]]) -> Estimate:
    """The mean loss of the last third of the steps less that of the first, with an interval over pairs of steps.

    Steps of one run are no independent trainings: the interval says whether the loss fell in this run beyond the scatter of its batches.
    """
    losses = _loss(rows)
    third = max(len(losses) // 3, 1)
    pairs = list(zip(losses[:third], losses[-third:], strict=True))
    return by_seed([last - first for first, last in pairs])


def above_guessing(rows: Sequence[dict[str, Any]], classes: int) -> Estimate:
    """The mean loss of the last third of the steps less that of giving every class the same probability."""
    losses = _loss(rows)
    return by_seed([loss - math.log(classes) for loss in losses[-max(len(losses) // 3, 1) :]])


def _loss(rows: Sequence[dict[str, Any]]) -> list[float]:
    return [row["loss"] for row in rows]


def _gradient(rows: Sequence[dict[str, Any]]) -> list[float]:
    return [row["gradients"]["first"] for row in rows]


def _told(
    steps: dict[str, list[dict[str, Any]]],
    falls: dict[str, Estimate],
    over: dict[str, Estimate],
    classes: int,
    peaks: dict[str, int | None],
    resident: dict[str, int | None],
    foretold: dict[str, TrainingMemory],
    norms: dict[str, float],
) -> str:
    told: list[str] = []
    for name, found in falls.items():
        does = {"less": "the loss falls", "more": "the loss rises"}.get(found.shown, "the loss is not shown to fall")
        between = (
            "" if found.low is None or found.high is None else f" (interval {found.low:+.2f} to {found.high:+.2f})"
        )
        told.append(
            f"{name}: {does} over {len(steps[name])} steps, by {found.value:+.2f} from the first third to the last{between}."
        )
    for name, found in over.items():
        does = {"less": "is below", "more": "is above"}.get(found.shown, "is not shown to be below or above")
        told.append(
            f"In the last third {name}'s loss {does} that of guessing, ln {classes} = {math.log(classes):.2f}: {found.value:+.2f} from it."
        )
    for name, peak in peaks.items():
        if name == "ResNet-1202" and peak is not None:
            share = peak / foretold[name].total
            within = "within" if share <= 1 else "not within"
            told.append(
                f"A step of {name} had {peak / 1e6:,.0f} MB allocated at the most, {within} the {foretold[name].total / 1e6:,.0f} MB that "
                f"were foretold ({100 * share:.0f} % of them)."
            )
            if held := resident[name]:
                told.append(f"The process itself grew by up to {held / 1e6:,.0f} MB.")
    if {"plain-110", "ResNet-110"} <= norms.keys():
        deep, plain = ((norms[name], _gradient(steps[name])[0]) for name in ("ResNet-110", "plain-110"))
        told.append(
            f"At the first layer the gradient has a norm of {deep[0]:.2g} in the residual network of 110 layers and of {plain[0]:.2g} in "
            f"the plain one (medians over these steps; in the first {deep[1]:.2g} and {plain[1]:.2g}; one seed each, so no interval)."
        )
    return " ".join(told)
