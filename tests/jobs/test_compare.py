"""Comparisons: who is on the front, what may stand together, and that every number is the catalogue's, the papers' or measured."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import convatlas
from convatlas import catalogue
from convatlas.cards import card
from convatlas.cli.compare import compare_text
from convatlas.jobs.compare import BY, compare
from convatlas.jobs.fit import FitResult, fit
from convatlas.jobs.protocols import published
from convatlas.jobs.ranking import pareto_front, spearman
from convatlas.studies.ilsvrc import ilsvrc
from convatlas.weights.published import published as published_weights
from tiny import write_split, write_weights

POINTS = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=14)


@given(POINTS)
def test_the_front_is_what_brute_force_finds(points: list[tuple[int, int]]) -> None:
    def beaten(point: tuple[int, int]) -> bool:
        cost, value = point
        return any(c <= cost and v >= value and (c, v) != point for c, v in points)

    found = pareto_front([cost for cost, _ in points], [value for _, value in points])
    assert sorted(found) == [i for i, point in enumerate(points) if not beaten(point)]
    assert [points[i][0] for i in found] == sorted(points[i][0] for i in found)


@given(st.lists(st.integers(0, 5), min_size=3, max_size=9), st.data())
def test_spearman_is_one_for_the_same_order_and_minus_one_for_the_opposite(values: list[int], data: Any) -> None:
    same = spearman(values, [math.exp(value) for value in values])
    opposite = spearman(values, [-value for value in values])
    if len(set(values)) == 1:
        assert same is None and opposite is None
    else:
        assert same == pytest.approx(1) and opposite == pytest.approx(-1)
    other = data.draw(st.permutations(values))
    found = spearman(values, other)
    assert found is None or -1 - 1e-9 <= found <= 1 + 1e-9


def test_spearman_with_ties_is_the_usual_one() -> None:
    # by hand: ranks 1, 2.5, 2.5, 4 and 1, 3, 2, 4 have the covariance 4.5 and the variances 4.5 and 5
    assert spearman([1, 2, 2, 3], [10, 30, 20, 40]) == pytest.approx(4.5 / math.sqrt(4.5 * 5))
    assert spearman([1, 2], [1, 2]) is None


@pytest.fixture(scope="module")
def everything() -> dict[str, Any]:
    return compare().json


def test_every_number_is_the_catalogues_or_the_papers(everything: dict[str, Any]) -> None:
    rows = everything["networks"]
    assert len(rows) >= 20
    for row in rows:
        network = catalogue.find(row["name"])
        assert (row["parameters"], row["mult_adds"]) == (network.parameters, network.mult_adds)
        assert (row["input_size"], row["year"], row["depth"]) == (
            list(network.input_size), network.year, card(row["name"]).depth,
        )  # fmt: skip
        errors = {(result.top1_error, result.top5_error) for result in card(row["name"]).results if not result.of}
        assert any(
            top1 is not None
            and top5 is not None
            and row["accuracy"] == pytest.approx(1 - top1 / 100, abs=1e-9)
            and row["top5_accuracy"] == pytest.approx(1 - top5 / 100, abs=1e-9)
            for top1, top5 in errors
        )
        assert row["density"] == pytest.approx(100 * row["accuracy"] / (row["parameters"] / 1e6))


def test_by_default_it_is_torchvisions_first_weights_and_they_agree_with_its_metadata(
    everything: dict[str, Any],
) -> None:
    protocol = everything["protocol"]
    assert protocol["dataset"] == "ImageNet-1k" and "IMAGENET1K_V1, centre crop 224 of 256" in protocol["measured"]
    assert {row["protocol"] for row in everything["networks"]} == {f"{protocol['dataset']}: {protocol['measured']}"}
    library = {
        weights.name: weights
        for weights in published_weights().values()
        if weights.tag.endswith(".IMAGENET1K_V1") and weights.prepared["resize"] == 256
    }
    assert {row["name"] for row in everything["networks"]} == set(library)
    for row in everything["networks"]:
        assert library[row["name"]].top1 == pytest.approx(100 * row["accuracy"])
        assert library[row["name"]].top5 == pytest.approx(100 * row["top5_accuracy"])


def test_the_density_is_that_of_the_facts(everything: dict[str, Any], shared: Path) -> None:
    facts = json.loads((shared / "facts/lecture_figures.json").read_text())["canziani_2016"]
    called = {"googlenet_torchvision": "googlenet_bn"}
    rows = {row["name"]: row for row in everything["networks"]}
    for name, density in facts["information_density_reference"].items():
        assert rows[called.get(name, name)]["density"] == pytest.approx(density, abs=0.006)


@pytest.mark.parametrize("quantity", ["mult_adds", "parameters"])
def test_the_fronts_hold_who_is_beaten_by_nobody(everything: dict[str, Any], quantity: str) -> None:
    rows = everything["networks"]
    unbeaten = {
        row["name"]
        for row in rows
        if not any(
            other[quantity] <= row[quantity] and other["accuracy"] >= row["accuracy"] and other["name"] != row["name"]
            for other in rows
        )
    }
    assert set(everything["fronts"][quantity]) == unbeaten
    assert compare(by=quantity).front == everything["fronts"][quantity]


@pytest.mark.parametrize("by", ["mult_adds", "parameters", "density"])
def test_the_networks_stand_in_the_order_asked_for(by: str) -> None:
    values = [row[by] for row in compare(by=by).json["networks"]]
    assert values == sorted(values, reverse=by == "density")


@pytest.mark.parametrize("pattern", ["resnet*", "mobilenet_v1*", "*_cifar", "se_*", "*"])
def test_protocols_are_never_mixed_unasked(pattern: str) -> None:
    result = compare([pattern]).json
    assert len({row["protocol"] for row in result["networks"] if row["accuracy"] is not None}) == 1
    assert {row["name"] for row in result["networks"]} == set(catalogue.names(pattern))
    assert {row["name"] for row in result["left_out"]} == {
        row["name"] for row in result["networks"] if row["accuracy"] is None
    }
    for row in result["networks"]:
        if row["accuracy"] is not None:
            known = {str(protocol): accuracy for protocol, accuracy in published(row["name"]).items()}
            assert known[row["protocol"]].top1 == row["accuracy"]


def test_a_protocol_is_chosen_by_any_part_of_its_name() -> None:
    result = compare(["resnet50", "resnet101", "mobilenet_v2"], protocol="imagenet1k_v2").json
    assert "IMAGENET1K_V2" in result["protocol"]["measured"]
    rows = {row["name"]: row["accuracy"] for row in result["networks"]}
    assert rows["resnet50"] == pytest.approx(0.80858)
    with pytest.raises(
        convatlas.ConvAtlasError, match="no accuracy of these networks was measured by 'twelve crops'"
    ) as caught:
        compare(["resnet50", "resnet101"], protocol="twelve crops")
    assert "IMAGENET1K_V2" in caught.value.remedy


def test_what_is_not_measured_alike_is_refused_or_mixed_knowingly() -> None:
    with pytest.raises(convatlas.ConvAtlasError, match="nothing comparable: no two of these") as caught:
        compare(["resnet50", "resnet20_cifar"])
    assert "--protocol mixed" in caught.value.remedy
    result = compare(["resnet50", "resnet20_cifar"], protocol="mixed").json
    assert result["protocol"] is None and result["fronts"] == {}
    assert len({row["protocol"] for row in result["networks"]}) == 2
    assert "different data or in different ways" in result["notes"][0]
    assert "not measured alike" in result["answer"]


def test_ensembles_and_networks_without_a_top1_figure_stay_out() -> None:
    assert not [protocol for protocol in published("googlenet") if "144 crops" in protocol.measured]
    assert published("senet154") and all(accuracy.top1 < 0.85 for accuracy in published("senet154").values())


@pytest.mark.parametrize(
    ("names", "message", "remedy"),
    [
        (["resnet5", "vgg16"], "unknown model 'resnet5'", "did you mean 'resnet50'"),
        (["vgg16"], "only vgg16", "Name several"),
        ("vgg16", "only vgg16", "Name several"),
        (["vgg16", "vgg16"], "only vgg16", "Name several"),
        (["incept*"], "no network matches 'incept*'", "convatlas list"),
        (["vgg16", "./nowhere"], "not a model folder", "convatlas fit"),
    ],
)
def test_bad_names_are_one_message_with_a_remedy(names: Any, message: str, remedy: str) -> None:
    with pytest.raises(convatlas.ConvAtlasError) as caught:
        compare(names)
    assert message in caught.value.message
    assert remedy in caught.value.remedy


@pytest.mark.parametrize(
    ("options", "message"),
    [({"by": "flops"}, "unknown quantity 'flops'"), ({"batch": 0}, "batch 0"), ({"repeats": 0}, "repeats 0")],
)
def test_bad_options_name_themselves(options: dict[str, Any], message: str) -> None:
    with pytest.raises(convatlas.ConvAtlasError, match=message) as caught:
        compare(["vgg16", "vgg19"], **options)
    assert caught.value.remedy


@pytest.fixture(scope="module")
def other_backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_weights(tmp_path_factory.mktemp("other") / "wider.safetensors", name="resnet32_cifar")


@pytest.fixture(scope="module")
def second(photos: Path, other_backbone: Path, tmp_path_factory: pytest.TempPathFactory) -> FitResult:
    """Another network, fitted on the same photos."""
    return fit(photos, weights=other_backbone, out=tmp_path_factory.mktemp("second") / "model", report=False)


@pytest.fixture(scope="module")
def elsewhere(backbone: Path, tmp_path_factory: pytest.TempPathFactory) -> FitResult:
    """The first network, fitted on other photos."""
    photos = write_split(tmp_path_factory.mktemp("others") / "stripes", {"train": 6, "test": 3})
    return fit(photos, weights=backbone, out=tmp_path_factory.mktemp("elsewhere") / "model", report=False)


def test_model_folders_of_the_same_data_are_compared_with_their_intervals(fitted: FitResult, second: FitResult) -> None:
    result = compare([fitted.bundle, second.bundle], by="parameters").json
    rows = {row["folder"]: row for row in result["networks"]}
    for one in (fitted, second):
        row = rows[str(one.bundle)]
        assert (row["accuracy"], row["accuracy_interval"]) == (one.accuracy, list(one.accuracy_interval))
        assert row["network"] == one.json["backbone"]
        assert one.json["data"]["fingerprint"].startswith(result["protocol"]["dataset"].removeprefix("data "))
        assert one.json["protocol"] in row["basis"]
    assert result["protocol"]["networks"] == 2
    assert result["ilsvrc"] is None


def test_model_folders_judged_on_the_same_images_are_compared_image_by_image(
    fitted: FitResult, second: FitResult, elsewhere: FitResult
) -> None:
    result = compare([fitted.bundle, second.bundle, elsewhere.bundle], protocol="mixed").json
    (pair,) = result["pairs"]  # those elsewhere are other images
    by_name = {str(one.bundle): one for one in (fitted, second)}
    better, other = by_name[pair["better"]], by_name[pair["other"]]
    assert pair["difference"] == pytest.approx(better.accuracy - other.accuracy) and pair["difference"] >= 0
    assert pair["images"] == sum(row["test"] for row in better.json["classes"])
    assert pair["only_ours"] - pair["only_theirs"] == round(pair["difference"] * pair["images"])
    low, high = pair["difference_interval"]
    assert low <= pair["difference"] <= high and pair["shown"] == (low > 0)
    assert ("no difference shown" in compare_text(result)) != pair["shown"]
    assert compare(["vgg11", "vgg13"]).json["pairs"] == []


def test_a_model_folder_is_counted_as_it_stands_there(fitted: FitResult, second: FitResult) -> None:
    model = convatlas.load(fitted.bundle)
    row = next(r for r in compare([fitted.bundle, second.bundle]).json["networks"] if r["folder"] == str(fitted.bundle))
    assert row["classes"] == len(model.classes)
    assert row["input_size"] == [3, 32, 32]
    network = catalogue.find("resnet20_cifar")
    features = fitted.json["stages"][[s["chosen"] for s in fitted.json["stages"]].index(True)]["features"]
    # at most the whole network without its own classifier, and the probe's: one weight a feature and class, one bias a class
    trunk = network.parameters - (64 * 10 + 10)
    assert 0 < row["parameters"] <= trunk + (features + 1) * row["classes"]
    assert 0 < row["mult_adds"] <= network.mult_adds + features * row["classes"]


def test_model_folders_of_other_data_are_not_put_together_unasked(fitted: FitResult, elsewhere: FitResult) -> None:
    with pytest.raises(convatlas.ConvAtlasError, match="nothing comparable"):
        compare([fitted.bundle, elsewhere.bundle])
    mixed = compare([fitted.bundle, elsewhere.bundle], protocol="mixed").json
    assert "different data" in mixed["notes"][0] and mixed["fronts"] == {}
    beside = compare([fitted.bundle, "vgg11", "vgg13"]).json
    assert [row["name"] for row in beside["left_out"]] == [str(fitted.bundle)]
    assert "measured otherwise" in beside["left_out"][0]["reason"]


def test_the_result_is_versioned_json_and_says_what_was_asked(everything: dict[str, Any]) -> None:
    assert everything["schema"] == "convatlas.compare/1"
    assert everything["measured"] is None
    assert set(everything["conventions"]) == {"accuracy", *BY}
    assert json.loads(json.dumps(everything, allow_nan=False)) == everything
    assert "26 networks" in compare()._repr_html_() or str(len(everything["networks"])) in compare()._repr_html_()


def test_the_challenges_facts_agree_with_the_reference(shared: Path) -> None:
    facts = json.loads((shared / "facts/ilsvrc.json").read_text())
    reference = {(w["year"], w["top5_error"]): w for w in facts["winners"]}
    ours = ilsvrc()["winners"]
    assert {(w["year"], w["top5_error"]) for w in ours} == set(reference)
    for winner in ours:
        assert winner["exact"] == pytest.approx(
            reference[winner["year"], winner["top5_error"]].get("exact", winner["exact"]), abs=0.03
        )
        assert winner["exact"] == pytest.approx(winner["top5_error"], abs=0.05)
    assert ilsvrc()["human"]["top5_error"] == facts["human"]["top5_error"]


def test_what_the_lecture_prints_is_marked_and_nothing_else_is(shared: Path) -> None:
    lecture = (shared / "lecture.txt").read_text()
    facts = ilsvrc()
    for winner in facts["winners"]:
        assert winner["in_lecture"] == (f"{winner['top5_error']:g}%" in lecture), winner
    assert facts["human"]["in_lecture"] is ("5.1%" in lecture) is False
    for track in facts["sweep_2015"]["tracks"]:
        if track["margin"] is not None:
            assert f"{track['margin']}% better than 2nd" in lecture
    assert [track["margin"] for track in facts["sweep_2015"]["tracks"]] == [None, 16, 27, 11, 12]
