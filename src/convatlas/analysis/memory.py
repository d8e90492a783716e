"""What a network needs in memory, from how long each tensor of the recorded pass was held.

*Forward peak*: the most activation bytes held at once, with the input, in a pass without gradients. The lifetimes are real: a tensor is
held while Python code still refers to it, be it only as an argument of a call that has not returned.

*Training memory*: parameters, buffers, a gradient for each trainable parameter, the optimiser's state, and the activations that autograd
saves for the backward pass. What it saves depends on what is trained: with everything before some stage frozen, nothing before that
stage is saved. Each kind of operation is asked once what it saves, by running it on `meta` tensors under `saved_tensors_hooks`.

Not in these figures: scratch memory of single kernels, gradients of activations that are alive for a moment, the allocator's rounding,
and what the CUDA context takes.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._python_dispatch import TorchDispatchMode

from convatlas.analysis.shapes import outputs
from convatlas.analysis.tape import Op, Tape, Value

Optimizer = Literal["sgd", "momentum", "adam"]
STATES: dict[Optimizer, int] = {"sgd": 0, "momentum": 1, "adam": 2}  # numbers that it keeps for each trained one


@dataclass(frozen=True, kw_only=True)
class Peak:
    """The moment of a pass at which the most activations are held."""

    bytes_: int
    op: int  # an index into `Tape.ops`
    path: str  # the module that ran it


def forward_peak(tape: Tape) -> Peak:
    """When and how much; of several equal moments the first."""
    held = _activation_storages(tape)
    change = [0] * (len(tape.ops) + 1)
    for number in held:
        storage = tape.storages[number]
        change[max(storage.born, 0)] += storage.bytes_
        change[storage.freed] -= storage.bytes_
    now, most, at = 0, 0, 0
    for i, difference in enumerate(change[:-1]):
        now += difference
        if now > most:
            most, at = now, i
    path = tape.calls[tape.ops[at].call].path if tape.ops else ""
    return Peak(bytes_=most, op=at, path=path)


def _activation_storages(tape: Tape) -> Iterator[int]:
    state = {value.storage for value in tape.state.values()}
    return (number for number in range(len(tape.storages)) if number not in state)


@dataclass(frozen=True, kw_only=True)
class TrainingMemory:
    """Bytes that a training step holds when the forward pass is over, with the gradients that the backward pass will leave."""

    parameters: int
    buffers: int
    gradients: int
    optimizer: int
    saved: int  # activations, the images included where the first layer is trained
    trainable: int  # parameters that are trained, in elements
    assumed: tuple[
        str, ...
    ] = ()  # kinds of operations that could not be asked, of which all they read and make counts as saved, and what has a backward
    # pass of its own, such as checkpointing, which counts as if it had not

    @property
    def total(self) -> int:
        return self.parameters + self.buffers + self.gradients + self.optimizer + self.saved


def training_memory(
    tape: Tape, *, frozen: Collection[str] = (), optimizer: Optimizer = "momentum", image_gradient: bool = False
) -> TrainingMemory:
    """Of a step on the tape's batch, with the parameters inside the modules `frozen` (paths) left alone.

    The tape should be of training mode: normalisation and dropout save other things there. Gradients and optimiser state have the
    parameters' type. `image_gradient` asks for the gradient of the input too.
    """
    return training_memories(tape, [frozen], optimizer=optimizer, image_gradient=image_gradient)[0]


def training_memories(
    tape: Tape,
    choices: Sequence[Collection[str]],
    *,
    optimizer: Optimizer = "momentum",
    image_gradient: bool = False,
) -> list[TrainingMemory]:
    """`training_memory` for several choices of what is frozen, from one reading of the tape."""
    if optimizer not in STATES:
        raise ValueError(f"unknown optimizer {optimizer!r}; there are {', '.join(STATES)}")
    parameters = {name: value for name, value in tape.state.items() if value.origin == "parameter"}
    around = {name: tuple(_around(name)) for name in parameters}
    trained: list[list[Value]] = []
    wanted: dict[int, int] = {}  # what is to get a gradient, by number: a bit for each choice in which it is
    for choice, frozen in enumerate(choices):
        paths = set(frozen)
        if empty := paths.difference(*around.values()):
            raise ValueError(f"nothing to freeze: no parameter lies in {', '.join(map(repr, sorted(empty)))}")
        trained.append(
            [parameters[name] for name in parameters if name in tape.trainable and paths.isdisjoint(around[name])]
        )
        images = [value for value in tape.inputs if value.dtype.is_floating_point] if image_gradient else []
        for value in (*trained[-1], *images):
            wanted[value.number] = wanted.get(value.number, 0) | 1 << choice
    saved, copied, assumed = _saved(tape, wanted, len(choices))
    weights = sum(value.bytes_ for value in parameters.values())
    buffers = sum(value.bytes_ for value in tape.state.values() if value.origin == "buffer")
    found = []
    for choice, values in enumerate(trained):
        gradients = sum(value.bytes_ for value in values)
        kept = sum(tape.storages[number].bytes_ for number, where in saved.items() if where >> choice & 1)
        found.append(
            TrainingMemory(
                parameters=weights,
                buffers=buffers,
                gradients=gradients,
                optimizer=STATES[optimizer] * gradients,
                saved=kept + copied[choice],
                trainable=sum(value.elements for value in values),
                assumed=tuple(sorted(assumed[choice])),
            )
        )
    return found


def _around(parameter: str) -> Iterator[str]:
    """A parameter's own name, and the paths of the modules that it lies in, the network itself last."""
    yield parameter
    while parameter:
        parameter = parameter.rpartition(".")[0]
        yield parameter


