"""Training step by step, with what the gradient is at some layers in each, for studies of how training begins.

It is the same step as the training loop's, in a run folder like any other: one line of metrics.jsonl a step, a checkpoint every now and
then, and a run that was stopped goes on from there.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from convatlas.studies.laboratory import Laboratory, Training, initial
from convatlas.train.augment import augmented
from convatlas.train.learner import Learner
from convatlas.train.loop import standardised
from convatlas.train.order import Order
from convatlas.train.run import Stopped, open_run

Loss = Callable[[nn.Module, Tensor, Tensor], Tensor]  # of a network's answers to images (n, c, h, w) with labels (n,)


def cross_entropy(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """The usual loss of a classifier."""
    return F.cross_entropy(model(images), labels)


def watched(
    laboratory: Laboratory,
    training: Training,
    layers: Mapping[str, str],
    *,
    loss: Loss = cross_entropy,
    save_every: int = 25,
) -> list[dict[str, Any]]:
    """Trains the network and tells of each step its loss, the norm of the gradient at the weights named in `layers`, and how many bytes
    more than before there was a network were held at the most (`peak_bytes`; None where that cannot be read).

    Empty if nothing was begun and the laboratory is `partial`. Raises as `Laboratory.trained` does.
    """
    folder = laboratory.runs / training.folder
    if laboratory.partial:
        return _lines(folder / "metrics.jsonl")
    memory = _Memory(laboratory.device)
    model = initial(training)
    described = laboratory.described(training, model)
    model.to(laboratory.device)
    weights = {name: model.get_parameter(path) for name, path in layers.items()}
    order = Order(laboratory.training.labels, training.config)
    with open_run(folder, described, laboratory.say) as run, run.listening():
        learner = Learner(
            *(model, training.config), steps=order.steps, batch_size=order.batch_size, micro_batch=order.batch_size
        )
        learner.take_up(run)
        end = training.config.epochs * order.steps
        while learner.step < end:
            model.train()
            learner.optim.zero_grad()
            (indices, seed) = next(order.micro_batches(learner.step, order.batch_size, until=end))
            x, labels = _batch(laboratory, training, indices, seed)
            torch.manual_seed(seed)  # of dropout
            found = loss(model, x, labels)
            found.backward()
            norms = {name: _norm(weight) for name, weight in weights.items()}
            learner.learn()
            peak = memory.peak()
            run.log(step=learner.step, loss=float(found.detach()), gradients=norms, peak_bytes=peak)
            laboratory.progress(training.folder, learner.step, end)
            if run.stop or learner.step % save_every == 0 or learner.step == end:
                learner.save(run)
            if run.stop and learner.step < end:
                raise Stopped(f"stopped after step {learner.step} of {end}")
    return _lines(folder / "metrics.jsonl")


def gradients(
    laboratory: Laboratory, training: Training, layers: Mapping[str, str], *, loss: Loss = cross_entropy
) -> dict[str, float]:
    """The norms of the gradient of the first batch at the network as it was initialised; nothing is learned."""
    model = initial(training).to(laboratory.device).train()
    order = Order(laboratory.training.labels, training.config)
    (indices, seed) = next(order.micro_batches(0, order.batch_size, until=1))
    x, labels = _batch(laboratory, training, indices, seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        loss(model, x, labels).backward()
    return {name: _norm(model.get_parameter(path)) for name, path in layers.items()}


def _batch(laboratory: Laboratory, training: Training, indices: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    images, config = laboratory.training, training.config
    draws = torch.Generator(laboratory.device).manual_seed(seed)
    x = images.images[indices].to(laboratory.device).float() / 255
    x = augmented(x, config.image_size, config.augment, draws, colour=config.mean)
    return standardised(x, config), images.labels[indices].to(laboratory.device)


def _norm(weight: Tensor) -> float:
    return 0.0 if weight.grad is None else float(weight.grad.norm())


def _lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()] if file.is_file() else []


class _Memory:
    """How many bytes more than when it was made there were at the most: of the GPU's allocator, or resident, on Linux."""

    def __init__(self, device: str) -> None:
        self._cuda = device == "cuda"
        if self._cuda:
            torch.cuda.reset_peak_memory_stats()
        else:
            # the kernels of the usual layers, forward and backward, which stay resident once they were used
            layers = (nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 900, 2))
            nn.Sequential(*layers)(torch.ones(2, 3, 32, 32)).sum().backward()
            with contextlib.suppress(
                OSError, AttributeError
            ):  # glibc's: gives back what is free, which would be used again unseen
                ctypes.CDLL(None).malloc_trim(0)
            try:
                Path("/proc/self/clear_refs").write_text("5")  # forgets the peak so far
            except OSError:
                self._before = None
                return
        self._before = self._held("VmRSS")

    def peak(self) -> int | None:
        most = self._held("VmHWM")
        return None if most is None or self._before is None else most - self._before

    def _held(self, field: str) -> int | None:
        if self._cuda:
            return torch.cuda.max_memory_allocated() if field == "VmHWM" else torch.cuda.memory_allocated()
        try:
            lines = Path("/proc/self/status").read_text().splitlines()
        except OSError:
            return None
        return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:")), None)
