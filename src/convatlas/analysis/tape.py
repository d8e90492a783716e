"""One forward pass, recorded: every tensor operation with the module that ran it, what it read and what it made.

The network runs on `meta` tensors, which have shapes and no memory; where an operation or the network's own control flow cannot, on
fake tensors, and at last on real ones. Everything the analyser says is a function of this tape. Modules are seen where they are
called, operations where they are executed, so functional calls, shared modules and branches come out as they run.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

Origin = Literal["input", "parameter", "buffer", "constant", "made"]


@dataclass(frozen=True, slots=True)
class Value:
    """A tensor as it was at one time: an operation in place makes a new value of the same tensor."""

    number: int
    shape: tuple[int, ...]
    dtype: torch.dtype
    storage: int  # values with the same number share memory
    origin: Origin
    name: str = ""  # of a parameter or a buffer

    @property
    def elements(self) -> int:
        count = 1
        for side in self.shape:
            count *= side
        return count

    @property
    def bytes_(self) -> int:
        return self.elements * self.dtype.itemsize


@dataclass(frozen=True, slots=True)
class Op:
    """One executed operation."""

    func: Any  # torch's OpOverload
    call: int  # the innermost module call that was running: an index into `Tape.calls`
    args: tuple[Any, ...]  # with a Value where there was a tensor
    kwargs: Mapping[str, Any]
    reads: tuple[Value, ...]
    makes: tuple[Value, ...]
    function: Any = None  # the function of torch that Python called and that ran this: F.linear, which takes several

    @property
    def kind(self) -> str:
        """`aten.convolution`."""
        return str(self.func.overloadpacket)


@dataclass(slots=True)
class Call:
    """One call of a module. A module that is called twice has two."""

    path: str  # "" for the network itself
    kind: str  # its class
    parent: int  # an index into `Tape.calls`; -1 for the network itself
    inputs: tuple[Value, ...] = ()
    outputs: tuple[Value, ...] = ()
    finished: bool = False


@dataclass(frozen=True)
class Tape:
    """What `record` saw."""

    ops: tuple[Op, ...]
    calls: tuple[Call, ...]
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    state: Mapping[str, Value]  # parameters and buffers by name; one that has several names has the first
    trainable: frozenset[str]  # names of the parameters that require a gradient
    tensors: Literal["meta", "fake", "real"]  # what it ran on


class UnrunnableError(ValueError):
    """The network cannot run on this input; says where it stopped."""


def record(model: nn.Module, *inputs: Any, **named_inputs: Any) -> Tape:
    """The tape of `model(*inputs, **named_inputs)` in evaluation mode; the model is left as it was.

    Tensors of the inputs give shapes and dtypes alone, unless only real tensors will do. Where the network cannot run, `UnrunnableError`
    names the last module that finished, the one that failed and the shapes it was given.
    """
    failures: list[tuple[_Recorder, Exception]] = []
    attempts: tuple[tuple[Literal["meta", "fake", "real"], Callable[[], Any]], ...] = (
        ("meta", nullcontext),
        ("fake", _fake_mode),
        ("real", nullcontext),
    )
    for tensors, context in attempts:
        recorder = _Recorder(model)
        try:
            with _left_as_it_was(model), context() as mode:
                return recorder.run(tensors, mode, inputs, named_inputs)
        except Exception as error:  # whatever the network's own code raises, as the assertions on sizes do
            failures.append((recorder, error))
    recorder, error = failures[-1]
    raise UnrunnableError(recorder.where_it_stopped(error)) from error


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


@contextmanager
def _left_as_it_was(model: nn.Module) -> Iterator[None]:
    """The model in evaluation mode, every attribute of every module given back afterwards.

    A network may keep what it made, as detectors keep their anchors: a tensor without memory must not wait there for the next call.
    """
    attributes = [(module.__dict__, dict(module.__dict__)) for module in model.modules()]
    contents = [(x, x.copy()) for _, own in attributes for x in own.values() if isinstance(x, dict | list)]
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for changed, before in (*attributes, *contents):
            changed.clear()
            changed.update(before) if isinstance(changed, dict) else changed.extend(before)


@dataclass
class _Recorder(TorchDispatchMode):
    """Fills a tape while the model runs."""

    model: nn.Module
    ops: list[Op] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()
        self._values: dict[int, Value] = {}  # the current value of each tensor, by identity
        self._alive: list[Tensor] = []  # so that no identity comes up twice
        self._written: dict[int, Value] = {}  # by storage: the last value written in place
        self._running: list[int] = []
        self._count = 0
        self.function: Any = None  # of torch's, running

    def run(
        self, tensors: Literal["meta", "fake", "real"], mode: Any, inputs: Sequence[Any], named: Mapping[str, Any]
    ) -> Tape:
        convert = {"meta": _as_meta, "fake": mode and mode.from_tensor, "real": lambda tensor: tensor}[tensors]
        own = {**dict(self.model.named_parameters()), **dict(self.model.named_buffers())}
        trainable = frozenset(name for name, p in self.model.named_parameters() if p.requires_grad)
        converted = own if tensors == "real" else {name: convert(tensor) for name, tensor in own.items()}
        state = {
            name: self._new(tensor, "parameter" if isinstance(own[name], nn.Parameter) else "buffer", name)
            for name, tensor in converted.items()
        }
        args, kwargs = tree_map(lambda x: convert(x) if isinstance(x, Tensor) else x, (tuple(inputs), dict(named)))
        given = tuple(self._new(x, "input") for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor))
        hooks = self._watch()
        try:
            with self, _Functions(self):
                if tensors == "real":
                    output = self.model(*args, **kwargs)
                else:
                    output = functional_call(
                        self.model, self._in_every_place(own, converted), args, kwargs, tie_weights=False
                    )
        finally:
            for hook in hooks:
                hook.remove()
        return Tape(
            ops=tuple(self.ops),
            calls=tuple(self.calls),
            inputs=given,
            outputs=self._current(output),
            state=state,
            trainable=trainable,
            tensors=tensors,
        )

    def _in_every_place(self, own: Mapping[str, Tensor], converted: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """By each name of a tensor that several modules hold, and by one of the names of a module.

        Left to itself, `functional_call` swaps a module with two names twice and gives it back what it swapped in.
        """
        stand_ins = {id(tensor): converted[name] for name, tensor in own.items()}
        tensors = {
            f"{path}.{name}" if path else name: tensor
            for path, module in self.model.named_modules()
            for name, tensor in (
                *module.named_parameters(recurse=False, remove_duplicate=False),
                *module.named_buffers(recurse=False, remove_duplicate=False),
            )
        }
        return {name: stand_ins[id(tensor)] for name, tensor in tensors.items()}

    def where_it_stopped(self, error: Exception) -> str:
        """The last module that finished, the innermost that did not, and what it was given."""
        reason = (str(error) or type(error).__name__).splitlines()[0]
        stopped = next((call for call in reversed(self.calls) if not call.finished), None)
        if stopped is None:
            return f"{type(self.model).__name__} cannot run on this input: {reason}"
        done = next((call for call in reversed(self.calls) if call.finished), None)
        after = f"after {done.path} ({done.kind}) gave {_shapes(done.outputs)}, " if done else ""
        name = f"{stopped.path} ({stopped.kind})" if stopped.path else stopped.kind
        return f"{after}{name} cannot take {_shapes(stopped.inputs)}: {reason}"

    def _watch(self) -> list[Any]:
        """Hooks that note which module is running."""
        hooks: list[Any] = []
        for path, module in self.model.named_modules():

            def before(module: nn.Module, args: Any, kwargs: Any, path: str = path) -> None:
                parent = self._running[-1] if self._running else -1
                self._running.append(len(self.calls))
                given = self._current((args, kwargs))
                self.calls.append(Call(path, type(module).__name__, parent, given))

            def after(module: nn.Module, args: Any, output: Any) -> None:
                call = self.calls[self._running.pop()]
                call.outputs, call.finished = self._current(output), True

            hooks += [module.register_forward_pre_hook(before, with_kwargs=True), module.register_forward_hook(after)]
        return hooks

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        seen = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        reads = [self._value(x) for x in seen]
        for value in list(reads):  # what was written into the same memory under another name since
            later = self._written.get(value.storage)
            if later is not None and later.number > value.number:
                reads.append(later)
        noted = tree_map(lambda x: self._value(x) if isinstance(x, Tensor) else x, (args, kwargs))
        output = func(*args, **kwargs)
        makes = tuple(self._new(x, "made") for x in tree_leaves(output) if isinstance(x, Tensor))
        if func._schema.is_mutable:
            made = {id(x) for x in tree_leaves(output) if isinstance(x, Tensor)}
            for tensor in self._mutated(func, args, kwargs):
                value = self._values[id(tensor)] if id(tensor) in made else self._new(tensor, "made")
                self._written[value.storage] = value
                makes += () if id(tensor) in made else (value,)
        call = self._running[-1] if self._running else 0
        self.ops.append(Op(func, call, noted[0], noted[1], tuple(reads), makes, self.function))
        return output

    @staticmethod
    def _mutated(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Iterator[Tensor]:
        for i, argument in enumerate(func._schema.arguments):
            if argument.alias_info is not None and argument.alias_info.is_write:
                given = kwargs.get(argument.name, args[i] if i < len(args) else None)
                yield from (x for x in tree_leaves(given) if isinstance(x, Tensor))

    def _value(self, tensor: Tensor) -> Value:
        return self._values.get(id(tensor)) or self._new(tensor, "constant")

    def _new(self, tensor: Tensor, origin: Origin, name: str = "") -> Value:
        storage = tensor.untyped_storage()._cdata if tensor.layout == torch.strided else id(tensor)
        value = Value(self._count, tuple(tensor.shape), tensor.dtype, storage, origin, name)
        self._count += 1
        self._values[id(tensor)] = value
        self._alive.append(tensor)
        return value

    def _current(self, tensors: Any) -> tuple[Value, ...]:
        return tuple(self._value(x) for x in _tensors(tensors))


class _Functions(TorchFunctionMode):
    """Notes which of torch's functions is running. Those that it calls in turn are part of it."""

    def __init__(self, recorder: _Recorder) -> None:
        super().__init__()
        self._recorder = recorder

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        outer, self._recorder.function = self._recorder.function, func
        try:
            return func(*args, **(kwargs or {}))
        finally:
            self._recorder.function = outer


def _tensors(tree: Any) -> Iterator[Tensor]:
    """Those that a module takes or gives: in lists, dictionaries and what torch knows as such, and in dataclasses."""
    for leaf in tree_leaves(tree):
        if isinstance(leaf, Tensor):
            yield leaf
        elif is_dataclass(leaf) and not isinstance(leaf, type):
            yield from _tensors([getattr(leaf, item.name) for item in fields(leaf)])


def _as_meta(tensor: Tensor) -> Tensor:
    return tensor if tensor.device.type == "meta" else torch.empty_like(tensor, device="meta")


def _shapes(values: Sequence[Value]) -> str:
    return " and ".join("×".join(map(str, value.shape)) or "a scalar" for value in values) or "nothing"
