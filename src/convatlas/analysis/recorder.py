"""The dispatch mode that fills a tape while a network runs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import fields, is_dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from convatlas.analysis.ledger import Ledger
from convatlas.analysis.lending import Modules, held
from convatlas.analysis.shapes import outputs
from convatlas.analysis.tape import Call, Op, Tape, Tensors, Value
from convatlas.analysis.watched import own_backward

_ALONE = threading.RLock()  # two threads that record must not take each other's stand-in for the original


class Recorder(TorchDispatchMode):
    """Fills a tape while the model runs. Holds no tensor, so that memory is freed when the model lets go of it, and this is seen."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # else torch imports its compiler, which takes seconds, to keep it from compiling this class

    def __init__(self, modules: Modules, tensors: Tensors) -> None:
        super().__init__()
        self.modules = modules
        self.model = modules[0][1]
        self.tensors: Tensors = tensors
        self.ops: list[Op] = []
        self.calls: list[Call] = []
        self._ledger = Ledger(lambda: len(self.ops))
        self._written: dict[int, Value] = {}  # by storage: the last value written in place
        self._running: list[int] = []
        self._known: dict[Any, Any] = {}  # what operations made, to make the like again without asking torch
        self.function: Any = None  # of torch's, running
        self._thread = threading.get_ident()
        self._elsewhere = ""  # a module that was called in another thread, whose operations are not seen here

    def run(self, mode: Any, inputs: Sequence[Any], named: Mapping[str, Any], *, training: bool) -> Tape:
        convert = {"meta": _as_meta, "fake": mode and mode.from_tensor, "real": lambda tensor: tensor}[self.tensors]
        self._training = training
        parameters, buffers = held(self.modules)
        own = {**parameters, **buffers}
        trainable = frozenset(name for name, p in parameters.items() if p.requires_grad)
        converted = {name: self._lent(tensor, convert) for name, tensor in own.items()}
        state = {
            name: self._ledger.new(tensor, "parameter" if isinstance(own[name], nn.Parameter) else "buffer", name)
            for name, tensor in converted.items()
        }
        args, kwargs = tree_map(lambda x: convert(x) if isinstance(x, Tensor) else x, (tuple(inputs), dict(named)))
        given = tuple(self._ledger.new(x, "input") for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor))
        functions = nullcontext() if training else _Functions(self)  # which only counting asks for
        with self._calls_seen(), self, functions:
            if all(converted[name] is tensor for name, tensor in own.items()):
                output = self.model(*args, **kwargs)
            else:
                output = functional_call(
                    self.model, self._in_every_place(own, converted), args, kwargs, tie_weights=False
                )
        if self._elsewhere:
            raise RuntimeError(f"{self._elsewhere} runs in a thread of its own, which cannot be recorded")
        returned = self._current(output)
        return Tape(
            ops=tuple(self.ops),
            calls=tuple(self.calls),
            inputs=given,
            outputs=returned,
            state=state,
            trainable=trainable,
            storages=self._ledger.storages(),
            tensors=self.tensors,
            training=training,
        )

    def _lent(self, tensor: Tensor, convert: Callable[[Tensor], Tensor]) -> Tensor:
        """What stands for a parameter or a buffer, which a network may write into: real numbers are copied."""
        lent = convert(tensor)
        if lent is tensor and self.tensors == "real":
            return lent.detach().clone()
        if self._training and tensor.requires_grad and not lent.requires_grad:
            return lent.requires_grad_()  # as in a training step: products are taken to pieces by what requires one
        return lent

    def _in_every_place(self, own: Mapping[str, Tensor], converted: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """By each name of a tensor that several modules hold, and by one of the names of a module.

        Left to itself, `functional_call` swaps a module with two names twice and gives it back what it swapped in.
        """
        stand_ins = {id(tensor): converted[name] for name, tensor in own.items()}
        tensors = {
            f"{path}.{name}" if path else name: tensor
            for path, module in self.modules
            for name, tensor in (
                *module.named_parameters(recurse=False, remove_duplicate=False),
                *module.named_buffers(recurse=False, remove_duplicate=False),
            )
        }
        return {name: stand_ins[id(tensor)] for name, tensor in tensors.items()}

    def where_it_stopped(self, error: BaseException) -> str:
        """The last module that finished, the innermost that did not, and what it was given."""
        said = str(error) if isinstance(error, Exception) else ""
        reason = (said or type(error).__name__).splitlines()[0].rstrip(".")
        stopped = next((call for call in reversed(self.calls) if not call.finished), None)
        if stopped is None:
            return f"{type(self.model).__name__} cannot run on this input: {reason}"
        done = next((call for call in reversed(self.calls) if call.finished), None)
        after = f"after {done.path} ({done.kind}) gave {_shapes(done.outputs)}, " if done else ""
        name = f"{stopped.path} ({stopped.kind})" if stopped.path else stopped.kind
        return f"{after}{name} cannot take {_shapes(stopped.inputs)}: {reason}"

    @contextmanager
    def _calls_seen(self) -> Iterator[None]:
        """While this lasts, every call of one of the network's modules is noted: by standing in for `nn.Module.__call__`, as torch.fx does,
        since hooks have to be put on each module and taken off again."""
        paths = {module: path for path, module in reversed(self.modules)}
        original = nn.Module.__call__

        def call(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
            path = paths.get(module)
            if path is None:
                return original(module, *args, **kwargs)
            if threading.get_ident() != self._thread:
                self._elsewhere = path
                return original(module, *args, **kwargs)
            running = self._running
            noted = Call(
                path,
                type(module).__name__,
                running[-1] if running else -1,
                self._current((args, kwargs) if kwargs else args),
            )
            running.append(len(self.calls))
            self.calls.append(noted)
            output = original(module, *args, **kwargs)
            running.pop()
            noted.outputs, noted.finished = self._current(output), True
            return output

        with _ALONE:
            nn.Module.__call__ = call
            try:
                yield
            finally:
                nn.Module.__call__ = original

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if torch.is_inference_mode_enabled():  # the network's own, which leaves composite operations whole
            with self:
                made = func.decompose(*args, **kwargs)
            if made is not NotImplemented:
                return made
        seen: list[Tensor] = []
        key: list[Any] = [id(func)]  # torch's operations are hashed in Python, and live for ever
        about = _about(func)
        reads: list[Value] = []
        noted, noted_named = self._note(args, seen, reads, key), {}
        for name, arg in kwargs.items():
            key.append(name)
            noted_named[name] = self._note(arg, seen, reads, key)
        if self._written:  # what was written into the same memory under another name since
            later = (self._written.get(value.storage) for value in reads)
            reads += [new for value, new in zip(reads, later, strict=True) if new and new.number > value.number]
        if self.tensors == "meta":
            output = self._output(func, about, args, kwargs, tuple(key), seen)
        else:
            output = func(*args, **kwargs)
        tensors = _found(output)
        makes = tuple([self._ledger.new(x, "made") for x in tensors])
        if about.writes:
            for tensor in self._mutated(func, args, kwargs):
                is_output = any(tensor is x for x in tensors)
                value = self._ledger.value(tensor) if is_output else self._ledger.new(tensor, "made")
                self._written[value.storage] = value
                makes += () if is_output else (value,)
        call = self._running[-1] if self._running else 0
        own = own_backward() if self._training else ""
        watched = bool(own) or not self._training or torch.is_grad_enabled()
        self.ops.append(Op(func, call, noted, noted_named, tuple(reads), makes, self.function, watched, own))
        return output

    def _output(
        self, func: Any, about: _About, args: Any, kwargs: Any, key: tuple[Any, ...], seen: list[Tensor]
    ) -> Any:
        """What the operation makes: like the last time if the same was asked, else by our rules, else by torch's."""
        if not all(x.is_meta for x in seen):  # the form may depend on its numbers, as with a mask
            return func(*args, **kwargs)
        try:
            known = self._known.get(key)
        except TypeError:  # an argument that cannot be looked up
            return func(*args, **kwargs)
        if known is not None:
            made = tuple(torch.empty_strided(s, t, dtype=dtype, device="meta") for s, t, dtype in known)
            return made[0] if about.is_single else made
        output = outputs(func, args, kwargs)
        if output is None:
            output = func(*args, **kwargs)
        if about.makes_anew:
            made = output if isinstance(output, tuple) else (output,)
            if all(isinstance(x, Tensor) and x.is_meta and x.layout == torch.strided for x in made):
                self._known[key] = tuple((x.shape, x.stride(), x.dtype) for x in made)
        return output

    def _note(self, x: Any, seen: list[Tensor], reads: list[Value], key: list[Any]) -> Any:
        """An argument with a Value where there is a tensor; these are added to `reads`, the tensors to `seen`, what decides the output's
        form to `key`."""
        kind = type(x)
        if kind in _SCALARS:
            key += (kind, x)
            return x
        if kind is Tensor or isinstance(x, Tensor):
            seen.append(x)
            key += (x.shape, x.stride() if x.layout == torch.strided else x.layout, x.dtype)
            reads.append(value := self._ledger.value(x))
            return value
        if isinstance(x, list | tuple):
            key.append(len(x))
            return kind([self._note(y, seen, reads, key) for y in x])
        key += (kind, x)
        return x

    @staticmethod
    def _mutated(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Iterator[Tensor]:
        for i, argument in enumerate(func._schema.arguments):
            if argument.alias_info is not None and argument.alias_info.is_write:
                yield from _tensors(kwargs.get(argument.name, args[i] if i < len(args) else None))

    def _current(self, tensors: Any) -> tuple[Value, ...]:
        return tuple([self._ledger.value(x) for x in _found(tensors)])


_SCALARS = frozenset(
    {int, float, bool, str, type(None), torch.dtype}
)  # looked up first: asking whether it is a tensor takes longer


class _About(NamedTuple):
    """What an operation's schema says of it; asking the schema itself each time takes longer than the rest."""

    writes: bool  # into tensors that were there
    is_single: bool  # makes one thing
    makes_anew: bool  # memory, and writes into none that was there


def _about(func: Any) -> _About:
    found = _ABOUT.get(id(func))
    if found is None:
        found = _ABOUT[id(func)] = _asked(func)
    return found


_ABOUT: dict[int, _About] = {}  # by identity: torch's operations live for ever, and are hashed in Python


def _asked(func: Any) -> _About:
    schema = func._schema
    is_view = schema.is_mutable or any(made.alias_info for made in schema.returns)
    makes_anew = not is_view and func.overloadpacket not in _VIEWS_IN_DISGUISE and bool(schema.returns)
    return _About(schema.is_mutable, len(schema.returns) == 1, makes_anew)


_VIEWS_IN_DISGUISE = (torch.ops.aten._unsafe_view, torch.ops.aten._reshape_alias, torch.ops.aten.lift_fresh)


def _found(tree: Any) -> Sequence[Tensor]:
    """`_tensors`, the common cases first."""
    if isinstance(tree, Tensor):
        return (tree,)
    if type(tree) is tuple and all(isinstance(branch, Tensor) for branch in tree):
        return tree
    return list(_tensors(tree))


def _tensors(tree: Any) -> Iterator[Tensor]:
    """Those that a module or an operation takes or gives: in lists, dictionaries and what torch knows as such, and in dataclasses."""
    if isinstance(tree, Tensor):
        yield tree
    elif type(tree) in (tuple, list):
        for branch in tree:
            yield from _tensors(branch)
    elif tree is not None:
        for leaf in tree_leaves(tree):
            if isinstance(leaf, Tensor):
                yield leaf
            elif is_dataclass(leaf) and not isinstance(leaf, type):
                yield from _tensors([getattr(leaf, item.name) for item in fields(leaf)])


class _Functions(TorchFunctionMode):
    """Notes which of torch's functions is running. Those that it calls in turn are part of it."""

    def __init__(self, recorder: Recorder) -> None:
        super().__init__()
        self._recorder = recorder

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        outer, self._recorder.function = self._recorder.function, func
        try:
            return func(*args, **(kwargs or {}))
        finally:
            self._recorder.function = outer


def _as_meta(tensor: Tensor) -> Tensor:
    return tensor if tensor.device.type == "meta" else torch.empty_like(tensor, device="meta")


def _shapes(values: Sequence[Value]) -> str:
    return " and ".join("×".join(map(str, value.shape)) or "a scalar" for value in values) or "nothing"
