"""Krizhevsky et al. ImageNet Classification with Deep Convolutional Neural Networks. 2012, figure 1: rectifiers learn faster than tanh.

The paper's network of four layers came to a training error of 25 % on CIFAR-10 six times faster with rectifiers. As there, nothing
regularises, and each activation has the learning rate with which it is fastest, found among some with the first seed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from torch import nn

from convatlas.errors import ConvAtlasError
from convatlas.studies.finding import (
    DIFFERENCE,
    SHARE,
    Cell,
    Chart,
    Column,
    Finding,
    by_seed,
    by_seed_ratio,
    percent,
    points,
    times,
)
from convatlas.studies.laboratory import Laboratory, Trained, Training, error_curve
from convatlas.studies.small_nets import four_layers
from convatlas.studies.variants import Variant, config_of

ACTIVATIONS: dict[str, type[nn.Module]] = {"ReLU": nn.ReLU, "tanh": nn.Tanh}
RATES = (0.003, 0.01, 0.03)
GOAL = 0.25  # training error


@dataclass(frozen=True, kw_only=True)
class Learned:
    """One activation at its best rate: the training error after each epoch, a curve for each seed."""

    rate: float
    curves: dict[int, list[float]]

    @property
    def epochs(self) -> dict[int, float | None]:
        """To the goal, by seed; None where it was not reached."""
        return {seed: reached(curve) for seed, curve in self.curves.items()}


def find(laboratory: Laboratory) -> Finding:
    """Tries the rates with the first seed, and trains both activations at their best from the others."""
    learned: dict[str, Learned] = {}
    for name in ACTIVATIONS:
        tried = laboratory.trained([training_of(laboratory, name, rate, 0) for rate in RATES])
        rates = [
            rate for rate in RATES if any(run.name == _name(name, rate) and _whole(run, laboratory) for run in tried)
        ]
        if not rates:
            raise ConvAtlasError(
                f"{laboratory.runs}: no training with {name} is finished.", remedy="Leave out --partial to train."
            )
        curves = {rate: error_curve(run, "top1") for rate in rates for run in tried if run.name == _name(name, rate)}
        best = min(rates, key=lambda rate: (reached(curves[rate]) or float("inf"), curves[rate][-1]))
        seeds = range(1, laboratory.length.seeds)
        others = laboratory.trained([training_of(laboratory, name, best, seed) for seed in seeds])
        more = {run.seed: error_curve(run, "top1") for run in others if _whole(run, laboratory)}
        learned[name] = Learned(rate=best, curves={0: curves[best], **more})
    return judged(learned, laboratory)


def training_of(laboratory: Laboratory, activation: str, rate: float, seed: int) -> Training:
    """Without augmentation, weight decay and dropout, at one rate."""
    classes = len(laboratory.classes)
    kind = ACTIVATIONS[activation]
    variant = Variant(
        name="four-layers", label=activation, build=lambda classes: four_layers(kind, classes=classes), augment=False
    )
    config = config_of(laboratory, variant, lr=rate, seed=seed)
    config = replace(config, optim=replace(config.optim, weight_decay=0.0, warmup_epochs=0, final_lr=1.0))
    return Training(
        name=_name(activation, rate),
        recipe="small networks",
        network=f"four-layers-{activation}",
        source="Krizhevsky et al. 2012, figure 1",
        config=config,
        build=lambda: variant.build(classes),
    )


def reached(curve: Sequence[float], goal: float = GOAL) -> float | None:
    """After how many epochs the error was down to the goal, between two epochs in proportion; None if it never was."""
    for epoch, error in enumerate(curve, start=1):
        if error <= goal:
            before = curve[epoch - 2] if epoch > 1 else 1.0  # nothing is known before the first: as if all was wrong
            return epoch - (goal - error) / (before - error) if before > error else float(epoch)
    return None


def judged(learned: dict[str, Learned], laboratory: Laboratory) -> Finding:
    """What the curves show."""
    rows: list[list[Cell]] = []
    for name, found in learned.items():
        known = [epochs for epochs in found.epochs.values() if epochs is not None]
        until = by_seed(known) if len(known) == len(found.epochs) else None
        rows.append(
            [
                name,
                found.rate,
                len(found.curves),
                len(known),
                until,
                by_seed([curve[-1] for curve in found.curves.values()], within=SHARE),
            ]
        )
    return Finding(
        title="Rectifiers and tanh",
        protocol=(
            "A network of four layers (three 5×5 convolutions with pooling and a classifier) on "
            f"{len(laboratory.training):,} training images of {len(laboratory.classes)} classes for {laboratory.length.epochs} epochs: SGD "
            "with momentum, batches of 64, a constant rate, no augmentation, dropout or weight decay. The rate of each activation is the "
            f"one of {', '.join(map(str, RATES))} with which it was fastest from the first seed, which is among those judged. Training "
            "error: share of an epoch's images that were wrong when they were learned from."
        ),
        columns=(
            Column(name="activation", kind="text"),
            Column(name="rate", kind="number"),
            Column(name="seeds", kind="count"),
            Column(name=f"that came to {percent(GOAL)}", kind="count"),
            Column(name="epochs until then", kind="number"),
            Column(name="training error at the end", kind="percent"),
        ),
        rows=rows,
        chart=Chart(
            kind="lines",
            caption="Training error after each epoch, each activation at its best rate. Lines are means over seeds, bands their range.",
            x="epoch",
            y="training error",
            percent=True,
            rows=[
                {
                    "panel": "training error",
                    "line": name,
                    "x": epoch + 1,
                    "y": fmean(at),
                    "low": min(at),
                    "high": max(at),
                }
                for name, found in learned.items()
                for epoch in range(min(map(len, found.curves.values())))
                for at in [[curve[epoch] for curve in found.curves.values()]]
            ],
        ),
        paragraph=told(learned, laboratory.length.epochs),
        figures={
            name: {"rate": found.rate, "curves": found.curves, "epochs": found.epochs}
            for name, found in learned.items()
        },
    )


def told(learned: dict[str, Learned], length: int) -> str:
    """The verdict, from the curves alone."""
    relu, tanh = learned["ReLU"], learned["tanh"]
    goal = f"a training error of {percent(GOAL)}"
    rates = f"(rates {relu.rate:g} and {tanh.rate:g})"
    seeds = sorted(relu.curves.keys() & tanh.curves.keys())
    pairs = [(relu.epochs[seed], tanh.epochs[seed]) for seed in seeds]
    both = [(a, b) for a, b in pairs if a is not None and b is not None]
    if len(both) == len(pairs):
        ratio, logs = by_seed_ratio([b / a for a, b in both])
        does = {
            "more": "Rectifiers learn faster than tanh",
            "less": "Tanh learns faster than rectifiers",
        }.get(logs.shown, "The data do not show which learns faster")
        return (
            f"{does}: to {goal} it takes {fmean(a for a, _ in both):.1f} epochs with ReLU and {fmean(b for _, b in both):.1f} with tanh "
            f"{rates}, {times(ratio)} as many. The paper has six times."
        )
    arrived = [a for a, b in pairs if a is not None and b is None]
    if len(arrived) == len(pairs):
        return (
            f"With ReLU {goal} is reached after {fmean(arrived):.1f} epochs on average {rates}; with tanh it is not reached in {length} "
            f"from any seed, so it takes more than {length / fmean(arrived):.1f} times as many. The paper has six times."
        )
    gap = by_seed([tanh.curves[seed][-1] - relu.curves[seed][-1] for seed in seeds], within=DIFFERENCE)
    does = {
        "more": "tanh is behind at the end",
        "less": "ReLU is behind at the end",
    }.get(gap.shown, "no difference was shown at the end")
    come = f"{sum(a is not None for a, _ in pairs)} of {len(pairs)} seeds with ReLU and {sum(b is not None for _, b in pairs)} with tanh"
    return (
        f"Within {length} epoch{'s'[: length != 1]} {come} came to {goal} {rates}, so no ratio of epochs can be told; {does}: the "
        f"training error with tanh differs by {points(gap)}."
    )


def _whole(run: Trained, laboratory: Laboratory) -> bool:
    return len(run.epochs) == laboratory.length.epochs


def _name(activation: str, rate: float) -> str:
    return f"four-layers-{activation.lower()}-{rate:g}"