def largest_batch(bytes_of: Callable[[int], int], budget: int, *, smallest: int = 2) -> int:
    """The largest batch whose `bytes_of(batch)` are within `budget`; 0 if not even `smallest` images are.

    Memory grows by about the same bytes with each image, so two batches suggest the answer; it is then proved, by bisection if need be.
    """
    first = bytes_of(smallest)
    if first > budget:
        return 0
    step = max(bytes_of(smallest + 1) - first, 1)
    fits, reach = smallest, 1
    guess = smallest + (budget - first) // step
    if bytes_of(guess) <= budget:
        fits, guess = guess, guess + 1
        while bytes_of(guess) <= budget:
            fits, reach = guess, 2 * reach
            guess = fits + reach
    while guess - fits > 1:
        middle = (fits + guess) // 2
        fits, guess = (middle, guess) if bytes_of(middle) <= budget else (fits, middle)
    return fits


def _saved(tape: Tape, wanted: Mapping[int, int], choices: int) -> tuple[dict[int, int], list[int], list[set[str]]]:
    """The memory that autograd keeps if the values numbered in `wanted` are to get a gradient, parameters and buffers apart.

    Which choices a value has a gradient in, or a storage is kept in, is a number with a bit for each. Besides the storages, for each
    choice the bytes of copies that autograd makes for itself, and the operations that could not be asked.
    """
    flowing = dict(wanted)
    state = {value.storage for value in tape.state.values()}
    saved: dict[int, int] = {}
    copied = [0] * choices
    assumed: list[set[str]] = [set() for _ in range(choices)]
    for op in tape.ops:
        reads = [flowing.get(value.number, 0) for value in op.reads]
        if not any(reads):
            continue
        moving: dict[int, int] = {}  # by storage
        if not op.watched:  # what it writes into goes on having a gradient
            if op.func._schema.is_mutable:
                _mark(moving, ((value.storage, where) for value, where in zip(op.reads, reads, strict=True)))
                _mark(flowing, ((value.number, moving.get(value.storage, 0)) for value in op.makes))
            continue
        given, _ = _given(op)
        through_views = zip(op.reads[len(given) :], reads[len(given) :], strict=True)
        _mark(moving, ((value.storage, where) for value, where in through_views))
        each = [flowing.get(value.number, 0) | moving.get(value.storage, 0) for value in given]
        for alike in _cells(each):  # choices in which the same of the given have a gradient
            rule = _rule(op, given, tuple([bool(where & alike) for where in each]))
            for i in rule.given:
                saved[given[i].storage] = saved.get(given[i].storage, 0) | alike
            for i in rule.made:
                if i < len(op.makes):
                    saved[op.makes[i].storage] = saved.get(op.makes[i].storage, 0) | alike
            flows = op.makes if rule.writes else ()
            _mark(flowing, [(op.makes[i].number, alike) for i in rule.flowing if i < len(op.makes)])
            _mark(flowing, [(value.number, alike) for value in flows if _has_gradient(value)])
            if rule.copied or rule.assumed or op.own_backward:
                for choice in (choice for choice in range(choices) if alike >> choice & 1):
                    copied[choice] += rule.copied
                    if rule.assumed or op.own_backward:
                        assumed[choice].add(op.own_backward or op.kind.removeprefix("aten."))
    return {number: where for number, where in saved.items() if number not in state}, copied, assumed


def _mark(marks: dict[int, int], pairs: Iterable[tuple[int, int]]) -> None:
    for key, where in pairs:
        if where:
            marks[key] = marks.get(key, 0) | where


