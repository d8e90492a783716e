"""What networks there are, without importing torch: `catalogue.json` is computed from the zoo (`python -m convatlas.catalogue`).

A test computes it afresh and compares, so it cannot disagree with the networks.
"""

from __future__ import annotations

import difflib
import fnmatch
import json
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from convatlas.errors import ConvAtlasError

_FILE = Path(__file__).with_name("catalogue.json")


@dataclass(frozen=True, kw_only=True)
class Network:
    """One network as its paper has it; parameters and mult-adds are those of its own input size and number of classes."""

    name: str
    family: str
    year: int
    input_size: tuple[int, int, int]  # channels, height, width
    num_classes: int
    stages: tuple[str, ...]
    hidden: tuple[str, ...] = ()  # cuts inside the classifier, after its hidden fully connected layers
    shapes: tuple[tuple[int, ...], ...]  # of the activations at `rungs`: channels, height, width; or units
    sides: tuple[int, int | None]  # the least and largest images it takes, in pixels; None where there is no limit
    parameters: int
    mult_adds: int  # of convolutions and fully connected layers, one image
    elsewhere: dict[str, dict[str, Any]] = field(
        default_factory=dict
    )  # `library/name` → config fields that differ there

    @property
    def rungs(self) -> tuple[str, ...]:
        """The cuts at which a probe is fitted: every stage, and the hidden layers of the classifier."""
        return self.stages + self.hidden


@cache
def networks() -> dict[str, Network]:
    """Every network by name, family by family."""
    rows = json.loads(_FILE.read_text())
    return {row["name"]: Network(**{k: _frozen(v) for k, v in row.items()}) for row in rows}


def _frozen(value: Any) -> Any:
    return tuple(_frozen(item) for item in value) if isinstance(value, list) else value


def names(pattern: str = "*") -> list[str]:
    """The names of the networks that match a shell pattern: `names("resnet*_cifar")`."""
    return fnmatch.filter(networks(), pattern)


def known_as(name: str) -> tuple[str, dict[str, Any]] | None:
    """Our network called `library/name` elsewhere ("timm/resnetv2_50") and the config fields it needs; None if we have none."""
    return next(((n.name, n.elsewhere[name]) for n in networks().values() if name in n.elsewhere), None)


def find(name: str) -> Network:
    """The network called `name`; `ConvAtlasError` with the nearest name if there is none."""
    known = networks()
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else "`convatlas list` shows what there is."
        raise ConvAtlasError(f"unknown model {name!r};", remedy=hint)
    return known[name]


def computed(name: str) -> Network:
    """One network's entry as the zoo defines it now, built and counted on the `meta` device (no memory, no arithmetic)."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from convatlas import zoo

    family = zoo.family_of(name)
    size, num_classes = zoo.native(name)
    with torch.device("meta"):
        model = zoo.build(name, num_classes=num_classes, in_channels=size[0]).eval()
        stages, hidden = zoo.stage_names(model), zoo.hidden_names(model)
        found = zoo.taps(model, stages + hidden)(torch.empty(1, *size))
        with FlopCounterMode(display=False) as counter:
            model(torch.empty(1, *size))
    named, year = getattr(family, "PAPERS", {}).get(name, (family.FAMILY, family.YEAR))
    return Network(
        name=name,
        family=named,
        year=year,
        input_size=size,
        num_classes=num_classes,
        stages=stages,
        hidden=hidden,
        shapes=tuple(tuple(activation.shape[1:]) for activation in found.values()),
        sides=zoo.side_range(model),
        parameters=sum(p.numel() for p in model.parameters()),
        mult_adds=counter.get_total_flops() // 2,
        elsewhere={other: fields for other, (ours, fields) in family.ELSEWHERE.items() if ours == name},
    )


def main() -> None:
    from convatlas import zoo

    rows = (json.dumps(asdict(computed(name))) for name in zoo.variants())
    _FILE.write_text("[\n" + ",\n".join(rows) + "\n]\n")


if __name__ == "__main__":
    main()
