"""What more images would be worth, from how the accuracy grew up to the images that there are.

Probes are fitted to parts of the training images and judged on a fold that none of them saw, five folds in turn; the last point is that of
the chosen probe itself, each image held out. Errors mostly fall as a power of the number of images towards a floor, e(n) = a + b n^(−c)
(Cortes et al., NIPS 1993; Rosenfeld et al., ICLR 2020, https://arxiv.org/abs/1909.12673). Three numbers from seven points are not known
well, so every curve on a grid is weighed by how well it agrees with the points, whose errors are correlated since the same images judge
all of them; the forecast is the spread of what these curves say, with the luck of one draw of images on top.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from convatlas.data import stratified
from convatlas.metrics import independent_number, share_interval
from convatlas.transfer.probe import ClassWeights, image_weights
from convatlas.transfer.ridge import Array, Index, Ridge

MOST = 1500  # images of a curve; its last point is of all
MORE = 50  # images a class that the forecast is for
SHARES = (0.12, 0.18, 0.26, 0.38, 0.55, 0.8)  # of the images that probes learn from
FOLDS, DRAWS = 5, 3  # and how many parts of a size are drawn from a fold's others, where they have so many
LEAST, LEAST_A_CLASS, LEAST_POINTS = 8, 2, 4  # images of a part; points of a curve that a forecast may rest on

_STRENGTHS = (0.3, 1.0, 3.0, 10.0, 30.0)  # times the chosen one: fewer images want no weaker regularisation
_MISFIT, _FLOOR = 0.03, 0.002  # how far from a power law errors may lie: a share of the error, and at least this
_DRAW = 0.5  # how far single draws of images lie apart, in binomial standard deviations
_EXPONENT = (0.5, 1.0)  # what c is expected to be, and by how much (in logarithms) it may differ
_GRID = (33, 40, 40)  # levels, floors, exponents
_FARTHEST = 10.0  # times the images that there are
_WIDEST = 0.2  # an 80 % interval of the gain beyond this width tells nothing


@dataclass(frozen=True, kw_only=True)
class Point:
    """The accuracy of probes on so many images."""

    images: int
    accuracy: float
    interval: tuple[float, float]  # 95 %


@dataclass(frozen=True, kw_only=True)
class Curve:
    """The points, smallest first, and how their errors vary together."""

    points: tuple[Point, ...]
    covariance: Array  # (S, S) of the points' accuracies, from the images that judge them
    images: int  # that there are
    worth: float  # as many independent ones would tell as much of the accuracy: fewer, where copies or groups are among them
    classes: int


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """What `more` images a class would add to the accuracy."""

    more: int
    gain: float
    interval: tuple[float, float]  # 80 %
    interval95: tuple[float, float]
    band: tuple[
        tuple[float, float, float, float], ...
    ]  # images a class; the accuracy, and its 80 % interval without the luck of a draw
    doubt: str  # why it cannot be told; "" where it can


def learning_curve(
    features: Sequence[np.ndarray],
    labels: Index,
    num_classes: int,
    strength: float,
    right: Array,
    *,
    together: Index | None = None,
    class_weights: ClassWeights = None,
    seed: int = 0,
) -> Curve:
    """The curve up to all images. Of more than `MOST` images as many are drawn for all points but the last.

    Args:
        features: blocks (n, d_k), as the chosen probe has them; `strength` is the one it chose.
        labels: (n,) class indices.
        right: (n,) whether the chosen probe is right about each image when it is held out; NaN where it never was.
        together: (n,) ids of what must be held out together; each image alone by default.
        class_weights: as for the probe.
    """
    units = np.arange(len(labels)) if together is None else together
    generator = np.random.default_rng(seed)
    used = np.sort(_mixed(labels, units, generator)[:MOST])
    truth, units_used = labels[used], units[used]
    targets = np.eye(num_classes)[truth]
    axes = Ridge(features, targets, np.ones(len(used)), used).principal()
    fold_of = stratified(truth, units_used, FOLDS, seed)
    largest_fold = int(np.bincount(fold_of[fold_of >= 0], minlength=1).max())
    largest = len(used) - largest_fold  # there are as many others in every fold
    sizes = sorted({min(round(share * len(used)), largest) for share in SHARES})
    sizes = [size for size in sizes if size >= max(LEAST, LEAST_A_CLASS * num_classes)]
    rows = np.full((len(sizes) + 1, len(labels)), np.nan)
    for row, size in zip(rows, sizes, strict=False):
        row[used] = _judged(axes, truth, targets, units_used, fold_of, size, strength, class_weights, generator)
    rows[-1] = right
    shared = np.isfinite(rows[-1]) & np.isfinite(rows[:-1]).any(axis=0)
    kept = np.isfinite(rows[:, shared]).all(axis=1) & shared.any()  # the others lack a fold
    kept[-1] = True
    rows[:-1, ~shared] = np.nan
    rows, sizes = rows[kept], [size for size, there in zip([*sizes, len(labels)], kept, strict=True) if there]
    accuracy, covariance = _moments(rows, units)
    points = []
    for size, mean, row in zip(sizes, accuracy, rows, strict=True):
        judged = np.isfinite(row)
        interval = share_interval(row[judged], units[judged])
        points.append(Point(images=size, accuracy=float(mean), interval=interval))
    whole = np.isfinite(right)
    worth = len(labels) * independent_number(right[whole], units[whole]) / max(int(whole.sum()), 1)
    return Curve(points=tuple(points), covariance=covariance, images=len(labels), worth=worth, classes=num_classes)


def forecast(curve: Curve, more: int = MORE, *, measured: float = 0.0) -> Forecast:
    """What `more` images a class are worth. `measured` is the standard error of the measurement that it shall be compared with, if any."""
    now = curve.images / curve.classes
    if len(curve.points) < LEAST_POINTS:
        return _untold(
            more, f"{curve.images} images of {curve.classes} classes are too few to see how the accuracy grows"
        )
    level, floor, exponent, weight = _curves(curve)
    chosen = np.random.default_rng(0).choice(len(weight), 4000, p=weight)
    level, floor, exponent = level[chosen], floor[chosen], exponent[chosen]
    gain = level * (1 - floor) * (1 - (1 + more / now) ** -exponent)
    error = max(1 - curve.points[-1].accuracy, 1 / (curve.worth + 2))
    luck = np.hypot(_DRAW * np.sqrt(error * (1 - error) / curve.worth), measured)
    seen = gain + luck * np.random.default_rng(1).normal(size=len(gain))
    low, low80, high80, high = np.quantile(seen, (0.025, 0.1, 0.9, 0.975)).tolist()
    band = []
    for at in np.geomspace(curve.points[0].images / curve.classes, now + more, 40):
        errors = level * (floor + (1 - floor) * (at / now) ** -exponent)
        bottom, middle, top = np.quantile(1 - errors, (0.1, 0.5, 0.9)).tolist()
        band.append((float(at), middle, bottom, top))
    doubt = ""
    if 1 + more / now > _FARTHEST:
        doubt = f"{more} more are over {_FARTHEST:.0f} times what there is, too far to look ahead"
    elif high80 - low80 > _WIDEST:
        doubt = f"it may be anything from {100 * low80:+.0f} to {100 * high80:+.0f} points"
    return Forecast(
        more=more,
        gain=float(gain.mean()),
        interval=(low80, high80),
        interval95=(low, high),
        band=tuple(band),
        doubt=doubt,
    )


def _untold(more: int, doubt: str) -> Forecast:
    return Forecast(more=more, gain=0.0, interval=(-1.0, 1.0), interval95=(-1.0, 1.0), band=(), doubt=doubt)


def _mixed(labels: Index, units: Index, generator: np.random.Generator) -> Index:
    """An order of the images in which every stretch has classes in proportion, and what belongs together stands together."""
    _, first, unit = np.unique(units, return_index=True, return_inverse=True)
    place = np.empty(len(first))
    for label in np.unique(labels[first]):
        own = generator.permutation(np.flatnonzero(labels[first] == label))
        place[own] = (np.arange(len(own)) + generator.random(len(own))) / len(own)
    return np.argsort(place[unit], kind="stable")


def _judged(
    axes: Array,
    truth: Index,
    targets: Array,
    units: Index,
    fold_of: Index,
    size: int,
    strength: float,
    class_weights: ClassWeights,
    generator: np.random.Generator,
) -> Array:
    """(n,) how often each image is named rightly by probes on `size` others, at the strength whose scores lie nearest the truth.

    NaN where none judged it: it is in no fold, or all others that were drawn are of one class.
    """
    loss = np.zeros(len(_STRENGTHS))
    right = np.full((len(_STRENGTHS), len(truth)), np.nan)
    for fold in range(int(fold_of.max()) + 1):
        out = np.flatnonzero(fold_of == fold)
        others = np.flatnonzero(fold_of != fold)
        order = others[_mixed(truth[others], units[others], generator)]
        parts = [order[start : start + size] for start in range(0, len(order) - size + 1, size)][:DRAWS]
        parts = [part for part in parts if len(np.unique(truth[part])) > 1]
        for part in parts:
            weights = image_weights(truth[part], targets.shape[1], class_weights)
            ridge = Ridge([axes], targets[part], weights, part)
            for i, factor in enumerate(_STRENGTHS):
                weight, bias = ridge.solution(strength * factor)
                scores = axes[out] @ weight + bias
                loss[i] += ((scores - targets[out]) ** 2).sum() / len(parts)
                named = (scores.argmax(axis=1) == truth[out]) / len(parts)
                right[i, out] = np.nan_to_num(right[i, out]) + named
    return right[loss.argmin()]


def _moments(rows: Array, units: Index) -> tuple[Array, Array]:
    """The mean of each row, of the images that are not NaN there, and the covariance of these means; images of one unit count as one."""
    there = np.isfinite(rows)
    number = there.sum(axis=1)
    mean = np.where(there, rows, 0.0).sum(axis=1) / number
    _, unit = np.unique(units, return_inverse=True)
    sums = np.zeros((int(unit.max()) + 1, len(rows)))
    np.add.at(sums, unit, np.where(there, (rows - mean[:, None]) / number[:, None], 0.0).T)
    return mean, sums.T @ sums


def _curves(curve: Curve) -> tuple[Array, Array, Array, Array]:
    """Of each curve on the grid its error with all images, the share of that which stays, its exponent; and its weight."""
    unseen = 1 / (curve.worth + 2)  # what may be wrong where all were right: of all points alike, and of each by itself
    error = np.maximum([1 - point.accuracy for point in curve.points], unseen)
    covariance = curve.covariance + np.diag((_MISFIT * error) ** 2 + _FLOOR**2 + unseen**2) + unseen**2
    spread = np.sqrt(covariance[-1, -1])
    levels = np.linspace(max(error[-1] - 4 * spread, 1e-4), min(error[-1] + 4 * spread, 1.0), _GRID[0])
    grid = np.meshgrid(levels, np.linspace(0, 0.975, _GRID[1]), np.geomspace(0.05, 2, _GRID[2]), indexing="ij")
    level, floor, exponent = (axis.ravel() for axis in grid)
    share = np.array([point.images for point in curve.points]) / curve.images
    off = level[:, None] * (floor[:, None] + (1 - floor[:, None]) * share ** -exponent[:, None]) - error
    log = -0.5 * ((off @ np.linalg.inv(covariance)) * off).sum(axis=1)
    log -= 0.5 * (np.log(exponent / _EXPONENT[0]) / _EXPONENT[1]) ** 2
    weight = np.exp(log - log.max())
    return level, floor, exponent, weight / weight.sum()
