"""From a weights file to a network: the right key table found, every parameter accounted for, the head re-made where it must be."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from convatlas import zoo
from convatlas.errors import ConvAtlasError
from convatlas.weights.files import read_tensors
from convatlas.weights.keys import Table, inverted, kernels, rename
from convatlas.weights.source import WeightsSource, find_weights


def create(
    name: str,
    *,
    num_classes: int = 1000,
    in_channels: int = 3,
    weights: str | Path | None = None,
    download: bool = False,
) -> zoo.ConvNet:
    """The network `name` in evaluation-ready form: a `ConvNet` from images (n, in_channels, h, w) to logits (n, num_classes).

    `num_classes=0` leaves the classifier out. `weights` is a file in our own, torchvision's, timm's or the CIFAR ResNets' key layout, a
    folder in the hub's layout, or a tag such as `"timm/resnet50.a1_in1k"` (`weights_tags` lists them); without it the network has its
    paper's initialisation. A tag is looked for on this disk, and fetched only with `download=True`. A classifier for another number of
    classes is re-made, with a warning that says so; any other mismatch is an error that lists the keys.
    """
    if weights is None:
        return zoo.build(name, num_classes=num_classes, in_channels=in_channels)
    source = find_weights(weights, name=name, download=download)
    model, notes = load_network(source, num_classes=num_classes, in_channels=in_channels)
    for note in notes:
        warnings.warn(note, stacklevel=2)
    return model


def load_network(
    source: WeightsSource, *, num_classes: int | None = None, in_channels: int = 3
) -> tuple[zoo.ConvNet, tuple[str, ...]]:
    """The network a source describes, with its weights in evaluation mode, and notes on what was re-made.

    `num_classes=None` keeps the file's own classifier.
    """
    family = zoo.family_of(source.name)
    config = _with_fields(source)
    tensors = to_our_keys(source.path, read_tensors(source.path), family.keys(config))
    if num_classes is None:
        num_classes = classes_in(tensors, family.MODEL)
    model = zoo.build(source.name, num_classes=num_classes, in_channels=in_channels, config=config)
    notes = load_tensors(model, tensors, origin=str(source.path))
    return model.eval(), notes


def skeleton(source: WeightsSource, num_classes: int = 0) -> zoo.ConvNet:
    """That network on `meta`: its shapes, and no numbers."""
    channels = source.preprocessing.channels
    return zoo.skeleton(source.name, num_classes=num_classes, in_channels=channels, config=_with_fields(source))


def _with_fields(source: WeightsSource) -> Any:
    """The network's config with the fields that its weights need."""
    config = zoo.config_of(source.name)
    if strange := sorted(source.config.keys() - {field.name for field in fields(config)}):
        raise ConvAtlasError(
            f"{source.path}: its card asks for another {' and '.join(strange)}, which {source.name} always has the same.",
            remedy="Give weights that were trained as the network is.",
        )
    return replace(config, **source.config)


def to_our_keys(path: Path, tensors: Mapping[str, Tensor], tables: Mapping[str, Table]) -> dict[str, Tensor]:
    """The tensors under our names, by whichever of the family's key tables fits all of them; else an error that lists what does not."""
    layouts = {layout: rename(tensors, table) for layout, table in tables.items()}
    own = ("stages.", "head.", "auxiliary.")
    layouts["convatlas"] = {key: key if key.startswith(own) else None for key in tensors}
    layout, named = max(layouts.items(), key=lambda item: sum(name is not None for name in item[1].values()))
    unknown = [key for key, name in named.items() if name is None]
    if unknown:
        raise ConvAtlasError(
            f"{path}: {len(unknown)} of its {len(tensors)} tensors do not belong to this network "
            f"(nearest layout: {layout}): {_some(unknown)}.",
            remedy="Name the network these weights belong to.",
        )
    flat = kernels(tables.get(layout, {}))
    found = {name: tensors[key] for key, name in named.items() if name is not None}
    return {name: tensor.flatten(1) if name in flat else tensor for name, tensor in found.items()}


def load_tensors(model: zoo.ConvNet, tensors: Mapping[str, Tensor], *, origin: str) -> tuple[str, ...]:
    """Copies `tensors` (our names) into `model`, strictly; returns a note if the classifier was left as initialised.

    Keys that are missing or strange and shapes that differ are an error that lists them, except the classifier's where the number of
    classes differs.
    """
    own = model.state_dict()
    notes: list[str] = []
    if left := [key for key in tensors if key not in own and key.startswith(model.optional)]:
        tensors = {key: tensor for key, tensor in tensors.items() if key not in left}
        notes.append(
            f"{origin}: its {left[0].split('.')[0]} part ({len(left)} tensors) is not in this network and was left out."
        )
    heads = tuple(f"{path}." for path in model.classifiers)
    wrong = {
        key: (tuple(t.shape), tuple(own[key].shape))
        for key, t in tensors.items()
        if key in own and t.shape != own[key].shape
    }
    missing = [key for key in own if key not in tensors and not key.endswith("num_batches_tracked")]
    head_changed = any(key.startswith(heads) for key in [*wrong, *missing])
    lost = [key for key in missing if not key.startswith(heads)]
    strange = [key for key in tensors if key not in own and not key.startswith(heads)]
    misfit = {key: shapes for key, shapes in wrong.items() if not key.startswith(heads)}
    if lost or strange or misfit:
        shapes = [f"{key} {theirs} where the network has {ours}" for key, (theirs, ours) in misfit.items()]
        said = [
            f"{what} {_some(items)}"
            for what, items in (("missing", lost), ("unknown", strange), ("other shapes:", shapes))
            if items
        ]
        raise ConvAtlasError(
            f"{origin}: does not fit the network: {'; '.join(said)}.",
            remedy="Name the network these weights belong to.",
        )
    fitting = {k: t for k, t in tensors.items() if k in own and not (head_changed and k.startswith(heads))}
    model.load_state_dict(fitting, strict=False)
    if head_changed:
        before, after = classes_in(tensors, type(model)), classes_in(own, type(model))
        remade = "its classifier was re-made and is untrained."
        notes.append(f"{origin}: has {before or 'no'} classes, {after} were asked for; {remade}")
    return tuple(notes)


def in_layout(model: zoo.ConvNet, name: str, layout: str) -> dict[str, Tensor]:
    """The model's state dict under another library's names (`"torchvision"`, `"timm"`, `"cifar"`), which that library loads strictly."""
    table = zoo.family_of(name).keys(model.config)[layout]
    state, kernel_of = model.state_dict(), kernels(table)
    for key in kernel_of.keys() & state.keys():
        state[key] = state[key].reshape(len(state[key]), -1, *kernel_of[key])
    named = rename(state, inverted(table))
    return {new or key: state[key] for key, new in named.items()}


def classes_in(state: Mapping[str, Tensor], kind: type[zoo.ConvNet]) -> int:
    """How many classes the tensors (our names) of a network of this kind tell apart; 0 where they hold no classifier."""
    return next((len(tensor) for key, tensor in state.items() if key.startswith(f"{kind.classifiers[0]}.")), 0)


def _some(items: list[str], most: int = 8) -> str:
    return ", ".join(items[:most]) + (f" and {len(items) - most} more" if len(items) > most else "")
