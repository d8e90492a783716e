"""One answer of a classifier with its reasons: what it says, where in the image that comes from, and which training images are like it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from PIL import Image

from convatlas.bundle.activation_maps import ActivationMap, activation_maps
from convatlas.bundle.look import look
from convatlas.bundle.member import Member
from convatlas.bundle.neighbours import Neighbour
from convatlas.data import seen

if TYPE_CHECKING:
    from convatlas.bundle.classifier import Classifier
    from convatlas.bundle.prediction import Prediction


@dataclass(frozen=True, kw_only=True, eq=False)
class Explanation:
    """Made by `Classifier.explain`."""

    prediction: Prediction
    maps: tuple[ActivationMap, ...]  # of the likeliest classes, likeliest first
    nearest: tuple[Neighbour, ...] | None  # nearest first; None where the model remembers no training images
    image: Image.Image  # upright
    box: tuple[float, float, float, float]  # left, top, right, bottom of what the network saw, in pixels of `image`

    @property
    def label(self) -> str:
        """What it says."""
        assert self.prediction.label is not None
        return self.prediction.label


def explained(classifier: Classifier, member: Member, image: Any, *, top: int, neighbours: int) -> Explanation:
    """`Classifier.explain`, of a classifier whose only member is `member`."""
    upright = classifier.decoded(image)
    (prediction,) = classifier.predict(upright, top=top)
    looked = look(member, member.preprocessing.pixels(upright)[None])
    training = classifier.training
    usual = None if training is None else training.centre
    (maps,) = activation_maps(looked, [[label for label, _ in prediction.top]], usual, sizes=[upright.size])
    nearest = None if training is None else training.nearest(looked, neighbours)[0]
    return Explanation(
        prediction=prediction,
        maps=tuple(maps),
        nearest=None if nearest is None else tuple(nearest),
        image=upright,
        box=seen(member.preprocessing, *upright.size),
    )
