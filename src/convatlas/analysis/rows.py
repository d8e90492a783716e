"""One row a layer, a block or a stage: everything that a tape tells about that part of the network.

A layer is a module that runs operations itself or holds parameters. A block that adds its shortcut is a layer too, of that addition
alone: the layers' costs sum to the network's, and so do the blocks' and the stages'.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from convatlas.analysis.cost import Cost, added, cost
from convatlas.analysis.depth import depths
from convatlas.analysis.outline import Block, Outline
from convatlas.analysis.receptive import Field, Unknown, with_and_without_gates
from convatlas.analysis.tape import Op, Tape, Value

Shape = tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Row:
    """A part of the network, over all calls of it."""

    path: str  # "" for the network itself
    kind: str  # its class; "" where operations ran between calls of modules
    calls: int
    input_shapes: tuple[Shape, ...]  # of the first call, with the batch
    output_shapes: tuple[Shape, ...]
    parameters: int  # elements; shared ones are counted once, where they are named first
    trainable: int
    buffers: int
    cost: Cost
    activations: int  # elements that were made and are no views
    activation_bytes: int
    moved_bytes: int  # read and written by the operations that compute
    depth: int  # layers with weights on the longest path to its output
    field: Field | Unknown | None  # of its output; None where that does not depend on the input
    field_without_gates: Field | Unknown | None

    @property
    def intensity(self) -> float | None:
        """FLOPs for each byte moved; None where nothing is computed."""
        return self.cost.flops / self.moved_bytes if self.moved_bytes else None


class Rows:
    """What rows are made of, worked out once for a tape."""

    def __init__(self, tape: Tape) -> None:
        self.tape = tape
        self.costs = [cost(op) for op in tape.ops]
        made = [[value for value in op.makes if not _is_view(op, value)] for op in tape.ops]
        self.activations = [sum(value.elements for value in values) for values in made]
        self.activation_bytes = [sum(value.bytes_ for value in values) for values in made]
        self.moved = [_moved(op) if of.flops else 0 for op, of in zip(tape.ops, self.costs, strict=True)]
        self.depths = depths(tape)
        self.fields, self.without_gates = with_and_without_gates(tape)
        self._own: dict[int, list[int]] = {}
        for i, op in enumerate(tape.ops):
            self._own.setdefault(op.call, []).append(i)

    @property
    def whole(self) -> Row:
        """The network itself, with parameters that this pass did not reach."""
        root = self.tape.calls[0]
        every = range(len(self.tape.ops))
        return self._row("", root.kind, 1, every, self.tape.state, self.tape.inputs, self.tape.outputs)

    def layers(self) -> Iterator[Row]:
        """In the order of their first operation."""
        calls: dict[str, list[int]] = {}
        for i, call in enumerate(self.tape.calls):
            calls.setdefault(call.path, []).append(i)
        found = [
            (path, indices, [op for i in indices for op in self._own.get(i, ())]) for path, indices in calls.items()
        ]
        state = self._state_by_path(calls)
        last = 0
        placed: list[tuple[int, str, list[int], list[int]]] = []
        for path, indices, ops in found:
            if ops or path in state:
                last = ops[0] if ops else last
                placed.append((last, path, indices, ops))
        for _, path, indices, ops in sorted(placed, key=lambda entry: entry[0]):
            first, final = self.tape.calls[indices[0]], self.tape.calls[indices[-1]]
            names = state.get(path, ())
            yield self._row(path, first.kind, len(indices), ops, names, first.inputs, final.outputs)

    def _state_by_path(self, called: Mapping[str, Any]) -> dict[str, list[str]]:
        """Names of parameters and buffers by the module that holds them or, where that is not called, that reads them first.

        Attention does so with the weights of its last layer.
        """
        readers: dict[int, str] = {}
        for op in self.tape.ops:
            for value in op.reads:
                readers.setdefault(value.number, self.tape.calls[op.call].path)
        found: dict[str, list[str]] = {}
        for name, value in self.tape.state.items():
            holder = name.rpartition(".")[0]
            found.setdefault(holder if holder in called else readers.get(value.number, holder), []).append(name)
        return found

    def blocks(self, outline: Outline) -> list[Row]:
        """In the order in which they ran."""
        owned = self.owners(outline)
        return [self._of([block], owned[i : i + 1], block.path) for i, block in enumerate(outline.blocks)]

    def stages(self, outline: Outline) -> list[Row]:
        """In the order in which they ran."""
        owned, rows, done = self.owners(outline), [], 0
        for stage in outline.stages:
            rows.append(self._of(stage.blocks, owned[done : done + len(stage.blocks)], stage.name))
            done += len(stage.blocks)
        return rows

    def owners(self, outline: Outline) -> list[list[str]]:
        """The names of the parameters and buffers of each block: of modules called in it or, where a module is not called, read first."""
        home: dict[str, int] = {}
        readers: dict[int, int] = {}
        for i, block in enumerate(outline.blocks):
            for call in block.calls:
                home.setdefault(self.tape.calls[call].path, i)
            for op in block.ops:
                for value in self.tape.ops[op].reads:
                    readers.setdefault(value.number, i)
        owned: list[list[str]] = [[] for _ in outline.blocks]
        for name, value in self.tape.state.items():
            block = home.get(name.rpartition(".")[0], readers.get(value.number))
            if block is not None:
                owned[block].append(name)
        return owned

    def _of(self, blocks: Sequence[Block], owned: Sequence[Sequence[str]], path: str) -> Row:
        """A row of blocks that follow one another."""
        ops = [op for block in blocks for op in block.ops]
        names = [name for part in owned for name in part]
        kind = blocks[0].kind if len(blocks) == 1 else ""
        given, gives = self._given(blocks[0]), self._gives([block for block in blocks if block.ops] or blocks)
        return self._row(path, kind, 1, ops, names, given, gives)

    def _given(self, block: Block) -> tuple[Value, ...]:
        if block.call is not None:
            return self.tape.calls[block.call].inputs
        return self.tape.ops[block.ops[0]].reads[:1]

    def _gives(self, blocks: Sequence[Block]) -> tuple[Value, ...]:
        block = blocks[-1]
        if block.call is not None:
            return self.tape.calls[block.call].outputs
        return self.tape.ops[block.ops[-1]].makes[:1]

    def _row(
        self,
        path: str,
        kind: str,
        calls: int,
        ops: Sequence[int],
        names: Iterable[str],
        inputs: Sequence[Value],
        outputs: Sequence[Value],
    ) -> Row:
        state: Mapping[str, Value] = self.tape.state
        held = [(name, state[name]) for name in names]
        last = outputs[-1].number if outputs else -1
        return Row(
            path=path,
            kind=kind,
            calls=calls,
            input_shapes=tuple(value.shape for value in inputs),
            output_shapes=tuple(value.shape for value in outputs),
            parameters=sum(value.elements for _, value in held if value.origin == "parameter"),
            trainable=sum(value.elements for name, value in held if name in self.tape.trainable),
            buffers=sum(value.elements for _, value in held if value.origin == "buffer"),
            cost=added([self.costs[op] for op in ops]),
            activations=sum([self.activations[op] for op in ops]),
            activation_bytes=sum([self.activation_bytes[op] for op in ops]),
            moved_bytes=sum([self.moved[op] for op in ops]),
            depth=max((self.depths.get(value.number, 0) for value in outputs), default=0),
            field=self.fields.get(last),
            field_without_gates=self.without_gates.get(last),
        )


def _moved(op: Op) -> int:
    """The bytes an operation reads and writes, each tensor once."""
    reads = {value.number: value for value in op.reads}
    return sum([value.bytes_ for value in (*reads.values(), *op.makes)])


def _is_view(op: Op, value: Value) -> bool:
    return any(value.storage == read.storage for read in op.reads)
