"""What went wrong in a step, said so that somebody can find it: which layer made the first number that is not finite."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class NoRoom(Exception):
    """A step for whose micro-batch memory did not suffice."""


class NotFinite(Exception):
    """A step whose loss or gradients are no numbers to go on with."""

    def __init__(self, loss: float) -> None:
        super().__init__(loss)
        self.loss = loss


def is_out_of_memory(error: RuntimeError) -> bool:
    """Of a GPU, which has a class of its own, or of the CPU, which has but a message."""
    return isinstance(error, torch.OutOfMemoryError) or "not enough memory: you tried to allocate" in str(error)


@contextmanager
def room() -> Iterator[None]:
    """Makes of whatever memory does not suffice for a `NoRoom`."""
    try:
        yield
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise NoRoom from error


def norm_of_gradients(model: nn.Module) -> float:
    """Of all together, before they reach a weight: not finite where any of them is not."""
    return float(nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None]))


def first_not_finite(model: nn.Module, forward: Callable[[], object]) -> str:
    """Which layer is the first to make something that is not finite when `forward` runs `model` once more, or which parameter's
    gradient is the last in the network that is not; as the end of a sentence. Statistics that the pass would change are left alone."""
    found: list[str] = []

    def watch(path: str, layer: nn.Module) -> torch.utils.hooks.RemovableHandle:
        def look(module: nn.Module, given: object, made: object) -> None:
            if not found and isinstance(made, Tensor) and not made.isfinite().all():
                found.append(path)

        return layer.register_forward_hook(look)

    layers = {path: layer for path, layer in model.named_modules() if not any(layer.children())}
    hooks = [watch(path, layer) for path, layer in layers.items()]
    before = [buffer.clone() for buffer in model.buffers()]
    try:
        with torch.no_grad():
            forward()
    finally:
        for hook in hooks:
            hook.remove()
        for buffer, kept in zip(model.buffers(), before, strict=True):
            buffer.copy_(kept)
    if found:
        return f"; the first layer that gives no finite numbers is {found[0]} ({type(layers[found[0]]).__name__})"
    wrong = [name for name, p in model.named_parameters() if p.grad is not None and not p.grad.isfinite().all()]
    return f"; the gradient of {wrong[-1]} is not finite" if wrong else ""
