"""A tape told in stages and blocks: the same grouping for every table and figure that has a row a block.

A *block* is one call of a module, or a run of operations between such calls; a *stage* is a run of blocks that begins where the maps get
smaller. Whoever knows the network names the modules that are its stages. Without names they are found from the calls: a module whose
parts follow one another and are themselves blocks is a stage; one that holds several stages, or goes through several resolutions
like the `features` of a VGG, is opened; what lies between stages is grouped by the size of its maps, and what comes after the maps
have gone to one pixel is the last stage. Every operation is in exactly one block.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from convatlas.analysis.cost import cost
from convatlas.analysis.tape import Tape, Value

LIKE = {f"aten.{kind}_like" for kind in ("empty", "full", "ones", "zeros")}  # read a shape and no values
LIKE |= {f"aten.new_{kind}" for kind in ("empty", "full", "ones", "zeros")}
SEVERAL = 3  # resolutions among a module's parts from which on it is no stage but holds some


@dataclass(frozen=True, slots=True)
class Block:
    """One call of a module with all that runs inside it, or operations that ran between calls."""

    path: str  # of the module; for operations between calls of the module that ran them
    kind: str  # the module's class; "" for operations between calls
    call: int | None  # an index into `Tape.calls`; None for operations between calls
    calls: range  # it and the calls inside it
    ops: range  # indices into `Tape.ops`; empty where a module does nothing in evaluation, as dropout


@dataclass(frozen=True, slots=True)
class Stage:
    """Blocks that belong together, in the order in which they ran."""

    name: str  # its module's path, or the first and the last of its blocks
    blocks: tuple[Block, ...]


@dataclass(frozen=True, slots=True)
class Outline:
    """The stages of a tape, in the order in which they ran."""

    stages: tuple[Stage, ...]

    @property
    def blocks(self) -> tuple[Block, ...]:
        """All blocks, in the order in which they ran."""
        return tuple(block for stage in self.stages for block in stage.blocks)


@dataclass(frozen=True, slots=True)
class Link:
    """A value that one block made and another reads. Numbers are places in `Outline.blocks`."""

    source: int  # -1: the network's input
    target: int  # the number of blocks: the network's output
    value: Value


def outline(tape: Tape, stages: Sequence[str] | None = None) -> Outline:
    """The tape's stages: those whose module paths are given, with what runs outside them in stages of its own, or those that it shows.

    Raises `ValueError` for a path that was not called, naming the nearest that was.
    """
    tree = _Tree(tape)
    if not tape.calls:
        return Outline(())
    if stages is not None:
        called = [call.path for call in tape.calls]
        for path in stages:
            if path not in called:
                near = difflib.get_close_matches(path, called, n=1)
                raise ValueError(
                    f"no module {path!r} was called" + (f"; did you mean {near[0]!r}?" if near else "; see Tape.calls")
                )
        return Outline(_gathered(tree, tree.named(0, frozenset(stages)), exactly=True))
    return Outline(_gathered(tree, tree.found(0), exactly=False))


def activations(tape: Tape) -> frozenset[int]:
    """The numbers of the values that depend on the network's inputs; all others are the same for every image of that size."""
    found = {value.number for value in tape.inputs}
    for op in tape.ops:
        if op.kind not in LIKE and any(value.number in found for value in op.reads):
            found |= {value.number for value in op.makes}
    return frozenset(found)


def links(tape: Tape, of: Outline) -> tuple[Link, ...]:
    """Which block reads what another made, in the order of the reading blocks; each value once for a pair of blocks."""
    active = activations(tape)
    made = {value.number: -1 for value in tape.inputs}
    found: dict[tuple[int, int, int], Link] = {}
    for number, block in enumerate(of.blocks):
        for i in block.ops:
            for value in tape.ops[i].reads:
                source = made.get(value.number, number)
                if value.number in active and source != number:
                    found.setdefault((source, number, value.number), Link(source, number, value))
            made |= {value.number: number for value in tape.ops[i].makes}
    end = len(of.blocks)
    for value in tape.outputs:
        if value.number in active and value.number in made:
            found.setdefault((made[value.number], end, value.number), Link(made[value.number], end, value))
    return tuple(found.values())


