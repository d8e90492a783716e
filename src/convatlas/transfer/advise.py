"""Which plan for these images: what costs least is tried first, and what costs more only where what costs less has left a reason to.

Trials are paired: every plan is judged on the same held-out images, by networks and probes that learned from the same others. How deep to
tune is searched from the top down, since what is gained by the last stage tells whether the next may gain more; the search ends where
a deeper cut no longer lowers the held-out log-loss, or the time is up. The time for the last step, training the chosen plan on all
images, is set aside before a trial begins. Of the plans that were compared on the same images, the cheapest is taken whose log-loss is
within a standard error of the least (Breiman, Friedman, Olshen, Stone. Classification and Regression Trees. 1984, 3.4.3): on few images
the least is a matter of luck, and what costs more has more ways to be worse. Nothing here looks at a test part.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from convatlas.errors import ConvAtlasError
from convatlas.metrics import fit_temperature, independent_number, paired_interval, share_interval, softmax
from convatlas.transfer.plans import Plan
from convatlas.transfer.ridge import Array, Index

ENOUGH = 50  # held-out images from which on a plan is judged; below, on those of all folds
SHOWN = 2.0  # standard errors of a mean difference in log-loss from which on it counts as shown


class TooFewToTrain(ConvAtlasError):
    """Too few images to judge a plan that trains."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A plan on one fold: what it says of the images held out there."""

    fold: int
    rows: Index  # (m,) of the images
    logits: Array  # (m, K)
    seconds: float
    leverages: Array | None = None  # (m,) by what its network reads of them (`confidence.Among`); None of a probe


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What is known of one plan."""

    plan: Plan
    seconds: float | None  # of one training on all images, foretold; None where that is not known
    memory: int | None  # bytes that a training step holds, computed
    accuracy: float | None  # on the held-out images of all its trials; None where it was not tried
    interval: tuple[float, float] | None  # 95 %, Wilson's
    log_loss: float | None  # weighted as the images are
    images: int  # held out in its trials
    difference: float | None  # in accuracy from the chosen plan, on the images that both were judged on
    difference_interval: tuple[float, float] | None  # 95 %, paired
    took: float  # seconds of its trials
    note: str  # why it was not tried, or not chosen; "" for the chosen


@dataclass(frozen=True, kw_only=True)
class Advice:
    """The plan to follow, and why."""

    chosen: Plan
    verdicts: tuple[Verdict, ...]
    reason: str  # a sentence for people
    trials: tuple[Trial, ...]  # of the chosen plan
    scale: float  # that suits its held-out logits: 1 / its temperature
    spent: float  # seconds of trials that trained
    budget: float | None  # seconds that were allowed for trials and the final training; None without bound


@dataclass
class _Search:
    """The trials so far."""

    truth: Index
    together: Index
    weights: Array
    trials: dict[Plan, list[Trial]] = field(default_factory=dict)
    notes: dict[Plan, str] = field(default_factory=dict)

    def judged(self, plan: Plan) -> tuple[Index, Array]:
        """The images of its trials and their probabilities, by the one scale that suits all of them."""
        trials = self.trials[plan]
        rows = np.concatenate([trial.rows for trial in trials])
        logits = np.concatenate([trial.logits for trial in trials])
        return rows, softmax(fit_temperature(logits, self.truth[rows], weights=self.weights[rows]) * logits)

    def losses(self, plan: Plan) -> dict[int, float]:
        rows, shares = self.judged(plan)
        own = shares[np.arange(len(rows)), self.truth[rows]]
        return dict(zip(rows.tolist(), (-np.log(np.maximum(own, 1e-15))).tolist(), strict=True))

    def log_loss(self, plan: Plan) -> float:
        losses = self.losses(plan)
        return float(np.average(list(losses.values()), weights=self.weights[list(losses)]))

    def right(self, plan: Plan) -> dict[int, bool]:
        rows, shares = self.judged(plan)
        return dict(zip(rows.tolist(), (shares.argmax(axis=1) == self.truth[rows]).tolist(), strict=True))

    def gain(self, plan: Plan, over: Plan) -> tuple[float, float]:
        """By how much the plan's log-loss is lower on the images of both, and that mean's standard error."""
        ours, theirs = self.losses(plan), self.losses(over)
        rows = [row for row in ours if row in theirs]
        both, weights = np.array([theirs[row] - ours[row] for row in rows]), self.weights[rows]
        gain = float(np.average(both, weights=weights))
        off = weights / weights.mean() * (both - gain)
        return gain, float(off.std() / np.sqrt(independent_number(off, self.together[rows])))


def advise(
    truth: Index,
    probe: Plan,
    probe_trials: Sequence[Trial],
    run: Callable[[Plan, int], Trial],
    seconds: Mapping[Plan, float],
    *,
    together: Index | None = None,
    weights: Array | None = None,
    memory: Mapping[Plan, int] | None = None,
    budget: float | None = None,
    share: float = 0.8,
    closing: float = 1.0,
    folds: int | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> Advice:
    """Tries plans and chooses one.

    Args:
        truth: (n,) class indices of the images.
        probe: the best probe, which costs nothing more, and `probe_trials`, of each fold.
        run: trains a plan without the images of a fold, and gives its trial.
        seconds: what one training of each plan that trains takes, the shallowest first: the order in which they are tried.
        together: (n,) equal for images of one unit; None where each is one of its own.
        weights: (n,) of the images in log-losses; equal by default.
        memory: bytes of a training step, where known.
        budget: seconds for all that trains; None tries what the evidence asks for, without bound.
        share: of the images that a trial trains on.
        closing: trainings on all images that follow the choice: the final one, and what else the chosen plan will be asked for.
        folds: how many of the folds trials of one plan may use; all of them by default.
    """
    search = _search(truth, together, weights, {probe: list(probe_trials)})
    began, best = clock(), probe
    most = len(probe_trials) if folds is None else folds
    held_out = np.cumsum([len(trial.rows) for trial in probe_trials[:most]])
    first = min(int(np.searchsorted(held_out, ENOUGH)) + 1, most)  # folds of a plan's first trials

    def spent() -> float:
        return clock() - began

    def needed(*plans: Plan) -> float:
        """Seconds of a trial of each of them, one as often as it is named, and of what follows, whichever plan is chosen then."""
        trials = share * sum(seconds[plan] for plan in plans)
        return trials + closing * max(seconds.get(plan, 0.0) for plan in (*plans, best))

    def affordable(*plans: Plan) -> bool:
        return budget is None or spent() + needed(*plans) <= budget

    stopped, shallower = "", None
    for plan in seconds:
        if stopped:
            search.notes[plan] = stopped
        elif not affordable(*[plan] * first):
            search.notes[plan] = _too_long(needed(*[plan] * first), budget, spent())
        else:
            search.trials[plan] = [run(plan, fold) for fold in range(first)]
            if search.gain(plan, best)[0] > 0:
                best = plan
            if shallower and search.gain(plan, shallower)[0] <= 0:
                stopped = f"not tried: {plan.words} already did no better than {shallower.words}"
            shallower = plan
    best = _simplest(search, _settle(search, best, run, affordable, most))
    return _advice(search, best, probe, seconds, memory or {}, budget)


def _settle(
    search: _Search, best: Plan, run: Callable[[Plan, int], Trial], affordable: Callable[..., bool], folds: int
) -> Plan:
    """The better of the two best plans, by as many more folds as their difference needs and the budget has."""
    while len(search.trials) > 1:
        rival = min((plan for plan in search.trials if plan != best), key=lambda plan: -search.gain(plan, best)[0])
        gain, error = search.gain(best, rival)
        short = [plan for plan in (best, rival) if len(search.trials[plan]) < folds]
        if gain > SHOWN * error or not short or not affordable(*short):
            return best
        for plan in short:
            search.trials[plan].append(run(plan, len(search.trials[plan])))
        if search.gain(rival, best)[0] > 0:
            best = rival
    return best


def _simplest(search: _Search, best: Plan) -> Plan:
    """The cheapest plan that is within a standard error of the best, of those that were judged on all of its images."""
    for plan in search.trials:  # the cheapest first
        gain, error = search.gain(best, plan)
        if len(search.trials[plan]) >= len(search.trials[best]) and gain <= error:
            return plan
    return best


def follow(
    plan: Plan,
    truth: Index,
    trials: Sequence[Trial],
    *,
    seconds: float,
    memory: int | None = None,
    together: Index | None = None,
    weights: Array | None = None,
) -> Advice:
    """The advice of somebody who has decided already: the plan, judged by its trials. Arguments as for `advise`."""
    search = _search(truth, together, weights, {plan: list(trials)})
    return _advice(search, plan, plan, {plan: seconds}, {plan: memory}, None)


def _search(truth: Index, together: Index | None, weights: Array | None, trials: dict[Plan, list[Trial]]) -> _Search:
    units = np.arange(len(truth)) if together is None else together
    return _Search(np.asarray(truth), units, np.ones(len(truth)) if weights is None else weights, trials)


def _advice(
    search: _Search,
    best: Plan,
    probe: Plan,
    seconds: Mapping[Plan, float],
    memory: Mapping[Plan, int | None],
    budget: float | None,
) -> Advice:
    verdicts = []
    chosen_right = search.right(best)
    for plan in dict.fromkeys((probe, *seconds)):
        known = plan in search.trials
        right = search.right(plan) if known else {}
        rows = [row for row in right if row in chosen_right]
        both = [float(right[row]) - float(chosen_right[row]) for row in rows]
        verdicts.append(
            Verdict(
                plan=plan,
                seconds=seconds.get(plan, 0.0),
                memory=memory.get(plan),
                accuracy=sum(right.values()) / len(right) if known else None,
                interval=share_interval(list(right.values()), search.together[list(right)]) if known else None,
                log_loss=search.log_loss(plan) if known else None,
                images=len(right),
                difference=float(np.mean(both)) if known and plan != best else None,
                difference_interval=paired_interval(both, together=search.together[rows])
                if known and plan != best
                else None,
                took=sum(trial.seconds for trial in search.trials.get(plan, [])),
                note="" if plan == best else search.notes.get(plan, "" if not known else _why_not(search, plan, best)),
            )
        )
    trials = search.trials[best]
    logits, rows = (np.concatenate([getattr(trial, name) for trial in trials]) for name in ("logits", "rows"))
    return Advice(
        chosen=best,
        verdicts=tuple(verdicts),
        reason=_reason(search, best, probe),
        trials=tuple(trials),
        scale=fit_temperature(logits, search.truth[rows], weights=search.weights[rows]),
        spent=sum(trial.seconds for plan, tried in search.trials.items() if plan.trains for trial in tried),
        budget=budget,
    )


def _why_not(search: _Search, plan: Plan, best: Plan) -> str:
    gain, error = search.gain(best, plan)
    if gain > SHOWN * error:
        return f"log-loss higher by {gain:.3f}"
    if gain > 0:
        return "log-loss higher, by less than these images show to be real"
    return (
        "no better, and costs more"
        if gain == 0
        else f"log-loss lower by {-gain:.3f}, which may be chance, and costs more"
    )


def _reason(search: _Search, best: Plan, probe: Plan) -> str:
    if best.trains and best == probe:
        return "the plan is the one that was asked for."
    tried = [plan for plan in search.trials if plan != probe]
    if not tried:
        return "no plan that trains was tried."
    if best == probe:
        rival = max(tried, key=lambda plan: search.gain(plan, probe)[0])
        gain, error = search.gain(probe, rival)
        if gain < 0:
            return (
                f"{rival.words} lowers the held-out log-loss of the probe by {-gain:.3f}, which these images may show by chance, and "
                "the probe costs nothing more."
            )
        doubt = "" if gain > SHOWN * error else ", though not by more than these images may show by chance"
        return f"training does not pay here: {rival.words} has a higher held-out log-loss than the probe{doubt}."
    gain, error = search.gain(best, probe)
    doubt = "" if gain > SHOWN * error else ", a difference that these images do not show to be real"
    return f"{best.words} lowers the held-out log-loss of the best probe by {gain:.3f}{doubt}."


def _too_long(needed: float, budget: float | None, spent: float) -> str:
    left = 0.0 if budget is None else max(budget - spent, 0.0)
    return f"not tried: its trials and the trainings after them take about {needed:.0f} s, and {left:.0f} s are left"
