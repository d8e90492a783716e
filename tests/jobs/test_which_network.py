"""Several backbones in one fit: names and folders, the ranking, what a bad one costs, and whose eyes see the test part."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from convatlas.cli.verbs import app
from convatlas.errors import ConvAtlasError
from convatlas.jobs import which_network
from convatlas.jobs.fit import fit
from tiny import CARD, NETWORK, write_weights

OTHER = "resnet32_cifar"


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of two networks' weights, a file that is none, and one without a card."""
    folder = tmp_path_factory.mktemp("weights")
    write_weights(folder / "a.safetensors")
    write_weights(folder / "b.safetensors", name=OTHER)
    return folder


def test_networks_are_ranked_and_one_is_fitted(weights: Path, photos: Path, tmp_path: Path) -> None:
    result = fit(photos, backbones=weights, out=tmp_path / "model")
    networks = result.json["networks"]
    assert {row["name"] for row in networks["rows"]} == {NETWORK, OTHER}
    chosen = [row for row in networks["rows"] if row["chosen"]]
    assert [row["name"] for row in chosen] == [networks["chosen"]] == [result.json["backbone"]]
    assert networks["reason"].startswith(networks["chosen"]) or "No difference" in networks["reason"]
    best, second = networks["rows"]
    assert best["difference_interval"] is None
    low, high = second["difference_interval"]
    assert low <= second["difference"] <= high
    assert best["images"] == 24
    costs = {row["name"]: row["mult_adds"] for row in networks["rows"]}
    assert 1.5 < costs[OTHER] / costs[NETWORK] < 1.9
    as_good = second["name"] == NETWORK and not second["worse_by"] and low > -0.01
    assert networks["chosen"] == (second if as_good else best)["name"]
    assert result.report is not None
    page = result.report.read_text()
    assert "Which network" in page
    assert networks["reason"] in page


def test_it_is_the_fit_of_the_network_alone(
    weights: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    among = fit(
        photos, backbones=[weights / "a.safetensors", weights / "b.safetensors"], out=tmp_path / "a", report=False
    )
    file = weights / ("a.safetensors" if among.json["backbone"] == NETWORK else "b.safetensors")
    monkeypatch.setenv("CONVATLAS_CACHE", str(tmp_path / "cache"))
    alone = fit(photos, weights=file, out=tmp_path / "b", report=False)
    for key in ("accuracy", "stages", "confusion", "temperature", "evidence"):
        assert among.json[key] == alone.json[key]
    assert alone.json["networks"] is None


def test_names_are_looked_for_in_the_folder_of_weights(weights: Path, photos: Path, tmp_path: Path) -> None:
    result = fit(photos, backbones=f"{OTHER},{NETWORK}", weights=weights, out=tmp_path / "model", report=False)
    assert {row["backbone"] for row in result.json["networks"]["rows"]} == {OTHER, NETWORK}


def test_a_bad_candidate_is_a_row_and_the_others_go_on(weights: Path, photos: Path, tmp_path: Path) -> None:
    folder = tmp_path / "weights"
    folder.mkdir()
    for path in weights.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / "broken.safetensors").write_bytes(b"no tensors")
    (folder / "broken.json").write_text((folder / "a.json").read_text())
    (folder / "unknown.safetensors").write_bytes(b"no card")
    result = fit(photos, backbones=folder, out=tmp_path / "model")
    rows = {row["name"]: row for row in result.json["networks"]["rows"]}
    assert "not a whole safetensors file" in rows[f"{NETWORK} (broken)"]["failure"]
    assert "Name it, as in" in rows["unknown.safetensors"]["failure"]
    assert rows[f"{NETWORK} (a)"]["failure"] is None
    assert rows[OTHER]["failure"] is None
    assert result.report is not None
    assert "not a whole safetensors file" in result.report.read_text()


def test_where_all_are_bad_the_first_says_why(photos: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.safetensors").write_bytes(b"no tensors")
        (tmp_path / f"{name}.json").write_text(json.dumps({**CARD, "name": NETWORK}))
    with pytest.raises(ConvAtlasError, match=r"a\.safetensors: not a whole safetensors file"):
        fit(photos, backbones=tmp_path, out=tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_only_the_chosen_one_sees_the_test_part(
    weights: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[set[str]] = []
    real = which_network.gather

    def watched(*arguments: object, **options: object) -> object:
        found = real(*arguments, **options)  # pyright: ignore[reportArgumentType] - passed on
        seen.append({item.record.split for item in found.passed.examined})
        return found

    monkeypatch.setattr(which_network, "gather", watched)
    fit(photos, backbones=weights, out=tmp_path / "model", report=False)
    assert seen == [{"train"}, {"train"}]


@pytest.mark.parametrize(
    ("backbones", "options", "told"),
    [
        (",".join(["resnet20_cifra"] * 40), {}, "unknown model 'resnet20_cifra'"),  # longer than a file's name may be
        ("resnet20_cifra,resnet32_cifar", {}, "unknown model 'resnet20_cifra'; did you mean 'resnet20_cifar'"),
        ("resnet20_cifar,lenet5", {"weights": True}, "no weights there are for lenet5"),
        ("resnet20_cifar", {"weights": True}, "to choose takes two"),
        ("resnet20_cifar,resnet32_cifar", {"weights": True, "backbone": "lenet5"}, "Leave one of them out"),
        ("resnet20_cifar,resnet32_cifar", {"weights": True, "plan": "probe:stage9"}, "no stage 'stage9'"),
        ("resnet20_cifar,resnet32_cifar", {"weights": "a.safetensors"}, "is no folder"),
    ],
)
def test_what_cannot_be_ranked_is_named(
    weights: Path, photos: Path, tmp_path: Path, backbones: str, options: dict[str, object], told: str
) -> None:
    given = dict(options)
    if place := given.pop("weights", None):
        given["weights"] = weights if place is True else weights / str(place)
    with pytest.raises(ConvAtlasError, match=told):
        fit(photos, backbones=backbones, out=tmp_path / "model", **given)  # pyright: ignore[reportArgumentType] - parametrised
    assert not (tmp_path / "model").exists()


def test_the_command_prints_the_ranking_and_the_evidence(weights: Path, photos: Path, tmp_path: Path) -> None:
    words = ["fit", str(photos), "--backbones", str(weights), "--out", str(tmp_path / "model"), "--no-report"]
    outcome = CliRunner().invoke(app, words, catch_exceptions=False)
    assert outcome.exit_code == 0
    assert "points beside the best" in outcome.stdout
    assert "50 more images of each class" in outcome.stdout
