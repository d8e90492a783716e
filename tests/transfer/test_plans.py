"""Plans: what a command line can name, and what it cannot."""

from __future__ import annotations

import pytest

from convatlas import catalogue
from convatlas.errors import ConvAtlasError
from convatlas.transfer.plans import Plan, parse_budget, parse_plan, plans_for

NETWORKS = [network for network in catalogue.networks().values() if len(network.stages) > 1]


@pytest.mark.parametrize("network", NETWORKS, ids=lambda network: network.name)
def test_every_plan_is_written_as_it_is_read(network: catalogue.Network) -> None:
    plans = plans_for(network.stages)
    singles = [Plan(kind=kind, at=(stage,)) for kind in ("probe", "tune") for stage in network.stages]
    pair = Plan(kind="probe", at=network.stages[-2:])
    for plan in (*plans, *singles, pair):
        assert parse_plan(str(plan), network.rungs) == plan
    assert len(set(plans)) == len(plans)
    assert [plan.kind for plan in plans] == ["probe", "tune", "tune", "tune", "scratch"]


def test_auto_is_no_plan() -> None:
    assert parse_plan("auto", ("stage1", "stage2")) is None


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("probe:stage9", "no stage 'stage9'"),
        ("probe:stage1+stag2", "Did you mean stage2"),
        ("tune:stage7", "no stage 'stage7'"),
        ("tune", "unknown plan 'tune'"),
        ("tune:stage1+stage2", "unknown plan"),
        ("scratch:stage1", "unknown plan"),
        ("", "unknown plan"),
        ("probe:", "unknown plan"),
        ("probe:stage1+stage1", "names stage1 twice"),
        ("finetune", "tune:all"),
    ],
)
def test_what_is_no_plan_is_named_with_what_there_is(text: str, told: str) -> None:
    with pytest.raises(ConvAtlasError, match=told):
        parse_plan(text, ("stage1", "stage2"))


def test_plans_are_put_into_words() -> None:
    assert Plan(kind="tune", at=("stage4",)).words == "fine-tuning from stage4 on"
    assert Plan(kind="tune", at=("all",)).words == "fine-tuning of the whole network"
    assert Plan(kind="probe", at=("stage1", "stage2")).words == "linear probe on stage1 + stage2"


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("10m", 600), ("1h30m", 5400), ("600", 600), ("1.5h", 5400), ("2m30s", 150)]
)
def test_times_are_read(text: str, seconds: float) -> None:
    assert parse_budget(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "m", "-5m", "10 minutes", "1.2.3s", "5x"])
def test_what_is_no_time_is_named(text: str) -> None:
    with pytest.raises(ConvAtlasError, match="is not a time"):
        parse_budget(text)
