"""Networks that differ in one thing, trained alike from the same seeds and compared on the held-out images: what several studies do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from convatlas.analysis.cost import total
from convatlas.errors import ConvAtlasError
from convatlas.studies.finding import (
    DIFFERENCE,
    SHARE,
    Cell,
    Chart,
    Column,
    Estimate,
    by_image,
    by_seed,
    percent,
    points,
)
from convatlas.studies.laboratory import Counted, Laboratory, Training, skeleton
from convatlas.studies.layers import tape_of
from convatlas.studies.plans import many
from convatlas.train.config import Augment, Optim, TrainConfig
from convatlas.train.recipes import recipe


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One of the networks that are compared."""

    name: str  # of its runs
    label: str  # for readers
    build: Callable[[int], nn.Module]  # for a number of classes
    augment: bool = True  # shifts and flips


@dataclass(frozen=True, kw_only=True)
class Compared:
    """A variant with what it costs and what it reached."""

    variant: Variant
    parameters: int
    mult_adds: int
    runs: dict[int, Counted]  # by seed
    accuracy: Estimate  # on the held-out images
    training_accuracy: Estimate
    difference: Estimate | None  # of its accuracy to the first variant's; None of the first


def config_of(laboratory: Laboratory, variant: Variant, *, lr: float, seed: int, batch_size: int = 64) -> TrainConfig:
    """SGD with momentum, a cosine to zero after an epoch of warm-up, weight decay as AlexNet's."""
    standard = recipe("resnet20_cifar").config  # the mean and the deviation of CIFAR's pixels
    return TrainConfig(
        epochs=laboratory.length.epochs,
        batch_size=batch_size,
        image_size=standard.image_size,
        optim=Optim(lr=lr, nesterov=False, weight_decay=5e-4, warmup_epochs=1),
        augment=standard.augment if variant.augment else Augment(),
        mean=standard.mean,
        std=standard.std,
        seed=seed,
    )


def training_of(laboratory: Laboratory, variant: Variant, *, lr: float, seed: int) -> Training:
    """A variant's training from one seed."""
    classes = len(laboratory.classes)
    return Training(
        name=variant.name,
        recipe="small networks",
        network=variant.name,
        source="convatlas.studies.small_nets",
        config=config_of(laboratory, variant, lr=lr, seed=seed),
        build=lambda: variant.build(classes),
    )


def compared(laboratory: Laboratory, variants: Sequence[Variant], *, lr: float) -> list[Compared]:
    """Trains every variant from every seed; the first is what the others are compared with.

    Of `partial` studies the seeds of which every variant is finished. Raises `ConvAtlasError` where there is none.
    """
    trainings = [
        training_of(laboratory, variant, lr=lr, seed=seed)
        for seed in range(laboratory.length.seeds)
        for variant in variants
    ]
    runs = laboratory.trained(trainings)
    by_name = {
        variant.name: {run.seed: run.counted for run in runs if run.name == variant.name and run.counted}
        for variant in variants
    }
    common = sorted(set.intersection(*map(set, by_name.values())))
    if not common:
        raise ConvAtlasError(
            f"{laboratory.runs}: there is no seed from which all of {', '.join(by_name)} are finished.",
            remedy="Leave out --partial to train them.",
        )
    found: list[Compared] = []
    for variant in variants:
        own = {seed: by_name[variant.name][seed] for seed in common}
        parameters, mult_adds = cost_of(training_of(laboratory, variant, lr=lr, seed=0))
        found.append(
            Compared(
                variant=variant,
                parameters=parameters,
                mult_adds=mult_adds,
                runs=own,
                accuracy=by_seed([1 - run.held_out_error for run in own.values()], within=SHARE),
                training_accuracy=by_seed([1 - run.training_error for run in own.values()], within=SHARE),
                difference=_difference(own, found[0].runs, laboratory) if found else None,
            )
        )
    return found


