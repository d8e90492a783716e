"""What timm makes of a model folder: the same network, the same class names, the same preparation, the same probabilities."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import convatlas
from convatlas import catalogue
from convatlas.bundle.save import Contents, build, save
from convatlas.data import Preprocessing
from convatlas.jobs import decide as job
from tiny import photo, write_model, write_weights

NORMALISED = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}


def by_timm(folder: Path, image: Image.Image) -> np.ndarray:
    """Probabilities by timm's own loading, its own transform from its own reading of config.json, and its own arithmetic."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # timm's own, at import
        import timm
        from timm.data.config import resolve_model_data_config
        from timm.data.transforms_factory import create_transform

        model = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    transform: Any = create_transform(**resolve_model_data_config(model), is_training=False)
    with torch.inference_mode():
        return model(transform(image)[None]).softmax(1)[0].double().numpy()


def by_us(folder: Path, image: Image.Image) -> np.ndarray:
    classifier = convatlas.load(folder)
    (row,) = classifier.predict(image, top=len(classifier.classes))
    return np.array([dict(row.top)[label] for label in classifier.classes])


@pytest.mark.parametrize(
    ("name", "config", "preprocessing"),
    [
        ("resnet18", {}, {"size": 96, "resize": 110, "interpolation": "bicubic"}),
        ("resnet50", {}, {"size": 64, "resize": 73, "interpolation": "bilinear"}),
        ("mobilenet_v1_100", {}, {"size": 64, "resize": 64, "fit": "squash"}),
        ("mobilenet_v3_small", {}, {"size": 64, "resize": 64}),  # torchvision's epsilon, an argument there
        ("mobilenet_v2", {"padding": "tensorflow"}, {"size": 65, "resize": 65}),
        (
            "mobilenet_v1_100",
            {"padding": "tensorflow", "norm_eps": 1e-3},
            {"size": 97, "resize": 111, "mean": [0.5] * 3},
        ),
    ],
)
def test_timm_loads_a_packed_network(
    name: str, config: dict[str, Any], preprocessing: dict[str, Any], tmp_path: Path
) -> None:
    card = {"preprocessing": {**NORMALISED, **preprocessing}}
    weights = write_weights(tmp_path / "w.safetensors", name=name, num_classes=5, card=card, **config)
    (tmp_path / "names.txt").write_text("a\nb\nc\nd\ne")
    folder = convatlas.pack(None, weights=weights, out=tmp_path / "model", classes=tmp_path / "names.txt")
    described = json.loads((folder / "config.json").read_text())
    assert (described["label_names"], described["num_classes"]) == (list("abcde"), 5)
    image = photo("red", 3).resize((150, 130))
    assert np.abs(by_timm(folder, image) - by_us(folder, image)).max() < 1e-5


TIMM = {
    other: (network, fields)
    for network in catalogue.networks().values()
    for other, fields in network.elsewhere.items()
    if other.startswith("timm/")
}
LARGE = 30e6  # parameters, from which on a network is for the slow suite


@pytest.mark.parametrize(
    "other",
    [pytest.param(o, marks=pytest.mark.slow if TIMM[o][0].parameters > LARGE else ()) for o in sorted(TIMM)],
)
def test_timm_loads_every_network_that_it_has(other: str, tmp_path: Path) -> None:
    """Under its own name and names of parameters, strictly, with equal logits."""
    network, fields = TIMM[other]
    torch.manual_seed(0)
    model = build(network.name, fields, None, num_classes=5, channels=3).eval()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            assert module.running_mean is not None and module.running_var is not None
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.8, 1.2)
            torch.nn.init.uniform_(module.weight, 0.5, 1.0)
    side = 75 if network.name.startswith("nasnet") else 64
    preprocessing = Preprocessing(size=side, resize=side, mean=(0.5,) * 3, std=(0.5,) * 3)
    names = tuple(f"kind {i}" for i in range(5))
    save(tmp_path, model, Contents(name=network.name, config=fields, classes=names, preprocessing=preprocessing))
    described = json.loads((tmp_path / "config.json").read_text())
    assert (described["architecture"], described["model_args"]) == (other.removeprefix("timm/"), {})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # timm's own, at import
        import timm

        theirs = timm.create_model(f"local-dir:{tmp_path}", pretrained=True).eval()
    cfg: Any = theirs.pretrained_cfg
    assert tuple(cfg["label_names"]) == names
    assert (cfg["num_classes"], tuple(cfg["input_size"]), tuple(cfg["mean"])) == (5, (3, side, side), (0.5,) * 3)
    images = torch.randn(2, 3, side, side)
    with torch.inference_mode():
        expected, found = model(images), theirs(images)
    assert float((found - expected).abs().max() / expected.abs().max()) <= 1e-5


def test_timm_loads_a_fit_on_the_last_stage(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There a probe is the network's own classifier, standardisation and temperature folded in."""
    from dataclasses import replace

    select = job.select
    monkeypatch.setattr(job, "select", lambda *a, **options: replace(select(*a, **options), name="stage4"))
    card = {"preprocessing": {"size": 64, "resize": 64, **NORMALISED}}
    weights = write_weights(tmp_path / "w.safetensors", name="resnet18", card=card)
    result = convatlas.fit(photos, weights=weights, out=tmp_path / "model", report=False)
    for image in (photo("red", 900), photo("blue", 901)):
        assert np.abs(by_timm(result.bundle, image) - by_us(result.bundle, image)).max() < 1e-5


def test_timm_says_that_it_does_not_know_an_ensemble(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # timm's own, at import
        import timm

    members = [write_model(tmp_path / str(seed), seed=seed) for seed in range(2)]
    made = convatlas.ensemble(members, tmp_path / "ensemble").folder
    with pytest.raises(RuntimeError, match="Unknown model .convatlas ensemble of 2 models"):
        timm.create_model(f"local-dir:{made}", pretrained=True)
