"""What each unit of a map can see of the image: interval arithmetic along the tape, exact on branching graphs.

Along each axis, unit i of a map sees the pixels from `jump · i + low` to `jump · i + high`. A convolution or a pooling widens the
interval, a sum or a stack of maps takes the union (the largest field over all paths) and, kept beside it, the smallest of its
inputs' (the shortest path). Where a unit depends on a whole map, as after global pooling, it sees one interval whatever its place:
`jump` is 0. A gate (squeeze-and-excitation) gives every unit such a view; with `gates=False` products with maps of one pixel are ignored.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from convatlas.analysis.tape import Op, Tape, Value

Axis = tuple["Interval", ...]  # an interval for each spatial axis, height first


@dataclass(frozen=True, slots=True)
class Interval:
    """Unit i sees the pixels `jump · i + low` to `jump · i + high`."""

    jump: Fraction
    low: Fraction
    high: Fraction

    @property
    def size(self) -> int:
        """In pixels, those outside the image included."""
        return int(self.high - self.low) + 1

    def window(self, kernel: int, stride: int = 1, padding: int = 0, dilation: int = 1) -> Interval:
        """What a unit sees that reads a window of units that see this."""
        low = self.low - self.jump * padding
        high = self.high + self.jump * ((kernel - 1) * dilation - padding)
        return Interval(self.jump * stride, low, high)

    def everything(self, units: int) -> Interval:
        """What is seen through all `units` of the axis together."""
        ends = (self.low, self.low + self.jump * (units - 1), self.high, self.high + self.jump * (units - 1))
        return Interval(Fraction(0), min(ends), max(ends))


@dataclass(frozen=True, slots=True)
class Field:
    """The receptive field of a map: along the longest paths and along the shortest."""

    largest: Axis
    smallest: Axis

    @property
    def size(self) -> tuple[int, ...]:
        """The largest extent in pixels, height first."""
        return tuple(interval.size for interval in self.largest)


def receptive_fields(tape: Tape, *, gates: bool = True) -> dict[int, Field]:
    """The field of every value that depends on the image (the tape's first input), by the value's number.

    Raises `NotImplementedError`, naming the operation, where one moves pixels in a way that no rule covers.
    """
    image = tape.inputs[0]
    start = tuple(Interval(Fraction(1), Fraction(0), Fraction(0)) for _ in image.shape[2:])
    fields = {image.number: Field(start, start)}
    for op in tape.ops:
        seen = [(value, fields[value.number]) for value in op.reads if value.number in fields]
        if not seen:
            continue
        for made in op.makes:
            fields[made.number] = _field(op, made, seen, gates=gates)
    return fields


def _field(op: Op, made: Value, seen: list[tuple[Value, Field]], *, gates: bool) -> Field:
    """Of what an operation makes. The spatial axes are the last ones, until something looks at a whole map."""
    kind = op.kind.removeprefix("aten.")
    value, field = seen[0]
    if all(_is_fixed(f) for _, f in seen):
        return _union(f for _, f in seen)
    axes = len(field.largest)
    if kind in _WINDOWS:
        return _each(field, value, lambda interval, axis, units: interval.window(*_window(kind, op.args, axis - axes)))
    if kind == "constant_pad_nd":
        pads = op.args[1]  # last axis first, before and after
        return _each(field, value, lambda interval, axis, units: _shifted(interval, -pads[2 * (axes - 1 - axis)]))
    if kind == "slice":
        return _sliced(op, value, field)
    if kind in ("_adaptive_avg_pool2d", "adaptive_max_pool2d"):
        return _each(field, value, lambda interval, axis, units: _adaptive(interval, units, op.args[1][axis]))
    if kind == "upsample_nearest2d":
        return _each(field, value, lambda interval, axis, units: _spread(interval, units, made.shape[axis - axes]))
    if kind in _MOVING:
        raise NotImplementedError(f"the receptive field after {kind}, which moves pixels, is not known here")
    if (kind in _MIXING and not _leaves_places(op, value, axes)) or (
        kind in _VIEWS and value.shape[-axes:] != made.shape[-axes:]
    ):
        return _union(_whole(f, v) for v, f in seen)  # all places together
    if kind == "mul" and not gates:
        seen = [(v, f) for v, f in seen if v.shape[-axes:] == made.shape[-axes:] and not _is_fixed(f)] or seen
    return _union(f if v.shape[-axes:] == made.shape[-axes:] else _whole(f, v) for v, f in seen)


def _leaves_places(op: Op, value: Value, axes: int) -> bool:
    """Whether a reduction is over other axes than the places of a map, as the mean of several maps is."""
    dims = op.args[1] if len(op.args) > 1 else None
    if not isinstance(dims, list | tuple) or not dims:
        return False
    return all(dim % len(value.shape) < len(value.shape) - axes for dim in dims)


def _is_fixed(field: Field) -> bool:
    return not any(interval.jump for interval in field.largest)


_WINDOWS = {"convolution", "max_pool2d_with_indices", "avg_pool2d", "avg_pool3d", "max_pool3d_with_indices"}
_VIEWS = {"view", "_unsafe_view", "_reshape_alias", "unsqueeze", "squeeze", "expand", "clone", "select", "unbind"}
_MIXING = {"mean", "sum", "max", "min", "amax", "amin", "addmm", "mm", "bmm", "baddbmm"}
_MOVING = {"permute", "transpose", "t", "roll", "flip"}


def _window(kind: str, args: tuple[Any, ...], axis: int) -> tuple[int, int, int, int]:
    """Kernel, stride, padding and dilation along an axis, counted from the last: -1 is the width."""

    def at(index: int, default: int) -> int:
        given = args[index] if index < len(args) else None
        if given is None or given == []:
            return default
        return given[axis if len(given) > 1 else 0] if isinstance(given, list | tuple) else given

    if kind == "convolution":
        if args[6]:
            raise NotImplementedError("the receptive field of a transposed convolution is not known here")
        return args[1].shape[axis], at(3, 1), at(4, 0), at(5, 1)
    kernel = at(1, 1)
    dilation = at(4, 1) if kind.startswith("max_pool") else 1
    return kernel, at(2, kernel), at(3, 0), dilation


def _each(field: Field, value: Value, change: Any) -> Field:
    sides = value.shape[-len(field.largest) :]

    def apply(intervals: Axis) -> Axis:
        return tuple(change(interval, axis, sides[axis]) for axis, interval in enumerate(intervals))

    return Field(apply(field.largest), apply(field.smallest))


def _shifted(interval: Interval, units: int) -> Interval:
    """Unit i is what unit i + `units` was."""
    by = interval.jump * units
    return Interval(interval.jump, interval.low + by, interval.high + by)


def _sliced(op: Op, value: Value, field: Field) -> Field:
    axes = len(field.largest)
    axis = (op.args[1] if len(op.args) > 1 else 0) % len(value.shape) - len(value.shape) + axes
    start = (op.args[2] if len(op.args) > 2 and op.args[2] is not None else 0) % max(1, value.shape[axis - axes])
    step = op.args[4] if len(op.args) > 4 else 1

    def change(interval: Interval, along: int, units: int) -> Interval:
        moved = _shifted(interval, start)
        return Interval(moved.jump * step, moved.low, moved.high) if along == axis else interval

    return _each(field, value, change)


def _adaptive(interval: Interval, units: int, out: int) -> Interval:
    """Output unit j averages the inputs from ⌊j · units / out⌋ to ⌈(j + 1) · units / out⌉; an envelope where these are not alike."""
    if out == 1:
        return interval.everything(units)
    pace = Fraction(units, out)
    starts = [j * units // out - pace * j for j in range(out)]
    ends = [-(-(j + 1) * units // out) - 1 - pace * j for j in range(out)]
    jump = interval.jump
    return Interval(jump * pace, interval.low + jump * min(starts), interval.high + jump * max(ends))


def _spread(interval: Interval, units: int, out: int) -> Interval:
    pace = Fraction(units, out)
    return Interval(interval.jump * pace, interval.low - interval.jump * (1 - pace), interval.high)


def _whole(field: Field, value: Value) -> Field:
    """What is seen through all places of a map together; what sees the same from everywhere goes on doing so."""
    return _each(field, value, lambda interval, axis, units: interval.everything(units) if interval.jump else interval)


def _union(fields: Iterable[Field]) -> Field:
    every = list(fields)
    largest = tuple(_hull([field.largest[axis] for field in every]) for axis in range(len(every[0].largest)))
    return Field(largest, min((field.smallest for field in every), key=lambda axes: [i.size for i in axes]))


def _hull(intervals: list[Interval]) -> Interval:
    """The smallest interval that covers all; where some see one and the same part whatever their place, so do all."""
    if any(not interval.jump for interval in intervals):
        fixed = [interval for interval in intervals if not interval.jump]
        return Interval(Fraction(0), min(i.low for i in fixed), max(i.high for i in fixed))
    jumps = {interval.jump for interval in intervals}
    if len(jumps) > 1:
        raise NotImplementedError(
            f"maps of different resolution stand side by side (jumps {sorted(map(float, jumps))})"
        )
    return Interval(jumps.pop(), min(i.low for i in intervals), max(i.high for i in intervals))
