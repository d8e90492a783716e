"""What may be done with a network that was trained on other images: the lecture's four quadrants, as plans.

    probe, probe:stage3, probe:stage3+stage5    a linear classifier on frozen stages
    tune:stage4, tune:stage4.1, tune:all        the network trains from there on, its head first made a probe (LP-FT)
    scratch                                     nothing is transferred: the control

Linear probing and then fine-tuning: Kumar et al. Fine-Tuning Can Distort Pretrained Features and Underperform Out-of-Distribution. 2022.
https://arxiv.org/abs/2202.10054. From scratch, with the longer schedule that it needs: He, Girshick, Dollár. Rethinking ImageNet
Pre-training. 2018. https://arxiv.org/abs/1811.08883.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from convatlas.errors import ConvAtlasError

ALL = "all"
AUTO = "auto"
TOGETHER = "all stages"  # the rung of the ladder on which all stages stand side by side


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One way to a classifier. `str(plan)` is how it is written on the command line."""

    kind: Literal["probe", "tune", "scratch"]
    at: tuple[
        str, ...
    ] = ()  # of a probe its stages, () for whichever is best; of a tuning the first cut that trains, or `ALL`

    def __str__(self) -> str:
        where = ALL if self.at == (TOGETHER,) else "+".join(self.at)
        return f"{self.kind}:{where}" if where else self.kind

    @property
    def trains(self) -> bool:
        """Whether gradients are needed."""
        return self.kind != "probe"

    @property
    def words(self) -> str:
        """For people: what is done."""
        where = " + ".join(self.at)
        match self.kind:
            case "probe":
                return f"linear probe on {where}" if where else "linear probe on the best stage"
            case "tune":
                return "fine-tuning of the whole network" if where == ALL else f"fine-tuning from {where} on"
            case "scratch":
                return "training from scratch"


def parse_plan(text: str, stages: Sequence[str]) -> Plan | None:
    """The plan that a command line names, for a network with these `stages` (and hidden layers); None for `auto`.

    Raises `ConvAtlasError` for anything else, naming what there is.
    """
    kind, _, where = text.partition(":")
    at = tuple(where.split("+")) if where else ()
    if text == AUTO:
        return None
    if twice := [name for name in at if at.count(name) > 1]:
        raise ConvAtlasError(f"plan {text!r} names {twice[0]} twice.", remedy="Name each stage once.")
    if kind == "probe" and text != "probe:":
        if at == (ALL,):
            return Plan(kind="probe", at=(TOGETHER,))
        if not set(at) <= set(stages):
            raise _unknown(text, next(name for name in at if name not in stages), stages)
        return Plan(kind="probe", at=at)
    if kind == "tune" and len(at) == 1:
        if at[0] != ALL and at[0].split(".")[0] not in stages:
            raise _unknown(text, at[0], [*stages, ALL])
        return Plan(kind="tune", at=at)
    if text == "scratch":
        return Plan(kind="scratch")
    raise ConvAtlasError(
        f"unknown plan {text!r}.",
        remedy=f"Give {AUTO}, probe, probe:{stages[-1]}, tune:{stages[-1]}, tune:{ALL} or scratch.",
    )


def parse_budget(text: str) -> float:
    """Seconds of a time such as `90s`, `10m`, `1h30m` or `600`. Raises `ConvAtlasError` for anything else."""
    found = re.fullmatch(r"(?:([\d.]+)h)?(?:([\d.]+)m)?(?:([\d.]+)s?)?", text.strip())
    try:
        if not found or not any(found.groups()):
            raise ValueError(text)
        return sum(float(number or 0) * unit for number, unit in zip(found.groups(), (3600, 60, 1), strict=True))
    except ValueError as error:
        raise ConvAtlasError(f"{text!r} is not a time.", remedy="Write it as 90s, 10m or 1h30m.") from error


def plans_for(stages: Sequence[str]) -> tuple[Plan, ...]:
    """The plans that are compared for a network with these stages, the cheapest first: the best probe, tuning from the last stage, the last
    two …, of everything, and the control."""
    tuned = [Plan(kind="tune", at=(stage,)) for stage in reversed(stages[-2:])]
    return Plan(kind="probe"), *tuned, Plan(kind="tune", at=(ALL,)), Plan(kind="scratch")


def _unknown(text: str, name: str, stages: Sequence[str]) -> ConvAtlasError:
    near = difflib.get_close_matches(name, stages, n=1)
    hint = f"Did you mean {near[0]}? " if near else ""
    return ConvAtlasError(f"plan {text!r}: there is no stage {name!r}.", remedy=f"{hint}There are {', '.join(stages)}.")
