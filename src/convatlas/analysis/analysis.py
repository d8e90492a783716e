"""Everything that the analyser knows of a network, from one call: `analyse`."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from convatlas.analysis import tables
from convatlas.analysis.conventions import CONVENTIONS, Count
from convatlas.analysis.diagram import diagram
from convatlas.analysis.lending import held, modules_of
from convatlas.analysis.memory import (
    Optimizer,
    Peak,
    TrainingMemory,
    forward_peak,
    largest_batch,
    training_memories,
    training_memory,
)
from convatlas.analysis.outline import Outline, outline
from convatlas.analysis.record import UnrunnableError, record
from convatlas.analysis.rows import Row, Rows
from convatlas.analysis.tape import Tape


@dataclass(frozen=True, kw_only=True)
class Freeze:
    """Training with the first stages frozen."""

    upto: str  # the last frozen stage; "" where nothing is frozen
    names: tuple[str, ...]  # of the parameters that are frozen
    memory: TrainingMemory


@dataclass(frozen=True, kw_only=True)
class Analysis:
    """What a network costs and sees. Made by `analyse`."""

    name: str
    model: nn.Module
    inputs: tuple[Tensor, ...]  # the first axis is the batch
    tape: Tape
    outline: Outline
    layers: tuple[Row, ...]
    blocks: tuple[Row, ...]
    stages: tuple[Row, ...]
    whole: Row
    unreached: int  # parameters that the forward pass does not use, in elements
    peak: Peak
    training: tuple[Freeze, ...]  # with nothing frozen, then with one stage more each time; empty if it cannot train
    training_batch: int
    optimizer: Optimizer
    notes: tuple[str, ...]
    stage_paths: tuple[str, ...] | None  # the modules that are its stages, if somebody said so

    def markdown(self, by: tables.Detail = "block") -> str:
        """Tables of the stages, blocks or layers, of training memory and of other conventions."""
        return "\n".join(tables.markdown(table) for table in tables.tables(self, by))

    def to_json(self) -> dict[str, Any]:
        """`convatlas.analysis/1`: see `tables.to_json`."""
        return tables.to_json(self)

    def diagram(self) -> str:
        """The network's blocks as one self-contained SVG."""
        return diagram(self.tape, title=self.name, stages=self.stage_paths)

    def _repr_html_(self) -> str:
        return self.diagram() + "".join(tables.html(table) for table in tables.tables(self))

    @property
    def status(self) -> str:
        """`complete`, or `partial` where an operation was not counted."""
        return self.whole.cost.status

    def count(self, convention: str) -> Count:
        """The total that another tool, or the papers, would print: see `conventions.CONVENTIONS`."""
        if convention not in CONVENTIONS:
            raise ValueError(f"unknown convention {convention!r}; there are {', '.join(CONVENTIONS)}")
        return CONVENTIONS[convention].count(self.tape, self.model)

    def largest_batch(self, budget: int, *, frozen: str = "") -> int:
        """The most inputs a training step can take in `budget` bytes with the stages up to `frozen` frozen; 0 if not even two."""
        found = next((freeze for freeze in self.training if freeze.upto == frozen), None)
        if found is None:
            raise ValueError(f"cannot freeze up to {frozen!r}; there are {[f.upto for f in self.training]}")

        def bytes_of(batch: int) -> int:
            tape = record(self.model, *_batch_of(self.inputs, batch), training=True)
            return training_memory(tape, frozen=found.names, optimizer=self.optimizer).total

        with without_collector():
            return largest_batch(bytes_of, budget)


