"""The search for a plan: cheapest first, within its budget, by paired evidence. The plans here are made up; how good each is, is known."""

from __future__ import annotations

import numpy as np
import pytest

from convatlas.transfer.advise import Advice, Trial, advise, follow
from convatlas.transfer.plans import Plan

PROBE = Plan(kind="probe")
LAST, TWO, ALL = (Plan(kind="tune", at=(at,)) for at in ("stage5", "stage4", "all"))
SCRATCH = Plan(kind="scratch")
SECONDS = {LAST: 10.0, TWO: 30.0, ALL: 100.0, SCRATCH: 400.0}
CLASSES, FOLDS = 4, 5


class World:
    """So many images, and plans of which each has a known share right; time passes only when something trains."""

    def __init__(self, accuracies: dict[Plan, float], images: int = 500, seed: int = 0) -> None:
        draws = np.random.default_rng(seed)
        self.truth = draws.integers(0, CLASSES, images)
        self.fold = draws.integers(0, FOLDS, images)
        self.hard = draws.random(images)  # the same images are hard for all
        self.accuracies, self.now, self.ran = accuracies, 0.0, list[tuple[Plan, int]]()
        self._noise = draws.normal(size=(len(accuracies), images, CLASSES)) / 4

    def trial(self, plan: Plan, fold: int) -> Trial:
        rows = np.flatnonzero(self.fold == fold)
        right = self.hard[rows] < self.accuracies[plan]
        said = np.where(right, self.truth[rows], (self.truth[rows] + 1) % CLASSES)
        noise = self._noise[list(self.accuracies).index(plan)][rows]
        return Trial(
            fold=fold, rows=rows, logits=2 * np.eye(CLASSES)[said] + noise, seconds=0.8 * SECONDS.get(plan, 0.0)
        )

    def run(self, plan: Plan, fold: int) -> Trial:
        self.now += 0.8 * SECONDS[plan]
        self.ran.append((plan, fold))
        return self.trial(plan, fold)

    def advice(self, budget: float | None = None, folds: int | None = None, closing: float = 1.0) -> Advice:
        probes = [self.trial(PROBE, fold) for fold in range(FOLDS)]
        return advise(
            *(self.truth, PROBE, probes, self.run, SECONDS),
            budget=budget,
            closing=closing,
            folds=folds,
            clock=lambda: self.now,
        )


DEEPER_IS_BETTER = {PROBE: 0.6, LAST: 0.7, TWO: 0.8, ALL: 0.9, SCRATCH: 0.3}
PROBE_IS_BEST = {PROBE: 0.9, LAST: 0.85, TWO: 0.8, ALL: 0.7, SCRATCH: 0.3}
TUNED_ALIKE = {PROBE: 0.5, LAST: 0.85, TWO: 0.86, ALL: 0.86, SCRATCH: 0.3}  # two that train need more folds
LAST_IS_BEST = {PROBE: 0.8, LAST: 0.9, TWO: 0.85, ALL: 0.7, SCRATCH: 0.3}


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    ("accuracies", "best"), [(DEEPER_IS_BETTER, ALL), (PROBE_IS_BEST, PROBE), (LAST_IS_BEST, LAST)]
)
def test_finds_the_best_plan(accuracies: dict[Plan, float], best: Plan, seed: int) -> None:
    found = World(accuracies, seed=seed).advice()
    assert found.chosen == best
    by_plan = {verdict.plan: verdict for verdict in found.verdicts}
    assert by_plan[best].note == ""
    assert by_plan[best].difference is None
    assert {verdict.plan for verdict in found.verdicts} == set(accuracies)


def test_stops_where_deeper_is_no_better() -> None:
    world = World(LAST_IS_BEST)
    found = world.advice()
    assert {plan for plan, _ in world.ran} == {LAST, TWO}
    for verdict in found.verdicts:
        if verdict.plan in (ALL, SCRATCH):
            assert verdict.accuracy is None
            assert "fine-tuning from stage4 on already did no better" in verdict.note


@pytest.mark.parametrize("closing", [1.0, 4.2])
@pytest.mark.parametrize("budget", [0.0, 5.0, 17.9, 18.0, 60.0, 80.0, 150.0, 200.0, 250.0, 300.0, 1000.0])
@pytest.mark.parametrize("accuracies", [DEEPER_IS_BETTER, PROBE_IS_BEST, LAST_IS_BEST, TUNED_ALIKE])
def test_all_that_trains_fits_into_the_budget(accuracies: dict[Plan, float], budget: float, closing: float) -> None:
    world = World(accuracies)
    found = world.advice(budget, closing=closing)
    assert found.spent == pytest.approx(world.now)
    assert found.spent + closing * SECONDS.get(found.chosen, 0.0) <= budget
    if budget < 18:
        assert not world.ran
        assert found.chosen == PROBE
        assert all("not tried" in verdict.note for verdict in found.verdicts if verdict.plan != PROBE)


def test_more_folds_only_where_the_difference_is_not_shown() -> None:
    clear, close = World({**LAST_IS_BEST, PROBE: 0.3}), World({**LAST_IS_BEST, PROBE: 0.9})
    clear.advice()
    close.advice()
    assert [fold for plan, fold in clear.ran if plan == LAST].count(0) == 1
    assert max(fold for plan, fold in close.ran if plan == LAST) > max(fold for plan, fold in clear.ran if plan == LAST)


