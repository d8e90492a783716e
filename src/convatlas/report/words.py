"""Numbers as a reader wants them: percentages with their intervals, durations, counts; "–" for what is not known."""

from __future__ import annotations

import math
from collections.abc import Sequence

THIN = "\u202f"  # a narrow space that never breaks, between a number and its unit
UNKNOWN = "–"


def known(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def percent(value: float | None, digits: int = 1) -> str:
    """0.9412 → "94.1 %"."""
    return f"{100 * value:.{digits}f}{THIN}%" if value is not None and math.isfinite(value) else UNKNOWN


def chance(value: float) -> str:
    """As `percent`, but never 100 % of what is no more than very likely."""
    return f"over {percent(0.999)}" if value > 0.999 else percent(value)


def interval(bounds: Sequence[float | None] | None, digits: int = 1) -> str:
    """(0.892, 0.969) → "89.2–96.9 %"."""
    if not bounds:
        return UNKNOWN
    low, high = bounds
    if low is None or high is None or not (known(low) and known(high)):
        return UNKNOWN
    return f"{100 * low:.{digits}f}–{percent(high, digits)}"


def points(difference: float | None, digits: int = 1) -> str:
    """-0.016 → "−1.6", a difference of two shares in percentage points."""
    return (
        f"{100 * difference:+.{digits}f}".replace("-", "−") if difference is not None and known(difference) else UNKNOWN
    )


def decimal(value: float | None, digits: int = 3) -> str:
    return f"{value:.{digits}f}" if value is not None and math.isfinite(value) else UNKNOWN


def significant(value: float | None, digits: int = 3) -> str:
    """12.345 → "12.3", 0.00012345 → "0.000123"."""
    return f"{value:.{digits}g}" if value is not None and math.isfinite(value) else UNKNOWN


def three(value: float | None) -> str:
    """Three digits, and no fewer than stand before the point: 0.925, 10.5, 1,234."""
    if value is None or not math.isfinite(value):
        return UNKNOWN
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:#.3g}".rstrip(".")


def duration(seconds: float | None) -> str:
    """0.214 → "0.21 s", 9.71 → "9.7 s", 754 → "12 min 34 s"."""
    if seconds is None or not math.isfinite(seconds):
        return UNKNOWN
    if seconds < 59.95:
        return f"{seconds:.{2 if seconds < 0.995 else 1}f}{THIN}s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}{THIN}min {rest}{THIN}s"
    return f"{minutes // 60}{THIN}h {minutes % 60}{THIN}min"


def count(number: int, noun: str = "", plural: str = "") -> str:
    """(1, "image") → "1 image", (1234, "image") → "1,234 images"."""
    if not noun:
        return f"{number:,}"
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"
