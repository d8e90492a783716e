"""What a fit chose as a model folder: a probe, or a network that was trained."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from convatlas.bundle.confidence import Confidence
from convatlas.bundle.neighbours import TrainingImages
from convatlas.bundle.save import Contents, save
from convatlas.data import Record
from convatlas.transfer.probe import Features, Selection, taken
from convatlas.weights.load import load_network
from convatlas.weights.source import WeightsSource
from convatlas.zoo import ConvNet, hidden_names, stage_names
from convatlas.zoo.heads.probe import ProbeConfig, ProbeNet

Remember = Callable[[tuple[str, ...], tuple[str, ...]], TrainingImages]


def save_probe(
    folder: Path,
    source: WeightsSource,
    selection: Selection,
    classes: tuple[str, ...],
    result: dict[str, Any],
    remember: Remember | None = None,
    confidence: Confidence | None = None,
) -> None:
    """Fills `folder`. A probe on the last rung is the network itself with another classifier, which other libraries load too.

    `remember`, given the cuts whose means and whose deviations the probe reads, makes what is kept of the training images; `confidence` is
    what these say of the probe's answers.
    """
    probe, channels = selection.probe, source.preprocessing.channels
    model, _ = load_network(source, num_classes=len(classes), in_channels=channels)
    stages, hidden = stage_names(model), hidden_names(model)
    means, deviations = taken(selection.name, stages, hidden)
    config, last = None, model.get_submodule(model.classifiers[0])
    own = isinstance(last, torch.nn.Linear) and (
        hidden or _averages(model)
    )  # LeNet-5's original ends in distances to codes
    if selection.name != (stages + hidden)[-1] or not own:
        config = ProbeConfig(means=means, deviations=deviations, features=len(probe.weight))
        model = ProbeNet(model, config, num_classes=len(classes))
    layer = model.get_submodule(model.classifiers[0] if isinstance(model, ConvNet) else "fc")
    assert isinstance(layer, torch.nn.Linear)
    # the temperature goes into the layer, so that softmax of the logits is the calibrated probability
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(probe.scale * probe.weight.T))
        layer.bias.copy_(torch.from_numpy(probe.scale * probe.bias))
    training = None if remember is None else remember(means, deviations)
    contents = replace(_contents(source, classes, result), probe=config, training=training, confidence=confidence)
    save(folder, model, contents)


def save_tuned(
    folder: Path,
    source: WeightsSource,
    model: ConvNet,
    scale: float,
    classes: tuple[str, ...],
    result: dict[str, Any],
    remember: Remember | None = None,
    confidence: Confidence | None = None,
) -> None:
    """Fills `folder` with a network that was trained; the temperature, 1 / `scale`, goes into its classifier."""
    layer = model.get_submodule(model.classifiers[0])
    with torch.no_grad():
        for values in layer.parameters():  # logits are linear in these, and nothing after them but means and ReLUs
            values.mul_(scale)
    training = None if remember is None else remember(stage_names(model)[-1:], ())
    save(folder, model, replace(_contents(source, classes, result), training=training, confidence=confidence))


def _contents(source: WeightsSource, classes: tuple[str, ...], result: dict[str, Any]) -> Contents:
    about = {key: result[key] for key in ("accuracy", "accuracy_interval", "balanced_accuracy", "protocol", "version")}
    about["data"] = {key: result["data"][key] for key in ("layout", "fingerprint")}  # no path: the folder may travel
    about["weights"] = {"source": Path(source.tag).name, "sha256": result["weights"]["sha256"]}
    about["plan"] = result["plan"]
    return Contents(
        name=source.name,
        config=source.config,
        classes=classes,
        preprocessing=source.preprocessing,
        about=about,
    )


def remembering(features: Features, records: Sequence[Record], sha256s: Sequence[str]) -> Remember:
    """For `save_probe`: what is kept of the training images with these features, as the probe was fitted to them."""
    blocks = [features] if isinstance(features, np.ndarray) else list(features)

    def remember(means: tuple[str, ...], deviations: tuple[str, ...]) -> TrainingImages:
        return TrainingImages.seen(
            blocks,
            means=means,
            deviations=deviations,
            paths=[record.path for record in records],
            labels=[record.label for record in records],
            sha256s=sha256s,
        )

    return remember


def _averages(model: ConvNet) -> bool:
    """Whether the network's own classifier reads the mean of each of its last maps, as a probe does."""
    layers = [type(block) for block in model.head.children() if not isinstance(block, torch.nn.Dropout)]
    return layers == [torch.nn.AdaptiveAvgPool2d, torch.nn.Flatten, torch.nn.Linear]
