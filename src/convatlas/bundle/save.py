"""Writing a model folder: `config.json`, `model.safetensors` and a few synthetic images with their logits. No code, no pickle.

The layout is the one timm and the Hugging Face hub use: `architecture`, `num_classes`, `pretrained_cfg`, `label_names`. What they have no
field for stands under `convatlas`. A whole network that timm knows is stored under timm's names, so that timm loads the folder too.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from convatlas import catalogue, zoo
from convatlas.bundle.confidence import CONFIDENCE, Confidence
from convatlas.bundle.examples import example_images
from convatlas.bundle.neighbours import TRAINING, FittedOn
from convatlas.data import DECODER, Preprocessing, decode
from convatlas.weights.load import in_layout
from convatlas.zoo.heads.probe import ProbeConfig, ProbeNet
from convatlas.zoo.inference import apart, by_image, normalised

SCHEMA = "convatlas.bundle/1"
TOLERANCE = 1e-4  # of the largest logit: what float32 on another processor may differ by, and no decoder or resize may
CONFIG, WEIGHTS, EXAMPLES = "config.json", "model.safetensors", "examples"
_TIMM_ARGUMENTS = {"padding": ("pad_type", {"tensorflow": "same"}), "norm_eps": ("bn_eps", {})}


@dataclass(frozen=True, kw_only=True)
class Contents:
    """What goes into a model folder besides the tensors."""

    name: str  # of the network
    config: dict[str, Any]  # fields of the network's config that differ from the variant's
    probe: ProbeConfig | None = None  # where a probe taps it; None for the network with its own classifier
    classes: tuple[str, ...]  # in the order of the logits
    preprocessing: Preprocessing
    about: dict[str, Any] = field(default_factory=dict)  # metrics, protocol, where weights and data came from
    training: FittedOn | None = None  # what is remembered of the images it was fitted to
    confidence: Confidence | None = None  # what these say of its answers


def save(folder: Path, model: nn.Module, contents: Contents) -> None:
    """Writes the model folder into `folder`, which exists and is the caller's to make whole."""
    from safetensors.torch import save_file

    model = model.eval().cpu().float()
    state, architecture, model_args = _state(model, contents)
    save_file({key: tensor.contiguous() for key, tensor in state.items()}, folder / WEIGHTS, metadata={"format": "pt"})
    (folder / EXAMPLES).mkdir()
    examples = []
    for name, data in example_images().items():
        (folder / EXAMPLES / name).write_bytes(data)
        pixels = contents.preprocessing.pixels(decode(data, background=contents.preprocessing.background)[0])
        examples.append(
            {"file": f"{EXAMPLES}/{name}", "logits": logits(model, pixels[None], contents.preprocessing)[0].tolist()}
        )
    files = [WEIGHTS, *(example["file"] for example in examples)]
    if contents.training is not None:
        contents.training.save(folder)
        files.append(TRAINING)
    if contents.confidence is not None:
        contents.confidence.save(folder)
        files.append(CONFIDENCE)
    described = {
        "architecture": architecture,
        "num_classes": len(contents.classes),
        "num_features": _num_features(model),
        "global_pool": "avg",
        "model_args": model_args,
        "label_names": list(contents.classes),
        "pretrained_cfg": timm_fields(contents.preprocessing) | {"num_classes": len(contents.classes)},
        "convatlas": {
            "schema": SCHEMA,
            "network": contents.name,
            "config": contents.config,
            "probe": None if contents.probe is None else asdict(contents.probe),
            "preprocessing": contents.preprocessing.to_json(),
            "about": contents.about,
            "confidence": None if contents.confidence is None else contents.confidence.to_json(),
            "made_with": {"torch": torch.__version__, "decoder": DECODER},
            "examples": examples,
            "sha256": {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in files},
        },
    }
    write_config(folder, described)


