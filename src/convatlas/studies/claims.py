"""A figure of the lecture beside the same figure computed, and the verdict.

What the slides say stands in lecture.json, with their words and the lines of their text. What is true is computed elsewhere; this
file compares the two. A slide's figure counts as exact to its last digit that is not a zero: 400K is right for 401,408, and 529k is
not for 526,848.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal

Verdict = Literal["agrees", "rounds", "differs", "not arithmetic"]
Number = int | float

STATEMENTS = Path(__file__).with_name("lecture.json")
_UNITS = {"": 1, "K": 10**3, "k": 10**3, "M": 10**6, "G": 10**9}


@dataclass(frozen=True, kw_only=True)
class Statement:
    """What a slide says."""

    id: str
    section: str
    lines: tuple[int, ...]  # of the slides' text; empty for what is not in this lecture
    quote: str
    what: str  # which figure that is, in words
    says: str  # the figure alone
    again: tuple[int, ...] = ()  # lines on which the same figure stands once more
    table: str = ""  # the list that it is a row of
    published: dict[str, Any] | None = (
        None  # what cannot be computed: value, basis, verdict, why, the card with the errors
    )

    @property
    def in_lecture(self) -> bool:
        return bool(self.lines)


@dataclass(frozen=True, kw_only=True)
class Computed:
    """The same figure from a network."""

    value: Number | str
    shown: str  # the value as people read it
    sum: str = ""  # how it comes about
    why: str = ""
    numbers: dict[str, Number] = field(default_factory=dict)  # exact, for whoever goes on computing
    compared: bool = True  # False: the slide says nothing that could be right or wrong


@dataclass(frozen=True, kw_only=True)
class Claim:
    """Both, and the verdict."""

    id: str
    section: str
    in_lecture: bool
    lines: tuple[int, ...]
    again: tuple[int, ...]
    quote: str
    what: str
    slide_value: str
    kind: Literal["computed", "published"]
    value: Number | str
    computed: str  # or published, as people read it
    verdict: Verdict
    sum: str
    explanation: str
    basis: str  # "computed", or how we know what is published
    table: str
    numbers: dict[str, Number]


def told() -> dict[str, str]:
    """The lecture's title and whose it is."""
    read = _read()
    return {"title": read["title"], "source": read["source"]}


@cache
def _read() -> dict[str, Any]:
    return json.loads(STATEMENTS.read_text(encoding="utf-8"))


@cache
def statements() -> tuple[Statement, ...]:
    """All of them, in the order of the slides."""
    return tuple(
        Statement(**{**entry, "lines": tuple(entry["lines"]), "again": tuple(entry.get("again", ()))})
        for entry in _read()["statements"]
    )


def as_said(statement: Statement) -> dict[str, Any]:
    """The fields of a claim that are the slide's."""
    own = ("id", "section", "in_lecture", "lines", "again", "quote", "what", "table")
    return {"slide_value": statement.says, **{name: getattr(statement, name) for name in own}}


def compared(statement: Statement, found: Computed) -> Claim:
    """The claim for a computed figure."""
    return Claim(
        **as_said(statement),
        kind="computed",
        value=found.value,
        computed=found.shown,
        verdict=verdict(statement.says, found.value) if found.compared else "not arithmetic",
        sum=found.sum,
        explanation=found.why,
        basis="computed",
        numbers=found.numbers,
    )


def verdict(says: str, value: Number | str) -> Verdict:
    """Whether a slide's figure is the value, is what it rounds to, or is something else."""
    if isinstance(value, str):
        return "agrees" if _plain(says) == _plain(value) else "differs"
    told, unit = quantity(says)
    if told == value:
        return "agrees"
    return "rounds" if abs(told - value) <= unit / 2 else "differs"


def quantity(text: str) -> tuple[Number, Number]:
    """A figure as slides write it, and what its last digit that is not a zero stands for.

    "35K" is (35000, 1000), "60M" (60000000, 10000000), "4,096,000" is exact: (4096000, 0); a product like 28x28x64 is multiplied out.
    """
    if re.fullmatch(r"\d+(x\d+)+", text):
        return math.prod(map(int, text.split("x"))), 0
    match = re.fullmatch(r"(\d[\d,]*(?:\.\d+)?)([KkMG]?)B?", text)
    if match is None:
        raise ValueError(f"{text!r} is no figure; write it as 35K, 3.2M, 1,728 or 28x28x64")
    digits, scale = match[1], _UNITS[match[2]]
    if "," in digits:
        return int(digits.replace(",", "")), 0
    whole, _, fraction = digits.partition(".")
    if fraction:
        return float(digits) * scale, scale / 10 ** len(fraction)
    return int(whole) * scale, scale * 10 ** (len(whole) - len(whole.rstrip("0")) if int(whole) else 0)


def _plain(text: str) -> str:
    """Without what says nothing: spaces beside signs, and how × is written."""
    return re.sub(r"\s*([=*,;:-])\s*", r"\1", text.replace("×", "x")).strip()
