"""Which units of a map the units of its resized map read: adaptive pooling and interpolation, as torch computes them.

Positions are exact fractions here and floating-point numbers in torch, so where a position falls on a unit exactly, torch may round to
either side. Such a rule covers both and is a bound. At the borders interpolation reads the outermost units instead of those beyond.
"""

from __future__ import annotations

from fractions import Fraction
from math import floor

from convatlas.analysis.receptive.field import Field, along
from convatlas.analysis.receptive.interval import Interval, gathered
from convatlas.analysis.receptive.places import MIXED, retagged

REACH = {"linear": 1, "bilinear": 1, "trilinear": 1, "bicubic": 2}  # units read on either side of a position
ROUNDING = Fraction(1, 1000)  # more than torch's positions are off on maps of up to 8192 units


def adaptive(seen: Interval, units: int, out: int) -> Interval:
    """Unit j of an adaptive pooling reads from ⌊j · units / out⌋ to ⌈(j + 1) · units / out⌉, the end excluded."""
    pace = Fraction(units, out)
    reads = [(j * units // out, -(-(j + 1) * units // out) - 1) for j in range(pace.denominator)]
    return gathered(seen, reads, pace.numerator, units, out)


def repeated(seen: Interval, times: int, units: int) -> Interval:
    """Every unit `times` times in a row."""
    return gathered(seen, [(0, 0)] * times, 1, units, units * times)


def fused(field: Field, dim: int) -> Field:
    """Where a view has merged an axis with a dimension of units behind it, one axis again: each of its units several times in a row."""
    tag = field.places[dim]
    if not isinstance(tag, tuple) or len(tag) != 2 or tag[0][1] < 0 or tag[1][1] >= 0:
        return field
    (units, axis), (times, other) = tag
    field = field._replace(places=retagged(field.places, dim, axis))
    field = along(field, dim, lambda interval: repeated(interval, times, units))
    return field.bound() if other == MIXED else field


def interpolated(
    seen: Interval, mode: str, units: int, out: int, *, scale: float | None, align_corners: bool
) -> Interval:
    """`mode` as torch's kernels are called: nearest, nearest_exact, linear, bilinear, trilinear, bicubic."""
    pace = Fraction(units, out)
    if align_corners:
        pace = Fraction(units - 1, out - 1) if out > 1 else Fraction(0)
    elif scale:
        pace = 1 / Fraction(scale).limit_denominator(1000)
        pace = pace if abs(float(pace) * scale - 1) < 1e-12 else 1 / Fraction(scale)
    period, advance = pace.denominator, pace.numerator
    if period > out or not pace:  # then no unit of this map is like another
        period, advance = out, units
    binary = (
        not period & (period - 1) and pace.denominator == period
    )  # floating-point numbers hold such positions exactly
    reads: list[tuple[int, int]] = []
    doubtful = False
    for j in range(period):
        position = j * pace
        if not align_corners and mode != "nearest":
            position = (j + Fraction(1, 2)) * pace - (0 if mode == "nearest_exact" else Fraction(1, 2))
        below, above = floor(position - ROUNDING), floor(position + ROUNDING)
        if binary:
            below = above = floor(position)
        doubtful = doubtful or below < above or (mode in REACH and position == below)  # the next unit's weight is 0
        reach = REACH.get(mode, 0)
        reads.append((below - max(0, reach - 1), above + reach))
    interpolating = mode in REACH
    made = gathered(seen, reads, advance, units, out, clips=not interpolating)
    return made.bound()._replace(sure=False) if doubtful else made


def smoothed(seen: Interval, mode: str, units: int, out: int, *, align_corners: bool) -> Interval:
    """Interpolation that smoothes as it makes smaller (`antialias=True`): windows as wide as the pace, a unit more for rounding."""
    pace = Fraction(units - 1, out - 1) if align_corners and out > 1 else Fraction(units, out)
    support = REACH[mode] * max(pace, Fraction(1))
    reads = []
    for j in range(pace.denominator):
        centre = (j + Fraction(1, 2)) * pace
        reads.append((floor(centre - support) - 1, floor(centre + support) + 1))
    made = gathered(seen, reads, pace.numerator, units, out, clips=False)
    return made.bound()._replace(sure=False)
