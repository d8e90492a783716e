"""What a fit does beyond probing: plans tried within a budget, the chosen one trained on all training images and calibrated.

Each trial leaves out a fold of the training images; folds keep copies and groups on one side. Of the networks trained here, only the one
that is handed out sees the test part.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import nn

from convatlas import catalogue
from convatlas.bundle.confidence import Confidence
from convatlas.data import Dataset, Record, stratified
from convatlas.errors import ConvAtlasError
from convatlas.jobs.analyse import analyse
from convatlas.jobs.images import Progress, silent
from convatlas.jobs.pixels import prepared
from convatlas.metrics import softmax
from convatlas.transfer.advise import Advice, follow
from convatlas.transfer.confidence import confidence_of_trials
from convatlas.transfer.frozen import Norms
from convatlas.transfer.maps import Precision
from convatlas.transfer.plans import ALL, Plan, plans_for
from convatlas.transfer.probe import Features, image_weights
from convatlas.transfer.trials import Trials
from convatlas.transfer.workshop import Trained, Workshop
from convatlas.weights.load import skeleton
from convatlas.weights.source import WeightsSource
from convatlas.zoo.joined import Pairs, followed, joined

FOLDS = 5
_STEP = 32  # images that a training step holds: what its memory is told for


@dataclass(frozen=True, kw_only=True)
class Adapted:
    """What the search for a plan found, and the network that its training left; none where the best plan is a probe."""

    advice: Advice
    trained: Trained | None
    scale: float  # of its logits: 1 / the temperature
    test: np.ndarray  # (m, K) probabilities of the test images, calibrated
    held_out: np.ndarray  # (n, K) of the training images by networks that had not seen them; NaN for images in no trial
    fold_of: np.ndarray  # (n,) in which fold they were held out, or would have been
    confidence: Confidence | None  # what these say of the network's answers; None where there is none
    typicality: np.ndarray | None  # (m,) of the test images by it; None without a test part

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
    class_weights: Literal["balanced"] | None = None,
    norms: Norms = "frozen",
    augment: int = 0,
    maps: Precision = "float32",
    device: str = "cpu",
    seed: int = 0,
    progress: Progress = silent,
    say: Callable[[str], None] = lambda message: None,
) -> Adapted:
    """Tries plans that train, or the one given, and trains the best.

    Args:
        records: of the training images, `train` of them, then of the test images; `labels` are theirs, as class indices.
        rungs: the training images' features by rung, of which `best` is the chosen probe's; `means` are those of all images by cut, of
            which the last is where heads begin.
        plan: the one to follow; None searches.
        budget: seconds for all of this; None for no bound.
        together: (train,) what must be held out together.
        class_weights: whether classes count alike, as for the probe.
        norms: what batch norms do in the part that trains.
        augment: how many random views of an image a tuning sees; 0 for the image as it is.
        maps: how what a frozen part makes of images is kept.
        say: is told what somebody should know.
    """
    began = time.perf_counter()
    truth = torch.from_numpy(labels.astype(np.int64))
    images = prepared(dataset, records, truth, source.preprocessing, "auto", progress=progress, say=say)
    if len(images) != len(records):  # rows are images from here on
        raise ConvAtlasError(
            f"{dataset.root}: {len(records) - len(images)} images that could be read before no longer can.",
            remedy="Repeat the command when nothing writes there.",
        )
    shop = Workshop(
        source,
        images,
        list(means.values())[-1],
        num_classes,
        norms=norms,
        augment=augment,
        maps=maps,
        balance="weights" if class_weights else "none",
        together=np.append(together, together.max(initial=-1) + 1 + np.arange(len(records) - train)),
        device=device,
        seed=seed,
        keep=True,
        progress=progress,
        say=say,
    )
    rows, own = np.arange(train), labels[:train]
    fold_of = stratified(own, together, k=FOLDS, seed=seed)
    trials = Trials(shop, rows, fold_of)
    trials.refuse_too_few(probed=plan is None or plan.kind != "scratch")
    asked = range(len(trials.outs) if len(records) == train else 0)  # folds that the headline comes from
    if plan is None:
        tried = [each for each in plans_for(_stages(source)) if each.trains]
        advice = trials.advice(
            *(best, rungs[best], trials.foretold(tried)),
            memory=_memory(source, tried, num_classes, norms),
            budget=None if budget is None else budget - (shop.clock() - began),
            closing=max(0, len(asked) - 1),
            class_weights=class_weights,
        )
        advice = replace(advice, budget=budget)  # as it was given, before images were prepared and plans timed
    else:
        given = [trials.run(plan, fold) for fold in asked or range(1)]
        foretold = max(trial.seconds for trial in given) / trials.share
        advice = follow(
            *(plan, own, given),
            seconds=foretold,
            memory=_memory(source, [plan], num_classes, norms).get(plan),
            together=together,
            weights=image_weights(own, num_classes, class_weights),
        )
    held_out = np.full((train, num_classes), np.nan)
    if not advice.chosen.trains:
        nothing = np.empty((0, num_classes))
        return Adapted(
            advice=advice,
            trained=None,
            scale=advice.scale,
            test=nothing,
            held_out=held_out,
            fold_of=fold_of,
            confidence=None,
            typicality=None,
        )
    done = {trial.fold for trial in advice.trials}
    more = [trials.run(advice.chosen, fold) for fold in asked if fold not in done]
    trained = shop.train(advice.chosen, rows, np.arange(train, len(records)), remember=True)
    classifier = trained.model.get_submodule(trained.model.classifiers[0])
    # LeNet's distances to codes cannot be scaled by their parameters
    scale = advice.scale if isinstance(classifier, nn.Linear | nn.Conv2d) else 1.0
    left_out = [*advice.trials, *more]
    for trial in left_out:
        held_out[trial.rows] = softmax(scale * trial.logits)
    assert trained.own, "it was asked for"
    confidence = confidence_of_trials(left_out, own, trained.own.read, scale=scale, folds=len(trials.outs))
    logits, tested = scale * trained.logits, len(records) > train
    return Adapted(
        advice=advice,
        trained=trained,
        scale=scale,
        test=softmax(logits),
        held_out=held_out,
        fold_of=fold_of,
        confidence=confidence,
        typicality=confidence.typicality(trained.read, logits) if tested else None,
    )


def _stages(source: WeightsSource) -> tuple[str, ...]:
    return catalogue.find(source.name).stages


def _memory(source: WeightsSource, plans: Sequence[Plan], num_classes: int, norms: Norms) -> dict[Plan, int]:
    """Bytes of a training step of `_STEP` images, by the analyser; of cuts between stages. Frozen norms keep no maps: they are joined."""
    p, stages = source.preprocessing, _stages(source)
    shape = (p.channels, p.size, p.size)
    model = skeleton(source, num_classes).eval()
    pairs = followed(model, torch.empty(1, *shape, device="meta"))

    def by_upto(pairs: Pairs) -> dict[str, int]:
        with joined(pairs):
            found = analyse(model, shape, training_batch=_STEP * p.crops, optimizer="adam").training
        return {freeze.upto: freeze.memory.total for freeze in found}

    whole = by_upto(())
    tuned = by_upto(pairs) if norms == "frozen" else whole
    upto = {plan: "" if plan.kind == "scratch" or plan.at == (ALL,) else _before(stages, plan.at[0]) for plan in plans}
    held = {plan: (whole if plan.kind == "scratch" else tuned).get(stage) for plan, stage in upto.items()}
    return {plan: held_bytes for plan, held_bytes in held.items() if held_bytes is not None}


def _before(stages: Sequence[str], stage: str) -> str:
    place = stages.index(stage) if stage in stages else -1
    return f"stages.{stages[place - 1]}" if place > 0 else "" if place == 0 else "inside a stage"