@dataclass(frozen=True, slots=True)
class _Whole:
    """A module that is a stage."""

    name: str
    blocks: tuple[Block, ...]


class _Tree:
    """The calls of a tape with what each of them contains."""

    def __init__(self, tape: Tape) -> None:
        self.tape = tape
        self.children: list[list[int]] = [[] for _ in tape.calls]
        for i, call in enumerate(tape.calls):
            if call.parent >= 0:
                self.children[call.parent].append(i)
        self.end = [
            i + 1 for i in range(len(tape.calls))
        ]  # calls are numbered as they began, so what is inside follows
        for i in reversed(range(len(tape.calls))):
            if self.children[i]:
                self.end[i] = self.end[self.children[i][-1]]
        self.own: list[list[int]] = [[] for _ in tape.calls]
        for i, op in enumerate(tape.ops):
            self.own[op.call].append(i)
        self.ops = [range(0)] * len(tape.calls)
        for i in reversed(range(len(tape.calls))):
            inside = [self.ops[child] for child in self.children[i] if self.ops[child]]
            first = [span.start for span in inside] + self.own[i][:1]
            last = [span.stop for span in inside] + [op + 1 for op in self.own[i][-1:]]
            self.ops[i] = range(min(first), max(last)) if first else range(0)
        costs = [cost(op) for op in tape.ops]
        self.mult_adds = [found.mult_adds for found in costs]
        self.computes = [bool(found.flops or found.uncounted) for found in costs]
        self.active = activations(tape)

    def block(self, call: int) -> Block:
        what = self.tape.calls[call]
        return Block(what.path, what.kind, call, range(call, self.end[call]), self.ops[call])

    def parts(self, call: int) -> Iterator[Block]:
        """The calls made directly by a call, and between them the operations that it ran itself."""
        loose: list[int] = []
        own = iter([*self.own[call], None])
        following = next(own)
        path = self.tape.calls[call].path
        for child in self.children[call]:
            while following is not None and self.ops[child] and following < self.ops[child].start:
                loose.append(following)
                following = next(own)
            if loose:
                yield Block(path, "", None, range(0), range(loose[0], loose[-1] + 1))
                loose = []
            yield self.block(child)
        loose = [op for op in (following, *own) if op is not None]
        if loose:
            yield Block(path, "", None, range(0), range(loose[0], loose[-1] + 1))

    def blocks(self, call: int) -> tuple[Block, ...]:
        """A stage's: its parts, or itself where it calls nothing."""
        return tuple(self.parts(call)) if self.children[call] else (self.block(call),)

    def named(self, call: int, stages: frozenset[str]) -> Iterator[Block | _Whole]:
        """The parts of a call in which the stages are somewhere."""
        what = self.tape.calls[call]
        if what.path in stages:
            yield _Whole(what.path, self.blocks(call))
            return
        for part in self.parts(call):
            if part.call is not None and any(self.tape.calls[i].path in stages for i in part.calls):
                yield from self.named(part.call, stages)
            else:
                yield part

    def found(self, call: int) -> Iterator[Block | _Whole]:
        """The parts of a call that is more than a stage: stages, and blocks outside of any."""
        if not self.children[call]:
            yield self.block(call)
            return
        for part in self.parts(call):
            if part.call is None or self.weighty(part.ops) < 2:
                yield part
                continue
            inside = self.unwrapped(part.call)
            several = len(self.resolutions(inside)) >= SEVERAL
            if self.is_stage(inside):
                if several or any(self.is_stage(self.unwrapped(child)) for child in self.children[inside]):
                    yield from self.found(inside)
                else:
                    yield _Whole(part.path, self.blocks(inside))
            elif self.is_chain(inside) and (several or _is_collapsed(self.shape(part))):
                yield from self.parts(inside)  # layers, each by itself
            else:
                yield self.block(self.unwrapped(part.call, only="Sequential"))

    def unwrapped(self, call: int, only: str = "") -> int:
        """The call itself or, where it does nothing but one call, that one."""
        while len(self.children[call]) == 1 and not self.own[call] and only in ("", self.tape.calls[call].kind):
            call = self.children[call][0]
        return call

    def weighty(self, ops: range) -> int:
        """The number of operations with mult-adds."""
        return sum(1 for i in ops if self.mult_adds[i])

    def is_stage(self, call: int) -> bool:
        """Whether its parts follow one another and those that are more than a layer do most of the work."""
        if not self.is_chain(call):
            return False
        composite = [part for part in self.parts(call) if part.call is not None and self.weighty(part.ops) > 1]
        work = sum(self.mult_adds[i] for part in composite for i in part.ops)
        return 2 * work > sum(self.mult_adds[i] for i in self.ops[call])

    def is_chain(self, call: int) -> bool:
        """Whether each part reads what the part before it made, and nothing outside the parts joins two maps by arithmetic."""
        made: set[int] | None = None
        for part in self.parts(call):
            if not part.ops:
                continue
            reads = [{v.number for v in self.tape.ops[i].reads} & self.active for i in part.ops]
            if made is not None and not any(made & numbers for numbers in reads):
                return False
            if part.call is None and any(
                len(numbers) > 1 and self.computes[i] for i, numbers in zip(part.ops, reads, strict=True)
            ):
                return False
            made = {v.number for i in part.ops for v in self.tape.ops[i].makes}
        return True

    def widest(self, path: str, blocks: Sequence[Block]) -> str:
        """The path of the outermost module around `path` that runs nothing besides these blocks."""
        first, last = min(b.ops.start for b in blocks if b.ops), max(b.ops.stop for b in blocks if b.ops)
        for i, call in enumerate(self.tape.calls):
            around = call.path and f"{path}.".startswith(f"{call.path}.")
            if around and self.ops[i] and first <= self.ops[i].start and self.ops[i].stop <= last:
                return call.path
        return path

    def shape(self, block: Block) -> tuple[int, ...]:
        """Of what it gives."""
        if block.call is not None:
            outputs = self.tape.calls[block.call].outputs
            return outputs[-1].shape if outputs else ()
        makes = [value for i in block.ops for value in self.tape.ops[i].makes]
        return makes[-1].shape if makes else ()

    def resolutions(self, call: int) -> set[tuple[int, ...]]:
        return {self.shape(part)[2:] for part in self.parts(call)}


