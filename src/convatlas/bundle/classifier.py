"""A loaded model folder: images in any form in, the likeliest classes with calibrated probabilities out."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from PIL import Image, ImageOps

from convatlas.bundle.confidence import CONFIDENCE, Confidence, Promise, read_confidence
from convatlas.bundle.member import Member
from convatlas.bundle.neighbours import TrainingImages, fitted_on
from convatlas.bundle.prediction import Prediction, predictions, promised
from convatlas.data import DecodeError, Preprocessing, Views, decode
from convatlas.data.sources import read_file
from convatlas.errors import ConvAtlasError
from convatlas.metrics import softmax
from convatlas.zoo.heads.probe import ProbeConfig

if TYPE_CHECKING:
    from convatlas.bundle.explanation import Explanation

_TOGETHER = 32  # squares that wait for a network together


class Classifier:
    """A loaded, verified model folder: `load(folder).predict(["photo.jpg"])`. Of one network, or an ensemble of several."""

    def __init__(self, folder: Path, classes: Sequence[str], about: dict[str, Any], members: Sequence[Member]) -> None:
        self.folder = folder
        self.classes: tuple[str, ...] = tuple(classes)
        self.about = about
        self.members = tuple(members)
        self._orders = [member.classes.align(self.classes) for member in self.members]

    @property
    def ensemble(self) -> bool:
        """Whether it averages several models."""
        return len(self.members) > 1

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.members[0].device

    @property
    def network(self) -> str:
        """The name of its network in the zoo. An ensemble has several: `members`."""
        return self._only.network

    @property
    def probe(self) -> ProbeConfig | None:
        """Where its probe taps the network; None for a network with its own classifier."""
        return self._only.probe

    @property
    def preprocessing(self) -> Preprocessing:
        """How an image becomes its network's input. An ensemble has several: `members`."""
        return self._only.preprocessing

    @property
    def background(self) -> tuple[int, int, int]:
        """The colour under transparent images, the same for all members."""
        return self.members[0].preprocessing.background

    def predict(
        self,
        images: Any,
        *,
        top: int = 5,
        views: str = "centre",
        false_reject: float | None = None,
        sets: float | None = None,
    ) -> list[Prediction]:
        """Labels and calibrated probabilities of images, in order.

        `images` is one or a sequence of: paths, PIL images, arrays (h, w, 3) or (h, w) of uint8. A file that cannot be read gives a
        row with `error`; an array of another type is a `ConvAtlasError`, since a guess at its range would be silently wrong. `views` is
        what the network is shown of each, over which probabilities are averaged: centre, flip, ten, 144, along or dense (`data.views`).

        With `false_reject`, images unlike the training images are "none of these"; the rate, such as 0.05, is the share of images of its
        own classes to which that happens. With `sets`, such as 0.9, each row has the classes (`one_of`) among which the true one is that
        often. Both are for one network in a single view: see `promise`.
        """
        looked = self.looking(views)
        promise = self.promise(looked, false_reject, sets)
        single = isinstance(images, str | Path | Image.Image) or (isinstance(images, np.ndarray) and images.ndim <= 3)
        given: Sequence[Any] = [images] if single else list(cast(Iterable[Any], images))
        rows: list[Prediction] = []
        together = self.images_together(looked)
        for start in range(0, len(given), together):
            rows += self._predict_batch(given[start : start + together], top, looked, promise)
        return rows

    def explain(self, image: Any, *, top: int = 3, neighbours: int = 4) -> Explanation:
        """Why it says what it says of one image: class-activation maps of the likeliest classes, and the nearest training images.

        `image` is as for `predict`. Raises `ConvAtlasError` for an ensemble (explain its members) and for a file that cannot be read.
        """
        from convatlas.bundle.explanation import explained

        return explained(self, self._only, image, top=top, neighbours=neighbours)

    @cached_property
    def training(self) -> TrainingImages | None:
        """What its training images looked like to it; None where its folder does not remember that."""
        found = fitted_on(self.folder)
        return found if isinstance(found, TrainingImages) else None

    def fitted_on(self, sha256s: Sequence[str]) -> np.ndarray | None:
        """(m,) which files of these hashes it, or a member of it, was fitted on; None where no folder remembers."""
        remembered = [found for member in self.members if (found := fitted_on(member.folder))]
        return np.any([each.known(sha256s) for each in remembered], axis=0) if remembered else None

    @cached_property
    def confidence(self) -> Confidence | None:
        """What its training images say of its answers; None where its folder does not have that."""
        return None if self.ensemble else read_confidence(self.folder)

    def promise(self, views: Views, false_reject: float | None, sets: float | None) -> Promise | None:
        """What can be promised of its answers; None where nothing is asked for. Raises `ConvAtlasError` for what the training images
        cannot show, and for a classifier that has none to show it: an ensemble, a packed network, an older folder."""
        if false_reject is None and sets is None:
            return None
        if views.name != "centre":
            raise ConvAtlasError(
                f"false-reject rates and sets hold for what the model itself sees, not for the views {views.name!r}.",
                remedy="Leave one of them out.",
            )
        if self.confidence is None:
            what = "is an ensemble" if self.ensemble else f"has no {CONFIDENCE}"
            raise ConvAtlasError(
                f"{self.folder}: {what}, so no false-reject rate and no set of classes can be stated for it.",
                remedy="Models of one network that this version's `convatlas fit` makes have it: fit one.",
            )
        return Promise(confidence=self.confidence, false_reject=false_reject, coverage=sets)

    def assured(
        self, images: Sequence[Sequence[Sequence[np.ndarray]]], promise: Promise
    ) -> tuple[np.ndarray, np.ndarray]:
        """Probabilities (n, classes) and typicalities (n,) of images given as `views` made them."""
        logits, features = self._only.read(np.stack([views[0] for (views,) in images]))
        return softmax(logits), promise.confidence.typicality(features, logits)

    def probabilities(self, pixels: np.ndarray) -> np.ndarray:
        """Probabilities (n, classes) float64 of prepared pixels (n, size, size, channels) uint8; not of an ensemble, which prepares in
        more than one way."""
        return self._only.probabilities([[image] for image in pixels])

    def looking(self, views: str) -> Views:
        """The views of that name. Raises `ConvAtlasError` for a name that is none, and for views that a network here cannot have."""
        found = Views(views)
        for member in self.members:
            member.require(found)
        return found

    def forward_passes(self, views: Views) -> int:
        """How often a network runs for one image, with `along` at most."""
        return sum(member.forward_passes(views) for member in self.members)

    def images_together(self, views: Views) -> int:
        """How many images wait to be run at once: as many as give a few dozen squares."""
        return max(1, _TOGETHER // max(member.forward_passes(views) for member in self.members))

    def views(self, image: Image.Image, views: Views) -> list[list[np.ndarray]]:
        """What each member is shown of a decoded image; needs no torch, and may be called from threads."""
        return [member.views(image, views) for member in self.members]

    def judged(self, images: Sequence[Sequence[Sequence[np.ndarray]]], views: Views) -> np.ndarray:
        """Each member's probabilities (members, n, classes) float64 in the order of `classes`, of images given as `views` made them.

        Their mean over members is the classifier's answer.
        """
        parts = zip(self.members, self._orders, strict=True)
        return np.stack(
            [
                member.probabilities([image[i] for image in images], dense=views.dense)[:, order]
                for i, (member, order) in enumerate(parts)
            ]
        )

    @property
    def _only(self) -> Member:
        if self.ensemble:
            raise ConvAtlasError(
                f"{self.folder}: is an ensemble of {len(self.members)} models, which has no single network or preprocessing.",
                remedy="Take one of its members, each a model folder of its own: "
                f"{', '.join(str(member.folder) for member in self.members)}.",
            )
        return self.members[0]

    def _predict_batch(self, given: Sequence[Any], top: int, views: Views, promise: Promise | None) -> list[Prediction]:
        found = [self._shown(image, views) for image in given]
        shown = [image for image in found if not isinstance(image, DecodeError)]
        answers = iter(self._answers(shown, top, views, promise) if shown else ())
        rows = []
        for image, seen in zip(given, found, strict=True):
            path = str(image) if isinstance(image, str | Path) else None
            if isinstance(seen, DecodeError):
                rows.append(Prediction(path=path, label=None, probability=None, error=str(seen)))
            else:
                rows.append(replace(next(answers), path=path))
        return rows

    def _answers(
        self, shown: Sequence[Sequence[Sequence[np.ndarray]]], top: int, views: Views, promise: Promise | None
    ) -> list[Prediction]:
        if promise is None:
            return predictions(self.classes, self.judged(shown, views).mean(axis=0), top)
        probabilities, typicality = self.assured(shown, promise)
        return promised(predictions(self.classes, probabilities, top), self.classes, probabilities, typicality, promise)

    def _shown(self, image: Any, views: Views) -> list[list[np.ndarray]] | DecodeError:
        try:
            return self.views(self.decoded(image), views)
        except DecodeError as error:
            return error

    def decoded(self, image: Any) -> Image.Image:
        """A path, PIL image or uint8 array as an upright RGB or grey image. `DecodeError` for a file that cannot be read, `ConvAtlasError`
        for what is no image."""
        if isinstance(image, str | Path):
            return decode(read_file(Path(image), str(image)), name=str(image), background=self.background)[0]
        if isinstance(image, np.ndarray):
            if (
                image.dtype != np.uint8
                or image.ndim not in (2, 3)
                or (image.ndim == 3 and image.shape[2] not in (1, 3))
                or not image.size
            ):
                raise ConvAtlasError(
                    f"an array of {image.dtype} with the shape {image.shape} is not an image.",
                    remedy="Give uint8 from 0 to 255, (height, width, 3) in RGB order or (height, width).",
                )
            image = Image.fromarray(image.squeeze(2) if image.ndim == 3 and image.shape[2] == 1 else image)
        if not isinstance(image, Image.Image):
            raise ConvAtlasError(
                f"a {type(image).__name__} is not an image.", remedy="Give paths, PIL images or uint8 arrays."
            )
        return _rgb(image, self.background)


def _rgb(image: Image.Image, background: tuple[int, int, int]) -> Image.Image:
    """A PIL image as its file would be decoded: what `convert` does to depth, transparency and orientation is not what training saw."""
    try:
        upright = ImageOps.exif_transpose(image)
        if upright.mode in ("RGB", "L") and not upright.has_transparency_data:
            return upright
        buffer = io.BytesIO()  # a file without loss
        upright.save(buffer, "PNG" if upright.mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16") else "TIFF")
    except (OSError, ValueError, SyntaxError) as error:
        raise DecodeError(
            "corrupt", f"the image cannot be read ({error}).", "Open the file again, or leave it out."
        ) from None
    return decode(buffer.getvalue(), background=background)[0]
