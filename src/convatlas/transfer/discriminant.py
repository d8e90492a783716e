"""Hastie, Buja, Tibshirani. Penalized Discriminant Analysis. Annals of Statistics 23 (1995): a ridge regression made into a discriminant.

A regression on one-hot targets takes all directions in which classes differ as equally good, and what speaks for a class of twice the
images as twice as strong. A discriminant weighs each direction by how well it tells classes apart, and takes frequency for the prior
probability that it is. From the scores s of the regression to it are K × K numbers more. With the classes' shares π and D = diag(π),

    C = D^-½ E[(y − π)(s − π)ᵀ] D^-½,    Q = (1 − γ C)^-1,    z = (s − π) D^-½ Q D^-½ − ½ diag(Q − 1) / π

and probabilities are softmax(scale · z + ln π). The eigenvalues of C are the squared canonical correlations of features and classes. γ = 1
is the linear discriminant, whose covariance is that within the classes, penalised as the regression is; γ = 0 keeps the covariance of all
images. What lies between is less sure of how well a direction tells classes apart, as few images demand.

C is of held-out scores, and an image's own z is of a C to which neither it nor what is held out with it contributes: z is held out, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from convatlas.transfer.ridge import Array, Index

BETWEEN = 0.8  # γ; settled on training parts, see docs/dev/decisions.md
PARTS = 10  # an image's scores are mapped as the other parts say


@dataclass(frozen=True, kw_only=True)
class Discriminant:
    """The map from a regression's scores (n, K) to z = scores @ turn + shift, (n, K), and what is known of it."""

    turn: Array  # (K, K)
    shift: Array  # (K,)
    shares: Array  # (K,) of the classes
    held_out: Array  # (n, K): z of each image by a map that owes nothing to it; NaN for one in no set
    lowest: float  # no image's highest z is lower


def discriminant(scores: Array, targets: Array, weights: Array, sets: Sequence[Index]) -> Discriminant:
    """Learns the map.

    Args:
        scores: (n, K), held out, each row with the sum 1; those outside of `sets` are not looked at.
        targets: (n, K), one-hot; each class has an image.
        weights: (n,), with a mean of 1.
        sets: images held out together. Of a single one nothing held out could be told: it leaves a regression.
    """
    mass, out, sizes = weights.sum(), np.concatenate(sets), [len(index) for index in sets]
    shares = weights @ targets / mass
    gone = np.add.reduceat((weights[:, None] * targets)[out], np.cumsum([0, *sizes[:-1]]))  # (sets, K)
    left = (mass * shares - gone) / (mass - gone.sum(axis=1, keepdims=True))
    own_shares = np.tile(shares, (len(targets), 1))  # (n, K): without what is held out with an image
    # a class that is out as a whole counts as half an image
    own_shares[out] = np.repeat(np.maximum(left, 0.5 / mass), sizes, axis=0)

    apart = weights[:, None] * (targets - shares) / np.sqrt(shares)  # D^-½ (y − π), weighted
    away = (scores - own_shares) / np.sqrt(own_shares)  # D^-½ (s − π), as the fit without the image has them
    whole, whole_mass = apart[out].T @ away[out], weights[out].sum()
    parts = [np.concatenate(sets[first::PARTS]) for first in range(min(PARTS, len(sets)))]
    alone = len(parts) == 1
    stretch = stretched(whole * (0 if alone else 1 / whole_mass))
    turn, shift = mapping(stretch, shares)
    held_out, most = np.full_like(scores, np.nan), np.trace(stretch)
    for part in parts:
        others = (whole - apart[part].T @ away[part]) / (1 if alone else whole_mass - weights[part].sum())
        stretch, own = stretched(others), own_shares[part]
        held_out[part] = away[part] @ stretch / np.sqrt(own) - (stretch.diagonal() - 1) / (2 * own)
        most = max(most, np.trace(stretch))
    lowest = (len(shares) - most) / 2  # the mean of z, weighted by the shares
    return Discriminant(turn=turn, shift=shift, shares=shares, held_out=held_out, lowest=float(lowest))


def stretched(correlation: Array) -> Array:
    """Q (K, K) of C (K, K), which is symmetric but for what is learned from few images; correlations squared lie between 0 and 1."""
    squared, axes = np.linalg.eigh((correlation + correlation.T) / 2)
    return (axes / (1 - BETWEEN * np.clip(squared, 0, 1))) @ axes.T


def mapping(stretch: Array, shares: Array) -> tuple[Array, Array]:
    """`turn` (K, K) and `shift` (K,) of Q and π."""
    turn = stretch / np.sqrt(np.outer(shares, shares))
    return turn, -shares @ turn - (stretch.diagonal() - 1) / (2 * shares)
