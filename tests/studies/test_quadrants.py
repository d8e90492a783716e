"""The four quadrants: carried out at a tiny size from the list of cases to the page, and judged on known outcomes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import convatlas
from convatlas.data import scan
from convatlas.errors import ConvAtlasError
from convatlas.jobs.quadrants import CaseSet, drawn, read_list
from convatlas.studies.quadrants import ROLES, Case, Outcome, Reached, judged, outcome_json, outcome_of, table_says
from convatlas.transfer import finetune
from tiny import CLASSES, photo, write_photos, write_split, write_weights

CASES = [
    Case(name=name, similar=similar, per_class=n) for name, similar in (("a", True), ("b", False)) for n in (5, 80)
]


def outcome(case: Case, accuracies: Mapping[str, float], advised: str, split: int = 0, spent: float = 5.0) -> Outcome:
    plans = {role: Reached(accuracy=accuracies[role], seconds=10.0, foretold=12.0) for role in ROLES}
    return Outcome(case=case, split=split, test_images=100, plans=plans, advised=advised, spent=spent)


ACCURACIES = dict(zip(ROLES, (0.7, 0.75, 0.8, 0.85, 0.9, 0.4), strict=True))


# Judging


def test_regret_is_to_the_plan_that_is_best_on_average() -> None:
    other = {**ACCURACIES, "all": 0.7}  # on the second split all is poor, so that the last two are best on average
    found = judged(
        [outcome(case, values, "last", split) for case in CASES for split, values in enumerate((ACCURACIES, other))],
        network="a network",
        wanted=8,
    ).figures["regrets"]
    assert found["adviser"]["cases"] == pytest.approx([0.05] * 4)  # .85 of the last two, .80 of the last
    assert found["always the probe on top"]["cases"] == pytest.approx([0.15] * 4)
    assert found["always all"]["cases"] == pytest.approx([0.05] * 4)
    # little: .70 on top where similar, .75 on the best stage where not; much: .80 of the last, .85 of the last two
    assert found["the lecture's table"]["cases"] == pytest.approx([0.15, 0.05, 0.10, 0.0])


@pytest.mark.parametrize("role", ROLES)
def test_who_chooses_the_best_plan_regrets_nothing(role: str) -> None:
    accuracies = {other: 0.9 if other == role else 0.5 for other in ROLES}
    found = judged([outcome(case, accuracies, role) for case in CASES], network="a network", wanted=4)
    assert found.figures["regrets"]["adviser"]["cases"] == [0.0] * 4
    assert all(row[-2] == 0.0 for row in found.rows)
    assert "So far" not in found.paragraph


def test_costs_are_shares_of_carrying_out_every_plan_and_times_are_held_to_a_factor() -> None:
    found = judged([outcome(CASES[0], ACCURACIES, "all", spent=20.0)], network="a network", wanted=12)
    assert found.figures["cost"] == pytest.approx(
        [40 / 50]
    )  # one search gives both probes, and the adviser made it too
    found = judged([outcome(CASES[0], ACCURACIES, "probe", spent=20.0)], network="a network", wanted=12)
    assert found.figures["cost"] == pytest.approx([30 / 50])
    assert found.figures["factors"] == pytest.approx([1.2] * len(ROLES))
    assert "So far 1 of 12" in found.paragraph and "100 % of the trainings" in found.paragraph


def test_the_table_has_something_to_say_of_every_quadrant() -> None:
    said = {case.quadrant: table_says(case) for case in CASES}
    assert len(said) == len(set(said.values())) == 4
    assert all(set(roles) <= set(ROLES) for roles in said.values())


def test_outcomes_survive_the_file() -> None:
    one = outcome(CASES[1], ACCURACIES, "two")
    assert outcome_of(json.loads(json.dumps(outcome_json(one)))) == one


# From a list of cases to a page


@pytest.fixture
def cases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two sets of three classes, one of them with a split of its own; trainings of one or two steps."""
    monkeypatch.setattr(finetune, "STEPS", 1)
    monkeypatch.setattr(finetune, "LEAST_EPOCHS", 1)
    monkeypatch.setattr(finetune, "SCRATCH", 1)
    write_photos(tmp_path / "plain", 0, 9)
    write_split(tmp_path / "dealt", {"train": 5, "test": 4})
    weights = write_weights(tmp_path / "tiny.safetensors")
    return listed(
        tmp_path / "cases.json",
        weights,
        {"data": "plain", "similar": True, "images": [3, 5], "test": 4},
        {"data": "dealt", "similar": False, "images": [4], "test": 3},
    )


def listed(path: Path, weights: Path, *sets: dict[str, Any]) -> Path:
    path.write_text(json.dumps({"weights": weights.name, "sets": sets}))
    return path


