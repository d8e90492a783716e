"""Which images each step learns from, and the seeds of what is random about it: functions of the config's seed and of where the run is.

So there is no state of random numbers to keep. A batch is cut into parts, one a process, and these into micro-batches; what is drawn for a
micro-batch depends on the step and on where in the batch it begins, not on who works on it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from itertools import pairwise

import torch
from torch import Tensor

from convatlas.train.config import TrainConfig


def seed_of(seed: int, what: str, where: int) -> int:
    """Seeds that have nothing to do with one another."""
    return int.from_bytes(hashlib.blake2b(f"{seed} {what} {where}".encode(), digest_size=7).digest(), "big")


class Order:
    """The order of one run's images, for one of its processes."""

    def __init__(self, labels: Tensor, config: TrainConfig, *, rank: int = 0, count: int = 1) -> None:
        self.batch_size = min(config.batch_size, len(labels))  # of all processes
        self.part = self.batch_size // count  # of it, this process's
        self.steps = len(labels) // self.batch_size  # of an epoch, which leaves out the rest of the images
        self._labels, self._config = labels, config
        self._first = rank * self.part
        self._known: tuple[int, Tensor] = (-1, torch.empty(0))

    def micro_batches(self, step: int, size: int, *, until: int) -> Iterator[tuple[Tensor, int]]:
        """The indices of the images of each micro-batch of up to `size`, and its seed, from `step` on. None is larger than another by
        more than one image."""
        pieces = -(-self.part // size)
        bounds = [self._first + self.part * i // pieces for i in range(pieces + 1)]
        for at in range(step, until):
            indices = self.batch(at)
            for begin, end in pairwise(bounds):
                yield indices[begin:end], seed_of(self._config.seed, f"draws {begin}", at)

    def smallest(self, size: int) -> int:
        """The images of the smallest of those micro-batches."""
        return self.part // -(-self.part // size)

    def batch(self, step: int) -> Tensor:
        """Indices of the images of a step, of all processes."""
        epoch, within = divmod(step, self.steps)
        known, order = self._known
        if known != epoch:
            order = self._epoch(epoch)
            self._known = epoch, order
        return order[within * self.batch_size : (within + 1) * self.batch_size]

    def _epoch(self, epoch: int) -> Tensor:
        draws = torch.Generator().manual_seed(seed_of(self._config.seed, "order", epoch))
        if self._config.balance == "sampling":  # with repetition, each class as often as any other
            return torch.multinomial(balanced(self._labels)[self._labels], len(self._labels), True, generator=draws)
        return torch.randperm(len(self._labels), generator=draws)


def balanced(labels: Tensor) -> Tensor:
    """A weight per class (classes,) of which each class's images have the same sum; their mean over the images is 1."""
    counts = labels.bincount()
    present = int((counts > 0).sum())
    return torch.where(counts > 0, len(labels) / (present * counts.clamp(min=1)), 0.0).float()
