"""A linear classifier in closed form, tuned without refitting: Dempster et al., "Prevalidated Ridge Regression", 2024.

Ridge regression on one-hot targets gives a score for each class. The scores each image would get from a model fitted
without it are known exactly (`ridge`); one scale fitted to these makes them probabilities, whose log-loss chooses the
regularisation strength. The regression then becomes a discriminant (`discriminant`), which tells many classes, and
classes of unequal size, better apart; its held-out log-loss chooses the stage. numpy in float64 throughout; what
results is one linear layer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from convatlas.errors import ConvAtlasError
from convatlas.metrics import fit_temperature, softmax
from convatlas.transfer.discriminant import discriminant
from convatlas.transfer.plans import TOGETHER, Plan
from convatlas.transfer.ridge import ROWS, Array, Index, Ridge

Features = np.ndarray | Sequence[np.ndarray]  # (n, d), or several such blocks side by side
ClassWeights = Literal["balanced"] | ArrayLike | None

WITH_MEANS = 2  # how many of the last stages give means where all stages stand together
STRENGTHS = tuple(float(strength) for strength in np.logspace(1, -7, 17))


@dataclass(frozen=True, kw_only=True)
class Strength:
    """What the held-out images say of one regularisation strength, by the regression's own scores."""

    strength: float
    accuracy: float
    log_loss: float  # of softmax(scale · scores), in nats; weighted as the fit is
    scale: float


@dataclass(frozen=True, kw_only=True)
class Probe:
    """A linear classifier: probabilities = softmax(scale · (x @ weight + bias)), x the blocks side by side."""

    weight: Array  # (d, K)
    bias: Array  # (K,)
    scale: float  # 1 / temperature, fitted to the held-out scores
    strength: float
    path: tuple[Strength, ...]  # every strength tried, strongest first
    held_out: Array  # (n, K): each training image's scores, before the scale, without it in the fit; NaN where it never was out
    losses: Array  # (n,): each image's held-out log-loss; NaN where it never was out
    accuracy: float  # of the held-out scores
    log_loss: float  # mean of `losses`, weighted as the fit is
    protocol: str  # how images were held out, in words

    def scores(self, features: Features) -> Array:
        """(n, K), before the scale; `features` as given to `fit_probe`, of any images."""
        blocks = blocks_of(features)
        weights = np.split(self.weight, np.cumsum([block.shape[1] for block in blocks])[:-1])
        out = np.tile(self.bias, (len(blocks[0]), 1))
        for start in range(0, len(out), ROWS):
            rows = slice(start, start + ROWS)
            for block, weight in zip(blocks, weights, strict=True):
                out[rows] += block[rows].astype(np.float64, copy=False) @ weight
        return out

    def probabilities(self, features: Features) -> Array:
        """(n, K), calibrated."""
        return softmax(self.scale * self.scores(features))


