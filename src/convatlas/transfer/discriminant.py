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

import numpy as np

from convatlas.transfer.ridge import Array, Index

BETWEEN = 0.8  # γ; settled on training parts, see docs/dev/decisions.md
PARTS = 10  # an image's scores are mapped as the other parts say


class Discriminant:
    """The map from a regression's scores (n, K) to z = scores @ turn + shift, (n, K).

    Args:
        scores: (n, K), held out, each row with the sum 1; those outside of `sets` are not looked at.
        targets: (n, K), one-hot; each class has an image.
        weights: (n,), with a mean of 1.
        sets: images held out together.
    """

    def __init__(self, scores: Array, targets: Array, weights: Array, sets: Sequence[Index]) -> None:
        mass = weights.sum()
        self.shares = weights @ targets / mass
        out, sizes = np.concatenate(sets), [len(index) for index in sets]
        gone = np.add.reduceat((weights[:, None] * targets)[out], np.cumsum([0, *sizes[:-1]]))  # (sets, K)
        left = (mass * self.shares - gone) / (mass - gone.sum(axis=1, keepdims=True))
        self._own_shares = np.tile(self.shares, (len(targets), 1))  # (n, K): without what is held out with an image
        # a class that is out as a whole counts as half an image
        self._own_shares[out] = np.repeat(np.maximum(left, 0.5 / mass), sizes, axis=0)
        # D^-½ (s − π), as the fit without the image has them
        self._scores = (scores - self._own_shares) / np.sqrt(self._own_shares)
        self._targets = weights[:, None] * (targets - self.shares) / np.sqrt(self.shares)
        self._weights = weights
        number = min(PARTS, len(sets))
        self._parts = [np.concatenate(sets[first::number]) for first in range(number)]
        self._whole = self._targets[out].T @ self._scores[out]
        self.lowest = 0.0  # no image's highest z is lower
        self.turn, self.shift = mapping(self._stretch(None), self.shares)

    def held_out(self) -> Array:
        """z of each image by a map that owes nothing to it; NaN for one in no set."""
        found = np.full_like(self._scores, np.nan)
        for part in self._parts:
            stretch, shares = self._stretch(part), self._own_shares[part]
            found[part] = self._scores[part] @ stretch / np.sqrt(shares) - (stretch.diagonal() - 1) / (2 * shares)
        return found

    def _stretch(self, without: Index | None) -> Array:
        """Q (K, K), of all parts or all but one."""
        moments, mass = self._whole, sum(self._weights[part].sum() for part in self._parts)
        if without is not None:
            moments = moments - self._targets[without].T @ self._scores[without]
            mass -= self._weights[without].sum()
        # of a single part nothing held out could be told: it stays a regression
        stretch = stretched(moments / mass if len(self._parts) > 1 else np.zeros_like(moments))
        self.lowest = min(self.lowest, -(stretch.diagonal() - 1).sum() / 2)  # the mean of z, weighted by the shares
        return stretch


def stretched(correlation: Array) -> Array:
    """Q (K, K) of C (K, K), which is symmetric but for what is learned from few images; correlations squared lie between 0 and 1."""
    squared, axes = np.linalg.eigh((correlation + correlation.T) / 2)
    return (axes / (1 - BETWEEN * np.clip(squared, 0, 1))) @ axes.T


def mapping(stretch: Array, shares: Array) -> tuple[Array, Array]:
    """`turn` (K, K) and `shift` (K,) of Q and π."""
    turn = stretch / np.sqrt(np.outer(shares, shares))
    return turn, -shares @ turn - (stretch.diagonal() - 1) / (2 * shares)
