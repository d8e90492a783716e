"""A card says what a weights file holds: which network, how its images were prepared, what its classes are called.

It is the JSON beside the weights, in any of the forms people have: our own, timm's and the hub's `config.json` (with `pretrained_cfg`), the
hub's `preprocessor_config.json`, or a plain file with timm's field names. Reading one needs no torch.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from convatlas import catalogue
from convatlas.data import IMAGENET_MEAN, IMAGENET_STD, Preprocessing
from convatlas.errors import ConvAtlasError

# timm's arguments that training alone feels, or that the tensors themselves show
_WITHOUT_EFFECT = ("num_classes", "in_chans", "drop_rate", "drop_path_rate", "bn_momentum")
_WHOLE_FROM = 384  # pixels; from here on ConvNeXt's processor of the hub squashes images, and crops none
_PILLOW_FILTERS = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "box", 5: "hamming"}


@dataclass(frozen=True, kw_only=True)
class Card:
    """What is known of a weights file besides its tensors; None where its card does not say."""

    name: str | None = None  # our name of the network
    unknown: str | None = None  # what it calls the network, where that is none of ours
    config: dict[str, Any] = field(default_factory=dict)  # fields of the family's config that differ from the variant's
    preprocessing: Preprocessing | None = None
    labels: tuple[str, ...] | None = None  # class names in the order of the logits


def read_card(path: Path) -> Card:
    """The card in a JSON file; `ConvAtlasError` names the file where it is not one."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConvAtlasError(f"{path}: cannot be read as JSON ({error}).", remedy="Mend it or give another.") from error
    if not isinstance(found, dict):
        raise ConvAtlasError(
            f"{path}: a JSON object is expected, not a {type(found).__name__}.", remedy="See `convatlas pack --help`."
        )
    try:
        return parse_card(found)
    except ConvAtlasError as error:
        raise ConvAtlasError(f"{path}: {error.message}", remedy=error.remedy) from error
    except (KeyError, TypeError, ValueError) as error:
        raise ConvAtlasError(f"{path}: not a usable card ({error}).", remedy="See `convatlas pack --help`.") from error


def card_beside(weights: Path) -> Path | None:
    """The JSON that belongs to a weights file: the same name with `.json`, or `config.json` in its folder."""
    for candidate in (weights.with_suffix(".json"), weights.with_name("config.json")):
        if candidate.is_file():
            return candidate
    return None


def parse_card(found: Mapping[str, Any]) -> Card:
    """A card from parsed JSON in any of the forms above."""
    if "preprocessing" in found:  # our own
        return Card(
            name=found.get("name"),
            config=dict(found.get("config", {})),
            preprocessing=Preprocessing.from_json(found["preprocessing"]),
            labels=_labels(found),
        )
    if isinstance(own := found.get("convatlas"), dict):
        return _card_of_folder(own, _labels(found))
    fields = {**found, **found.get("pretrained_cfg", {})}
    config = _timm_arguments(found.get("model_args") or {})
    if str(fields.get("padding", "")).startswith("TensorFlow"):
        config["padding"] = "tensorflow"
    if "batch_norm_eps" in fields:
        config["norm_eps"] = float(fields["batch_norm_eps"])
    name, needed = _network(fields)
    return Card(
        name=name,
        unknown=str(fields["architecture"]) if name is None and "architecture" in fields else None,
        config={**needed, **config},
        preprocessing=_preprocessing(fields),
        labels=_labels(fields),
    )


def default_preprocessing(name: str) -> Preprocessing:
    """What the field assumes where nothing is said: the network's own input size, ImageNet's statistics, 87.5 % centre crop above 32 px."""
    channels, height, _ = catalogue.find(name).input_size
    resize = height if height <= 64 else math.floor(height / 0.875)
    if channels == 1:
        return Preprocessing(size=height, resize=resize, interpolation="bilinear", mean=(0.5,), std=(0.5,), channels=1)
    return Preprocessing(size=height, resize=resize, interpolation="bilinear", mean=IMAGENET_MEAN, std=IMAGENET_STD)


