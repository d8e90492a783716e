"""Whether autograd watches an operation that runs now, and who else has a say in what is saved of it."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from types import CodeType, FrameType
from typing import Any

import torch
from torch.autograd.function import Function, FunctionCtx

_saved_tensors_hooks: Any = torch._C._autograd._top_saved_tensors_default_hooks  # type: ignore[attr-defined] - private, and nothing public says so


def own_backward() -> str:
    """The innermost `autograd.Function` whose forward runs now, or "checkpoint" in activation checkpointing; "" in ordinary code.

    Gradients are off in such a forward, yet what it makes has one. What is saved is the function's own affair and not seen here.
    """
    if torch.is_grad_enabled():
        hooks = _saved_tensors_hooks(True)
        return "checkpoint" if hooks and hooks[0].__module__ == "torch.utils.checkpoint" else ""
    codes: dict[CodeType, str] = {}
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_argcount and frame.f_code.co_name not in ("__torch_dispatch__", "__torch_function__"):
            first = frame.f_locals.get(frame.f_code.co_varnames[0])
            if isinstance(first, FunctionCtx):
                return type(first).__name__.removesuffix("Backward")
        if frame.f_code.co_name == "forward":
            codes = codes or dict(_forwards())
            if frame.f_code in codes:
                return codes[frame.f_code]
        frame = frame.f_back
    return ""


def _forwards() -> Iterator[tuple[CodeType, str]]:
    """The code of each function's forward that takes no context."""
    classes = [*Function.__subclasses__()]
    while classes:
        found = classes.pop()
        classes += found.__subclasses__()
        code = getattr(inspect.unwrap(found.forward), "__code__", None)
        if code is not None:
            yield code, found.__name__