def _cells(each: Sequence[int]) -> list[int]:
    """The bits that occur, in groups that all numbers have or lack together."""
    cells: list[int] = []
    rest = 0
    for where in each:
        new = where & ~rest
        cells = [part for cell in cells for part in (cell & where, cell & ~where) if part]
        if new:
            cells.append(new)
            rest |= new
    return cells


def _has_gradient(value: Value) -> bool:
    """Whether it can have one: what is written into whole numbers does not."""
    return value.dtype.is_floating_point or value.dtype.is_complex


@dataclass(frozen=True, slots=True)
class _Rule:
    """What an operation saves: of the tensors it is given and of those it makes; and which of these have a gradient."""

    given: tuple[int, ...]
    made: tuple[int, ...]
    flowing: tuple[int, ...]
    copied: int = 0  # bytes of what is neither: what an activation in place writes over is copied before
    assumed: bool = False
    writes: bool = False  # into what it is given


# By operation, what requires a gradient, and all arguments but sizes; with sizes where something is copied
_RULES: dict[Any, _Rule] = {}


def _given(op: Op) -> tuple[list[Value], Any]:
    """The tensors an operation is given, and all of its arguments but their sizes."""
    found = op.known.get("given")
    if found is None:
        given: list[Value] = []
        found = op.known["given"] = given, (_form(op.args, given), _form(tuple(op.kwargs.items()), given))
    return found


def _rule(op: Op, given: Sequence[Value], mask: tuple[bool, ...]) -> _Rule:
    key = (op.func, mask, _given(op)[1])
    rule = _RULES.get(key)
    if rule is None:
        rule = _RULES[key] = _ask(op, mask)
    if rule.copied:
        sized = (*key, tuple(value.shape for value in given))
        rule = _RULES.get(sized)
        if rule is None:
            rule = _RULES[sized] = _ask(op, mask)
    return rule


class _Quick(TorchDispatchMode):
    """Shapes by our rules where there is one."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = outputs(func, args, kwargs or {})
        return func(*args, **(kwargs or {})) if made is None else made


def _ask(op: Op, mask: Sequence[bool]) -> _Rule:
    """Runs the operation on new `meta` tensors, of which those in `mask` require a gradient, and sees what is kept."""
    given: list[Tensor] = []

    def tensor(value: Value) -> Tensor:
        needs = mask[len(given)]
        leaf = torch.empty(value.shape, dtype=value.dtype, device="meta", requires_grad=needs)
        given.append(leaf + 0 if needs and op.func._schema.is_mutable else leaf)  # a leaf cannot be written into
        return given[-1]

    kept: dict[int, int] = {}  # bytes by address

    def keep(saved: Tensor) -> Tensor:
        kept[_address(saved)] = saved.untyped_storage().nbytes()
        return saved

    try:
        with torch.enable_grad(), _Quick():
            args, kwargs = _replaced(op.args, tensor), {name: _replaced(x, tensor) for name, x in op.kwargs.items()}
            with saved_tensors_hooks(keep, lambda saved: saved):
                output = op.func(*args, **kwargs)
    except (RuntimeError, NotImplementedError, TypeError, ValueError):
        # `meta` cannot run it: whatever may be kept is assumed to be
        every = tuple(range(len(op.makes)))
        return _Rule(tuple(range(len(mask))), every, every, assumed=True, writes=op.func._schema.is_mutable)
    made = [x for x in (output if isinstance(output, tuple | list) else (output,)) if isinstance(x, Tensor)]
    named = {_address(x) for x in (*given, *made)}
    return _Rule(
        tuple(i for i, x in enumerate(given) if _address(x) in kept),
        tuple(i for i, x in enumerate(made) if _address(x) in kept),
        tuple(i for i, x in enumerate(made) if x.requires_grad),
        copied=sum(bytes_ for address, bytes_ in kept.items() if address not in named),
        writes=op.func._schema.is_mutable,
    )


def _address(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata


def _replaced(tree: Any, tensor: Callable[[Value], Tensor]) -> Any:
    if isinstance(tree, Value):
        return tensor(tree)
    return type(tree)([_replaced(x, tensor) for x in tree]) if isinstance(tree, tuple | list) else tree


def _form(tree: Any, given: list[Value]) -> Any:
    """What of the arguments may decide what is saved: all but sizes. Tensors among them are added to `given`."""
    kind = type(tree)
    if kind is Value:
        given.append(tree)
        return tree.dtype
    if kind is int or kind is float:
        return "number"
    return tuple([_form(x, given) for x in tree]) if isinstance(tree, tuple | list) else str(tree)
