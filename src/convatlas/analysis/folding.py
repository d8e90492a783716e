"""Which blocks of an outline stand together in a figure, and which of them are alike: a network of 152 layers in a dozen boxes.

A layer takes what only follows it (norm, activation, dropout, flattening) into its *unit*; a block of several layers is a unit by
itself. Consecutive units of a stage are folded where they are the same: the same classes, the same operations on the same shapes,
the same wiring. They are also folded where they differ by a constant step alone, as dense layers do, each of which reads
32 maps more than the one before it; what is compared is the sequence of all sizes in a unit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from convatlas.analysis.cost import cost
from convatlas.analysis.outline import Block, Link, Outline, Stage, activations, links
from convatlas.analysis.tape import Op, Tape, Value

POOLING = {
    *("max_pool2d_with_indices", "avg_pool2d", "avg_pool1d", "avg_pool3d", "max_pool3d_with_indices"),
    *("_adaptive_avg_pool2d", "_adaptive_avg_pool3d", "adaptive_max_pool2d", "mean"),
}
STEPS = 3  # units that differ by a step are folded from this number on: two always differ by one


@dataclass(frozen=True, slots=True)
class Unit:
    """One block with several layers, or one layer with what follows it."""

    blocks: tuple[Block, ...]
    ops: range
    is_layer: bool


@dataclass(frozen=True, slots=True)
class Fold:
    """Consecutive units that are alike; mostly one."""

    stage: int  # a place in `Outline.stages`
    first: int  # the place of its first unit among all units
    units: tuple[Unit, ...]
    grows: bool  # whether each is larger than the one before it by the same step
    silent: tuple[Block, ...] = ()  # blocks behind it that do nothing in evaluation, as dropout


@dataclass(frozen=True, slots=True)
class Folded:
    """An outline in units, folded."""

    folds: tuple[Fold, ...]
    units: tuple[Unit, ...]
    links: tuple[Link, ...]  # between units; -1 is the network's input, the number of units its output
    active: frozenset[int]  # values that depend on the inputs


def fold(tape: Tape, of: Outline) -> Folded:
    """The outline's units, with what is alike folded."""
    active = activations(tape)
    weighty = [cost(op).mult_adds > 0 for op in tape.ops]
    by_stage = [_units(tape, stage, active, weighty) for stage in of.stages]
    units = tuple(unit for stage in by_stage for unit in stage)
    unit_of = {id(block): i for i, unit in enumerate(units) for block in unit.blocks}
    places = [-1, *(unit_of[id(block)] for block in of.blocks), len(units)]
    wires: dict[tuple[int, int, int], Link] = {}
    for link in links(tape, of):
        source, target = places[link.source + 1], places[link.target + 1]
        if source != target:
            wires.setdefault((source, target, link.value.number), Link(source, target, link.value))
    sources = [sorted({link.source for link in wires.values() if link.target == i}) for i in range(len(units))]
    folds: list[Fold] = []
    first = 0
    for number, stage in enumerate(by_stage):
        keys = [_signature(tape, unit, active) for unit in stage]
        start = 0
        while start < len(stage):
            stop, grows = _alike(keys, sources, first, start)
            if start and not stage[start].ops:
                silent = (*folds[-1].silent, *(block for unit in stage[start:stop] for block in unit.blocks))
                folds[-1] = replace(folds[-1], silent=silent)
            else:
                folds.append(Fold(number, first + start, tuple(stage[start:stop]), grows))
            start = stop
        first += len(stage)
    return Folded(tuple(folds), units, tuple(wires.values()), active)


def _units(tape: Tape, stage: Stage, active: frozenset[int], weighty: Sequence[bool]) -> list[Unit]:
    """Layers with what follows them; what computes nothing at the start of a stage goes to the layer after it."""
    found: list[Unit] = []
    made: set[int] = set()  # by the last unit
    for block in stage.blocks:
        layers = sum(weighty[i] for i in block.ops)
        computes = [i for i in block.ops if cost(tape.ops[i]).flops or cost(tape.ops[i]).uncounted]
        reads = {v.number for i in block.ops for v in tape.ops[i].reads if v.number in active}
        makes = {v.number for i in block.ops for v in tape.ops[i].makes}
        slight = not layers and (not computes or _keeps_shape(tape, block, active))
        is_layer = layers < 2 or len(block.calls) == 1
        last = found[-1] if found else None
        follows = last is not None and last.is_layer and (reads - makes) <= made
        bare = last is not None and all(
            not _computes(tape, b) for b in last.blocks
        )  # nothing but dropout or flattening
        if last is not None and follows and is_layer and (slight or bare):
            start = last.ops.start if last.ops else block.ops.start
            ops = range(start, block.ops.stop) if block.ops else last.ops
            found[-1] = Unit((*last.blocks, block), ops, True)
            made |= makes
        else:
            found.append(Unit((block,), block.ops, is_layer))
            made = makes
    return found


