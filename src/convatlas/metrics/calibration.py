"""Guo et al., "On Calibration of Modern Neural Networks", ICML 2017: one number makes scores into honest probabilities.

softmax(scale · score) with the scale that minimises the log-loss of *held-out* scores; their temperature is 1 / scale.
The order of the classes does not change, so accuracy stays what it was.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convatlas.metrics.clusters import share_interval
from convatlas.metrics.confusion import labels


def softmax(scores: ArrayLike) -> NDArray[np.float64]:
    """Probabilities (n, K) of scores (n, K), in float64; safe for any finite scores."""
    shifted = np.asarray(scores, dtype=np.float64)
    shifted = np.exp(shifted - shifted.max(axis=-1, keepdims=True))
    shifted /= shifted.sum(axis=-1, keepdims=True)
    return shifted


def log_loss(probabilities: ArrayLike, truth: ArrayLike) -> float:
    """The mean of −ln p(true class), in nats; probabilities (n, K). NaN of no images.

    A probability of 0 counts as 1e-15 (34.5 nats), so that one impossible image does not hide all others.
    """
    given = np.asarray(probabilities, dtype=np.float64)
    true = one_each(given, truth)
    if not len(true):
        return float("nan")
    return float(-np.log(np.maximum(given[np.arange(len(true)), true], 1e-15)).mean())


def fit_temperature(
    scores: ArrayLike,
    truth: ArrayLike,
    *,
    weights: ArrayLike | None = None,
    start: float | None = None,
    offsets: ArrayLike = 0.0,
) -> float:
    """The scale s for which softmax(s · scores + offsets) has the least log-loss; > 0. Guo's temperature is 1 / s.

    A convex problem of one variable: safeguarded Newton steps. As in Platt (1999) the targets are smoothed, here as if
    one more image had been seen, wrong: the true class gets 1 − 1/(n+1) and the others share the rest. So s stays
    finite when every score is right, and few images never give certainty. Scores that say nothing, or the opposite of
    the truth, give a scale so small that all classes are equally likely, yet never 0 or below: the order is kept.

    Args:
        scores: (n, K), held out: those of images a model has been fitted to give a far too large scale.
        truth: (n,) class indices.
        weights: (n,) of the images in the mean; equal by default.
        start: a guess, such as the scale for a neighbouring regularisation strength.
        offsets: (K,) what does not scale, such as the classes' log prior probabilities.

    Raises:
        ValueError: if there is no image, or a score is not finite.
    """
    given = np.array(scores, dtype=np.float64)
    true = one_each(given, truth)
    count, num_classes = given.shape
    if not count or not np.isfinite(given).all():
        raise ValueError("a temperature needs at least one image, and finite scores")
    share = np.full(count, 1 / count) if weights is None else np.asarray(weights, dtype=np.float64) / np.sum(weights)
    given -= given.max(axis=1, keepdims=True)
    spread = float(share @ (given.max(axis=1) - given.mean(axis=1)))
    if num_classes < 2 or spread < 1e-12:  # what differs by rounding says nothing
        return 1.0
    doubt = 1 / (count + 1)
    hit = given[np.arange(count), true]
    target = float(share @ ((1 - doubt) * hit + doubt * (given.sum(axis=1) - hit) / (num_classes - 1)))

    apart = np.asarray(offsets, dtype=np.float64)
    low, high = 1e-3 / spread, 1e6 / spread
    scale = min(max(start if start is not None else 3 / spread, low), high)
    powers = np.empty_like(given)
    for _ in range(60):
        np.exp(np.add(np.multiply(given, scale, out=powers), apart, out=powers), out=powers)
        total = powers.sum(axis=1)
        powers *= given
        mean = powers.sum(axis=1) / total
        powers *= given
        slope = float(share @ mean) - target
        curvature = float(share @ (powers.sum(axis=1) / total - mean * mean))
        if slope > 0:
            high = scale
        else:
            low = scale
        step = scale - slope / curvature if curvature > 0 else 0.0
        # outside the bracket Newton has overshot: the geometric mean halves the orders of magnitude that are left
        new = step if low < step < high else float(np.sqrt(low * high))
        if abs(new - scale) <= 1e-7 * scale:
            return new
        scale = new
    return scale


@dataclass(frozen=True, kw_only=True)
class Bin:
    """The images whose highest probability lies in (low, high]."""

    low: float
    high: float
    count: int
    confidence: float  # their mean highest probability; NaN of an empty bin
    accuracy: float  # the share of them that is right; NaN of an empty bin
    accuracy_interval: tuple[float, float]  # 95 %; (0, 1) of an empty bin


def reliability(
    probabilities: ArrayLike, truth: ArrayLike, bins: int = 15, *, together: ArrayLike | None = None
) -> list[Bin]:
    """The reliability diagram: `bins` equally wide bins of the highest probability, confidence against accuracy.

    Images that are equal in `together` (n,) are of one unit, which makes the bins' intervals wider (`share_interval`).
    """
    given = np.asarray(probabilities, dtype=np.float64)
    true = one_each(given, truth)
    top = given.max(axis=1, initial=0.0)
    right = given.argmax(axis=1) == true if len(true) else np.zeros(0, dtype=bool)
    # the bins are closed above, so that certainty belongs to the last one
    units = np.arange(len(true)) if together is None else np.asarray(together)
    index = np.clip(np.ceil(top * bins).astype(int) - 1, 0, bins - 1)
    counts = np.bincount(index, minlength=bins)
    return [
        Bin(
            low=k / bins,
            high=(k + 1) / bins,
            count=int(count),
            confidence=float(top[index == k].mean()) if count else float("nan"),
            accuracy=float(right[index == k].mean()) if count else float("nan"),
            accuracy_interval=share_interval(right[index == k], units[index == k]),
        )
        for k, count in enumerate(counts)
    ]


def expected_calibration_error(probabilities: ArrayLike, truth: ArrayLike, bins: int = 15) -> float:
    """Σ over bins of (count / n) · |accuracy − confidence| (Naeini et al., AAAI 2015; 15 bins as Guo et al.).

    Never exactly 0 for few images, even of a perfectly calibrated model: chance alone leaves about √(bins / n) / 3.
    NaN of no images.
    """
    filled = [entry for entry in reliability(probabilities, truth, bins) if entry.count]
    total = sum(entry.count for entry in filled)
    if not total:
        return float("nan")
    return sum(entry.count * abs(entry.accuracy - entry.confidence) for entry in filled) / total


def one_each(values: NDArray[np.float64], truth: ArrayLike) -> NDArray[np.int64]:
    """The true class of every row of `values` (n, K). Raises `ValueError` if they do not fit together."""
    if values.ndim != 2:
        raise ValueError(f"expected one row an image and one column a class, the shape is {values.shape}")
    true = labels(truth, values.shape[1], "truth")
    if len(true) != len(values):
        raise ValueError(f"{len(true)} true labels for {len(values)} rows; there must be one for each")
    return true
