"""The chosen probe as a model folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from convatlas.bundle.save import Contents, save
from convatlas.transfer.probe import WITH_MEANS, Selection
from convatlas.weights.load import load_network
from convatlas.weights.source import WeightsSource
from convatlas.zoo import ConvNet, hidden_names, stage_names
from convatlas.zoo.heads.probe import ProbeConfig, ProbeNet


def save_probe(
    folder: Path, source: WeightsSource, selection: Selection, classes: tuple[str, ...], result: dict[str, Any]
) -> None:
    """Fills `folder`. A probe on the last rung is the network itself with another classifier, which other libraries load too."""
    probe, channels = selection.probe, source.preprocessing.channels
    model, _ = load_network(source, num_classes=len(classes), in_channels=channels)
    stages, hidden = stage_names(model), hidden_names(model)
    cuts = stages + hidden
    config = None
    if selection.name != cuts[-1] or not (hidden or _averages(model)):
        alone = selection.name in cuts
        means, deviations = ((selection.name,), ()) if alone else (cuts[-WITH_MEANS:], stages[:-1])
        config = ProbeConfig(means=means, deviations=deviations, features=len(probe.weight))
        model = ProbeNet(model, config, num_classes=len(classes))
    layer = model.get_submodule(model.classifiers[0] if isinstance(model, ConvNet) else "fc")
    assert isinstance(layer, torch.nn.Linear)
    # the temperature goes into the layer, so that softmax of the logits is the calibrated probability
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(probe.scale * probe.weight.T))
        layer.bias.copy_(torch.from_numpy(probe.scale * probe.bias))
    about = {key: result[key] for key in ("accuracy", "accuracy_interval", "balanced_accuracy", "protocol", "version")}
    about["data"] = {key: result["data"][key] for key in ("layout", "fingerprint")}  # no path: the folder may travel
    about["weights"] = {"source": Path(source.tag).name, "sha256": result["weights"]["sha256"]}
    contents = Contents(
        name=source.name,
        config=source.config,
        probe=config,
        classes=classes,
        preprocessing=source.preprocessing,
        about=about,
    )
    save(folder, model, contents)


def _averages(model: ConvNet) -> bool:
    """Whether the network's own classifier reads the mean of each of its last maps, as a probe does."""
    layers = [type(block) for block in model.head.children() if not isinstance(block, torch.nn.Dropout)]
    return layers == [torch.nn.AdaptiveAvgPool2d, torch.nn.Flatten, torch.nn.Linear]
