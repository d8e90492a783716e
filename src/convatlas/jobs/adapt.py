"""What a fit does beyond probing: plans tried within a budget, the chosen one trained on all training images and calibrated.

Each trial leaves out a fold of the training images; folds keep copies and groups on one side. The test part is looked at by the network
that is handed out, and by no other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import nn

from convatlas import catalogue, zoo
from convatlas.data import Dataset, Record, examine, folds
from convatlas.errors import ConvAtlasError
from convatlas.jobs.analyse import analyse
from convatlas.jobs.images import Progress, silent
from convatlas.metrics import softmax
from convatlas.train.cached import Cached
from convatlas.train.images import Images, InMemory
from convatlas.transfer.advise import Advice, Trial, advise, follow
from convatlas.transfer.plans import ALL, Plan, plans_for
from convatlas.transfer.probe import Features, fit_probe
from convatlas.transfer.workshop import Trained, Workshop
from convatlas.weights.source import WeightsSource

FOLDS = 5
LARGE = 1 << 30  # bytes of pixels that memory should not hold
_STEP = 32  # images that a training step holds: what its memory is told for


@dataclass(frozen=True, kw_only=True)
class Adapted:
    """What the search for a plan found, and the network that its training left; none where the best plan is a probe."""

    advice: Advice
    trained: Trained | None
    scale: float  # of its logits: 1 / the temperature
    test: np.ndarray  # (m, K) probabilities of the test images, calibrated
    held_out: np.ndarray  # (n, K) of the training images by networks that had not seen them; NaN for images in no trial

    @property
    def judged(self) -> np.ndarray:
        """The training images that were held out once."""
        return np.flatnonzero(np.isfinite(self.held_out).all(axis=1))


def adapt(
    dataset: Dataset,
    records: Sequence[Record],
    labels: np.ndarray,
    train: int,
    source: WeightsSource,
    rungs: Mapping[str, Features],
    best: str,
    means: Mapping[str, np.ndarray],
    num_classes: int,
    *,
    plan: Plan | None,
    budget: float | None,
    together: np.ndarray,
    balance: Literal["none", "weights"] = "none",
    device: str = "cpu",
    seed: int = 0,
    progress: Progress = silent,
) -> Adapted:
    """Tries plans that train, or the one given, and trains the best.

    Args:
        records: of the training images, `train` of them, then of the test images; `labels` are theirs, as class indices.
        rungs: the training images' features by rung, of which `best` is the chosen probe's; `means` are those of all images by cut, of
            which the last is where heads begin.
        plan: the one to follow; None searches.
        budget: seconds for trials and the final training.
        together: (train,) what must be held out together.
        balance: whether the loss makes classes count alike.
    """
    images = _pixels(dataset, records, labels, source, progress)
    shop = Workshop(
        source,
        images,
        list(means.values())[-1],
        num_classes,
        weights_sha256=source.sha256(),
        balance=balance,
        device=device,
        seed=seed,
        progress=progress,
    )
    fold_of = folds(labels[:train], together, k=FOLDS, seed=seed)
    count = int(fold_of.max()) + 1
    if not count:
        raise ConvAtlasError(
            "no image can be held out to judge a plan that trains.",
            remedy="Give at least two images of every class, from different groups.",
        )
    outs = [np.flatnonzero(fold_of == fold) for fold in range(count)]

    def run(tried: Plan, fold: int) -> Trial:
        found = shop.train(tried, np.flatnonzero(fold_of != fold), outs[fold])
        return Trial(fold=fold, rows=outs[fold], logits=found.logits, seconds=found.seconds)

    every_fold = len(records) == train  # without a test part the headline comes from all of them
    truth = labels[:train]
    if plan is None:
        probe = Plan(kind="probe", at=(best,))
        probed = [_probed(rungs[best], truth, num_classes, fold, rows) for fold, rows in enumerate(outs)]
        tried = [each for each in plans_for(_stages(source)) if each.trains]
        seconds = {each: shop.pace(each, train).seconds(train) for each in tried}
        advice = advise(truth, probe, probed, run, seconds, memory=_memory(source, tried, num_classes), budget=budget)
    else:
        trials = [run(plan, fold) for fold in range(count if every_fold else 1)]
        pace = max(trial.seconds for trial in trials)
        advice = follow(plan, truth, trials, seconds=pace, memory=_memory(source, [plan], num_classes).get(plan))
    held_out = np.full((train, num_classes), np.nan)
    if not advice.chosen.trains:
        nothing = np.empty((0, num_classes))
        return Adapted(advice=advice, trained=None, scale=advice.scale, test=nothing, held_out=held_out)
    done = {trial.fold for trial in advice.trials}
    more = [run(advice.chosen, fold) for fold in range(count) if every_fold and fold not in done]
    trained = shop.train(advice.chosen, np.arange(train), np.arange(train, len(records)))
    classifier = trained.model.get_submodule(trained.model.classifiers[0])
    # LeNet's distances to codes cannot be scaled by their parameters
    scale = advice.scale if isinstance(classifier, nn.Linear | nn.Conv2d) else 1.0
    for trial in [*advice.trials, *more]:
        held_out[trial.rows] = softmax(scale * trial.logits)
    test = softmax(scale * trained.logits)
    return Adapted(advice=advice, trained=trained, scale=scale, test=test, held_out=held_out)


def _probed(features: Features, truth: np.ndarray, num_classes: int, fold: int, rows: np.ndarray) -> Trial:
    """The chosen probe on a fold, fitted to the other images."""
    others = np.setdiff1d(np.arange(len(truth)), rows)
    probe = fit_probe(features, truth, num_classes, rows=others)
    blocks = [features] if isinstance(features, np.ndarray) else features
    return Trial(fold=fold, rows=rows, logits=probe.scores([block[rows] for block in blocks]), seconds=0.0)


def _stages(source: WeightsSource) -> tuple[str, ...]:
    return catalogue.find(source.name).stages


def _memory(source: WeightsSource, plans: Sequence[Plan], num_classes: int) -> dict[Plan, int]:
    """Bytes of a training step of `_STEP` images, by the analyser; of cuts between stages."""
    p, stages = source.preprocessing, _stages(source)
    model = zoo.skeleton(source.name, num_classes=num_classes, in_channels=p.channels)
    found = analyse(model, (p.channels, p.size, p.size), training_batch=_STEP, optimizer="adam").training
    by_upto = {freeze.upto: freeze.memory.total for freeze in found}
    upto = {plan: "" if plan.kind == "scratch" or plan.at == (ALL,) else _before(stages, plan.at[0]) for plan in plans}
    return {plan: by_upto[stage] for plan, stage in upto.items() if stage in by_upto}


def _before(stages: Sequence[str], stage: str) -> str:
    place = stages.index(stage) if stage in stages else -1
    return f"stages.{stages[place - 1]}" if place > 0 else "" if place == 0 else "inside a stage"


def _pixels(
    dataset: Dataset, records: Sequence[Record], labels: np.ndarray, source: WeightsSource, progress: Progress
) -> Images:
    """The images as the network sees them, in memory or, where they are many, in a mapped file."""
    p, truth = source.preprocessing, torch.from_numpy(labels.astype(np.int64))
    if len(records) * p.channels * p.size**2 > LARGE:
        return Cached(dataset, records, truth, p, progress=progress)
    pixels = np.empty((len(records), p.channels, p.size, p.size), np.uint8)
    for i, item in enumerate(examine(dataset, records, preprocessing=p)):
        if item.pixels is None:
            raise item.failure or ConvAtlasError(f"{dataset.locate(item.record)}: has no pixels.")
        pixels[i] = item.pixels.transpose(2, 0, 1)
        progress("decode", i + 1, len(records))
    return InMemory(torch.from_numpy(pixels), truth, [dataset.locate(record) for record in records])
