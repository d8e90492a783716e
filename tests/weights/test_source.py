"""Which weights are taken when none are named: the best on this disk, else the embedded ones, and never a download unasked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from convatlas.errors import ConvAtlasError
from convatlas.weights import source
from convatlas.weights.card import parse_card
from convatlas.weights.source import find_weights


@pytest.fixture
def caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)

    def refuse(*_: object) -> Path:
        raise AssertionError("a download was tried")

    monkeypatch.setattr(source, "fetch_published", refuse)
    monkeypatch.setattr(source, "fetch_repository", refuse)
    return tmp_path


def test_an_empty_disk_gives_the_embedded_backbone_and_says_what_a_download_would_change(caches: Path) -> None:
    found = find_weights()
    assert found.tag == "embedded"
    assert found.path.is_file()
    assert (
        "--download would fetch torchvision/ResNet50_Weights.IMAGENET1K_V2 (103 MB, 80.9 % on ImageNet)"
        in found.notes[0]
    )


def test_the_best_on_disk_is_taken(caches: Path) -> None:
    checkpoints = caches / "torch" / "hub" / "checkpoints"
    checkpoints.mkdir(parents=True)
    (checkpoints / "resnet18-f37072fd.pth").touch()
    assert find_weights().name == "resnet18"
    snapshot = caches / "hub" / "hub" / "models--timm--resnet50.a1_in1k" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (snapshot / "model.safetensors").touch()
    (snapshot / "config.json").write_text(
        json.dumps(
            {
                "architecture": "resnet50",
                "pretrained_cfg": {
                    "input_size": [3, 224, 224],
                    "interpolation": "bicubic",
                    "crop_pct": 0.95,
                    "mean": [0.485, 0.456, 0.406],
                    "std": [0.229, 0.224, 0.225],
                },
            }
        )
    )
    best = find_weights()
    assert (best.name, best.tag) == ("resnet50", "timm/resnet50.a1_in1k")
    assert best.preprocessing.resize == 235  # floor(224 / 0.95), as timm has it
    assert find_weights(name="resnet18").tag == "torchvision/ResNet18_Weights.IMAGENET1K_V1"


def test_a_named_network_without_weights_is_an_error_with_a_remedy(caches: Path) -> None:
    with pytest.raises(ConvAtlasError, match=r"no weights for resnet152 on this disk\. Give `--weights FILE`"):
        find_weights(name="resnet152")
    with pytest.raises(ConvAtlasError, match="is not on this disk. Allow `--download`"):
        find_weights("timm/resnet18.a1_in1k")
    with pytest.raises(ConvAtlasError, match="is for resnet18, not resnet50"):
        find_weights("timm/resnet18.a1_in1k", name="resnet50")
    with pytest.raises(ConvAtlasError, match="unknown weights tag 'timm/nothing'; `convatlas list --weights` shows"):
        find_weights("timm/nothing")


def test_cards_of_every_form() -> None:
    hub = parse_card({"do_resize": True, "size": {"shortest_edge": 256}, "crop_size": {"height": 224, "width": 224}, "resample": 3}
                     | {"image_mean": [0.5] * 3, "image_std": [0.5] * 3})  # fmt: skip
    assert hub.preprocessing is not None
    assert (hub.preprocessing.size, hub.preprocessing.resize, hub.preprocessing.interpolation) == (224, 256, "bicubic")
    for edge, fields, expected in (
        (224, {"crop_pct": 0.875}, (224, 256, "crop")),  # as the hub's processor of ConvNeXt and ResNet has it
        (384, {"crop_pct": 0.95}, (384, 384, "squash")),
        (224, {"do_center_crop": False, "crop_size": {"height": 200, "width": 200}}, (224, 224, "crop")),
    ):
        found = parse_card(
            {"size": {"shortest_edge": edge}, "image_mean": [0.5] * 3, "image_std": [0.5] * 3, **fields}
        ).preprocessing
        assert found is not None and (found.size, found.resize, found.fit) == expected
    whole = parse_card({"size": {"height": 224, "width": 224}, "do_center_crop": False, "crop_size": {"height": 224, "width": 224}}
                       | {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}).preprocessing  # fmt: skip
    assert whole is not None and (whole.size, whole.resize, whole.fit) == (224, 224, "squash")
    timms = {"input_size": [3, 224, 224], "mean": [0.5] * 3, "std": [0.5] * 3, "crop_mode": "squash"}
    squashed = parse_card({**timms, "crop_pct": 1.0}).preprocessing
    assert squashed is not None and (squashed.resize, squashed.fit) == (224, "squash")
    with pytest.raises(ValueError, match="a squash that is then cropped"):
        parse_card({**timms, "crop_pct": 0.9})
    assert parse_card({"id2label": {"1": "b", "0": "a"}}).labels == ("a", "b")
    assert parse_card({"label_names": ["x"]}).labels == ("x",)
    assert parse_card({"architecture": "mobilenetv1_100"}).name == "mobilenet_v1_100"
