"""What a network is, on one card: what its paper claims (`zoo/papers.json`, kept by hand) beside what ours counts (`catalogue`).

An error of a paper carries how it was measured and on what our knowledge of it rests: much is from memory, and says so. No torch here.
`python -m convatlas.cards` writes docs/zoo.md from the cards; a test compares. (A module named `card` would hide `convatlas.card`.)
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from html import escape
from pathlib import Path
from typing import Any

from convatlas.catalogue import Network, find, networks

PAPERS = Path(__file__).parent / "zoo/papers.json"
PAGE = Path(__file__).parent.parent.parent / "docs/zoo.md"


@dataclass(frozen=True, kw_only=True)
class Paper:
    """Where a family comes from."""

    title: str
    authors: str
    venue: str  # with its year, which is often later than that of the first version
    year: int
    url: str
    idea: str  # two sentences


@dataclass(frozen=True, kw_only=True)
class Result:
    """A published error, in percent."""

    top1_error: float | None
    top5_error: float | None
    dataset: str
    protocol: str
    basis: str  # how we know it: read in the authors' repository, a library's metadata, or only remembered
    of: str = ""  # whose it is, if not this network's alone: of an ensemble, or of a network that is not in the zoo

    @property
    def figures(self) -> str:
        """Top-1 / top-5, or top-1 alone where there is no top-5."""
        top1 = "–" if self.top1_error is None else f"{self.top1_error:g}"
        return top1 if self.top5_error is None else f"{top1} / {self.top5_error:g}"


@dataclass(frozen=True, kw_only=True)
class Card:
    """One network: its paper, its size, what is claimed for it, and in what ours differs. Made by `card`."""

    network: Network
    paper: Paper
    depth: int | None  # layers with weights, as the paper counts them where it does; None where nobody does
    claims: dict[str, str | None]  # `parameters` and `mult_adds` as they are printed
    differs: str  # our variant from the paper's, and from the common re-make
    disagreements: tuple[str, ...]  # where our exact counts are not what a source prints
    results: tuple[Result, ...]  # the network's own data set first

    @property
    def best(self) -> Result | None:
        """The lowest published error of this network alone, on its own data set; whatever the protocol, so read that too."""
        own = [r for r in self.results if not r.of and r.dataset == self.results[0].dataset]
        by_top1 = bool(own) and own[0].top1_error is not None  # GoogLeNet's paper prints top-5 alone
        errors = [(r.top1_error if by_top1 else r.top5_error, r) for r in own]
        known = [(error, result) for error, result in errors if error is not None]
        return min(known, key=lambda pair: pair[0])[1] if known else None

    @property
    def counts(self) -> str:
        """Our exact counts against what is printed elsewhere, in words."""
        printed = [f"{what.replace('_a', '-a')} {claim}" for what, claim in self.claims.items() if claim]
        words = [f"Printed: {', '.join(printed)}."] if printed else []
        libraries = " and ".join(dict.fromkeys(f"{name.split('/')[0]}'s" for name in self.network.elsewhere))
        words += [f"Parameters equal {libraries}."] if libraries else []
        return " ".join([*words, *self.disagreements]) or "None printed by the paper."

    @property
    def elsewhere(self) -> str:
        """What other libraries call it, with the fields of the config that differ there."""
        return ", ".join(
            f"{name} ({', '.join(f'{k}={v}' for k, v in fields.items())})" if fields else name
            for name, fields in self.network.elsewhere.items()
        )

    def sections(self) -> dict[str, list[tuple[str, str]]]:
        """All of the card as headings over pairs of a label and a text, to be set in any form."""
        n, paper = self.network, self.paper
        least, most = n.sides
        sizes = f"from {least} to {most} pixels a side" if most else f"at least {least} pixels a side"
        return {
            n.name: [
                ("paper", f"{paper.authors}. {paper.title}. {paper.venue}. {paper.url}"),
                ("year", str(n.year)),
                ("idea", paper.idea),
                ("this variant", self.differs),
                ("input", f"{_times(n.input_size)}, {n.num_classes} classes"),
                ("sizes", "any" if n.sides == (1, None) else sizes),
                ("depth", "–" if self.depth is None else f"{self.depth} layers"),
                ("parameters", f"{n.parameters:,}"),
                ("mult-adds", f"{n.mult_adds:,}"),
                ("published", self.counts),
                ("elsewhere", self.elsewhere or "in neither torchvision nor timm"),
            ],
            "cuts and their activations": [(cut, _times(shape)) for cut, shape in zip(n.rungs, n.shapes, strict=True)],
            "published errors, top-1 / top-5 in %": [
                (r.figures, f"{r.dataset}, {r.protocol}{f', of {r.of}' if r.of else ''} [{r.basis}]")
                for r in self.results
            ]
            or [("–", "none that we know of")],
        }

    def markdown(self) -> str:
        """The card as a section of Markdown."""
        parts = [
            f"## {heading}\n\n" + "\n".join(f"- **{label}**: {text}" for label, text in pairs)
            for heading, pairs in self.sections().items()
        ]
        return "\n\n".join(parts) + "\n"

    def _repr_html_(self) -> str:
        def row(label: str, text: str) -> str:
            return f"<tr><th>{escape(label)}</th><td>{escape(text)}</td></tr>"

        return "".join(
            f"<h4>{escape(heading)}</h4><table>{''.join(row(*pair) for pair in pairs)}</table>"
            for heading, pairs in self.sections().items()
        )

    def to_json(self) -> dict[str, Any]:
        own = {**asdict(self), "best": asdict(self.best) if self.best else None}
        return {"schema": "convatlas.card/1", **own.pop("network"), **own}


@cache
def _papers() -> dict[str, dict[str, Any]]:
    return json.loads(PAPERS.read_text(encoding="utf-8"))


def card(name: str) -> Card:
    """The card of the network `name`; `ConvAtlasError` with the nearest name if there is none."""
    network = find(name)
    entry = _papers()["networks"][name]
    return Card(
        network=network,
        paper=Paper(**_papers()["families"][network.family]),
        depth=entry["depth"],
        claims=entry["claims"],
        differs=entry["differs"],
        disagreements=tuple(entry["disagreements"]),
        results=tuple(Result(**result) for result in entry["results"]),
    )


def _times(sizes: Iterable[int]) -> str:
    return "×".join(map(str, sizes))


_INTRODUCTION = """\
# The zoo