def write_config(folder: Path, described: dict[str, Any]) -> None:
    """Writes config.json, with the checksum of its content."""
    described["convatlas"]["config_sha256"] = config_sha256(described)
    # half of a surrogate pair, which is how Python has a file name that is not text, becomes JSON's own escape
    text = json.dumps(described, indent=1, ensure_ascii=False)
    (folder / CONFIG).write_text(text, encoding="utf-8", errors="backslashreplace")


def config_sha256(described: Mapping[str, Any]) -> str:
    """The SHA-256 of config.json's content, its own field left out, whatever its layout."""
    own = {**described, "convatlas": {k: v for k, v in described["convatlas"].items() if k != "config_sha256"}}
    return hashlib.sha256(json.dumps(own, sort_keys=True, ensure_ascii=True).encode()).hexdigest()


def build(
    name: str, config: Mapping[str, Any], probe: ProbeConfig | None, *, num_classes: int, channels: int
) -> nn.Module:
    """The module that a model folder describes, with its parameters still as initialised."""
    full = replace(zoo.config_of(name), **config)
    if probe is None:
        return zoo.build(name, num_classes=num_classes, in_channels=channels, config=full)
    network = zoo.build(name, num_classes=0, in_channels=channels, config=full)
    return ProbeNet(network, probe, num_classes=num_classes)


@torch.inference_mode()
def logits(model: nn.Module, pixels: Any, preprocessing: Preprocessing) -> torch.Tensor:
    """Logits (n, num_classes) in float32 of pixels (n, h, w, c) uint8, image by image so that no batch changes a rounding."""
    images = normalised(torch.as_tensor(pixels), preprocessing.mean, preprocessing.std)
    return torch.cat([by_image(model(apart(image[None])), 1) for image in images])


def timm_fields(preprocessing: Preprocessing) -> dict[str, Any]:
    """The preprocessing in the words of timm's `pretrained_cfg`, which has none for several crops: the middle one then."""
    size, fit = preprocessing.size, preprocessing.single.fit
    crop_pct = 1.0  # of what is squashed or padded nothing is cropped
    if fit == "crop":
        crop_pct = size / preprocessing.resize
        while math.floor(size / crop_pct) < preprocessing.resize:  # which is how timm gets the resize back
            crop_pct = math.nextafter(crop_pct, 0)
    return {
        "input_size": [preprocessing.channels, size, size],
        "interpolation": preprocessing.interpolation,
        "mean": list(preprocessing.mean),
        "std": list(preprocessing.std),
        "crop_pct": crop_pct,
        "crop_mode": {"crop": "center", "squash": "squash", "pad": "border"}[fit],
    }


def _state(model: nn.Module, contents: Contents) -> tuple[dict[str, torch.Tensor], str, dict[str, Any]]:
    """The tensors, the name of the architecture and timm's arguments: timm's where timm has the network, else our own."""
    if not isinstance(model, zoo.ConvNet):
        return model.state_dict(), f"convatlas probe of {contents.name}", {}
    if (found := _in_timm(contents.name, model.config)) is None:
        return model.state_dict(), contents.name, {}
    architecture, arguments = found
    layout = "legacy" if architecture.startswith("legacy") else "timm"
    return in_layout(model, contents.name, layout), architecture, arguments


def _in_timm(name: str, config: Any) -> tuple[str, dict[str, Any]] | None:
    """timm's architecture that is this network, and the arguments with which it is; None where timm has none."""
    own, fits = asdict(config), []
    for other, needed in catalogue.find(name).elsewhere.items():
        theirs = asdict(zoo.config_of(name)) | needed
        differing = {field for field in own if own[field] != theirs[field]}
        if other.startswith("timm/") and differing <= set(_TIMM_ARGUMENTS):
            fits.append((len(differing), other.removeprefix("timm/"), differing))
    if not fits:
        return None
    _, architecture, differing = min(fits)
    spelled = {_TIMM_ARGUMENTS[field][0]: _TIMM_ARGUMENTS[field][1].get(own[field], own[field]) for field in differing}
    return architecture, spelled


def _num_features(model: nn.Module) -> int:
    last = [module for module in model.modules() if isinstance(module, nn.Linear)]
    return last[-1].in_features if last else 0
