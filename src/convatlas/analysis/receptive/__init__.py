"""What each unit of a map can see of the image: interval arithmetic along the tape, exact on branching graphs of any module.

Along each axis of the image, unit i of a map sees the pixels from `jump · i + low` to `jump · i + high`. A convolution or a pooling widens
the interval, a sum or a stack of maps takes the union (the largest field over all paths) and, kept beside it, the smallest of its
inputs' (the shortest path). For every value it is known which dimension runs along which axis, so that maps may be turned, flattened or
have their channels last. Where a unit depends on a whole map, as after global pooling, it sees one interval whatever its place, and
`jump` is 0; that interval is what is seen of the image as it is, while the others go on beyond the image's borders.

A gate (squeeze-and-excitation) gives every unit such a view, and so does a norm with statistics over places (instance, group and layer norm
over maps). With `gates=False` both are ignored: products and quotients by what sees the same from everywhere, weights of convolutions made
from the image, and the statistics of norms. Weights are taken for other than zero, a norm in evaluation mode for what it is then.

What no rule covers is `Unknown`, with a reason, and so is everything made from it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import torch

from convatlas.analysis.receptive import mixing, views, windows
from convatlas.analysis.receptive.field import Field, Unknown
from convatlas.analysis.receptive.interval import Interval, pixels
from convatlas.analysis.receptive.places import ALIKE
from convatlas.analysis.receptive.rule import Found, Gates, Rule, each, pointwise, product
from convatlas.analysis.tape import Op, Tape, Value

__all__ = ["Field", "Fields", "Interval", "Unknown", "receptive_fields", "with_and_without_gates"]

Fields = dict[int, Field | Unknown]

_RULES: dict[str, Rule] = {  # by name, without the underscore of operations in place
    **views.RULES,
    **windows.RULES,
    **mixing.RULES,
    **each("mul div true_divide", product),
    **each("_prelu_kernel hardswish native_dropout masked_fill rsub where floor_divide clamp", pointwise),
}


def receptive_fields(tape: Tape, *, gates: bool = True) -> Fields:
    """The field of every value that depends on the image (the tape's first input; its axes are those after batch and channels), by the
    value's number."""
    return _Follower(tape, Gates(gates)).follow()


def with_and_without_gates(tape: Tape) -> tuple[Fields, Fields]:
    """`receptive_fields` with and without gates: one pass and one object if there are none."""
    gates = Gates(True)
    fields = _Follower(tape, gates).follow()
    return fields, receptive_fields(tape, gates=False) if gates.met else fields


class _Follower:
    """Goes along the tape once."""

    def __init__(self, tape: Tape, gates: Gates) -> None:
        self.tape = tape
        self.gates = gates
        self.fields: Fields = {}
        self.written: dict[int, list[int]] = {}  # by storage: values made by writing there that changed what is seen
        self.first: dict[int, int] = {}  # by value made in place: the first of the same tensor
        if not tape.inputs:
            return
        image = tape.inputs[0]
        start = tuple(pixels(side) for side in image.shape[2:])
        places = (ALIKE, ALIKE, *range(len(start)))[: len(image.shape)]
        self.fields[image.number] = Field(start, start, places)

    def follow(self) -> Fields:
        fields = self.fields
        for op in self.tape.ops:
            seen = [(value, fields[value.number]) for value in op.reads if value.number in fields]
            rule, in_place = _rule_of(op.func)
            if not seen and not in_place:
                continue
            results = self._results(op, rule, seen) if seen else [None] * len(op.makes)
            for made, found in zip(op.makes, results, strict=False):
                field = None if isinstance(found, Field) and found.empty else found
                if field is not None:
                    fields[made.number] = field
                if in_place:
                    before: int = op.args[0].number if op.func._opname.endswith("_") else made.number  # or `out=`
                    self.first[made.number] = self.first.get(before, before)
                    if before == made.number or field is not fields.get(before):
                        self.written.setdefault(made.storage, []).append(made.number)
        if self.written:
            self._forget_what_was_written_over()
        return fields

    def _forget_what_was_written_over(self) -> None:
        """A value whose memory was written through another view is not one value but several; nobody can say which one is meant."""
        first = self.first
        for op in self.tape.ops:
            for value in (*op.reads, *op.makes):
                for number in self.written.get(value.storage, ()):
                    if number > value.number and first[number] != first.get(value.number, value.number):
                        self.fields[value.number] = Unknown(f"{op.kind}: its memory is written through another view")

    def _results(self, op: Op, rule: Rule | None, seen: list[tuple[Value, Field | Unknown]]) -> Sequence[Found]:
        reads: Sequence[Value] = op.reads
        if rule is views.nothing:
            return ()
        if rule is views.copied:  # what was there before does not matter
            reads = [value for value in op.args[1:2] if isinstance(value, Value)]
            seen = [(value, field) for value, field in seen if value in reads]
            if not seen:
                return (None,)
        known: list[tuple[Value, Field]] = []
        for value, field in seen:
            if isinstance(field, Unknown):
                return [field] * len(op.makes)
            known.append((value, field))
        if self.written and any(map(self._is_stale, reads)):
            return [self._named(op, Unknown("memory is read that was written through another view"))] * len(op.makes)
        result = rule(op, known, self.gates) if rule else Unknown(f"no rule covers {op.kind}")
        if isinstance(result, list):
            return [self._named(op, field) if isinstance(field, Unknown) else field for field in result]
        return [self._named(op, result) if isinstance(result, Unknown) else result] * len(op.makes)

    def _is_stale(self, value: Value) -> bool:
        """Whether its memory has been changed through another view of it."""
        return any(number > value.number for number in self.written.get(value.storage, ()))

    def _named(self, op: Op, unknown: Unknown) -> Unknown:
        call = self.tape.calls[op.call]
        return Unknown(f"{f'{call.path} ({call.kind})' if call.path else call.kind}: {unknown.reason}")


@cache
def _rule_of(func: Any) -> tuple[Rule | None, bool]:
    """Of one of torch's operations, and whether it writes to memory that was there before."""
    in_place = bool(func._schema.is_mutable)
    if any(argument.is_out for argument in func._schema.arguments):
        return None, True
    name = func._opname.removesuffix("_") if func.namespace == "aten" else str(func)
    if name in ("max", "min") and func._overloadname == "other":
        return pointwise, False
    rule = _RULES.get(name)
    return rule or (pointwise if torch.Tag.pointwise in func.tags else None), in_place
