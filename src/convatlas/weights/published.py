"""The published ImageNet weights that the zoo's networks can load: `published.json`, from torchvision's and timm's own metadata.

`python -m convatlas.weights.published` writes it, without a network; a test computes it afresh and compares. Reading it needs neither torch
nor those libraries.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from convatlas import catalogue
from convatlas.data import Preprocessing

_FILE = Path(__file__).with_name("published.json")
_MIB = 1.048576  # megabytes


@dataclass(frozen=True, kw_only=True)
class Published:
    """One published set of weights of an ImageNet-1k classifier."""

    tag: str  # `torchvision/` and the enum's name, or `timm/` and the hub's
    counterpart: str  # what its library calls the network: `timm/resnet50`
    file: str  # as it is called on disk
    url: str | None = None  # where the file is; None: in the hub's repository that has the tag's name
    top1: float | None = None  # ImageNet top-1 accuracy in percent as its publisher states it, one centre crop
    top5: float | None = None
    megabytes: float | None = None  # None where the metadata do not say
    licence: str | None = None
    default: bool = False  # what the library itself takes where no tag is given
    prepared: dict[str, Any]  # the fields of `preprocessing`

    @property
    def library(self) -> str:
        return self.tag.split("/")[0]

    @property
    def name(self) -> str:
        """Our name of the network."""
        return _ours()[self.counterpart][0]

    @property
    def config(self) -> dict[str, Any]:
        """The fields of the network's config that these weights need to be others."""
        return _ours()[self.counterpart][1]

    @property
    def preprocessing(self) -> Preprocessing:
        """How images were prepared when the weights were evaluated."""
        return Preprocessing.from_json(self.prepared)

    @property
    def size(self) -> str:
        """For people: "103 MB", or "about 102 MB" from the number of parameters."""
        if self.megabytes is not None:
            return f"{self.megabytes:.0f} MB"
        return f"about {catalogue.find(self.name).parameters * 4 / 1e6:.0f} MB"


@cache
def published() -> dict[str, Published]:
    """Every published set of weights by its tag, network by network."""
    return {row["tag"]: Published(**row) for row in json.loads(_FILE.read_text())}


def default_tag(name: str) -> str:
    """The tag that `timm/resnet50` or `torchvision/ResNet50_Weights.DEFAULT` stands for in its library; else `name` itself."""
    for weights in published().values():
        enum = f"{weights.tag.rpartition('.')[0]}.DEFAULT"
        if weights.default and name == (weights.counterpart if weights.library == "timm" else enum):
            return weights.tag
    return name


def rank(weights: Published) -> tuple[float, bool, bool, bool]:
    """The greater, the better. By published top-1; where there is none, below those of the same network that have one.

    timm keeps its results outside its metadata. Its weights are mostly better than torchvision's first ones of the same network,
    whose figure is therefore a floor for them. A network without any figure comes last, which is no judgement on it. Between equals,
    licences that allow commercial use go first, then the library's own choice.
    """
    figures = [other.top1 for other in published().values() if other.name == weights.name and other.top1 is not None]
    known = weights.top1 if weights.top1 is not None else min(figures, default=0.0)
    free = not (weights.licence or "").startswith("cc-by-nc")
    return known, weights.top1 is not None, free, weights.default


@cache
def _ours() -> dict[str, tuple[str, dict[str, Any]]]:
    networks = catalogue.networks().values()
    return {other: (network.name, fields) for network in networks for other, fields in network.elsewhere.items()}


def compute() -> Iterator[dict[str, Any]]:
    """The rows of `published.json` from the metadata of the installed torchvision and timm."""
    for counterpart in _ours():
        library, name = counterpart.split("/")
        yield from (_from_torchvision if library == "torchvision" else _from_timm)(counterpart, name)


def _from_torchvision(counterpart: str, name: str) -> Iterator[dict[str, Any]]:
    from torchvision.models import get_model_weights

    weights: Any = get_model_weights(name)
    for entry in weights:
        figures = entry.meta["_metrics"]["ImageNet-1K"]
        if math.isnan(figures["acc@1"]):  # VGG-16's IMAGENET1K_FEATURES, whose classifier is not a number either
            continue
        transforms = entry.transforms()
        mean, std = transforms.mean, transforms.std
        if name == "googlenet":  # with weights torchvision sets `transform_input`, which undoes ImageNet's statistics
            mean = std = [0.5] * 3
        yield {
            "tag": f"torchvision/{weights.__name__}.{entry.name}",
            "counterpart": counterpart,
            "file": entry.url.rpartition("/")[2],
            "url": entry.url,
            "top1": figures["acc@1"],
            "top5": figures["acc@5"],
            "megabytes": round(entry.meta["_file_size"] * _MIB, 2),
            "licence": entry.meta.get("license"),
            "default": entry is weights.DEFAULT,
            "prepared": {
                "size": transforms.crop_size[0],
                "resize": transforms.resize_size[0],
                "fit": "crop",
                "interpolation": transforms.interpolation.value,
                "mean": list(mean),
                "std": list(std),
            },
        }


def _from_timm(counterpart: str, name: str) -> Iterator[dict[str, Any]]:
    from timm.models import get_pretrained_cfg, list_pretrained

    default: Any = get_pretrained_cfg(name)
    for tagged in sorted(list_pretrained(f"{name}.*"), key=lambda tagged: (tagged != f"{name}.{default.tag}", tagged)):
        entry: Any = get_pretrained_cfg(tagged)
        if entry.num_classes != 1000:  # ImageNet-21k's, and features alone
            continue
        size = entry.input_size[1]  # not `test_input_size`, with which timm's own evaluation gets a little more
        yield {
            "tag": f"timm/{tagged}",
            "counterpart": counterpart,
            "file": "model.safetensors" if entry.hf_hub_id else entry.url.rpartition("/")[2],
            "url": None if entry.hf_hub_id else entry.url,  # the `legacy_` ones are not on the hub
            "top1": None,
            "top5": None,
            "megabytes": None,
            "licence": entry.license,
            "default": tagged == f"{name}.{default.tag}",
            "prepared": {
                "size": size,
                "resize": math.floor(size / entry.crop_pct),
                "fit": {"center": "crop", "squash": "squash", "border": "pad"}[entry.crop_mode],
                "interpolation": entry.interpolation,
                "mean": list(entry.mean),
                "std": list(entry.std),
            },
        }


def as_text() -> str:
    """What `published.json` holds: a line for each tag."""
    return "[\n" + ",\n".join(json.dumps(row) for row in compute()) + "\n]\n"


if __name__ == "__main__":
    _FILE.write_text(as_text())