def _is_collapsed(shape: tuple[int, ...]) -> bool:
    return all(side == 1 for side in shape[2:])


def _gathered(tree: _Tree, parts: Iterator[Block | _Whole], *, exactly: bool) -> tuple[Stage, ...]:
    """Stages, from modules that are some and blocks outside of any.

    These come together by the size of their maps, those with one pixel at the end too. Unless the modules are to be taken `exactly` as they
    are, a module gets the blocks before it that bring the maps to its size and a norm or the like after it, the end a last pooling.
    """
    entries = list(parts)
    head = len(entries)  # where the maps have gone to one pixel for good
    while head and isinstance(part := entries[head - 1], Block) and _is_collapsed(tree.shape(part)):
        head -= 1
    runs: list[tuple[str, list[Block]]] = []  # the module's path, "" for blocks outside of any
    for place, entry in enumerate(entries):
        path, blocks = ("", [entry]) if isinstance(entry, Block) else (entry.name, [*entry.blocks])
        known, before = runs[-1] if runs else ("", [])
        if not before or (exactly and (known or path)):
            together = False
        elif place > head:
            together = True
        elif place == head:
            together = not exactly and not known and not any(tree.weighty(block.ops) for block in before)
        else:
            light = not path and not any(tree.weighty(block.ops) for block in blocks)
            together = tree.shape(before[-1])[2:] == tree.shape(blocks[-1])[2:] and (not known or light)
        if together:
            runs[-1] = (known or path, before + blocks)
        else:
            runs.append((path, blocks))
    return tuple(
        Stage(path if exactly and path else tree.widest(path, blocks) if path else _name(blocks), tuple(blocks))
        for path, blocks in runs
    )


def _name(blocks: Sequence[Block]) -> str:
    """`layer1`, `conv1–relu`, `features.5–9`."""
    paths = [block.path for block in blocks if block.call is not None] or [blocks[0].path]
    parent, _, last = paths[-1].rpartition(".")
    if paths[0] == paths[-1]:
        return paths[0]
    return f"{paths[0]}–{last if paths[0].rpartition('.')[0] == parent else paths[-1]}"
