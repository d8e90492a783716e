"""What a classifier's confidence means: which images are none of its classes, and which classes an image may be of.

How unlike the training images an image is, is measured by two things at once (`transfer.confidence` says why these): its leverage, the
distance of its features from all training images in the metric of the ridge regression that was fitted to them (Cook and Weisberg.
Residuals and Influence in Regression. 1982), and its largest logit, small where no class claims it. Of each the model folder keeps the
mean and the spread over training images, held out in turn, and of these the unlikenesses; an image as unlike as only 5 % of them is
"none of these" at a false-reject rate of 5 %. For the sets of classes see `metrics.conformal`.

All of it is in `confidence.safetensors`: numbers, no paths, no labels. It speaks of one view of an image through one network: of others
these training images say nothing, and asking is an error.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from convatlas.errors import ConvAtlasError
from convatlas.metrics import conformal_threshold, fewest, p_values, prediction_sets

CONFIDENCE = "confidence.safetensors"
SCHEMA = "convatlas.confidence/1"
NONE_OF_THESE = "none of these"

_ROWS = 1024  # images measured at a time
_METRIC = ("mean", "scaling", "axes", "gains")
_HELD_OUT = ("centres", "spreads", "unlikenesses", "own_scores")


@dataclass(frozen=True, kw_only=True, eq=False)
class Metric:
    """How far features lie from those of the training images."""

    mean: np.ndarray  # (d,) float64, of what the classifier's last layer reads
    scaling: np.ndarray  # (d,) float64
    axes: np.ndarray  # (d, m) float32: the principal axes of the scaled features
    gains: np.ndarray  # (m,) float64: one over variance and penalty along each axis
    outside: float  # the same of what lies along none of them: the penalty alone
    share: float  # the intercept's: one over the number of images

    def leverages(self, features: np.ndarray) -> np.ndarray:
        """(n,) of features (n, d), as the classifier's last layer reads them."""
        found = np.empty(len(features))
        for start in range(0, len(features), _ROWS):
            scaled = (features[start : start + _ROWS] - self.mean) * self.scaling
            along = scaled @ self.axes
            beside = scaled - along @ self.axes.T  # not a difference of squares, which would lose digits
            found[start : start + _ROWS] = along**2 @ self.gains + (beside**2).sum(axis=1) * self.outside + self.share
        return found


@dataclass(frozen=True, kw_only=True, eq=False)
class Confidence:
    """What training images, held out, say of answers."""

    metric: Metric
    centres: np.ndarray  # (2,) float64: the means of the held-out images' `signs`
    spreads: np.ndarray  # (2,) float64: their standard deviations
    unlikenesses: np.ndarray  # (n,) float64: of the training images, held out
    own_scores: np.ndarray  # (n,) float64: the `set_scores` of their own classes, held out
    protocol: str  # how images were held out, in words

    def typicality(self, features: np.ndarray, logits: np.ndarray) -> np.ndarray:
        """(n,): the share of held-out images at least as unlike the others as each image is, itself counted."""
        found = unlikeness(signs(self.metric.leverages(features), logits), self.centres, self.spreads)
        return p_values(self.unlikenesses, found)

    def typicality_of_training(self) -> np.ndarray:
        """(n,): the same of the held-out training images, each among the others."""
        below = np.searchsorted(np.sort(self.unlikenesses), self.unlikenesses, side="left")
        return (len(below) - below) / len(below)

    def to_json(self) -> dict[str, Any]:
        """What config.json says of it."""
        return {"schema": SCHEMA, "images": len(self.unlikenesses), "protocol": self.protocol}

    def save(self, folder: Path) -> None:
        """Writes FOLDER/confidence.safetensors."""
        from safetensors.numpy import save_file

        tensors = {name: getattr(self.metric, name) for name in _METRIC}
        tensors |= {name: getattr(self, name) for name in _HELD_OUT}
        tensors["numbers"] = np.array([self.metric.outside, self.metric.share])
        tensors = {name: np.ascontiguousarray(values) for name, values in tensors.items()}
        save_file(tensors, folder / CONFIDENCE, metadata={"schema": SCHEMA, "protocol": self.protocol})


def signs(leverages: np.ndarray, logits: np.ndarray) -> np.ndarray:
    """(n, 2): the two signs of an image unlike the others, the logarithm of its leverage and its largest logit, negative."""
    return np.stack([np.log(leverages), -logits.max(axis=1)], axis=1)


def unlikeness(found: np.ndarray, centres: np.ndarray, spreads: np.ndarray) -> np.ndarray:
    """(n,): how many spreads the `signs` (n, 2) are above usual, together. That a class claims an image counts for one at most: logits
    grow with the distance, too."""
    standard = (found - centres) / spreads
    return standard[:, 0] + np.maximum(standard[:, 1], -1.0)


@dataclass(frozen=True, kw_only=True, eq=False)
class Promise:
    """What was asked of a classifier's answers, checked to be something that its training images can show."""

    confidence: Confidence
    false_reject: float | None  # the share of images of known classes that may be called none of them
    coverage: float | None  # how often the set must hold the true class

    def __post_init__(self) -> None:
        count = len(self.confidence.unlikenesses)
        least = math.ceil(1000 / (count + 1)) / 1000
        if self.false_reject is not None:
            _check("false-reject rate", self.false_reject, self.false_reject, count, f"at least {least:.1%}")
        if self.coverage is not None:
            _check("coverage of sets", self.coverage, 1 - self.coverage, count, f"at most {1 - least:.1%}")

    def rejected(self, typicality: np.ndarray) -> np.ndarray:
        """Which images (n,) are none of the classes; none of them where no rate was asked for."""
        return typicality <= (self.false_reject or 0.0)

    def sets(self, probabilities: np.ndarray) -> np.ndarray:
        """Which classes (n, K) are in each image's set."""
        assert self.coverage is not None
        return prediction_sets(probabilities, conformal_threshold(self.confidence.own_scores, self.coverage))


def _check(what: str, rate: float, errors: float, count: int, bound: str) -> None:
    """Raises `ConvAtlasError` unless `count` images can show this rate, which allows this share of errors."""
    if not 0 < rate < 1:
        raise ConvAtlasError(
            f"a {what} of {rate:g} is none.", remedy="Give a share between 0 and 1, such as 0.05 (or 5%)."
        )
    if fewest(errors) > count:
        raise ConvAtlasError(
            f"{count} held-out training images cannot show a {what} of {rate:.3g}, which takes {fewest(errors)}.",
            remedy=f"Ask for {bound}, or fit more images.",
        )


def read_confidence(folder: Path) -> Confidence | None:
    """What the model folder knows of its confidence; None where it has no such file. `ConvAtlasError` for one that cannot be read."""
    from safetensors import SafetensorError, safe_open

    path = folder / CONFIDENCE
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="numpy") as file:
            told = file.metadata() or {}
            if told.get("schema") != SCHEMA:
                raise ConvAtlasError(
                    f"{path}: has the format {told.get('schema')}, this version reads {SCHEMA}.",
                    remedy="Update ConvAtlas.",
                )
            outside, share = file.get_tensor("numbers")
            metric = Metric(
                **{name: file.get_tensor(name) for name in _METRIC}, outside=float(outside), share=float(share)
            )
            return Confidence(
                metric=metric, **{name: file.get_tensor(name) for name in _HELD_OUT}, protocol=told["protocol"]
            )
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise ConvAtlasError(f"{path}: cannot be read ({error}).", remedy="Copy the model folder again.") from error
