"""One network of a model folder, ready to run: views of images in, probabilities out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from convatlas import zoo
from convatlas.data import ClassMap, Preprocessing, Views
from convatlas.errors import ConvAtlasError
from convatlas.metrics import softmax
from convatlas.zoo.heads.probe import ProbeConfig
from convatlas.zoo.inference import apart, by_image, normalised

_BATCH = 8  # squares


class Member:
    """A network with its preprocessing and the names of its outputs. A model folder has one, an ensemble several."""

    def __init__(
        self,
        folder: Path,
        *,
        network: str,
        probe: ProbeConfig | None,
        classes: tuple[str, ...],
        preprocessing: Preprocessing,
        model: nn.Module,
    ) -> None:
        self.folder = folder
        self.network = network
        self.probe = probe
        self.preprocessing = preprocessing
        self.model = model  # of squares (n, channels, size, size) standardised, to logits
        self.device = torch.device("cpu")
        self.classes = ClassMap(classes)  # in the order of the logits

    def to(self, device: torch.device) -> None:
        """Moves the network there."""
        self.model.to(device)
        self.device = device

    def forward_passes(self, views: Views) -> int:
        """How often the network runs for one image, with `along` at most."""
        return views.forward_passes * (self.preprocessing.crops if views.own else 1)

    def views(self, image: Image.Image, views: Views) -> list[np.ndarray]:
        """What the network is shown of a decoded image, (h, w, channels) uint8 each."""
        return views.of(image, self.preprocessing)

    def require(self, views: Views) -> None:
        """Raises `ConvAtlasError` for views that this network cannot have."""
        views.require(self.preprocessing)
        if views.dense:
            _ = self.sliding

    def probabilities(self, images: Sequence[Sequence[np.ndarray]], *, dense: bool = False) -> np.ndarray:
        """The mean of each image's probabilities over its views, (n, classes) float64, from what `views` made of it.

        With `dense` the network slides over each view, and a view's scores are averaged over places before the softmax.
        """
        seen = [view for views in images for view in views]
        scores = np.zeros((len(seen), len(self.classes)))
        alike: dict[tuple[int, ...], list[int]] = {}  # views of one shape run together
        for i, view in enumerate(seen):
            alike.setdefault(view.shape, []).append(i)
        with torch.inference_mode():
            for places in alike.values():
                for start in range(0, len(places), self._together):
                    chosen = places[start : start + self._together]
                    pixels = torch.from_numpy(np.stack([seen[i] for i in chosen])).to(self.device)
                    scores[chosen] = self._scores(pixels, dense).cpu().double().numpy()
        if not len(seen):
            return scores
        ends = np.cumsum([len(views) for views in images])
        return np.stack([part.mean(axis=0) for part in np.split(softmax(scores), ends[:-1])])

    def read(self, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The logits (n, classes) of prepared pixels (n, h, size, channels) uint8, and what the last layer makes them of, (n, d)."""
        name = self.model.classifiers[0] if isinstance(self.model, zoo.ConvNet) else "fc"
        read: list[Tensor] = []
        hook = self.model.get_submodule(name).register_forward_hook(_keeper(read))
        logits = []
        try:
            with torch.inference_mode():
                for start in range(0, len(pixels), self._together):
                    batch = torch.from_numpy(pixels[start : start + self._together]).to(self.device)
                    logits.append(self._scores(batch, dense=False))
        finally:
            hook.remove()
        of_images = by_image(torch.cat(read), len(pixels))
        return torch.cat(logits).cpu().double().numpy(), of_images.cpu().double().numpy()

    @property
    def _together(self) -> int:
        """How many images the network sees at once."""
        return max(1, _BATCH // self.preprocessing.crops)

    def _scores(self, pixels: Tensor, dense: bool) -> Tensor:
        images = normalised(pixels, self.preprocessing.mean, self.preprocessing.std)
        if dense:
            return self.sliding(images).flatten(2).mean(2)
        return by_image(self.model(apart(images)), len(images))

    @cached_property
    def sliding(self) -> nn.Module:
        """The network as it runs on images larger than its own: scores by place, (n, classes, h, w)."""
        if self.probe is not None:
            hidden = [cut for cut in (*self.probe.means, *self.probe.deviations) if cut.startswith("head.")]
            if hidden:
                raise self._no_dense(f"its probe reads {hidden[0]} of {self.network}, which takes no larger image")
            return nn.Sequential(self.model, nn.Unflatten(1, (-1, 1, 1)))  # which pools over all there is already
        assert isinstance(self.model, zoo.ConvNet)  # what is no probe is a network of the zoo: see `bundle.save.build`
        try:
            return zoo.dense(self.model)
        except ValueError as error:
            raise self._no_dense(str(error)) from error

    def _no_dense(self, reason: str) -> ConvAtlasError:
        return ConvAtlasError(
            f"{self.folder}: this model cannot be slid over an image ({reason}).",
            remedy="Use the views ten or 144 instead of dense.",
        )


def _keeper(kept: list[Tensor]) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
    """A hook that keeps what a layer reads, of maps their means."""

    def keep(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        kept.append(inputs[0].mean((2, 3)) if inputs[0].ndim == 4 else inputs[0])

    return keep