def test_a_plan_is_compared_on_the_images_that_both_were_judged_on() -> None:
    world = World(LAST_IS_BEST)
    found = world.advice(folds=1)
    assert all(fold == 0 for _, fold in world.ran)
    by_plan = {verdict.plan: verdict for verdict in found.verdicts}
    in_fold = int((world.fold == 0).sum())
    assert by_plan[LAST].images == by_plan[TWO].images == in_fold
    assert by_plan[PROBE].images == len(world.truth)
    difference, interval = by_plan[PROBE].difference, by_plan[PROBE].difference_interval
    assert difference is not None
    first = world.fold == 0
    share = {plan: (world.hard[first] < LAST_IS_BEST[plan]).mean() for plan in (PROBE, LAST)}
    assert difference == pytest.approx(share[PROBE] - share[LAST])
    assert interval is not None
    assert interval[0] < difference < interval[1]


def test_plans_are_compared_by_the_weights_of_the_images() -> None:
    """Tuning is better for the common classes and worse for the rare one, which counts as much as they do."""
    world = World({PROBE: 0.8, LAST: 0.8, TWO: 0.3, ALL: 0.3, SCRATCH: 0.3}, images=2000)
    generator = np.random.default_rng(0)
    world.truth = np.where(generator.random(2000) < 0.05, 3, generator.integers(0, 3, 2000))
    rare = world.truth == 3
    hard = {PROBE: np.where(rare, 0.0, world.hard), LAST: np.where(rare, 1.0, world.hard - 0.1)}
    balanced = 1 / np.bincount(world.truth)[world.truth]
    balanced /= balanced.mean()
    chosen = {}
    for name, weights in (("as they come", None), ("balanced", balanced)):
        trials = {}
        for plan in (PROBE, LAST):
            world.hard = hard[plan]
            trials[plan] = [world.trial(plan, fold) for fold in range(FOLDS)]
        found = advise(
            *(world.truth, PROBE, trials[PROBE], lambda plan, fold, of=trials: of[plan][fold], {LAST: 10.0}),
            weights=weights,
        )
        chosen[name] = found.chosen
        probe = found.verdicts[0]
        losses = follow(PROBE, world.truth, trials[PROBE], seconds=0.0, weights=weights).verdicts[0].log_loss
        assert probe.log_loss == pytest.approx(losses)
    assert chosen == {"as they come": LAST, "balanced": PROBE}


def test_equal_plans_are_not_said_to_differ() -> None:
    world = World({PROBE: 0.8, LAST: 0.8, TWO: 0.8, ALL: 0.8, SCRATCH: 0.8}, images=60)
    found = world.advice()
    assert "do not show" in found.reason or "by chance" in found.reason


@pytest.mark.parametrize(("images", "folds"), [(40, 5), (120, 3), (500, 1)])
def test_a_plan_is_judged_on_fifty_images_or_on_all_folds(images: int, folds: int) -> None:
    world = World(DEEPER_IS_BETTER, images=images)
    world.fold = np.arange(images) % FOLDS
    world.advice()
    assert [fold for plan, fold in world.ran if plan == LAST][:folds] == list(range(folds))
    assert [plan for plan, _ in world.ran[: folds + 1]] == [LAST] * folds + [TWO]
    scarce = World(DEEPER_IS_BETTER, images=images)
    scarce.fold = np.arange(images) % FOLDS
    found = scarce.advice(budget=10.0 + folds * 8.0 - 1)  # a trial too few
    assert not scarce.ran
    assert all(verdict.note.startswith("not tried") for verdict in found.verdicts if verdict.plan != PROBE)


def test_on_few_images_luck_does_not_lead_away_from_the_probe() -> None:
    chosen, told = list[Plan](), set[bool]()
    for seed in range(60):
        found = World({PROBE: 0.75, **dict.fromkeys(SECONDS, 0.7)}, images=40, seed=seed).advice()
        chosen.append(found.chosen)
        if found.chosen == PROBE:
            told.add("which these images may show by chance" in found.reason)
            assert all(one.note for one in found.verdicts if one.log_loss is not None and one.plan != PROBE)
    assert chosen.count(PROBE) >= 0.85 * len(chosen)  # 75 % where the least log-loss alone decides
    assert told == {True, False}  # lower by chance in some worlds, higher in others


def test_a_plan_that_was_asked_for_is_followed_and_judged() -> None:
    world = World(PROBE_IS_BEST)
    found = follow(ALL, world.truth, [world.trial(ALL, fold) for fold in (0, 1)], seconds=100.0)
    (verdict,) = found.verdicts
    assert found.chosen == verdict.plan == ALL
    assert verdict.images == int((world.fold < 2).sum())
    assert verdict.accuracy == pytest.approx((world.hard[world.fold < 2] < PROBE_IS_BEST[ALL]).mean())


def test_the_temperature_is_of_held_out_logits() -> None:
    assert 0.2 < World(LAST_IS_BEST).advice().scale < 5
