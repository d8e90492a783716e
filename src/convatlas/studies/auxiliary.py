"""Szegedy et al. Going Deeper with Convolutions. 2015. https://arxiv.org/abs/1409.4842, section 5: classifiers in its middle.

They were to "increase the gradient signal that gets propagated back". Here that is measured: the norm of the gradient at layers from the
bottom to the top, of the same GoogLeNet on the same batch with and without the auxiliary losses, before the first step and during the
first steps of two trainings that differ in nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from statistics import fmean, median
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from convatlas import zoo
from convatlas.errors import ConvAtlasError
from convatlas.studies.finding import Cell, Chart, Column, Estimate, Finding, by_seed_ratio, times
from convatlas.studies.laboratory import Laboratory, Training
from convatlas.studies.plans import many
from convatlas.studies.steps import Loss, cross_entropy, gradients, watched
from convatlas.train.config import Augment, Optim, TrainConfig
from convatlas.train.recipes import recipe
from convatlas.zoo.googlenet import GoogLeNet

WEIGHT = 0.3  # of an auxiliary loss (section 5)
SIDE, BATCH, LR = 64, 32, 0.01
LAYERS = {  # from the bottom to the top; the auxiliary classifiers are on 4a and 4d
    "conv1": "stages.stage1.conv1.conv.weight",
    "conv2": "stages.stage2.conv2.conv.weight",
    "3a": "stages.stage3.3a.three.conv.weight",
    "3b": "stages.stage3.3b.three.conv.weight",
    "4a": "stages.stage4.4a.three.conv.weight",
    "4d": "stages.stage4.4d.three.conv.weight",
    "5b": "stages.stage5.5b.three.conv.weight",
}
WITH, WITHOUT = "with auxiliary losses", "without"


def all_losses(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """The main loss and 0.3 of each auxiliary one."""
    assert isinstance(model, GoogLeNet)
    main, *auxiliary = (F.cross_entropy(logits, labels) for logits in model.all_logits(images))
    return main + WEIGHT * sum(auxiliary)


LOSSES: dict[str, Loss] = {WITH: all_losses, WITHOUT: cross_entropy}


def find(laboratory: Laboratory) -> Finding:
    """Measures from every seed, then trains both ways."""
    seeds = range(laboratory.length.seeds)
    trainings = {
        (kind, seed): laboratory.changed(training_of(laboratory, kind, seed)) for seed in seeds for kind in LOSSES
    }
    steps = {key: watched(laboratory, training, LAYERS, loss=LOSSES[key[0]]) for key, training in trainings.items()}
    begun = [seed for seed in seeds if all(steps[kind, seed] for kind in LOSSES)]
    if not begun:
        raise ConvAtlasError(f"{laboratory.runs}: nothing was begun both ways.", remedy="Leave out --partial to train.")
    first = {
        (kind, seed): gradients(laboratory, trainings[kind, seed], LAYERS, loss=LOSSES[kind])
        for seed in begun
        for kind in LOSSES
    }
    return judged(first, {key: rows for key, rows in steps.items() if key[1] in begun}, begun, laboratory)


def training_of(laboratory: Laboratory, kind: str, seed: int) -> Training:
    """The paper's GoogLeNet on small images; both ways it has the auxiliary classifiers, and without their losses they do not learn."""
    classes = len(laboratory.classes)

    def build() -> nn.Module:
        model = zoo.build("googlenet_aux", num_classes=classes, in_channels=3)
        assert isinstance(model, GoogLeNet)
        for head in model.auxiliary.values():
            head.pool = nn.AdaptiveAvgPool2d(4)  # of smaller maps than the paper's, to the size that its layers take
        return model

    standard = recipe("resnet20_cifar").config
    config = TrainConfig(
        epochs=laboratory.length.epochs,
        batch_size=BATCH,
        image_size=SIDE,
        optim=Optim(lr=LR, nesterov=False, weight_decay=2e-4, warmup_epochs=0, final_lr=1.0),
        augment=Augment(flip=0.5),
        mean=standard.mean,
        std=standard.std,
        seed=seed,
    )
    name = "googlenet-auxiliary" if kind == WITH else "googlenet-main"
    return Training(
        name=name,
        recipe="study auxiliary",
        network="googlenet_aux",
        source="Szegedy et al. 2015",
        config=config,
        build=build,
    )


