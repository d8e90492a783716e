"""What a micro-batch costs: the network and its loss as one module, so that whoever distributes training sees a single forward pass."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from convatlas.train.config import TrainConfig

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class Objective(nn.Module):
    """`model` and the mean loss of its logits over the images, each times the weight of its class."""

    def __init__(self, model: nn.Module, config: TrainConfig, weights: Tensor | None = None) -> None:
        super().__init__()
        self.model = model
        self._config = config
        self._weights = weights  # of the classes, with a mean of 1 over the images

    def forward(self, images: Tensor, labels: Tensor, others: Tensor, own: Tensor) -> tuple[Tensor, Tensor]:
        """The loss of images (n, c, h, w), standardised, that are `own` (n,) of their label and the rest of the other; and how many have
        their highest logit at their label."""
        with autocast(images, self._config):
            logits = self.model(images.contiguous(memory_format=torch.channels_last)).float()
        loss = own * self._each(logits, labels) + (1 - own) * self._each(logits, others)
        return loss.mean(), (logits.argmax(1) == labels).sum()

    def _each(self, logits: Tensor, labels: Tensor) -> Tensor:
        found = F.cross_entropy(logits, labels, label_smoothing=self._config.label_smoothing, reduction="none")
        return found if self._weights is None else found * self._weights[labels]


def autocast(images: Tensor, config: TrainConfig) -> torch.autocast:
    """The config's precision, on the device of `images`."""
    return torch.autocast(images.device.type, DTYPES[config.precision], enabled=config.precision != "float32")
