"""The form of a rule, which says what an operation does to receptive fields, and the rule of pointwise operations.

A rule is given the operation and the fields of the values it reads, and returns the field of what it makes: one for all, or one for each;
`Unknown` with a reason; or None where the result does not depend on what is read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from convatlas.analysis.receptive.field import Field, Unknown, broadcast, unite
from convatlas.analysis.tape import Op, Value

Seen = Sequence[tuple[Value, Field]]  # the values read that depend on the image
Found = Field | Unknown | None
Result = Found | list[Found]


@dataclass(slots=True)
class Gates:
    """Whether products with what sees everything count, and whether that ever mattered."""

    count: bool
    met: bool = False


Rule = Callable[[Op, Seen, Gates], Result]


def each(names: str, rule: Rule) -> dict[str, Rule]:
    return dict.fromkeys(names.split(), rule)


def pointwise(op: Op, seen: Seen, gates: Gates) -> Result:
    """Each unit made from one unit of each value."""
    made = op.makes[0].shape
    if len(seen) == 1 and seen[0][0].shape == made:
        return seen[0][1]
    fields = _spread(op, seen)
    return unite(fields) if fields else Unknown(f"{op.kind} makes {made} of {seen[0][0].shape}, which is not pointwise")


def product(op: Op, seen: Seen, gates: Gates) -> Result:
    """A product or a quotient: one of the factors may be a gate."""
    both = pointwise(op, seen, gates)
    if (
        len(seen) == 1
        or (gates.count and gates.met)
        or not isinstance(both, Field)
        or not any(interval.fixed for interval in both.largest)
    ):
        return both
    ungated = unite(_spread(op, seen), gates=False)
    gates.met = gates.met or ungated != both
    return both if gates.count else ungated


def _spread(op: Op, seen: Seen) -> list[Field]:
    """As parts of what is made; none if one does not fit."""
    fields = [broadcast(field, value.shape, op.makes[0].shape) for value, field in seen]
    return [] if None in fields else [field for field in fields if field is not None]


@cache
def _signature(func: Any) -> dict[str, tuple[int, Any]]:
    """Of one of torch's operations: the position and the default of each argument."""
    return {argument.name: (i, argument.default_value) for i, argument in enumerate(func._schema.arguments)}


def argument(op: Op, name: str, default: Any = None) -> Any:
    """An argument by its name in torch's schema, its default there where it was not given; `default` where there is no such argument."""
    position, own = _signature(op.func).get(name, (None, default))
    if position is not None and position < len(op.args):
        return op.args[position]
    return op.kwargs.get(name, own)


def dims_of(op: Op, value: Value) -> list[int]:
    """The dimensions an operation names; all, if none."""
    given = argument(op, "dim", argument(op, "dims"))
    if given is None or given == []:
        return list(range(len(value.shape)))
    return [dim % len(value.shape) for dim in (given if isinstance(given, list | tuple) else [given])]
