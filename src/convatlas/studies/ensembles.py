"""Seven networks together, as the slides have it of AlexNet; VGG's, GoogLeNet's and ResNet's entries were ensembles too.

The members differ in nothing but the seed. Their probabilities are averaged. The gain is over the mean member, image by image, so its
interval is of the differences and not of two accuracies side by side.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict

import torch
from torch import Tensor

from convatlas.errors import ConvAtlasError
from convatlas.studies.ablations import LR, WHOLE
from convatlas.studies.finding import Cell, Chart, Column, Estimate, Finding, by_image, percent, points
from convatlas.studies.laboratory import Laboratory
from convatlas.studies.plans import many
from convatlas.studies.variants import training_of


def find(laboratory: Laboratory) -> Finding:
    """Trains as many members as there are seeds."""
    seeds = range(laboratory.length.seeds)
    trainings = [
        training_of(laboratory, WHOLE, lr=LR, seed=seed) for seed in seeds
    ]  # the study of ablations has them too
    logits = {run.seed: run.counted.held_out for run in laboratory.trained(trainings) if run.counted}
    if len(logits) < 2:
        raise ConvAtlasError(
            f"an ensemble of {len(logits)} finished network;" if len(logits) == 1 else "no network is finished;",
            remedy="give --seeds 2 or more, and leave out --partial to train them.",
        )
    return judged(logits, laboratory)


def judged(logits: Mapping[int, Tensor], laboratory: Laboratory) -> Finding:
    """What the members' answers (n, classes) to the held-out images show, by their seeds."""
    labels = laboratory.held_out.labels
    probabilities = torch.stack([each.double().softmax(1) for each in logits.values()])
    right = (probabilities.argmax(2) == labels).double()  # members, images
    accuracies = right.mean(1).tolist()
    together = {k: (probabilities[:k].mean(0).argmax(1) == labels).double() for k in range(2, len(logits) + 1)}
    gain = by_image((together[len(logits)] - right.mean(0)).tolist())
    best = max(accuracies)
    of_k = {k: by_image((found - right.mean(0)).tolist()) for k, found in together.items()}
    rows: list[list[Cell]] = [
        [f"member, seed {seed}", 1, accuracy, None] for seed, accuracy in zip(logits, accuracies, strict=True)
    ]
    rows.append(["mean of the members", 1, sum(accuracies) / len(accuracies), None])
    rows += [[f"{k} together", k, float(together[k].mean()), of_k[k]] for k in together]
    mean = sum(accuracies) / len(accuracies)
    return Finding(
        title="Seven networks together" if len(logits) == 7 else f"{len(logits)} networks together",
        protocol=(
            f"{len(logits)} small networks like AlexNet, trained alike on {len(laboratory.training):,} images for "
            f"{many(laboratory.length.epochs, 'epoch')} from other seeds; their probabilities averaged on {len(laboratory.held_out):,} "
            "held-out images, by which nothing was chosen. The interval of the gain is over images, of these members: Bonett and Price's "
            "for paired proportions."
        ),
        columns=(
            Column(name="network", kind="text"),
            Column(name="members", kind="count"),
            Column(name="test accuracy", kind="percent"),
            Column(name="gain over the mean member, points", kind="points"),
        ),
        rows=rows,
        chart=Chart(
            kind="lines",
            caption="Gain in test accuracy over the mean member, by how many are averaged; the band is its 95 % interval over images.",
            x="members",
            y="gain",
            percent=True,
            rows=[
                {
                    "panel": "averaged probabilities",
                    "line": "ensemble",
                    "x": k,
                    "y": found.value,
                    "low": found.low,
                    "high": found.high,
                }
                for k, found in of_k.items()
            ],
        ),
        paragraph=_told(len(logits), mean, best, float(together[len(logits)].mean()), gain),
        figures={
            "accuracies": accuracies,
            "gain": asdict(gain),
            "gain_by_members": {k: asdict(v) for k, v in of_k.items()},
        },
    )


def _told(members: int, mean: float, best: float, together: float, gain: Estimate) -> str:
    does = {
        "more": "is better than the mean member",
        "less": "is worse than the mean member",
    }.get(gain.shown, "is not shown to be better than the mean member")
    than_best = "more than" if together > best else "no more than"
    return (
        f"The averaged probabilities of {members} networks are right on {percent(together)} of the held-out images, where the mean member "
        f"is on {percent(mean)}: the ensemble {does}, by {points(gain)}. That is {than_best} the best single member's {percent(best)}, "
        "which nobody can choose without looking at these images. Five AlexNets have a top-5 error of 16.4 % on ImageNet where one has "
        "18.2; the 15.4 of seven is with two that had learned from more images."
    )
