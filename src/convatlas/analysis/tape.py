"""A tape: every tensor operation of one forward pass with the module that ran it, what it read and what it made.

Everything the analyser says is a function of a tape. `record` makes one: modules are seen where they are called, operations where they
are executed, so functional calls, shared modules and branches come out as they run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from math import prod
from typing import Any, Literal

import torch

Tensors = Literal["meta", "fake", "real"]
Origin = Literal["input", "parameter", "buffer", "constant", "made"]


@dataclass(slots=True, unsafe_hash=True)  # frozen ones take four times as long to make, and there are thousands
class Value:
    """A tensor as it was at one time: an operation in place makes a new value of the same tensor. Not to be changed."""

    number: int
    shape: tuple[int, ...]
    dtype: torch.dtype
    storage: int  # values with the same number share memory: an index into `Tape.storages`
    origin: Origin
    name: str = ""  # of a parameter or a buffer

    @property
    def elements(self) -> int:
        return prod(self.shape)

    @property
    def bytes_(self) -> int:
        return self.elements * self.dtype.itemsize


@dataclass(slots=True, eq=False)
class Op:
    """One executed operation. Not to be changed, but for what is `known` of it."""

    func: Any  # torch's OpOverload
    call: int  # the innermost module call that was running: an index into `Tape.calls`
    args: tuple[Any, ...]  # with a Value where there was a tensor
    kwargs: Mapping[str, Any]
    reads: tuple[Value, ...]
    makes: tuple[Value, ...]
    function: Any = None  # the function of torch that Python called and that ran this: F.linear, which takes several
    watched: bool = True  # by autograd, if the pass is to be trained: not what the network runs under `torch.no_grad()`
    own_backward: str = ""  # in training: the network's own `autograd.Function` that ran this, or "checkpoint"
    known: dict[str, Any] = field(
        default_factory=dict, repr=False
    )  # what others worked out about it, to be asked again

    @property
    def kind(self) -> str:
        """`aten.convolution`."""
        found = _KINDS.get(id(self.func))
        if found is None:
            found = _KINDS[id(self.func)] = str(self.func.overloadpacket)
        return found


_KINDS: dict[int, str] = {}  # torch's operations live for ever, and are hashed in Python


@dataclass(slots=True)
class Call:
    """One call of a module. A module that is called twice has two."""

    path: str  # "" for the network itself
    kind: str  # its class
    parent: int  # an index into `Tape.calls`; -1 for the network itself
    inputs: tuple[Value, ...] = ()
    outputs: tuple[Value, ...] = ()
    finished: bool = False


@dataclass(frozen=True, slots=True)
class Storage:
    """A piece of memory, and while how many operations it is held: what Python still refers to is not free."""

    bytes_: int
    born: int  # the operation that made it, an index into `Tape.ops`; -1 for what was there before
    freed: int  # the first operation that runs without it; `len(Tape.ops)` for what is left at the end


@dataclass(frozen=True)
class Tape:
    """What `record` saw."""

    ops: tuple[Op, ...]
    calls: tuple[Call, ...]
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    state: Mapping[str, Value]  # parameters and buffers by name; one that has several names has the first
    trainable: frozenset[str]  # names of the parameters that require a gradient
    storages: tuple[Storage, ...]
    tensors: Tensors  # what it ran on
    training: bool  # in training mode, otherwise in evaluation mode

    @cached_property
    def varying(self) -> frozenset[int]:
        """Numbers of the values that depend on the inputs; the others come from weights and constants alone."""
        numbers = {value.number for value in self.inputs}
        for op in self.ops:
            if any(value.number in numbers for value in op.reads):
                numbers.update([value.number for value in op.makes])
        return frozenset(numbers)
