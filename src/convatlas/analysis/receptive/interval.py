"""What the units along one axis of a map see of one axis of the image: repeating intervals, and what happens to them.

A convolution gives its units windows a constant number of pixels apart: one interval, moved by `step` from unit to unit. After a
transposed convolution, an interpolation or an uneven adaptive pooling, units of different *phases* see differently large parts, again and
again: `lows` and `highs` hold one end for each phase, `step` is the way from a unit to the unit one period later. Ends are whole pixels, so
the arithmetic is exact, and they are those of a unit far from the borders: pixels outside the image count. `first` and `last` are the
outermost pixels of the image that any unit of this map sees, which is what a unit sees that reads the whole map.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from math import gcd, lcm
from typing import NamedTuple

NOTHING = 1 << 60  # the low end of a phase that sees nothing; its high end is the negative


class Interval(NamedTuple):
    """Unit q · period + r sees the pixels `lows[r] + q · step` to `highs[r] + q · step`."""

    step: int  # 0 where every unit sees the same, whatever its place: then `first` to `last`
    lows: tuple[int, ...]
    highs: tuple[int, ...]
    first: int
    last: int
    exact: bool = True  # False: no unit sees more than this, some may see less
    clips: bool = (
        True  # near the border a unit sees what lies between `first` and `last` of its interval, nothing else is lost
    )
    sure: bool = True  # `first` and `last` are seen; otherwise nothing outside them is

    @property
    def fixed(self) -> bool:
        """Every unit sees the same: after global pooling, for example."""
        return not self.step

    @property
    def period(self) -> int:
        """How many units until the sizes repeat: 1 unless something has enlarged the map."""
        return len(self.lows)

    @property
    def jump(self) -> Fraction:
        """Pixels from a unit to the next, on average over a period."""
        return Fraction(self.step, len(self.lows))

    @property
    def low(self) -> Fraction:
        """Where what unit 0 sees begins, the lowest over the phases: unit i sees nothing below `jump · i + low`."""
        jump, highs = self.jump, self.highs
        return min((low - jump * r for r, low in enumerate(self.lows) if low <= highs[r]), default=Fraction(NOTHING))

    @property
    def high(self) -> Fraction:
        """The highest over the phases: unit i sees nothing above `jump · i + high`."""
        jump, lows = self.jump, self.lows
        return max(
            (high - jump * r for r, high in enumerate(self.highs) if high >= lows[r]), default=-Fraction(NOTHING)
        )

    @property
    def size(self) -> int:
        """In pixels, those outside the image included; the largest of the phases."""
        return max(0, *(high - low + 1 for low, high in zip(self.lows, self.highs, strict=True)))

    @property
    def offset(self) -> float:
        """The middle of what unit 0 sees: 0 is the middle of the first pixel."""
        return float(self.low + self.high) / 2

    def at(self, unit: int) -> tuple[int, int]:
        """The first and the last pixel that a unit sees, pixels outside the image included; none if the last is before the first."""
        q, r = divmod(unit, len(self.lows))
        return self.lows[r] + q * self.step, self.highs[r] + q * self.step

    def everything(self) -> Interval:
        """What is seen through all units together."""
        if not self.step:
            return self
        exact = self.exact and self.sure
        return Interval(0, (self.first,), (self.last,), self.first, self.last, exact, self.clips, self.sure)

    def alone(self, unit: int) -> Interval:
        """What one unit sees, for everybody who sees it alone."""
        if not self.step:
            return self
        if not self.clips:
            return self.everything().bound()
        low, high = self.at(unit)
        low, high = max(low, self.first), min(high, self.last)
        if low > high:
            low, high = NOTHING, -NOTHING
        return Interval(0, (low,), (high,), low, high, self.exact)

    def bound(self) -> Interval:
        """The same, claimed as an upper bound only."""
        return self._replace(exact=False) if self.exact else self


def pixels(count: int) -> Interval:
    """The image itself: unit i is pixel i."""
    return Interval(1, (0,), (0,), 0, count - 1)


def window(seen: Interval, kernel: int, stride: int, padding: int, dilation: int, units: int, out: int) -> Interval:
    """What `out` units see that read windows of `units` units which see this."""
    step, lows, highs, first, last, exact, clips, sure = seen
    if not step:
        return seen
    span = (kernel - 1) * dilation
    if len(lows) == 1:
        before, after = -step * padding, step * (span - padding)
        if step < 0:
            before, after = after, before
        step, lows, highs = step * stride, (lows[0] + before,), (highs[0] + after,)
    else:
        taps = range(-padding, span - padding + 1, dilation)
        phases = len(lows) // gcd(len(lows), stride)
        step, lows, highs = _gather(seen, [[r * stride + tap for tap in taps] for r in range(phases)], stride * phases)
    top = (out - 1) * stride + span - padding
    if padding < 0 or top < units - 1 or (stride > kernel if dilation == 1 else stride > 1 or out < dilation):
        first, last, sure = _outermost(seen, *_used(kernel, stride, padding, dilation, units, out))
    if dilation > 1 and kernel > 1 and (padding > 0 or top > units - 1):
        clips = False  # the outer taps fall off the map, and the next ones are `dilation` units away
    if (padding > span or top - span >= units) and not _ends(seen, units):
        clips = False  # some windows lie outside the map
    return Interval(step, lows, highs, first, last, exact, clips, sure)


def transposed(seen: Interval, kernel: int, stride: int, padding: int, dilation: int, units: int, out: int) -> Interval:
    """What the units of a transposed convolution see: unit o reads unit u where o = u · stride − padding + t · dilation for a tap t."""
    if not seen.step:
        return seen
    period = stride * len(seen.lows)
    reads = [
        [(r + padding - t * dilation) // stride for t in range(kernel) if not (r + padding - t * dilation) % stride]
        for r in range(period)
    ]
    step, lows, highs = _gather(seen, reads, len(seen.lows))

    def used(unit: int) -> bool:
        return any(0 <= unit * stride - padding + t * dilation < out for t in range(kernel))

    low = next((unit for unit in range(units) if used(unit)), 0)
    high = next((unit for unit in reversed(range(units)) if used(unit)), -1)
    first, last, sure = seen.first, seen.last, seen.sure
    if low > 0 or high < units - 1 or not all(map(used, range(units))):
        first, last, sure = _outermost(seen, low, high)
    clips = (
        seen.clips and not stride % dilation and all(reads)
    )  # otherwise taps leave gaps, or units between them see nothing
    if out - 1 + padding - (kernel - 1) * dilation > (units - 1) * stride and not _ends(seen, units):
        clips = False  # some units lie outside the map
    return Interval(step, lows, highs, first, last, seen.exact, clips, sure)


def gathered(
    seen: Interval, reads: Sequence[tuple[int, int]], advance: int, units: int, out: int, *, clips: bool = True
) -> Interval:
    """What `out` units see that read ranges of `units` units: `reads` for one period of them, all moved by `advance` for the next."""
    if not seen.step:
        return seen
    times = lcm(advance, len(seen.lows)) // advance
    ranges = [range(low + advance * n, high + 1 + advance * n) for n in range(times) for low, high in reads]
    step, lows, highs = _gather(seen, ranges, advance * times)
    last, phase = divmod(out - 1, len(reads))
    low, high = reads[0][0], reads[phase][1] + last * advance
    following = [*(begin for begin, _ in reads[1:]), reads[0][0] + advance]
    gaps = any(begin > end + 1 for begin, (_, end) in zip(following, reads, strict=True))
    made = seen._replace(step=step, lows=lows, highs=highs, clips=seen.clips and clips)
    if low <= 0 and high >= units - 1 and not gaps:
        return made
    outermost = _outermost(seen, max(0, low), min(units - 1, high))
    return made._replace(first=outermost[0], last=outermost[1], sure=outermost[2])


def flipped(seen: Interval, units: int) -> Interval:
    """What is seen when the last unit comes first."""
    if not seen.step:
        return seen
    ends = [seen.at(units - 1 - r) for r in range(len(seen.lows))]
    return seen._replace(step=-seen.step, lows=tuple(low for low, _ in ends), highs=tuple(high for _, high in ends))


def hull(intervals: Sequence[Interval]) -> Interval | None:
    """The smallest interval that covers all; None where their units lie differently far apart.

    Where some see one and the same part whatever their place, so do all: a bound if the others see pixels outside of it.
    """
    start, *_ = intervals
    if all(seen is start or seen == start for seen in intervals):
        return start
    first, last = min(seen.first for seen in intervals), max(seen.last for seen in intervals)
    outer = [seen for seen in intervals if seen.first == first and seen.last == last]
    sure = any(seen.sure for seen in outer) or all(seen.sure for seen in intervals)
    clips = len(outer) == len(intervals) and all(seen.clips for seen in intervals)
    if not all(seen.step for seen in intervals):
        exact = any(seen.exact and not seen.step for seen in outer)
        exact = exact or all(seen.exact and not seen.step for seen in intervals)
        return Interval(0, (first,), (last,), first, last, exact, clips, sure)
    period = lcm(*(len(seen.lows) for seen in intervals))
    every = [_extended(seen, period) for seen in intervals]
    step = every[0][0]
    if any(other[0] != step for other in every):
        return None
    lows = tuple(map(min, zip(*(lows for _, lows, _ in every), strict=True)))
    highs = tuple(map(max, zip(*(highs for _, _, highs in every), strict=True)))
    exact = all(seen.exact for seen in intervals) or any(
        seen.exact and ends == (step, lows, highs) for seen, ends in zip(intervals, every, strict=True)
    )
    return Interval(step, lows, highs, first, last, exact, clips, sure)


def _extended(seen: Interval, period: int) -> tuple[int, tuple[int, ...], tuple[int, ...]]:
    times = period // len(seen.lows)
    if times == 1:
        return seen.step, seen.lows, seen.highs
    lows = tuple(low + n * seen.step for n in range(times) for low in seen.lows)
    return seen.step * times, lows, tuple(high + n * seen.step for n in range(times) for high in seen.highs)


def _gather(
    seen: Interval, reads: Sequence[Sequence[int]], advance: int
) -> tuple[int, tuple[int, ...], tuple[int, ...]]:
    """Step and ends of units that read these units, one sequence a phase; the period is shortened if it can be."""
    ends = [[seen.at(unit) for unit in units] for units in reads]
    lows = tuple(min((low for low, _ in phase), default=NOTHING) for phase in ends)
    highs = tuple(max((high for _, high in phase), default=-NOTHING) for phase in ends)
    step, period = seen.step * advance // len(seen.lows), len(lows)
    for shorter in range(1, period):
        if period % shorter or step * shorter % period:
            continue
        by = step * shorter // period
        if all(
            lows[i + shorter] == lows[i] + by and highs[i + shorter] == highs[i] + by for i in range(period - shorter)
        ):
            return by, lows[:shorter], highs[:shorter]
    return step, lows, highs


def _ends(seen: Interval, units: int) -> bool:
    """Whether units beyond the ends of the map would see nothing of what its own units see."""
    before, after = seen.at(-1), seen.at(units)
    return all(high < seen.first or low > seen.last for low, high in (before, after))


def _used(kernel: int, stride: int, padding: int, dilation: int, units: int, out: int) -> tuple[int, int]:
    """The first and the last unit that a window reads; (0, -1) if none does."""
    lowest, highest = units, -1
    for tap in range(-padding, (kernel - 1) * dilation - padding + 1, dilation):
        i, j = max(0, -(tap // stride)), min(out - 1, (units - 1 - tap) // stride)
        if i <= j:
            lowest, highest = min(lowest, i * stride + tap), max(highest, j * stride + tap)
    return (lowest, highest) if highest >= 0 else (0, -1)


def _outermost(seen: Interval, low: int, high: int) -> tuple[int, int, bool]:
    """The outermost pixels seen through the units `low` to `high`, and whether that is sure."""
    if not seen.clips or high < low:
        return seen.first, seen.last, False
    period = len(seen.lows)
    near = {*range(low, min(low + period, high + 1)), *range(max(low, high - period + 1), high + 1)}
    ends = [seen.at(unit) for unit in near]
    first, last = max(seen.first, min(end for end, _ in ends)), min(seen.last, max(end for _, end in ends))
    padding = any(end < seen.first or begin > seen.last for begin, end in ends)  # the next that sees may be units away
    return first, last, seen.sure and period == 1 and not padding
