"""The lecture, computed: every figure of its slides beside the same figure from a network of the zoo. One call: `lecture()`.

CS231n's lecture 9 explains LeNet to ResNet with figures that a student can work out: sizes, weights, memory, operations, depths. Here they
are worked out by the analyser, in the order of the slides; errors and recipes, which no arithmetic gives, are listed with how they are
known. What is not in this lecture is marked, and never counted as the lecture's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from convatlas.cards import card
from convatlas.studies import alexnet_slides, googlenet_slides, resnet_slides, vgg_slides
from convatlas.studies.claims import (
    STATEMENTS,
    Claim,
    Computed,
    Statement,
    Verdict,
    as_said,
    compared,
    statements,
    told,
)
from convatlas.studies.figures import figures

SLIDES = (alexnet_slides, vgg_slides, googlenet_slides, resnet_slides)
SCHEMA = "convatlas.lecture/1"


@dataclass(frozen=True, kw_only=True)
class LectureStudy:
    """All claims in the order of the slides, and what the figures are drawn from."""

    claims: tuple[Claim, ...]
    figures: dict[str, Any]

    @property
    def verdicts(self) -> dict[Verdict, int]:
        """How many of the lecture's own claims have which verdict."""
        found = Counter(claim.verdict for claim in self.claims if claim.in_lecture)
        return {name: found[name] for name in ("agrees", "rounds", "differs", "not arithmetic")}

    @property
    def errata(self) -> tuple[Claim, ...]:
        """The lecture's claims that differ from what is true."""
        return tuple(claim for claim in self.claims if claim.in_lecture and claim.verdict == "differs")

    def claim(self, id: str) -> Claim:
        """The claim with this id; `KeyError` if there is none."""
        return {claim.id: claim for claim in self.claims}[id]

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            **told(),
            "verdicts": self.verdicts,
            "errata": [claim.id for claim in self.errata],
            "claims": [asdict(claim) for claim in self.claims],
            "figures": self.figures,
        }


def lecture(progress: Callable[[str, int, int], None] = lambda what, done, total: None) -> LectureStudy:
    """Computes it all, in about ten seconds. `progress` is called with what is being done, how much of it is done, and of how much."""
    how = _computations()
    claims: list[Claim] = []
    for done, statement in enumerate(statements(), start=1):
        claims.append(_published(statement) if statement.published else compared(statement, how.pop(statement.id)()))
        progress("claims", done, len(statements()))
    if how:
        raise ValueError(f"{STATEMENTS.name} says nothing of {', '.join(how)}")
    return LectureStudy(claims=tuple(claims), figures=figures())


def _computations() -> dict[str, Callable[[], Computed]]:
    """By the statement's id."""
    found: dict[str, Callable[[], Computed]] = {}
    for slides in SLIDES:
        found |= slides.COMPUTED
    for slides in (alexnet_slides, vgg_slides, googlenet_slides):
        found |= dict(slides.rows())
    return found


def _published(statement: Statement) -> Claim:
    """What cannot be computed, with how it is known; errors of a network that has a card are the card's."""
    told = statement.published or {}
    basis, sum_ = told["basis"], ""
    if "card" in told:
        results = card(told["card"]["network"]).results
        wanted = [next(r for r in results if r.top5_error == error) for error in told["card"]["top5_errors"]]
        sum_ = "; ".join(f"{r.top5_error:g} %: {r.of or 'one network'}, {r.protocol}" for r in wanted)
        basis = "; ".join(dict.fromkeys(r.basis for r in wanted))
    return Claim(
        **as_said(statement),
        kind="published",
        value=told["value"],
        computed=told["value"],
        verdict=told["verdict"],
        sum=sum_,
        explanation=told["why"],
        basis=basis,
        numbers={},
    )