def test_a_study_of_the_quadrants_goes_on_where_it_was(
    cases: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, trained = tmp_path / "out", list[str]()
    with pytest.raises(ConvAtlasError, match="nothing was measured yet"):
        convatlas.study("quadrants", cases, out=out, seeds=1, partial=True)
    from convatlas.transfer.workshop import Workshop

    train = Workshop.train

    def until_the_tenth(self: Workshop, plan: Any, *rest: Any) -> Any:
        trained.append(str(plan))
        if len(trained) == 10:
            raise KeyboardInterrupt
        return train(self, plan, *rest)

    monkeypatch.setattr(Workshop, "train", until_the_tenth)
    with pytest.raises(KeyboardInterrupt):
        convatlas.study("quadrants", cases, out=out, seeds=1, device="cpu")
    kept = json.loads((out / "cells.json").read_text())
    assert kept and all(cell["plans"] for cell in kept.values())
    whole = [cell for cell in kept.values() if "advised" in cell]
    found = convatlas.study("quadrants", cases, out=out, seeds=1, device="cpu").json
    again = json.loads((out / "cells.json").read_text())
    assert [cell for cell in again.values() if cell in whole] == whole, "what was measured was measured again"
    assert [row[0] for row in found["rows"]] == ["plain, 3 a class", "plain, 5 a class", "dealt, 4 a class"]
    page = (out / "study.html").read_text(encoding="utf-8")
    assert "plain, 5 a class" in page and (out / "chart.png").stat().st_size > 1000
    before = len(trained)
    partial = convatlas.study("quadrants", cases, out=out, seeds=2, partial=True).json
    assert len(trained) == before and partial["rows"] == found["rows"] and "So far 3 of 6" in partial["paragraph"]


def test_splits_are_drawn_anew_and_smaller_cases_are_parts_of_larger_ones(cases: Path) -> None:
    _, sets = read_list(cases)
    dataset = scan(sets[0].path)
    deals = [drawn(dataset, sets[0], split) for split in (0, 0, 1)]
    assert deals[0] == deals[1] != deals[2]
    for records, place in deals:
        assert len({record.path for record in records}) == len(records) == 3 * (5 + 4)
        for label in CLASSES:
            assert sorted(p for r, p in zip(records, place, strict=True) if r.label == label) == [-1] * 4 + list(
                range(5)
            )


def test_a_set_that_is_too_small_is_named(cases: Path) -> None:
    _, sets = read_list(cases)
    with pytest.raises(ConvAtlasError, match="class 'blue' has 9 images, and 5 to train and 5 to test on"):
        drawn(scan(sets[0].path), replace(sets[0], test=5), 0)


@pytest.mark.parametrize(
    "text",
    [
        "no json",
        "[]",
        '{"weights": "tiny.safetensors"}',
        '{"weights": "tiny.safetensors", "sets": []}',
        '{"weights": "tiny.safetensors", "sets": [{"data": "plain"}]}',
        '{"weights": "tiny.safetensors", "sets": [{"data": "plain", "similar": true, "images": [2], "test": 4}]}',
        '{"weights": "tiny.safetensors", "sets": [{"data": "plain", "similar": true, "images": [3], "test": 0}]}',
        '{"weights": "tiny.safetensors", "sets": [{"data": "plain", "similar": true, "images": [3], "test": -4}]}',
        '{"weights": 3, "sets": [{"data": "plain", "similar": true, "images": [3], "test": 4}]}',
        '{"weights": "tiny.safetensors", "sets": [{"data": "plain", "similar": true, "images": "few", "test": 4}]}',
    ],
)
def test_what_is_no_list_of_cases_is_refused(text: str, cases: Path) -> None:
    cases.write_text(text)
    with pytest.raises(ConvAtlasError, match="is no list of cases") as caught:
        convatlas.study("quadrants", cases, out=cases.parent / "out")
    assert caught.value.remedy


def test_a_set_whose_test_images_are_all_copies_is_named(cases: Path) -> None:
    folder = cases.parent / "copies"
    for label in CLASSES:
        (folder / label).mkdir(parents=True)
        for i in range(9):
            photo(label, 0).save(folder / label / f"{i}.png")
    listed(cases, cases.parent / "tiny.safetensors", {"data": "copies", "similar": True, "images": [3], "test": 4})
    with pytest.raises(ConvAtlasError, match="copies, 3 a class, split 0: every test image is a copy"):
        convatlas.study("quadrants", cases, out=cases.parent / "out", seeds=1, device="cpu")


def test_two_sets_of_one_name_are_refused_since_results_are_kept_by_it(cases: Path) -> None:
    write_photos(cases.parent / "elsewhere/plain", 0, 9)
    sets = [{"data": data, "similar": True, "images": [3], "test": 4} for data in ("plain", "elsewhere/plain")]
    listed(cases, cases.parent / "tiny.safetensors", *sets)
    with pytest.raises(ConvAtlasError, match="two sets are called plain"):
        read_list(cases)


def test_damaged_results_are_named(cases: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/cells.json").write_text("{half")
    with pytest.raises(ConvAtlasError, match=r"cells\.json cannot be read"):
        convatlas.study("quadrants", cases, out=tmp_path / "out")


@pytest.mark.parametrize("option", [{"epochs": 3}, {"images": 10}, {"full": True}, {"runs": "runs"}])
def test_lengths_are_the_lists_own(option: dict[str, Any], cases: Path) -> None:
    with pytest.raises(ConvAtlasError, match="the study quadrants takes no --"):
        convatlas.study("quadrants", cases, out=cases.parent / "out", **option)


def test_cases_are_told_from_the_smallest(tmp_path: Path) -> None:
    each = CaseSet(path=tmp_path / "photos", similar=True, images=(20, 5), test=4)
    assert [case.label for case in each.cases] == ["photos, 5 a class", "photos, 20 a class"]