def cost_of(training: Training) -> tuple[int, int]:
    """Parameters, and mult-adds of an image."""
    model, side = skeleton(training), training.config.image_size
    return sum(p.numel() for p in model.parameters()), total(tape_of(model, (3, side, side)).ops).mult_adds


def protocol(laboratory: Laboratory, found: Sequence[Compared], *, lr: float) -> str:
    """How they were trained and judged."""
    seeds = len(found[0].runs)
    over = many(seeds, "seed") + (", from which all are compared seed by seed" if seeds > 1 else "")
    return (
        f"Small networks for 32×32 pixels, each on {len(laboratory.training):,} training images of {len(laboratory.classes)} classes for "
        f"{many(laboratory.length.epochs, 'epoch')}: SGD with momentum, batches of 64, a rate of up to {lr} on a cosine to zero, {over}. "
        f"Accuracy: of the last weights on {len(laboratory.held_out):,} held-out images, by which nothing was chosen; that on the "
        "training images is counted without augmentation. Mult-adds are the analyser's, of one image."
    )


COLUMNS = (
    Column(name="network", kind="text"),
    Column(name="parameters", kind="count"),
    Column(name="mult-adds", kind="count"),
    Column(name="training accuracy", kind="percent"),
    Column(name="test accuracy", kind="percent"),
    Column(name="difference to the first, points", kind="points"),
)


def rows(found: Sequence[Compared]) -> list[list[Cell]]:
    """Of the table with these columns."""
    return [
        [each.variant.label, each.parameters, each.mult_adds, each.training_accuracy, each.accuracy, each.difference]
        for each in found
    ]


def chart(found: Sequence[Compared], caption: str) -> Chart:
    """Test accuracy with its interval, a row a network."""
    return Chart(
        kind="dots",
        caption=caption,
        x="test accuracy",
        percent=True,
        rows=[
            {
                "panel": "test accuracy",
                "label": each.variant.label,
                "x": each.accuracy.value,
                "low": each.accuracy.low,
                "high": each.accuracy.high,
            }
            for each in found
        ],
    )


def figures(found: Sequence[Compared]) -> dict[str, Any]:
    """Everything measured, by run."""
    return {
        each.variant.name: [
            {"seed": seed, "training_error": run.training_error, "test_error": run.held_out_error}
            for seed, run in each.runs.items()
        ]
        for each in found
    }


def told(each: Compared, first: Compared) -> str:
    """`accuracy is lower with one 7×7 than with three 3×3: −2.1 points (…)`, or that no difference was shown."""
    assert each.difference, "the first is compared with nothing"
    a, b = each.variant.label, first.variant.label
    return {
        "more": f"accuracy is higher with {a} than with {b}: {points(each.difference)}",
        "less": f"accuracy is lower with {a} than with {b}: {points(each.difference)}",
        "neither": f"no difference in accuracy between {a} and {b} was shown: {points(each.difference)}",
        "unknown": f"{a} and {b} were trained from one seed only, which shows no difference: {points(each.difference)}",
    }[each.difference.shown]


def costs(each: Compared, first: Compared) -> str:
    """`1.8 times the parameters and 1.7 times the mult-adds`."""
    return f"{each.parameters / first.parameters:.2f} times the parameters and {each.mult_adds / first.mult_adds:.2f} times the mult-adds"


def accuracies(found: Sequence[Compared]) -> str:
    """`44.1 % with three 3×3, 43.0 % with one 7×7`."""
    return ", ".join(f"{percent(each.accuracy.value)} with {each.variant.label}" for each in found)


def _difference(own: dict[int, Counted], first: dict[int, Counted], laboratory: Laboratory) -> Estimate:
    if len(own) > 1:
        return by_seed(
            [first[seed].held_out_error - run.held_out_error for seed, run in own.items()], within=DIFFERENCE
        )
    labels, (seed,) = laboratory.held_out.labels, own
    a, b = ((runs[seed].held_out.argmax(1) == labels).int() for runs in (own, first))
    found = by_image((a - b).tolist())
    return replace(found, of=f"{found.of}, of these two networks alone")
