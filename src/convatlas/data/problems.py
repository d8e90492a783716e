"""A problem found in a data set: what, how bad, which files, and what a person can do about it.

Nothing in this package repairs, moves or skips a file silently: it says what it saw and leaves the files alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

Severity = Literal["error", "warning", "note"]

# Control characters, lone surrogates (bytes of a file name that are not UTF-8) and the two Unicode line separators.
UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One finding.

    An *error* blocks the work or would falsify its figures; a *warning* probably deserves a look; a *note* is said so that
    nothing happens behind the user's back.
    """

    kind: str  # a stable identifier such as "corrupt" or "duplicate-across-splits"
    severity: Severity
    paths: tuple[str, ...]  # relative to the data set's root, printable
    message: str
    remedy: str

    def to_json(self) -> dict[str, object]:
        return {
            "kind": self.kind,
            "severity": self.severity,
            "paths": list(self.paths),
            "message": self.message,
            "remedy": self.remedy,
        }


def worst_first(problems: Iterable[Problem]) -> tuple[Problem, ...]:
    """Errors, then warnings, then notes; otherwise as they came."""
    severities: tuple[Severity, ...] = ("error", "warning", "note")
    return tuple(sorted(problems, key=lambda problem: severities.index(problem.severity)))


def printable(name: str) -> str:
    r"""`name` with what a terminal or a UTF-8 file cannot hold written as escapes (`\udcff`, `\n`)."""
    return UNPRINTABLE.sub(lambda found: found.group().encode("unicode_escape").decode("ascii"), name)


def listing(names: Sequence[str], *, most: int = 5) -> str:
    """`a, b, c and 12 more`: enough to find the files, short enough to read."""
    if len(names) <= most:
        return ", ".join(names)
    return f"{', '.join(names[:most])} and {len(names) - most:,} more"


def count(number: int, singular: str, plural: str = "") -> str:
    """`1 image`, `1,200 images`."""
    return f"{number:,} {singular if number == 1 else plural or singular + 's'}"
