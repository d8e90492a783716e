"""The lecture's table of transfer learning, measured: little or much data, similar or different, and what each plan reaches there.

The table says what to do by two words that nobody measures. Here every plan is carried out on several splits of several data sets, so that
it is known what would have been best, and by how much each way of choosing falls short of it (its regret): the adviser, who tries plans on
folds of the training images within a part of the time that all plans take; always the same plan; and the table, read literally.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from convatlas.studies.finding import Cell, Chart, Column, Estimate, Finding, by_seed, listed
from convatlas.studies.plans import many

MUCH = 50  # training images a class from which on a set counts as much data
ROLES = {
    "top": "probe on the last stage",
    "probe": "probe on the best stage",
    "last": "last stage tuned",
    "two": "last two stages tuned",
    "all": "all tuned",
    "scratch": "from scratch",
}
WORST = 1.5  # a foretold time is as it should be within this factor of the measured one


@dataclass(frozen=True, kw_only=True)
class Case:
    """A data set at one size."""

    name: str
    similar: bool  # to what the network was trained on, as whoever made the list of cases holds
    per_class: int  # training images

    @property
    def much(self) -> bool:
        return self.per_class >= MUCH

    @property
    def quadrant(self) -> str:
        """Of the lecture's table."""
        return f"{'much' if self.much else 'little'} data, {'similar' if self.similar else 'different'}"

    @property
    def label(self) -> str:
        return f"{self.name}, {self.per_class} a class"


@dataclass(frozen=True, kw_only=True)
class Reached:
    """One plan, carried out on one split."""

    accuracy: float  # on the test images
    seconds: float  # of one training on all training images
    foretold: float | None = None  # the same, before it began; None for probes


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """One split of a case: every plan by its role, and which of them the adviser chose after how much work."""

    case: Case
    split: int
    test_images: int
    plans: Mapping[str, Reached]
    advised: str
    spent: float  # seconds of trials and of timing, the first probes and the final training not among them

    @property
    def exhaustive(self) -> float:
        """Seconds of carrying out every plan; one search for probes gives both of them."""
        return sum(reached.seconds for role, reached in self.plans.items() if role != "top")

    @property
    def cost(self) -> float:
        """Seconds of the adviser's way, the final training included."""
        probes = self.plans["probe"].seconds
        return self.spent + probes + (0.0 if self.advised in ("top", "probe") else self.plans[self.advised].seconds)


def table_says(case: Case) -> tuple[str, ...]:
    """The lecture's advice, as roles; the last field can be read in two ways ("fine-tune a larger number of layers")."""
    if not case.much:
        return ("top",) if case.similar else ("probe",)
    return ("last",) if case.similar else ("two", "all")


def judged(outcomes: Sequence[Outcome], *, network: str, wanted: int) -> Finding:
    """What the outcomes show; `wanted` is how many there will be."""
    cases = list(dict.fromkeys(outcome.case for outcome in outcomes))
    of = {case: [outcome for outcome in outcomes if outcome.case == case] for case in cases}
    means = {case: {role: _mean([o.plans[role].accuracy for o in of[case]]) for role in ROLES} for case in cases}
    best = {case: max(means[case], key=lambda role: means[case][role]) for case in cases}
    regrets = _regrets(cases, of, means, best)
    costs = [sum(o.cost for o in of[case]) / sum(o.exhaustive for o in of[case]) for case in cases]
    factors = [
        max(reached.foretold / reached.seconds, reached.seconds / reached.foretold)
        for outcome in outcomes
        for reached in outcome.plans.values()
        if reached.foretold
    ]
    splits = sorted({outcome.split for outcome in outcomes})
    so_far = f"So far {len(outcomes)} of {wanted} splits are measured. " if len(outcomes) < wanted else ""
    return Finding(
        title="The four quadrants of transfer, measured",
        protocol=(
            f"{network} with pretrained weights. Of each set training and test images are drawn anew for each of {len(splits)} splits, "
            "the same number of each class; every plan is trained on all training images and judged on the test images. The adviser sees "
            "the training images alone, and as much time as a quarter of what all plans are foretold to take. The best plan of a case is "
            f"the one with the highest mean test accuracy over its splits. Much data is from {MUCH} images a class. The last field of the "
            "lecture's table is read in the way that turns out better."
        ),
        columns=(
            Column(name="case", kind="text"),
            Column(name="quadrant", kind="text"),
            *(Column(name=words, kind="percent") for words in ROLES.values()),
            Column(name="best", kind="text"),
            Column(name="advised", kind="text"),
            Column(name="regret, points", kind="points"),
            Column(name="share of the time", kind="percent"),
        ),
        rows=[
            _row(case, of[case], means[case], best[case], regret, cost)
            for case, regret, cost in zip(cases, regrets["adviser"], costs, strict=True)
        ],
        chart=_chart(cases, of),
        paragraph=so_far + _paragraph(regrets, costs, factors, cases),
        figures={
            "regrets": {who: asdict(_by_case(values)) | {"cases": values} for who, values in regrets.items()},
            "cost": costs,
            "factors": factors,
            "outcomes": [outcome_json(outcome) for outcome in outcomes],
        },
    )


