"""How unlike its training images an image is, so that the rate at which known classes are called "none of these" can be stated.

The measure is the sum of two, each standardised over held-out training images: the logarithm of the leverage in the ridge regression that
made the probe, and the largest score, negative. Leverage is Mahalanobis' distance with the ridge's penalty added to the covariance, and
sees photos of another kind whatever the probe says of them; the largest score sees classes that were left out, which lie among the others
but which no class claims (Vaze et al., "Open-Set Recognition: a Good Closed-Set Classifier is All You Need?", ICLR 2022). What else was
tried stands in docs/dev/decisions.md.

A threshold on the training images themselves would be far too low, since the fit lies close to them: with more features than images every
leverage is nearly 1. So both are those of a fit without the image, exactly and without a refit, with its copies and its group left out too.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from convatlas.bundle.confidence import Confidence, signs, unlikeness
from convatlas.metrics import own_scores, softmax
from convatlas.transfer.probe import ClassWeights, Features, Probe, blocks_of, held_out_sets, image_weights
from convatlas.transfer.ridge import Ridge


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
    found = signs(leverages, logits)
    centres, spreads = found.mean(axis=0), np.maximum(found.std(axis=0), 1e-12)
    return Confidence(
        mean=ridge.mean,
        scaling=ridge.scaling,
        axes=ridge.directions.astype(np.float32),
        gains=ridge.gains(probe.strength),
        outside=1 / (probe.strength * ridge.count),
        share=1 / ridge.count,
        centres=centres,
        spreads=spreads,
        unlikenesses=unlikeness(found, centres, spreads),
        own_scores=own_scores(softmax(logits), truth[scored]),
        protocol=protocol,
    )
