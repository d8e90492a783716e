"""Training step by step, with what the gradient is at some layers in each, for studies of how training begins.

It is the training loop's step reduced to what these studies need, in a run folder like any other: one line of metrics.jsonl a step, a
checkpoint every now and then, and a run that was stopped goes on from there. Settings that it does not know are refused.
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.profiler import ProfilerActivity, profile

from convatlas.errors import ConvAtlasError, Stopped
from convatlas.studies.laboratory import Laboratory, Training, initial
from convatlas.train.augment import changed
from convatlas.train.learner import Learner
from convatlas.train.order import Order
from convatlas.train.run import open_run

_KNOWN = ("batch_size", "image_size")
_UNKNOWN = (
    "optim.clip_norm",
    "optim.filter_rms",
    "augment.flip_mode",
    "augment.pca",
    "augment.mixup",
    "augment.cutmix",
)

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
    """Trains the network and tells of each step its loss, and the norms of the gradient at the weights named in `layers`.

    `resident_bytes` is how much more the process held at the most than before there was a network, `allocated_bytes`, of the second step
    alone, what torch's allocator had handed out at the most; None where that cannot be read. Empty if nothing was begun and the laboratory
    is `partial`. Raises as `Laboratory.trained` does.
    """
    _ensure_known(laboratory.settings)
    training = laboratory.changed(training)
    folder = laboratory.runs / training.folder
    if laboratory.partial:
        return _lines(folder / "metrics.jsonl")
    resident = _Resident()
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
        measured = False
        while learner.step < end:
            model.train()
            learner.optim.zero_grad()
            (indices, seed) = next(order.micro_batches(learner.step, order.batch_size, until=end))
            x, labels = _batch(laboratory, training, indices, seed)
            torch.manual_seed(seed)  # of dropout

            def forth_and_back(x: Tensor = x, labels: Tensor = labels) -> float:
                found = loss(model, x, labels)
                found.backward()
                return float(found.detach())

            allocated = None
            if learner.step and not measured:  # once there is momentum
                own = [*model.parameters(), *model.buffers(), *_momentum(learner)]
                told, allocated = most_allocated(forth_and_back, laboratory.device)
                allocated += sum(tensor.nbytes for tensor in own)
                measured = True
            else:
                told = forth_and_back()
            norms = {name: _norm(weight) for name, weight in weights.items()}
            learner.learn()
            held = None if laboratory.device == "cuda" else resident.most()
            run.log(step=learner.step, loss=told, gradients=norms, resident_bytes=held, allocated_bytes=allocated)
            laboratory.progress(training.folder, learner.step, end)
            if run.stop or learner.step % save_every == 0 or learner.step == end:
                learner.save(run)
            if run.stop and learner.step < end:
                raise Stopped(f"stopped after step {learner.step} of {end}")
    return _lines(folder / "metrics.jsonl")


def _ensure_known(settings: Sequence[str]) -> None:
    """Raises `ConvAtlasError` for a setting that would change nothing in these steps."""
    for path in (setting.partition("=")[0].strip() for setting in settings):
        part = path.partition(".")[0]
        if path in _UNKNOWN or (part not in ("optim", "augment") and path not in _KNOWN):
            raise ConvAtlasError(
                f"this study looks at single steps, in which {path} changes nothing.",
                remedy=f"Leave it out; it knows {', '.join(_KNOWN)}, and what optim and augment have.",
            )


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
    x, labels = (tensor[indices].to(laboratory.device) for tensor in (images.images, images.labels))
    return changed(x, labels, config, seed)[:2]


def _norm(weight: Tensor) -> float:
    return 0.0 if weight.grad is None else float(weight.grad.norm())


def _lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()] if file.is_file() else []


def most_allocated(run: Callable[[], float], device: str) -> tuple[float, int]:
    """What `run` returns, and how many bytes more than before torch's allocator had handed out at the most meanwhile."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        told = run()
        return told, torch.cuda.max_memory_allocated() - before
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # or it says on stderr that it began and that there is no GPU
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as watching:
        told = run()
    kept: Any = watching.profiler  # which its stubs do not know
    events = [event for event in kept.kineto_results.events() if event.name() == "[memory]"]
    held = itertools.accumulate(event.nbytes() for event in sorted(events, key=lambda event: event.start_ns()))
    return told, max(held, default=0)


def _momentum(learner: Learner) -> list[Tensor]:
    states = learner.optim.state.values()
    return [tensor for state in states for tensor in state.values() if isinstance(tensor, Tensor)]


class _Resident:
    """How many bytes more than when it was made the process held at the most; on Linux alone."""

    def __init__(self) -> None:
        # the kernels of the usual layers, forward and backward, stay resident once they were used
        layers = (nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 900, 2))
        nn.Sequential(*layers)(torch.ones(2, 3, 32, 32)).sum().backward()
        # glibc's, where there is one: gives back what is free, or it would be used again unseen
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).malloc_trim(0)
        try:
            Path("/proc/self/clear_refs").write_text("5")  # forgets the peak so far
            self._before: int | None = _status("VmRSS")
        except OSError:
            self._before = None

    def most(self) -> int | None:
        return None if self._before is None else _status("VmHWM") - self._before


def _status(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:"))