def fit_probe(
    features: Features,
    labels: ArrayLike,
    num_classes: int,
    *,
    class_weights: ClassWeights = None,
    folds: ArrayLike | None = None,
    strengths: Sequence[float] = STRENGTHS,
    rows: Index | None = None,
) -> Probe:
    """Fit the classifier, its regularisation strength and its temperature. Deterministic.

    The strength is the one with the least held-out log-loss of the regression; of equals, the strongest. (The accuracy moves
    in steps of one image and has many ties.)

    Args:
        features: (n, d), or several such blocks; each block is given the same total variance. Any float type.
        labels: (n,) class indices. A class that has no image is never predicted.
        class_weights: None, "balanced" (inversely to the number of images), or a positive number for each class. They
            weigh the log-loss too, so that "balanced" gives the probabilities of classes equally frequent; without, those
            of classes as frequent as the images say.
        folds: (n,) what is held out together: fold ids, or groups themselves for leave-one-group-out; −1 is always
            fitted and never scored. None leaves out one image at a time, except an only one of its class, which could
            not be recognised without itself. Duplicates and groups need folds that keep them together, and small classes
            folds that hold some of each: `data.left_out` makes both.
        strengths: above 0; 1 means a penalty as large as the features' total variance. Those below what rounding puts into
            features that hardly vary are left out: with them single precision would decide the answer.
        rows: the images to fit, of those that the other arguments describe; all by default. Spares a copy of the features.

    Raises:
        ConvAtlasError: if there are not two classes, or nothing can be held out.
        ValueError: if the arguments do not fit together, or a feature is not finite.
    """
    blocks, truth = blocks_of(features), np.asarray(labels)
    if len(blocks[0]) != len(truth):
        raise ValueError(f"{len(truth)} labels for {len(blocks[0])} rows of features")
    if rows is not None:
        truth, folds = truth[rows], None if folds is None else np.asarray(folds)[rows]
    weights = image_weights(truth, num_classes, class_weights)
    if not len(strengths) or min(strengths) <= 0:
        raise ValueError(f"strengths must all be above 0, and at least one: {strengths}")
    sets, protocol = held_out_sets(truth, num_classes, folds)
    scored = np.sort(np.concatenate(sets))
    importance = weights[scored] / weights[scored].sum()

    ridge = Ridge(blocks, np.eye(num_classes)[truth], weights, rows)
    path: list[Strength] = []
    chosen, regressed = None, np.empty(0)
    tried = [s for s in sorted(map(float, strengths), reverse=True) if s >= ridge.rounding] or [
        max(map(float, strengths))
    ]
    for strength, scores in ridge.held_out(tried, sets):
        out = scores[scored]
        scale = fit_temperature(out, truth[scored], weights=importance, start=path[-1].scale if path else None)
        row = Strength(
            strength=strength,
            accuracy=float((out.argmax(axis=1) == truth[scored]).mean()),
            log_loss=float(importance @ _losses(scale * out, truth[scored])),
            scale=scale,
        )
        path.append(row)
        if chosen is None or row.log_loss < chosen.log_loss:
            chosen, regressed = row, scores.copy()
    assert chosen is not None
    there = np.unique(truth)
    to_z = discriminant(regressed[:, there], ridge.targets[:, there], weights, sets)
    z, priors = to_z.held_out, np.log(to_z.shares)
    scale = fit_temperature(z[scored], np.searchsorted(there, truth[scored]), weights=importance, offsets=priors)

    def of_all(values: Array, absent: float) -> Array:
        every = np.full((*values.shape[:-1], num_classes), absent)
        every[..., there] = values
        return every

    never = to_z.lowest - np.log(2 * num_classes) / scale  # below what any class with images gets of any image
    weight, bias = ridge.solution(chosen.strength)
    bias = of_all(bias[there] @ to_z.turn + to_z.shift + priors / scale, never)
    held_out = of_all(z + priors / scale, never)
    losses = _losses(scale * held_out, truth)
    return Probe(
        weight=of_all(weight[:, there] @ to_z.turn, 0.0),
        bias=bias,
        scale=scale,
        strength=chosen.strength,
        path=tuple(path),
        held_out=held_out,
        losses=losses,
        accuracy=float((held_out[scored].argmax(axis=1) == truth[scored]).mean()),
        log_loss=float(importance @ losses[scored]),
        protocol=protocol,
    )


@dataclass(frozen=True, kw_only=True)
class Selection:
    """A probe on every rung of the ladder, and which was chosen."""

    name: str
    probes: Mapping[str, Probe]
    weights: Array  # (n,) of the images in the mean log-losses that were compared
    reason: str  # a sentence for people

    @property
    def probe(self) -> Probe:
        return self.probes[self.name]


def ladder(means: Mapping[str, np.ndarray], deviations: Mapping[str, np.ndarray]) -> dict[str, tuple[np.ndarray, ...]]:
    """The rungs `select` chooses from: each stage's means alone, and "all stages" side by side.

    Of all stages together the last two give their means and all but the last their deviations. By cross-validation on training images
    that is as good as every mean and deviation, for two thirds of the features.

    Args:
        means: stage → (n, maps), the maps' means over the image, in the network's order.
        deviations: stage → (n, maps), their standard deviations over the image, of all stages but the last.
    """
    rungs = {stage: (values,) for stage, values in means.items()}
    together = (*list(means.values())[-WITH_MEANS:], *deviations.values())
    return rungs | {TOGETHER: together} if len(means) > 1 else rungs


