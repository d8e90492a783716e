"""The receptive field of a map, and how fields meet: united over paths, spread by broadcasting, or read as a whole."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from convatlas.analysis.receptive.interval import Interval, hull
from convatlas.analysis.receptive.places import ALIKE, MIXED, Places, Tag, axes

Axis = tuple[Interval, ...]  # an interval for each of the image's axes, height first


class Field(NamedTuple):
    """What the units of a map see of the image: along the longest paths and along the shortest.

    Where units at one place see unequally much, as the channels of a concatenation may, it is what they see together.
    """

    largest: Axis
    smallest: Axis
    places: Places  # what each dimension of the map is: see `places`

    @property
    def size(self) -> tuple[int, ...]:
        """The largest extent in pixels, height first; of the image itself where units see all of it."""
        return tuple(interval.size for interval in self.largest)

    @property
    def stride(self) -> tuple[int | float, ...]:
        """Pixels from a unit to the next; 0 where every unit sees the same, negative where the map is turned round."""
        return tuple(
            jump.numerator if jump.denominator == 1 else float(jump) for jump in (i.jump for i in self.largest)
        )

    @property
    def offset(self) -> tuple[float, ...]:
        """The middle of what unit 0 sees, in pixels: 0 is the middle of the first."""
        return tuple(interval.offset for interval in self.largest)

    @property
    def exact(self) -> bool:
        """False where `size` is an upper bound."""
        return all(interval.exact for interval in self.largest)

    @property
    def whole(self) -> bool:
        """Every unit sees the same part of the image, as a rule all of it: after global pooling, a gate, attention."""
        return all(interval.fixed for interval in self.largest)

    @property
    def dims(self) -> tuple[int | None, ...]:
        """The map's dimension that runs along each of the image's axes; None where there is none, or a view has merged it with others."""
        return tuple(self.places.index(axis) if axis in self.places else None for axis in range(len(self.largest)))

    @property
    def empty(self) -> bool:
        """Nothing is seen: only padding, or what lies between the taps of a transposed convolution."""
        return any(interval.lows[0] > interval.highs[0] and not interval.size for interval in self.largest)

    def bound(self) -> Field:
        """The same, claimed as an upper bound only."""
        largest, smallest = (tuple(interval.bound() for interval in ways) for ways in (self.largest, self.smallest))
        return Field(largest, smallest, self.places)


@dataclass(frozen=True, slots=True)
class Unknown:
    """No rule says what the units of this map see; whatever reads it is unknown for the same reason."""

    reason: str


def along(field: Field, dim: int, change: Callable[[Interval], Interval]) -> Field:
    """With the intervals of the axis that `dim` runs along changed, if it runs along one."""
    axis = field.places[dim]
    if not isinstance(axis, int) or axis < 0:
        return field
    largest = _with(field.largest, axis, change(field.largest[axis]))
    if field.smallest is field.largest:
        return Field(largest, largest, field.places)
    return Field(largest, _with(field.smallest, axis, change(field.smallest[axis])), field.places)


def _with(ways: Axis, axis: int, interval: Interval) -> Axis:
    return (*ways[:axis], interval, *ways[axis + 1 :])


def whole(field: Field, dims: Iterable[int], *, sure: bool = True) -> Field:
    """Everything along these dimensions read together: they end up alike. Not `sure`: all of it or a part."""
    places = list(field.places)
    largest, smallest = list(field.largest), list(field.smallest)
    for dim in dims:
        for axis in axes(places[dim]):
            for ways in (largest, smallest):
                ways[axis] = ways[axis].everything() if sure else ways[axis].everything().bound()
        places[dim] = ALIKE
    return Field(tuple(largest), tuple(smallest), tuple(places))


def without(field: Field, dims: Iterable[int]) -> Field:
    """The dimensions gone; what they ran along is read whole."""
    gone = set(dims)
    return whole(field, gone)._replace(places=tuple(tag for dim, tag in enumerate(field.places) if dim not in gone))


def broadcast(field: Field, shape: Sequence[int], made: Sequence[int]) -> Field | None:
    """As part of a larger tensor; None if it does not fit into it."""
    more = len(made) - len(shape)
    if more < 0 or any(size not in (1, full) for size, full in zip(shape, made[more:], strict=True)):
        return None
    spread = [dim for dim, size in enumerate(shape) if size == 1 != made[dim + more] and field.places[dim] != ALIKE]
    field = whole(field, spread) if spread else field
    return field._replace(places=(ALIKE,) * more + field.places) if more else field


def unite(fields: Sequence[Field], *, gates: bool = True) -> Field | Unknown:
    """What units see that read one unit of each of these maps, all of one shape. Without gates, what sees the same from everywhere is
    ignored along each axis, unless all do."""
    start = fields[0]
    if all(field is start or field == start for field in fields):
        return start
    places, clashing = _places([field.places for field in fields])
    largest: list[Interval] = []
    smallest: list[Interval] = []
    for axis in range(len(start.largest)):
        long, short = [field.largest[axis] for field in fields], [field.smallest[axis] for field in fields]
        if axis in clashing:  # unit (i, j) sees what lies between two places
            long = [interval.everything().bound() for interval in long]
            short = [interval.everything() for interval in short]
        if not gates and any(interval.step for interval in long):
            long = [interval for interval in long if interval.step]
        covering = hull(long)
        if covering is None:
            jumps = sorted({float(interval.jump) for interval in long})
            return Unknown(f"maps of different resolution meet: {' and '.join(f'{jump:g}' for jump in jumps)} pixels")
        largest.append(covering)
        smallest.append(min(short, key=_extent))
    return Field(tuple(largest), tuple(smallest), places)


def _extent(interval: Interval) -> int:
    return interval.highs[0] - interval.lows[0] if len(interval.lows) == 1 else interval.size - 1


def _places(every: Sequence[Places]) -> tuple[Places, set[int]]:
    """What each dimension is, and the axes that lie along different dimensions of the maps."""
    if every.count(every[0]) == len(every):
        return every[0], set()
    tags: list[Tag] = []
    clashing: set[int] = set()
    for met in zip(*every, strict=True):
        distinct = [tag for tag in dict.fromkeys(met) if tag != ALIKE]
        tags.append(distinct[0] if len(distinct) == 1 else MIXED if distinct else ALIKE)
        if len(distinct) > 1:
            clashing |= {axis for tag in distinct for axis in axes(tag)}
    placed = [axis for tag in tags for axis in axes(tag)]
    clashing |= {axis for axis in placed if placed.count(axis) > 1}
    clashing |= {
        axis for tag in tags if clashing & set(axes(tag)) for axis in axes(tag)
    }  # and what is merged with them
    return tuple(MIXED if clashing & set(axes(tag)) else tag for tag in tags), clashing