def judged(
    first: dict[tuple[str, int], dict[str, float]],
    steps: dict[tuple[str, int], list[dict[str, Any]]],
    seeds: Sequence[int],
    laboratory: Laboratory,
) -> Finding:
    """What the gradients show: at initialisation, and as the median over the steps of each run."""
    at_first = {
        layer: by_seed_ratio([first[WITH, s][layer] / first[WITHOUT, s][layer] for s in seeds]) for layer in LAYERS
    }
    later = {
        layer: by_seed_ratio([_median(steps[WITH, s], layer) / _median(steps[WITHOUT, s], layer) for s in seeds])
        for layer in LAYERS
    }
    length = min(len(rows) for rows in steps.values())
    rows: list[list[Cell]] = [
        [
            layer,
            fmean(first[WITHOUT, s][layer] for s in seeds),
            fmean(first[WITH, s][layer] for s in seeds),
            at_first[layer][0],
            later[layer][0],
        ]
        for layer in LAYERS
    ]
    losses = {kind: fmean(fmean(row["loss"] for row in steps[kind, s][-10:]) for s in seeds) for kind in LOSSES}
    return Finding(
        title="GoogLeNet's auxiliary classifiers",
        protocol=(
            f"The paper's GoogLeNet, without batch norm, on images of {SIDE}×{SIDE} pixels in batches of {BATCH}, "
            f"{many(len(seeds), 'seed')}; auxiliary losses count {WEIGHT}. At initialisation: the gradient of the first batch, the same "
            f"network and images both ways. In training: {many(length, 'step')} of SGD with momentum at a rate of {LR}, both ways from "
            "the same weights; the median norm over the steps. Ratios are geometric means over seeds."
        ),
        columns=(
            Column(name="at the weights of", kind="text"),
            Column(name="first gradient without", kind="number"),
            Column(name="with", kind="number"),
            Column(name="ratio at initialisation", kind="number"),
            Column(name="ratio in training", kind="number"),
        ),
        rows=rows,
        chart=Chart(
            kind="lines",
            caption="Norm of the gradient at the first convolution over the steps, with and without the auxiliary losses: mean over seeds, "
            "with their range.",
            x="step",
            y="gradient norm at conv1",
            logarithmic=True,
            rows=[
                {
                    "panel": "gradient at conv1",
                    "line": kind,
                    "x": i + 1,
                    "y": fmean(at),
                    "low": min(at),
                    "high": max(at),
                }
                for kind in LOSSES
                for i in range(length)
                for at in [[steps[kind, s][i]["gradients"]["conv1"] for s in seeds]]
            ],
        ),
        paragraph=told(at_first["conv1"], later["conv1"], length),
        figures={
            "at_initialisation": {layer: asdict(found[0]) for layer, found in at_first.items()},
            "in_training": {layer: asdict(found[0]) for layer, found in later.items()},
            "mean_loss_of_the_last_steps": losses,
            "seeds": list(seeds),
        },
    )


def told(first: tuple[Estimate, Estimate], later: tuple[Estimate, Estimate], steps: int) -> str:
    """From the ratios at the first convolution."""

    def claim(found: tuple[Estimate, Estimate]) -> str:
        ratio, logs = found
        does = {
            "more": "the auxiliary losses make the gradient at the first convolution larger",
            "less": "the auxiliary losses make the gradient at the first convolution smaller",
            "neither": "the data do not show that the auxiliary losses change the norm of the gradient at the first convolution",
            "unknown": "from one seed, which shows little, the gradient at the first convolution changes",
        }[logs.shown]
        return f"{does}, to {times(ratio)} what it is without"

    agree = first[1].shown == later[1].shown == "more"
    end = (
        "So they do bring gradient to the lower layers."
        if agree
        else "Whether that helped training is another question."
    )
    return f"At initialisation {claim(first)}. During the first {many(steps, 'step')} {claim(later)}. {end}"


def _median(rows: Sequence[dict[str, Any]], layer: str) -> float:
    return median(row["gradients"][layer] for row in rows)
