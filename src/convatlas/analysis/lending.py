"""A network lent for a recorded pass, and given back as it was: modes, attributes, what these hold, and random numbers.

A network may keep what it made, as detectors keep their anchors: a tensor without memory must not wait there for the next call. It may
also count its calls, or draw random numbers of Python, NumPy or generators of its own.
"""

from __future__ import annotations

import random
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

import torch
from torch import Tensor, nn

# What attributes hold is followed, but not into these, which do not change or are no part of the network
_CLOSED = (Tensor, type, str, bytes, int, float, FunctionType, BuiltinFunctionType, MethodType, ModuleType)
_PLAIN = frozenset(
    {type(None), bool, int, float, str, Tensor, nn.Parameter, FunctionType}
)  # the commonest, looked up first
_CONTENTS = frozenset({"_parameters", "_buffers", "_modules"})
_HOOKS = frozenset(vars(nn.Module())) - _CONTENTS  # torch's own, which no pass changes
_STILL = frozenset(  # modules of torch that keep nothing of a pass
    f"torch.nn.modules.{name}"
    for name in (
        "activation",
        "batchnorm",
        "conv",
        "dropout",
        "flatten",
        "linear",
        "normalization",
        "padding",
        "pooling",
    )
)
_UNSET = object()
Modules = list[tuple[str, nn.Module]]  # a network's by path, itself first
_MOST = 100_000  # things looked at: a network may hold on to a program


def modules_of(model: nn.Module) -> Modules:
    """`model.named_modules()` as a list, without a generator inside another for each level."""
    found: list[tuple[str, nn.Module]] = []
    seen: set[nn.Module] = set()
    waiting: list[tuple[str, nn.Module]] = [("", model)]
    while waiting:
        path, module = waiting.pop()
        if module not in seen:
            seen.add(module)
            found.append((path, module))
            prefix = path and path + "."
            waiting += [(prefix + name, part) for name, part in reversed(module._modules.items()) if part is not None]
    return found


def held(modules: Modules) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Their parameters and their buffers by name, one that has several names by the first."""
    found: tuple[dict[str, Tensor], dict[str, Tensor]] = ({}, {})
    for kind, tensors in zip(("_parameters", "_buffers"), found, strict=True):
        seen: set[int] = set()
        for path, module in modules:
            for name, tensor in getattr(module, kind).items():
                if tensor is not None and id(tensor) not in seen:
                    seen.add(id(tensor))
                    tensors[f"{path}.{name}" if path else name] = tensor
    return found


@contextmanager
def left_as_it_was(named: Modules, training: bool) -> Iterator[None]:
    """The first of the modules, which has the others in it, in training or evaluation mode while this lasts."""
    modules = [module for _, module in named]
    before = list(_contents(modules))
    modes = [(module, module.training) for module in modules]
    generators = [(x, x.get_state()) for x, _ in before if isinstance(x, torch.Generator)]
    numpy: Any = sys.modules.get("numpy")  # whoever draws with it has imported it
    python_state, numpy_state = random.getstate(), numpy and numpy.random.get_state()
    try:
        with torch.random.fork_rng(devices=[]):
            modules[0].train(training)
            yield
    finally:
        for module, mode in modes:
            module.__dict__["training"] = mode  # as `module.training = mode` does, but for what that looks up first
        for found, content in before:
            _give_back(found, content)
        for generator, state in generators:
            generator.set_state(state)
        random.setstate(python_state)
        if numpy:
            numpy.random.set_state(numpy_state)


def _contents(modules: Sequence[nn.Module]) -> Iterator[tuple[Any, Any]]:
    """Each container that the network's attributes lead to, with a copy of what is in it: attributes of objects are in dictionaries."""
    waiting: list[Any] = []
    for module in modules:
        if type(module).__module__ in _STILL:
            continue
        own = module.__dict__
        yield own, dict(own)
        for name, x in own.items():
            if type(x) in _PLAIN or name in _HOOKS:
                continue
            if name in _CONTENTS:  # tensors, and modules that are here already
                yield x, dict(x)
            else:
                waiting.append(x)
    for kind in {kind for own in {type(module) for module in modules} for kind in own.__mro__}:
        if kind.__module__.partition(".")[0] not in ("torch", "builtins"):  # caches that all modules of a class share
            waiting += [x for x in vars(kind).values() if isinstance(x, dict | list | set | deque)]
    seen = set(map(id, modules))
    while waiting and len(seen) < _MOST:
        found = waiting.pop()
        if type(found) in _PLAIN or id(found) in seen or isinstance(found, _CLOSED):
            continue
        seen.add(id(found))
        if isinstance(found, dict):
            yield found, dict(found)
            waiting += found.values()
        elif isinstance(found, list | deque | set):
            yield found, list(found)
            waiting += found
        elif isinstance(found, tuple | frozenset):
            waiting += found
        elif isinstance(found, torch.Generator):
            yield found, None
        else:
            if type(found).__dictoffset__ and not type(found).__module__.startswith("torch."):
                waiting.append(object.__getattribute__(found, "__dict__"))
            every = {name: getattr(found, name, _UNSET) for name in _slots(found)}
            slots = {name: value for name, value in every.items() if value is not _UNSET}
            if slots:
                yield found, slots
                waiting += slots.values()


def _slots(found: Any) -> list[str]:
    """The attributes of a plain object that are in no dictionary."""
    names = [getattr(kind, "__slots__", ()) for kind in type(found).__mro__ if kind.__module__ != "builtins"]
    each = [name for group in names for name in ((group,) if isinstance(group, str) else group)]
    return [name for name in each if not name.startswith("__")]


def _give_back(found: Any, content: Any) -> None:
    """What was in a container, where that has changed."""
    if isinstance(found, dict):
        if list(found) != list(content) or any(found[key] is not value for key, value in content.items()):
            found.clear()
            found.update(content)
    elif isinstance(found, list | deque):
        if len(found) != len(content) or any(a is not b for a, b in zip(found, content, strict=True)):
            found.clear()
            found.extend(content)
    elif isinstance(found, set):
        if len(found) != len(content) or not all(x in found for x in content):
            found.clear()
            found.update(content)
    elif isinstance(content, dict):
        for name, value in content.items():
            if getattr(found, name, None) is not value:
                object.__setattr__(found, name, value)