def rungs_of(plan: Plan | None, rungs: Mapping[str, tuple[np.ndarray, ...]]) -> dict[str, tuple[np.ndarray, ...]]:
    """Those of the ladder's rungs that a plan leaves to choose from: the one it names, stages side by side, or all."""
    if plan is None or plan.kind != "probe" or not plan.at:
        return dict(rungs)
    return {"+".join(plan.at): tuple(block for name in plan.at for block in rungs[name])}


def taken(rung: str, stages: Sequence[str], hidden: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The cuts whose means, and those whose deviations, a rung of `ladder` or `rungs_of` stands for."""
    if rung == TOGETHER:
        return (*stages, *hidden)[-WITH_MEANS:], tuple(stages[:-1])
    return tuple(rung.split("+")), ()


def select(
    rungs: Mapping[str, Features],
    labels: ArrayLike,
    num_classes: int,
    *,
    class_weights: ClassWeights = None,
    folds: ArrayLike | None = None,
    together: ArrayLike | None = None,
    strengths: Sequence[float] = STRENGTHS,
    rows: Index | None = None,
) -> Selection:
    """Fit a probe on every rung and choose: the last stage, or the rung with the least held-out log-loss where the mean is lower by more
    than its standard error. Of equals, the narrowest.

    The log-loss, not the accuracy, since every image moves it and not only those at the border: fewer ties, and a choice that owes less to
    luck. It still owes some, more the fewer images there are, and is then made among many by chance; hence the standard error (Breiman,
    Friedman, Olshen, Stone. Classification and Regression Trees. 1984, 3.4.3), and for the last stage, the best one more often than any
    other. The chosen rung's held-out accuracy is optimistic still, so report that of a test split or of `outer_folds_predictions`.
    `together` (n,) is equal for images of one unit, copies or a group, which count together in the standard error; None where each is one
    of its own. The other arguments and the errors are those of `fit_probe`.
    """
    if not rungs:
        raise ValueError("there is no rung to choose from")
    probes = {
        name: fit_probe(
            features, labels, num_classes, class_weights=class_weights, folds=folds, strengths=strengths, rows=rows
        )
        for name, features in rungs.items()
    }
    truth = np.asarray(labels)
    units = np.arange(len(truth)) if together is None else np.asarray(together)
    truth, units = (truth, units) if rows is None else (truth[rows], units[rows])
    images = _Images(weights=image_weights(truth, num_classes, class_weights), units=units)
    least = min(probes, key=lambda rung: (probes[rung].log_loss, len(probes[rung].weight)))
    usual = usual_rung(probes)
    gain, error = images.gain(probes[least], probes[usual])
    chosen = usual if gain <= error else least
    return Selection(name=chosen, probes=probes, weights=images.weights, reason=_reason(chosen, probes, images))


def usual_rung(rungs: Mapping[str, object]) -> str:
    """The last stage."""
    return next(reversed([rung for rung in rungs if rung != TOGETHER] or list(rungs)))


class NothingHeldOut(ConvAtlasError):
    """No training image can be left out, so that nothing tells one strength from another."""


def image_weights(labels: np.ndarray, num_classes: int, class_weights: ClassWeights = None) -> Array:
    """Each image's weight (n,), with a mean of 1. Raises as `fit_probe` does."""
    if labels.ndim != 1 or not len(labels) or labels.min() < 0 or labels.max() >= num_classes:
        raise ValueError(f"labels must hold a class index from 0 to {num_classes - 1} for each image")
    counts = np.bincount(labels, minlength=num_classes)
    if (counts > 0).sum() < 2:
        raise ConvAtlasError(
            f"all {len(labels)} training images belong to one class, so there is nothing to tell apart.",
            remedy="Give images of at least two classes.",
        )
    if class_weights is None:
        by_class = np.ones(num_classes)
    elif isinstance(class_weights, str):
        if class_weights != "balanced":
            raise ValueError(f"class_weights is {class_weights!r}, not None, 'balanced' or a number for each class")
        by_class = 1 / np.maximum(counts, 1)
    else:
        by_class = np.asarray(class_weights, dtype=np.float64)
        if by_class.shape != (num_classes,) or not (np.isfinite(by_class) & (by_class > 0)).all():
            raise ValueError(f"class_weights must hold a positive number for each of the {num_classes} classes")
    weights = by_class[labels]
    return weights / weights.mean()


def held_out_sets(labels: np.ndarray, num_classes: int, folds: ArrayLike | None) -> tuple[list[Index], str]:
    """The images to be held out together, and words for it."""
    if folds is None:
        only = np.bincount(labels, minlength=num_classes)[labels] == 1
        ids, words = np.where(only, -1, np.arange(len(labels))), "leave-one-out"
    else:
        ids = np.asarray(folds)
        if ids.shape != labels.shape:
            raise ValueError(f"there must be one fold id for each of the {len(labels)} images, not {ids.shape}")
        number = len(np.unique(ids[ids >= 0]))
        one_by_one = number > len(labels) / 2
        words = "leave-one-out, copies and groups together" if one_by_one else f"{number} folds, each held out in turn"
    order = np.argsort(ids, kind="stable")
    _, starts = np.unique(ids[order], return_index=True)
    sets = [index for index in np.split(order, starts[1:]) if ids[index[0]] >= 0]
    if not sets or len(sets[0]) == len(labels):
        raise NothingHeldOut(
            "no training image can be held out to choose the regularisation: every class has a single image, or all "
            "images belong to one group.",
            remedy="Give at least two images of a class, from different groups.",
        )
    never = int((ids < 0).sum())
    return sets, words + (f"; {never} images always fitted and never scored" if never else "")


def _losses(scores: Array, labels: np.ndarray) -> Array:
    """−ln softmax(scores)[true class] of each image; NaN of NaN."""
    top = scores.max(axis=1)
    return np.log(np.exp(scores - top[:, None]).sum(axis=1)) + top - scores[np.arange(len(labels)), labels]


@dataclass(frozen=True, kw_only=True)
class _Images:
    """That probes are compared by."""

    weights: Array  # (n,)
    units: Index  # (n,)

    def gain(self, probe: Probe, over: Probe) -> tuple[float, float]:
        """By how much a probe's held-out log-loss is lower than another's, and the standard error of that mean over units."""
        difference = over.losses - probe.losses
        scored = np.isfinite(difference)
        weights = self.weights[scored] / self.weights[scored].sum()
        gain = float(weights @ difference[scored])
        unit = np.unique(self.units[scored], return_inverse=True)[1]
        return gain, float(np.linalg.norm(np.bincount(unit, weights * (difference[scored] - gain))))


def _reason(name: str, probes: Mapping[str, Probe], images: _Images) -> str:
    """How its log-loss compares with the least other, and whether the images show them to differ."""
    others = [rung for rung in probes if rung != name]
    if not others:
        return f"{name} was the only one tried."
    second = min(others, key=lambda rung: probes[rung].log_loss)
    ours, theirs = probes[name].log_loss, probes[second].log_loss
    if theirs < ours:
        return (
            f"{name} is the last stage, and no other lowers its held-out log-loss of {ours:.3f} by more than these images may show by "
            f"chance (the least is that of {second}, {theirs:.3f})."
        )
    gain, error = images.gain(probes[name], probes[second])
    doubt = "" if gain > 2 * error else ", a difference that these images do not show to be real"
    return f"the least held-out log-loss is that of {name}, {ours:.3f} against {theirs:.3f} of {second}{doubt}."


def blocks_of(features: Features) -> list[np.ndarray]:
    blocks = [features] if isinstance(features, np.ndarray) else [np.asarray(block) for block in features]
    if not blocks or any(block.ndim != 2 or len(block) != len(blocks[0]) for block in blocks):
        raise ValueError(f"features must be (n, d), or blocks of equal n, not {[block.shape for block in blocks]}")
    return blocks