def _card_of_folder(own: Mapping[str, Any], labels: tuple[str, ...] | None) -> Card:
    """The card in one of our own model folders."""
    if own["probe"] is not None:
        raise ConvAtlasError(
            f"a probe on {own['network']}, not a whole network.",
            remedy="`convatlas predict` and `evaluate` take its folder.",
        )
    return Card(
        name=own["network"],
        config=dict(own["config"]),
        preprocessing=Preprocessing.from_json(own["preprocessing"]),
        labels=labels,
    )


def _network(fields: Mapping[str, Any]) -> tuple[str | None, dict[str, Any]]:
    """Our name of the architecture, and the config fields that its name there implies."""
    name = fields.get("architecture")
    if not isinstance(name, str):
        return None, {}
    if name == "mobilenet_v1" and "width" in fields:
        name = f"mobilenet_v1_{round(100 * fields['width']):03d}"
    if found := catalogue.known_as(f"timm/{name}"):
        return found
    return (name, {}) if name in catalogue.networks() else (None, {})


def _timm_arguments(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The config fields that timm's `model_args` mean. One that would make another network is refused, not overlooked."""
    config: dict[str, Any] = {}
    for argument, value in arguments.items():
        if argument == "bn_eps":
            config["norm_eps"] = float(value)
        elif argument == "pad_type":
            config["padding"] = "tensorflow" if value == "same" else "symmetric"
        elif argument not in _WITHOUT_EFFECT and not (argument == "global_pool" and value == "avg"):
            raise ValueError(f"model_args has {argument}={value!r}, which the networks here do not take")
    return config


def _preprocessing(fields: Mapping[str, Any]) -> Preprocessing | None:
    if "image_mean" in fields:  # the hub's preprocessor_config.json
        crop, size = fields.get("crop_size") if fields.get("do_center_crop", True) else None, fields["size"]
        resize = size if isinstance(size, int) else size.get("shortest_edge", size.get("height"))
        side = resize if crop is None else crop if isinstance(crop, int) else crop["height"]
        whole = not (isinstance(size, int) or "shortest_edge" in size or crop)
        if fields.get("crop_pct") and not crop:  # ConvNeXt's: small ones are cropped out of more, large ones squashed
            resize, whole = (int(side / fields["crop_pct"]), False) if side < _WHOLE_FROM else (side, True)
        return Preprocessing.from_json(
            {
                "size": side,
                "resize": resize,
                "fit": "squash" if whole else "crop",
                "interpolation": _PILLOW_FILTERS[fields.get("resample", 2)],
                "mean": fields["image_mean"],
                "std": fields["image_std"],
            }
        )
    if "mean" not in fields:
        return None
    channels, size, width = fields["input_size"]
    if size != width:
        raise ValueError(f"input_size {fields['input_size']} is not square")
    fit = {"center": "crop", "squash": "squash", "border": "pad"}[fields.get("crop_mode") or "center"]
    resize = math.floor(size / fields.get("crop_pct", 0.875))  # as timm computes it
    if fit != "crop" and resize != size:
        raise ValueError(
            f"crop_mode {fields['crop_mode']!r} with a crop_pct other than 1: a {fit} that is then cropped"
        )
    return Preprocessing.from_json(
        {
            "size": size,
            "resize": resize,
            "fit": fit,
            "interpolation": fields.get("interpolation", "bilinear"),
            "mean": fields["mean"],
            "std": fields["std"],
            "channels": channels,
        }
    )


def _labels(fields: Mapping[str, Any]) -> tuple[str, ...] | None:
    """Class names from `labels`, timm's `label_names` (a list, or by number) or the hub's `id2label`."""
    labels = fields.get("id2label") or fields.get("labels") or fields.get("label_names")
    if isinstance(labels, dict):
        return tuple(str(label) for _, label in sorted(labels.items(), key=lambda item: int(item[0])))
    return tuple(map(str, labels)) if isinstance(labels, list) else None