def _computes(tape: Tape, block: Block) -> bool:
    return any(cost(tape.ops[i]).flops or cost(tape.ops[i]).uncounted for i in block.ops)


def _keeps_shape(tape: Tape, block: Block, active: frozenset[int]) -> bool:
    """Whether a block is a norm, an activation or the like: no pooling by itself, and the shape as before."""
    kinds = {tape.ops[i].kind.removeprefix("aten.") for i in block.ops if _computes_op(tape.ops[i])}
    if kinds <= POOLING:
        return False
    reads = [v for i in block.ops for v in tape.ops[i].reads if v.number in active]
    makes = tape.ops[block.ops[-1]].makes
    return bool(reads and makes) and reads[0].shape == makes[0].shape


def _computes_op(op: Op) -> bool:
    found = cost(op)
    return bool(found.flops or found.uncounted)


@dataclass(frozen=True, slots=True)
class _Signature:
    """Everything about a unit but where its values come from: what is no size, and all sizes in their order."""

    structure: tuple[Any, ...]
    sizes: tuple[int, ...]
    side: tuple[int, ...]  # the resolution of its last map


def _signature(tape: Tape, unit: Unit, active: frozenset[int]) -> _Signature:
    structure: list[Any] = [tuple(tape.calls[i].kind for block in unit.blocks for i in block.calls)]
    sizes: list[int] = []
    local: dict[int, int] = {}  # values by their place in the unit; those from outside, too

    def note(value: Value) -> tuple[Any, ...]:
        sizes.extend(value.shape)
        where = local.setdefault(value.number, len(local)) if value.number in active else -1
        return ("value", where, len(value.shape), value.dtype)

    def encode(arg: Any) -> Any:
        if isinstance(arg, Value):
            return note(arg)
        if isinstance(arg, int) and not isinstance(arg, bool):
            sizes.append(arg)
            return "size"
        if isinstance(arg, list | tuple):
            return tuple(encode(item) for item in arg)
        if isinstance(arg, dict):
            return tuple((key, encode(item)) for key, item in arg.items())
        return repr(arg)

    side: tuple[int, ...] = ()
    for i in unit.ops:
        op = tape.ops[i]
        args: Any = op.args
        if op.kind == "aten.cat":  # what is concatenated from outside counts as one, however many there are
            outer = [v for v in op.args[0] if v.number in active and v.number not in local]
            inner = [v for v in op.args[0] if v.number not in {o.number for o in outer}]
            args = (inner, "outer" if outer else "", *op.args[1:])
        structure.append((str(op.func), encode(args), encode(dict(op.kwargs)), tuple(note(v) for v in op.makes)))
        side = op.makes[-1].shape[2:] if op.makes else side
    return _Signature(tuple(structure), tuple(sizes), side)


def _alike(keys: Sequence[_Signature], sources: Sequence[Sequence[int]], first: int, start: int) -> tuple[int, bool]:
    """Where the run of like units that begins at `start` ends, and whether they grow."""

    def same(i: int) -> bool:
        a, b = keys[i], keys[i + 1]
        return (a.structure, a.side, len(a.sizes)) == (b.structure, b.side, len(b.sizes)) and _same_wiring(
            sources[first + i], sources[first + i + 1], first + i
        )

    def step(i: int) -> tuple[int, ...]:
        return tuple(b - a for a, b in zip(keys[i].sizes, keys[i + 1].sizes, strict=True))

    def run(holds: Callable[[int], bool]) -> int:
        stop = start
        while stop + 1 < len(keys) and same(stop) and holds(stop):
            stop += 1
        return stop + 1

    alike = run(lambda i: not any(step(i)))
    if alike > start + 1:
        return alike, False
    if start + 1 < len(keys) and same(start):
        constant = step(start)
        growing = run(lambda i: step(i) == constant)
        if growing - start >= STEPS:
            return growing, True
    return start + 1, False


def _same_wiring(one: Sequence[int], other: Sequence[int], place: int) -> bool:
    """Whether a unit and the one after it read what is as far before them, or both all from one place on."""
    if [i + 1 for i in one] == list(other):
        return True
    everything = [list(range(one[0], place + 1)), list(range(one[0], place))] if one else []
    return list(one) in everything and list(other) == [*range(one[0], place + 1)]
