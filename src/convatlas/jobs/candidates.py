"""What is compared: networks of the zoo by name or pattern, and model folders, each with its size, its counts and its accuracies.

Networks of the zoo come from the catalogue and the papers' figures, without torch. A model folder is loaded, and so verified, and counted
as it stands there: with its own classifier, input and probe.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convatlas import catalogue
from convatlas.cards import card
from convatlas.errors import ConvAtlasError
from convatlas.jobs.protocols import Accuracy, Protocol, judged, published

if TYPE_CHECKING:
    from convatlas.jobs.measure import Subject

_WILD = "*?["


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One network that is compared."""

    name: str  # the zoo's, or the folder as it was given
    network: str  # the zoo's
    folder: Path | None = None
    input_size: tuple[int, int, int]  # channels, height, width
    crops: int = 1  # such inputs an image
    num_classes: int
    parameters: int
    mult_adds: int  # of convolutions and fully connected layers, one image
    accuracies: dict[Protocol, Accuracy]
    config: dict[str, Any] = field(default_factory=dict)  # fields of the network's config that differ, in a folder
    probe: dict[str, Any] | None = None  # of a folder that holds a probe

    def row(self) -> dict[str, Any]:
        """What is known of it before anything is compared or measured, as JSON."""
        found = card(self.network)
        return {
            "name": self.name,
            "network": self.network,
            "folder": None if self.folder is None else str(self.folder),
            "family": found.network.family,
            "year": found.network.year,
            "depth": found.depth,
            "input_size": list(self.input_size),
            "crops": self.crops,
            "classes": self.num_classes,
            "parameters": self.parameters,
            "mult_adds": self.mult_adds,
        }

    def subject(self) -> Subject:
        """The network as something to be measured."""
        from convatlas.jobs.measure import Subject

        return Subject(
            name=self.name,
            network=self.network,
            input_size=self.input_size,
            crops=self.crops,
            num_classes=self.num_classes,
            config=self.config,
            probe=self.probe,
        )


def candidates(names: Sequence[str | Path]) -> list[Candidate]:
    """What `names` stand for, each once, in their order; everything in the zoo where there are none.

    A name is the zoo's, a shell pattern of such, or a model folder. Raises `ConvAtlasError` for one that is none of these.
    """
    if not names:
        return [_of_zoo(name) for name in catalogue.names()]
    found: dict[str, Candidate] = {}
    for given in names:
        for candidate in _meant(given):
            found.setdefault(candidate.name, candidate)
    return list(found.values())


def _meant(given: str | Path) -> Iterable[Candidate]:
    text = str(given)
    if text in catalogue.networks():  # a folder of that name is meant by `./resnet50`
        return [_of_zoo(text)]
    path = Path(given).expanduser()
    if path.exists() or isinstance(given, Path) or any(separator in text for separator in {"/", os.sep}):
        return [_of_folder(text, path)]
    if any(letter in text for letter in _WILD):
        if not (names := catalogue.names(text)):
            raise ConvAtlasError(f"no network matches {text!r}.", remedy="`convatlas list` shows what there is.")
        return [_of_zoo(name) for name in names]
    return [_of_zoo(catalogue.find(text).name)]  # which says what is near


def _of_zoo(name: str) -> Candidate:
    network = catalogue.find(name)
    return Candidate(
        name=name,
        network=name,
        input_size=network.input_size,
        num_classes=network.num_classes,
        parameters=network.parameters,
        mult_adds=network.mult_adds,
        accuracies=published(name),
    )


def _of_folder(text: str, path: Path) -> Candidate:
    from convatlas.bundle.load import load
    from convatlas.bundle.save import CONFIG

    classifier = load(path)
    own = json.loads((path / CONFIG).read_text(encoding="utf-8"))["convatlas"]
    size = (classifier.preprocessing.channels, classifier.preprocessing.size, classifier.preprocessing.size)
    described = {"network": classifier.network, "config": own["config"], "probe": own["probe"]}
    parameters, mult_adds = _counted(described, size, len(classifier.classes))
    return Candidate(
        name=text,
        network=classifier.network,
        folder=path,
        input_size=size,
        crops=classifier.preprocessing.crops,
        num_classes=len(classifier.classes),
        parameters=parameters,
        mult_adds=mult_adds * classifier.preprocessing.crops,
        accuracies=judged(classifier.about),
        config=own["config"],
        probe=own["probe"],
    )


def _counted(described: dict[str, Any], size: tuple[int, int, int], num_classes: int) -> tuple[int, int]:
    """Parameters and mult-adds as the catalogue counts them, of the network that a model folder describes."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from convatlas.jobs.measure import Subject

    model = Subject(name="", input_size=size, num_classes=num_classes, **described).built().to("meta")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.empty(1, *size, device="meta"))
    return sum(parameter.numel() for parameter in model.parameters()), counter.get_total_flops() // 2
