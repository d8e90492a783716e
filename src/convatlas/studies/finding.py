"""What a study found: a table, a chart and a paragraph, as data from which a page is made without knowing what was studied.

Numbers stay numbers until they are shown; a column says how. The paragraph is made from the figures by the study, so it says what came
out, and that a difference was not shown where the interval has 0 in it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from convatlas.metrics import over_seeds, paired_interval

SCHEMA = "convatlas.study/1"
SHARE, DIFFERENCE = (0.0, 1.0), (-1.0, 1.0)  # what shares, and differences of two, lie between
Shown = Literal["more", "less", "neither", "unknown"]


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A number with its 95 % interval, or without one where there was but one seed."""

    value: float
    low: float | None
    high: float | None
    of: str  # what it is over: "3 seeds", "2,000 images"

    @property
    def shown(self) -> Shown:
        """For a difference: whether the data show that it is more than 0, or less."""
        if self.low is None or self.high is None:
            return "unknown"
        return "more" if self.low > 0 else "less" if self.high < 0 else "neither"


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column of the table, and how its numbers are written."""

    name: str
    kind: Literal["text", "count", "percent", "points", "number", "bytes"]  # points: differences of percentages


Cell = str | float | Estimate | None


@dataclass(frozen=True, kw_only=True)
class Chart:
    """What is drawn: lines over x, or a dot with its interval a row."""

    kind: Literal["lines", "dots", "quadrants"]
    caption: str
    x: str  # title of the axis
    y: str = ""
    rows: Sequence[dict[str, Any]]  # lines: panel, line, dashed, x, y, low, high; dots: panel, label, x, low, high
    percent: bool = False  # the quantity is a share: y of lines, x of dots
    logarithmic: bool = False


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A study, done."""

    title: str
    protocol: str  # what was trained on what, and how it was judged
    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    chart: Chart
    paragraph: str
    shortened: str = ""  # by what it falls short of the full length
    figures: dict[str, Any] = field(default_factory=dict)  # everything that was measured

    def to_json(self) -> dict[str, Any]:
        """As `json` reads it again: names are text, and what is not finite is not known."""
        return _finite(asdict(self))


def by_seed(values: Sequence[float], *, within: tuple[float, float] = (-math.inf, math.inf)) -> Estimate:
    """The mean over seeds; the interval ends where no value can be beyond."""
    low, high = over_seeds(values)
    known = len(values) > 1
    return Estimate(
        value=sum(values) / len(values),
        low=max(low, within[0]) if known else None,
        high=min(high, within[1]) if known else None,
        of=f"{len(values)} seeds" if known else "1 seed",
    )


def by_image(differences: Sequence[float]) -> Estimate:
    """The mean of one difference an image, for these networks, not for others trained alike."""
    low, high = paired_interval(differences)
    return Estimate(value=sum(differences) / len(differences), low=low, high=high, of=f"{len(differences):,} images")


def by_seed_ratio(ratios: Sequence[float]) -> tuple[Estimate, Estimate]:
    """The mean of ratios over seeds, taken of their logarithms: the ratio, and the logarithm, whose sign tells whether it is above 1."""
    logs = by_seed([math.log(ratio) for ratio in ratios])
    low, high = (None if end is None else math.exp(end) for end in (logs.low, logs.high))
    return replace(logs, value=math.exp(logs.value), low=low, high=high), logs


def times(found: Estimate) -> str:
    """`3.1 times (95 % interval 2.0 to 4.8, 3 seeds)`."""
    if found.low is None or found.high is None:
        return f"{found.value:.3g} times ({found.of}, so no interval)"
    return f"{found.value:.3g} times (95 % interval {found.low:.3g} to {found.high:.3g}, {found.of})"


def percent(value: float) -> str:
    """`41.2 %`."""
    return f"{100 * value:.1f} %"


def points(found: Estimate) -> str:
    """`+3.1 points (95 % interval +1.0 to +5.2, 3 seeds)`."""
    told = f"{100 * found.value:+.1f} points"
    if found.low is None or found.high is None:
        return f"{told} ({found.of}, so no interval)"
    return f"{told} (95 % interval {100 * found.low:+.1f} to {100 * found.high:+.1f}, {found.of})"


def listed(words: Sequence[str]) -> str:
    """`a, b and c`."""
    return " and ".join(part for part in (", ".join(words[:-1]), words[-1] if words else "") if part)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
