"""The cards: one for every network, honest about where its figures come from, and docs/zoo.md as they write it."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from convatlas import catalogue, zoo
from convatlas.cards import PAGE, PAPERS, Card, card, page
from convatlas.errors import ConvAtlasError

CLAIMED: dict[str, Any] = json.loads(PAPERS.read_text(encoding="utf-8"))
NETWORKS = catalogue.networks()
MEANS = ("checked", "library metadata", "paper, from memory", "paper's figure, checked", "top-1 checked")
UNITS = {"": 1, "M": 1e6, "million": 1e6, "billion": 1e9, "× 10⁹": 1e9}


def sentences(text: str) -> int:
    return len(re.findall(r"[.!?](?= [A-Z0-9`]|$)", text))


def agrees(claim: str, exact: int) -> bool:
    """Whether the number that a claim starts with is `exact`, rounded or cut to as many digits."""
    found = re.match(r"(?:about )?([\d.,]+) ?(million|billion|M\b|× 10⁹|)", claim)
    assert found, claim
    number, unit = found[1].replace(",", ""), found[2]
    scaled, digits = exact / UNITS[unit], len(number.partition(".")[2])
    cut = int(scaled * 10**digits) / 10**digits
    return float(number) in (round(scaled, digits), cut)


def test_every_network_has_an_entry_and_every_entry_a_network() -> None:
    assert list(CLAIMED["networks"]) == list(NETWORKS) == list(zoo.variants())
    assert list(CLAIMED["families"]) == list(dict.fromkeys(network.family for network in NETWORKS.values()))


@pytest.mark.parametrize("family", CLAIMED["families"])
def test_a_family_has_its_paper_and_an_idea_of_two_sentences(family: str) -> None:
    paper = CLAIMED["families"][family]
    assert all(paper[field] for field in ("title", "authors", "venue", "url"))
    assert sentences(paper["idea"]) == 2 and paper["idea"].endswith(".")
    assert {paper["year"]} == {network.year for network in NETWORKS.values() if network.family == family}
    assert paper["url"].startswith("http")


@pytest.mark.parametrize("name", NETWORKS)
def test_a_card_says_what_distinguishes_ours(name: str) -> None:
    one = card(name)
    assert one.network is NETWORKS[name]
    assert 1 <= sentences(one.differs) <= 2, one.differs
    named = re.findall(r"`([a-z][a-z0-9_]+)`", " ".join([one.differs, *(r.of for r in one.results)]))
    of_timm = {"resnetv2", "densenet264d", *(other.split("/")[1] for other in one.network.elsewhere)}
    assert set(named) <= NETWORKS.keys() | of_timm


@pytest.mark.parametrize("name", NETWORKS)
def test_claims_are_our_counts_or_the_card_says_that_they_are_not(name: str) -> None:
    one = card(name)
    assert list(one.claims) == ["parameters", "mult_adds"]
    wrong = {
        what: claim for what, claim in one.claims.items() if claim and not agrees(claim, getattr(one.network, what))
    }
    for claim in wrong.values():
        (number,) = re.findall(r"^(?:about )?([\d.,]+)", claim)
        assert number in " ".join(one.disagreements), f"{name}: {claim} is not our count, and nothing says so"


@pytest.mark.parametrize("name", NETWORKS)
def test_results_say_how_they_were_measured_and_how_we_know(name: str) -> None:
    one = card(name)
    for result in one.results:
        assert result.top1_error is not None or result.top5_error is not None
        assert 0 <= (result.top5_error or 0) <= (result.top1_error or 100) <= 100
        assert result.protocol and result.basis.startswith(MEANS)
        assert result.dataset in ("ImageNet-1k", "CIFAR-10", "CIFAR-100", "SVHN", "MNIST")
    assert len(set(one.results)) == len(one.results)
    assert (one.best is None) == (not one.results)


def test_the_best_error_is_that_of_the_network_alone_on_its_own_data() -> None:
    def best(name: str) -> str:
        found = card(name).best
        assert found and not found.of
        return f"{found.dataset} {found.figures}"

    assert best("alexnet") == "ImageNet-1k 40.7 / 18.2"  # not the ensemble's, nor that with a sixth convolution
    assert best("googlenet") == "ImageNet-1k – / 7.89"  # where only top-5 is printed, that decides
    assert best("wrn_28_10_cifar") == "CIFAR-10 3.89"  # not SVHN's
    assert card("plain20_cifar").best is None


def test_cards_are_the_shared_facts(shared: Any) -> None:
    """Every error in the facts is on some card, so that none was mistyped or lost."""
    entries = json.loads((shared / "facts" / "architectures.json").read_text(encoding="utf-8"))["entries"]
    known = {(r.top1_error, r.top5_error) for name in NETWORKS for r in card(name).results}
    for entry in entries:
        for result in [entry, *entry["results"]]:
            pair = (result.get("top1_error"), result.get("top5_error"))
            assert pair == (None, None) or pair in known, (entry["name"], pair)


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(ConvAtlasError, match="unknown model 'resnet5O'; did you mean 'resnet50'?"):
        card("resnet5O")


@pytest.mark.parametrize("name", NETWORKS)
def test_a_card_can_be_set_in_any_form(name: str) -> None:
    one = card(name)
    texts = [text for pairs in one.sections().values() for _, text in pairs]
    assert all(texts)
    assert all(text in one.markdown() for text in texts)
    html = one._repr_html_()
    assert html.count("<tr>") == html.count("</tr>") == len(texts)
    assert json.loads(json.dumps(one.to_json()))["schema"] == "convatlas.card/1"


def test_the_json_of_a_card_is_flat_and_complete() -> None:
    found = json.loads(json.dumps(card("resnet50").to_json()))
    assert (found["name"], found["parameters"], found["sides"]) == ("resnet50", 25_557_032, [1, None])
    assert found["paper"]["url"] == "https://arxiv.org/abs/1512.03385"
    assert found["best"] in found["results"]
    assert set(found) == {"schema", "best", *(f for f in Card.__dataclass_fields__ if f != "network")} | {
        *catalogue.Network.__dataclass_fields__
    }


def test_the_page_of_the_zoo_is_what_the_cards_write() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run `python -m convatlas.cards`"


def test_the_page_is_well_formed_and_counts_right() -> None:
    text = page()
    rows = [line for line in text.splitlines() if line.startswith("| `")]
    assert sorted(re.findall(r"`([^`]+)`", row)[0] for row in rows) == sorted(NETWORKS)
    assert {row.count("|") for row in rows} == {10}
    compared = sum(bool(network.elsewhere) for network in NETWORKS.values())
    assert f"{len(NETWORKS)} networks in {len(CLAIMED['families'])} families. {compared} of them" in text
    assert f"The other {len(NETWORKS) - compared} have no counterpart there" in text
