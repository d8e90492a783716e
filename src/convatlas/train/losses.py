"""What a network is told about its answers to a batch: the loss of its classifier and of its auxiliary classifiers.

Cross entropy, with the labels smoothed (Szegedy et al. Rethinking the Inception Architecture. 2015.
https://arxiv.org/abs/1512.00567) and, in a mixed batch, shared between two; or binary cross entropy, a yes or no for each class by
itself (Wightman et al. ResNet Strikes Back. 2021. https://arxiv.org/abs/2110.00476), where both labels of a mixed image are a full
yes. GoogLeNet's auxiliary classifiers count 0.3, NASNet's 0.4.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from convatlas.errors import ConvAtlasError
from convatlas.train.config import TrainConfig
from convatlas.zoo import ConvNet

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
SEEN = 0.2  # share of a mixed image from which its label is a yes in the binary loss, as in timm, the paper's code


class Objective(nn.Module):
    """A network and its mean loss over images as one module, so that whoever distributes training sees a single forward pass."""

    def __init__(self, model: nn.Module, config: TrainConfig, weights: Tensor | None = None) -> None:
        super().__init__()
        self.model = model
        self._config = config
        self._weights = weights  # of the classes, with a mean of 1 over the images

    def forward(self, images: Tensor, labels: Tensor, others: Tensor, own: Tensor) -> tuple[Tensor, Tensor]:
        """The loss of images (n, c, h, w), standardised, that are `own` (n,) of their label and the rest of the other; and how many have
        their highest logit at their label."""
        config = self._config
        with autocast(images, config):
            answers = logits(self.model, images.contiguous(memory_format=torch.channels_last), config.auxiliary)
        losses = [
            classification(
                answer.float(),
                labels,
                others=others,
                own=own,
                smoothing=config.label_smoothing,
                weights=self._weights,
                binary=config.loss == "binary",
            ).mean()
            for answer in answers
        ]
        auxiliary = [config.auxiliary * loss for loss in losses[1:]]
        return sum(auxiliary, losses[0]), (answers[0].argmax(1) == labels).sum()


def autocast(images: Tensor, config: TrainConfig) -> torch.autocast:
    """The config's precision, on the device of `images`."""
    return torch.autocast(images.device.type, DTYPES[config.precision], enabled=config.precision != "float32")


def logits(model: nn.Module, x: Tensor, auxiliary: float) -> tuple[Tensor, ...]:
    """The classifier's logits (n, classes) and, where they count, those of the auxiliary classifiers."""
    if auxiliary and isinstance(model, ConvNet):
        return model.all_logits(x)
    return (model(x),)


def classification(
    logits: Tensor,
    labels: Tensor,
    *,
    others: Tensor | None = None,
    own: Tensor | None = None,
    smoothing: float = 0.0,
    weights: Tensor | None = None,
    binary: bool = False,
) -> Tensor:
    """The loss of each image (n,) from its `logits` (n, classes) and its label (n,).

    `others` (n,) are the second labels of mixed images and `own` (n,) the share of the first. `smoothing` is shared by all classes.
    `weights` (classes,) multiply the loss of an image by its label's weight. A binary loss is the mean over the classes; a label
    whose share is above `SEEN` is a full yes there.
    """
    others = labels if others is None else others
    own = torch.ones(len(labels), device=logits.device) if own is None else own
    if binary:
        classes = logits.shape[1]
        there = (
            F.one_hot(labels, classes) * (own > SEEN)[:, None] + F.one_hot(others, classes) * (own < 1 - SEEN)[:, None]
        )
        target = (there > 0).to(logits.dtype) * (1 - smoothing) + smoothing / classes
        loss = F.binary_cross_entropy_with_logits(logits, target, reduction="none").mean(1)
        return loss if weights is None else loss * torch.lerp(weights[others], weights[labels], own)
    first = F.cross_entropy(logits, labels, label_smoothing=smoothing, reduction="none")
    second = F.cross_entropy(logits, others, label_smoothing=smoothing, reduction="none")
    if weights is not None:
        first, second = first * weights[labels], second * weights[others]
    return own * first + (1 - own) * second


def has_auxiliary(model: nn.Module) -> bool:
    """Whether it has auxiliary classifiers, which rest where they do not count."""
    return any(name.startswith("auxiliary.") for name, _ in model.named_parameters())


def ensure_auxiliary(model: nn.Module, config: TrainConfig) -> None:
    """Raises `ConvAtlasError` where auxiliary losses are asked of a network that has no auxiliary classifiers."""
    if config.auxiliary and not has_auxiliary(model):
        raise ConvAtlasError(
            f"auxiliary is {config.auxiliary}, and {type(model).__name__} has no auxiliary classifiers here.",
            remedy="Set auxiliary=0, or take a network that has them, as googlenet_aux.",
        )
