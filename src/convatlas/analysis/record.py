"""Recording a network: on `meta` tensors, which have shapes and no memory; where an operation or the network's own control flow cannot go
there, on fake tensors, and at last on real ones.
"""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import nn

from convatlas.analysis.lending import Modules, left_as_it_was, modules_of
from convatlas.analysis.recorder import Recorder
from convatlas.analysis.tape import Tape, Tensors


class UnrunnableError(ValueError):
    """The network cannot run on this input; says where it stopped."""


def record(model: nn.Module, *inputs: Any, training: bool = False, **named_inputs: Any) -> Tape:
    """The tape of `model(*inputs, **named_inputs)` in evaluation mode or, if asked, in training mode; the model is left as it was.

    Tensors of the inputs give shapes and dtypes alone, unless only real tensors will do. Where the network cannot run, `UnrunnableError`
    names the last module that finished, the one that failed and the shapes it was given.
    """
    modules = modules_of(model)
    _refuse_what_cannot_be_seen(modules)
    failures: list[tuple[Recorder, BaseException]] = []
    attempts: tuple[tuple[Tensors, Callable[[], Any]], ...] = (
        ("meta", nullcontext),
        ("fake", _fake_mode),
        ("real", nullcontext),
    )
    if _is_on_meta(modules):
        attempts = attempts[:1]  # it has no numbers that could help
    for tensors, context in attempts:
        recorder = Recorder(modules, tensors)
        try:
            with (
                left_as_it_was(modules, training),
                _unwarned(),
                torch.inference_mode(False),  # in which operations come unresolved
                torch.set_grad_enabled(training),  # to see where the network turns them off
                _uncompiled(),
                context() as mode,
            ):
                return recorder.run(mode, inputs, named_inputs, training=training)
        except (
            Exception,
            SystemExit,
        ) as error:  # whatever the network's own code raises, as the assertions on sizes do
            failures.append((recorder, error))
    recorder, error = failures[-1]
    raise UnrunnableError(recorder.where_it_stopped(error)) from error


def _refuse_what_cannot_be_seen(modules: Modules) -> None:
    for path, module in modules:
        if isinstance(module, torch.jit.ScriptModule):
            raise UnrunnableError(
                f"{_called(path, module)} is TorchScript, which hides its operations: give the module it was made from"
            )
        for name, tensor in (*module._parameters.items(), *module._buffers.items()):
            if tensor is not None and type(tensor) not in _WITH_SHAPES and nn.parameter.is_lazy(tensor):
                raise UnrunnableError(
                    f"{_called(path, module)} has no {name} yet: run the network on an example once, which initialises it"
                )


_WITH_SHAPES = (nn.Parameter, torch.Tensor)


def _called(path: str, module: nn.Module) -> str:
    return f"{path} ({type(module).__name__})" if path else type(module).__name__


@contextmanager
def _unwarned() -> Iterator[None]:
    """Without what checkpointing says of a pass in which no tensor requires a gradient."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "None of the inputs have requires_grad")
        yield


def _uncompiled() -> AbstractContextManager[Any]:
    """What `torch.compile` was applied to runs as it was written, where the compiler has been imported at all."""
    return torch.compiler.set_stance("force_eager") if "torch._dynamo" in sys.modules else nullcontext()


@contextmanager
def _fake_mode() -> Iterator[Any]:
    from torch._subclasses.fake_tensor import FakeTensorMode  # on demand: it takes a second to import

    log = logging.getLogger("torch._subclasses.fake_tensor")
    level = log.level
    log.setLevel(logging.CRITICAL)  # it prints the stack of what a network cannot run, which is raised as well
    try:
        with FakeTensorMode(allow_non_fake_inputs=True) as mode:
            yield mode
    finally:
        log.setLevel(level)


def _is_on_meta(modules: Modules) -> bool:
    tensors = [
        tensor
        for _, module in modules
        for tensor in (*module._parameters.values(), *module._buffers.values())
        if tensor is not None
    ]
    return bool(tensors) and all(tensor.is_meta for tensor in tensors)