def outcome_json(outcome: Outcome) -> dict[str, Any]:
    """As `outcome_of` reads it."""
    return asdict(outcome)


def outcome_of(found: Mapping[str, Any]) -> Outcome:
    """What `outcome_json` wrote."""
    plans = {role: Reached(**reached) for role, reached in found["plans"].items()}
    return Outcome(**{**found, "case": Case(**found["case"]), "plans": plans})


def _regrets(
    cases: Sequence[Case],
    of: Mapping[Case, Sequence[Outcome]],
    means: Mapping[Case, Mapping[str, float]],
    best: Mapping[Case, str],
) -> dict[str, list[float]]:
    """By who chooses, a case each: the mean accuracy of the best plan less that of the chosen ones."""

    def regret(case: Case, chosen: Callable[[Outcome], str]) -> float:
        return means[case][best[case]] - _mean([o.plans[chosen(o)].accuracy for o in of[case]])

    found = {"adviser": [regret(case, lambda o: o.advised) for case in cases]}
    for role, who in (("top", "always the probe on top"), ("last", "always the last stage"), ("all", "always all")):
        found[who] = [means[case][best[case]] - means[case][role] for case in cases]
    found["the lecture's table"] = [
        min(means[case][best[case]] - means[case][role] for role in table_says(case)) for case in cases
    ]
    return found


def _row(
    case: Case, outcomes: Sequence[Outcome], means: Mapping[str, float], best: str, regret: float, cost: float
) -> list[Cell]:
    advised = [outcome.advised for outcome in outcomes]
    told = listed(list(dict.fromkeys(f"{ROLES[role]} ({advised.count(role)})" for role in advised)))
    accuracies: list[Cell] = [
        replace(by_seed([o.plans[role].accuracy for o in outcomes], within=(0.0, 1.0)), of=many(len(outcomes), "split"))
        for role in ROLES
    ]
    return [case.label, case.quadrant, *accuracies, ROLES[best], told, regret, cost]


def _chart(cases: Sequence[Case], of: Mapping[Case, Sequence[Outcome]]) -> Chart:
    rows = []
    for case in sorted(cases, key=lambda case: (case.much, not case.similar)):
        for role, words in ROLES.items():
            found = [outcome.plans[role].accuracy for outcome in of[case]]
            advised = sum(outcome.advised == role for outcome in of[case]) / len(of[case])
            row = {"panel": case.quadrant, "label": case.label, "line": words, "advised": advised}
            rows.append(row | {"x": _mean(found), "low": min(found), "high": max(found)})
    return Chart(
        kind="quadrants",
        caption="Test accuracy of every plan, the mean over splits with its range. A ring is what the adviser chose, the stronger the "
        "more often; it never saw these test images.",
        x="accuracy",
        rows=rows,
        percent=True,
    )


def _paragraph(
    regrets: Mapping[str, Sequence[float]], costs: Sequence[float], factors: Sequence[float], cases: Sequence[Case]
) -> str:
    ours = _by_case(regrets["adviser"])
    told = [f"Over {len(cases)} cases the adviser's choice is {_points(ours)} below the best plan,"]
    told.append(f"at {100 * statistics.fmean(costs):.0f} % of the time that all plans take.")
    for who, values in regrets.items():
        if who != "adviser":
            difference = _by_case([a - b for a, b in zip(values, regrets["adviser"], strict=True)])
            than = {"more": "more than the adviser", "less": "less than the adviser"}.get(difference.shown)
            told.append(
                f"{who[0].upper()}{who[1:]}: {100 * _mean(values):.1f} points ({than or 'no difference shown'})."
            )
    if factors:
        within = sum(factor <= WORST for factor in factors) / len(factors)
        typical = math.exp(statistics.fmean(map(math.log, factors)))
        told.append(
            f"Times were foretold within a factor of {WORST} for {100 * within:.0f} % of the trainings (typically {typical:.2f})."
        )
    return " ".join(told)


def _points(found: Estimate) -> str:
    if found.low is None or found.high is None:
        return f"{100 * found.value:.1f} points ({found.of}, so no interval)"
    low, high = 100 * found.low, 100 * found.high
    return f"{100 * found.value:.1f} points (95 % interval over cases {low:.1f} to {high:.1f})"


def _by_case(values: Sequence[float]) -> Estimate:
    return replace(by_seed(values), of=f"{len(values)} cases" if len(values) > 1 else "1 case")


def _mean(values: Sequence[float]) -> float:
    return statistics.fmean(values)