def analyse(
    model: nn.Module,
    *inputs: Tensor,
    name: str = "",
    stages: Sequence[str] | None = None,
    training_batch: int = 32,
    optimizer: Optimizer = "momentum",
) -> Analysis:
    """Records `model(*inputs)` and reads everything from that; the model is left as it was.

    Only shapes and dtypes of the inputs matter, unless the network decides by their values. `stages` are the paths of the modules that
    are its stages; without them they are found. `training_batch` is the batch for which training memory is told, at least 2.
    Raises `UnrunnableError` where the network cannot run on these inputs.
    """
    if isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
        model = model.module  # the same network; copies on several devices run it in threads
    with without_collector():
        tape = record(model, *inputs)
        told = outline(tape, stages)
        rows = Rows(tape)
        blocks = tuple(rows.blocks(told))
        notes = list(_notes(model, tape))
        try:
            training = tuple(_training(model, _batch_of(inputs, training_batch), rows, told, optimizer))
        except UnrunnableError as error:
            training = ()
            notes.append(f"no training memory: in training mode {error}")
        return Analysis(
            name=name or type(model).__name__,
            model=model,
            inputs=inputs,
            tape=tape,
            outline=told,
            layers=tuple(rows.layers()),
            blocks=blocks,
            stages=tuple(rows.stages(told)),
            whole=rows.whole,
            unreached=rows.whole.parameters - sum(row.parameters for row in blocks),
            peak=forward_peak(tape),
            training=training,
            training_batch=training_batch,
            optimizer=optimizer,
            notes=tuple(notes),
            stage_paths=None if stages is None else tuple(stages),
        )


def _training(
    model: nn.Module, inputs: Sequence[Tensor], rows: Rows, told: Outline, optimizer: Optimizer
) -> Iterator[Freeze]:
    """Every freeze depth but the last, at which nothing would be left to train."""
    tape = record(model, *inputs, training=True)
    owned = iter(rows.owners(told))
    frozen: list[tuple[str, tuple[str, ...]]] = [("", ())]
    for stage in told.stages[:-1]:
        own = [name for _ in stage.blocks for name in next(owned) if tape.state[name].origin == "parameter"]
        if own:
            frozen.append((stage.name, (*frozen[-1][1], *own)))
    memories = training_memories(tape, [names for _, names in frozen], optimizer=optimizer)
    for (upto, names), memory in zip(frozen, memories, strict=True):
        if memory.trainable or not upto:
            yield Freeze(upto=upto, names=names, memory=memory)


def _batch_of(inputs: Sequence[Tensor], batch: int) -> list[Tensor]:
    """As many inputs; where they hold numbers, the first one again and again, which needs no memory."""
    return [
        x if not x.dim() else x.new_empty(batch, *x.shape[1:]) if x.is_meta else x[:1].expand(batch, *x.shape[1:])
        for x in inputs
    ]


def _notes(model: nn.Module, tape: Tape) -> Iterator[str]:
    """What people should know before they trust the figures."""
    if tape.tensors == "real":
        yield "the network decides by the values of its input: these are the figures of one input, others may take another way"
    for name, tensor in (pair for kind in held(modules_of(model)) for pair in kind.items()):
        if tensor.is_floating_point() and tensor.device.type != "meta" and not torch.isfinite(tensor.detach().sum()):
            wrong = int((~torch.isfinite(tensor.detach())).sum())
            if wrong:
                yield f"{name} holds {wrong:,} numbers that are not finite: costs do not depend on them, what it predicts does"
    called = {call.path for call in tape.calls}
    read = {value.number for op in tape.ops for value in op.reads}
    holders = {name: name.rpartition(".")[0] for name, value in tape.state.items() if value.origin == "parameter"}
    used = {path for name, path in holders.items() if path in called or tape.state[name].number in read}
    idle = [path for path in dict.fromkeys(holders.values()) if path not in used]
    if idle:
        more = f" and {len(idle) - 3} more" if len(idle) > 3 else ""
        yield f"modules with parameters that the pass does not use: {', '.join(idle[:3])}{more}"


@contextmanager
def without_collector() -> Iterator[None]:
    """Thousands of small records make Python search for garbage again and again, which takes longer than the analysis.

    In the end they are old to the collector, as they would be had it looked at them each time: to freeze and unfreeze moves all there is
    among the old at once.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            if not gc.get_freeze_count():  # what somebody else froze stays so
                gc.freeze()
                gc.unfreeze()
            gc.enable()