<!-- Written by `python -m convatlas.cards` from src/convatlas/zoo/papers.json and src/convatlas/catalogue.json; do not edit. -->

{variants} networks in {families} families. {compared} of them are compared number for number with torchvision or timm: the same
weights give the same outputs and gradients, under test. The other {alone} have no counterpart there; of them, counts and shapes are
tested.

Parameters and mult-adds are exact, of the input and the number of classes given; mult-adds are those of convolutions and fully
connected layers. Where a source prints another number, the column of counts says so. The error is the lowest published for the network
alone, top-1 / top-5 in percent, *whatever the protocol*: compare only what was measured alike. In brackets is how we know it, and much
of it is from memory of the paper. A card has all results, and what distinguishes our variant:

```console
$ convatlas show resnet50
$ convatlas show alexnet_owt --json
```

```python
import convatlas

card = convatlas.card("resnet50")
print(card.differs, card.best)
```
"""


def page() -> str:
    """The content of docs/zoo.md."""
    families: dict[str, list[Card]] = {}
    for name, network in networks().items():
        families.setdefault(network.family, []).append(card(name))
    compared = sum(bool(network.elsewhere) for network in networks().values())
    variants = len(networks())
    introduction = _INTRODUCTION.format(
        variants=variants, families=len(families), compared=compared, alone=variants - compared
    )
    return "\n".join([introduction, *(_family(name, cards) for name, cards in families.items())])


def _family(name: str, cards: Sequence[Card]) -> str:
    paper = cards[0].paper
    header = ("network", "input", "parameters", "mult-adds", "depth", "error", "measured how", "counts", "elsewhere")
    lines = [
        f"## {name} ({paper.year})\n",
        f"{paper.idea}\n",
        f"{paper.authors}. [{paper.title}]({paper.url}). {paper.venue}.\n",
        f"| {' | '.join(header)} |",
        "|---|---|--:|--:|--:|--:|---|---|---|",
        *(f"| {' | '.join(_row(one))} |" for one in cards),
    ]
    return "\n".join(lines) + "\n"


def _row(one: Card) -> tuple[str, ...]:
    n, best = one.network, one.best
    return (
        f"`{n.name}`",
        _times(n.input_size),
        f"{n.parameters:,}",
        f"{n.mult_adds:,}",
        "–" if one.depth is None else str(one.depth),
        best.figures if best else "–",
        f"{best.dataset}, {best.protocol} [{best.basis}]" if best else "none published",
        one.counts,
        one.elsewhere or "–",
    )


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
