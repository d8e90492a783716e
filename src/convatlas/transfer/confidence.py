"""How unlike its training images an image is, so that the rate at which known classes are called "none of these" can be stated.

The measure is the sum of two, each standardised over held-out training images: the logarithm of the leverage in the ridge regression that
made the probe, and the largest score, negative. Leverage is Mahalanobis' distance with the ridge's penalty added to the covariance, and
sees photos of another kind whatever the probe says of them; the largest score sees classes that were left out, which lie among the others
but which no class claims (Vaze et al., "Open-Set Recognition: a Good Closed-Set Classifier is All You Need?", ICLR 2022). What else was
tried stands in docs/dev/decisions.md.

A threshold on the training images themselves would be far too low, since the fit lies close to them: with more features than images every
leverage is nearly 1. So both are those of a fit without the image, for a probe exactly and without a refit, with its copies and its group
left out too. A network that was trained has bent its features to its training images, and only networks that were trained without an
image can say how it looks when it is new: those of the folds that its plan was tried on. Each has a space of its own and has learned from
fewer images than the last one, so leverages are in units of what is usual there (`Among`). That a network with a fold and one without
treat new images alike is assumed, as in cross-validation (Barber et al., "Predictive Inference with the Jackknife+", Annals of Statistics
2021, of which this is the form without the plus: no theorem, but one network to keep).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from convatlas.bundle.confidence import Confidence, Metric, signs, unlikeness
from convatlas.metrics import own_scores, softmax
from convatlas.transfer.advise import Trial
from convatlas.transfer.probe import ClassWeights, Features, Probe, blocks_of, held_out_sets, image_weights
from convatlas.transfer.ridge import Array, Index, Ridge

STRENGTH = 1e-3  # of the ridge in a trained network's features, where no held-out image can choose it


def fit_confidence(
    features: Features,
    labels: ArrayLike,
    probe: Probe,
    *,
    class_weights: ClassWeights = None,
    folds: ArrayLike | None = None,
) -> Confidence:
    """What the training images say of the answers of `probe`, which `fit_probe` made from the same arguments."""
    blocks, truth = blocks_of(features), np.asarray(labels)
    num_classes = len(probe.bias)
    weights = image_weights(truth, num_classes, class_weights)
    sets, protocol = held_out_sets(truth, num_classes, folds)
    ridge = Ridge(blocks, np.zeros((len(truth), 1)), weights)
    scored = np.sort(np.concatenate(sets))
    logits = probe.scale * probe.held_out[scored]
    leverages = ridge.held_out_leverages(probe.strength, sets)[scored]
    return _confidence(_metric(ridge, probe.strength), 1.0, leverages, logits, truth[scored], protocol)


@dataclass(frozen=True, kw_only=True, eq=False)
class Among:
    """How far features lie from those that a trained network made of its training images."""

    metric: Metric
    usual: float  # the geometric mean of these images' own leverages, each without itself

    @classmethod
    def of(cls, read: np.ndarray) -> Among:
        """`read` (n, d) are those of the training images."""
        ridge = Ridge([read], np.zeros((len(read), 1)), np.ones(len(read)))
        strength = max(STRENGTH, ridge.rounding)
        own = ridge.held_out_leverages(strength, list(np.arange(len(read))[:, None]))
        return cls(metric=_metric(ridge, strength), usual=float(np.exp(np.log(own).mean())))

    def leverages(self, read: np.ndarray) -> Array:
        """(m,) of other images' (m, d), in units of what is usual."""
        return self.metric.leverages(read) / self.usual


def confidence_of_trials(
    trials: Sequence[Trial], labels: Index, read: np.ndarray, *, scale: float, folds: int
) -> Confidence:
    """What the images that each trial's network held out say of the answers of a network that was trained on all of them.

    Args:
        trials: of that network's plan; no image is in two of them.
        labels: (n,) classes of all images.
        read: (n, d) what the network's classifier reads of them.
        scale: of the logits, 1 / temperature.
        folds: how many there are, of which each trial is one.
    """
    rows = np.concatenate([trial.rows for trial in trials])
    order = np.argsort(rows)
    logits = scale * np.concatenate([trial.logits for trial in trials])[order]
    leverages = np.concatenate([trial.leverages for trial in trials if trial.leverages is not None])[order]
    own = Among.of(read)
    protocol = f"{len(trials)} of {folds} folds, each held out from a network of its own"
    return _confidence(own.metric, own.usual, leverages, logits, labels[rows[order]], protocol)


def _confidence(
    metric: Metric, usual: float, leverages: Array, logits: Array, truth: Index, protocol: str
) -> Confidence:
    """From the leverages of held-out images, in units of what is `usual` in `metric`."""
    found = signs(leverages, logits)
    centres, spreads = found.mean(axis=0), np.maximum(found.std(axis=0), 1e-12)
    return Confidence(
        metric=metric,
        centres=centres + np.array([np.log(usual), 0.0]),
        spreads=spreads,
        unlikenesses=unlikeness(found, centres, spreads),
        own_scores=own_scores(softmax(logits), truth),
        protocol=protocol,
    )


def _metric(ridge: Ridge, strength: float) -> Metric:
    return Metric(
        mean=ridge.mean,
        scaling=ridge.scaling,
        axes=ridge.directions.astype(np.float32),
        gains=ridge.gains(strength),
        outside=1 / (strength * ridge.count),
        share=1 / ridge.count,
    )
