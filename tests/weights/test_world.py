"""From a tag to the publisher's numbers: caches laid out by the publishers' own functions, random weights, equal logits."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import convatlas
from convatlas.errors import ConvAtlasError
from convatlas.jobs.fit import fit
from convatlas.weights.load import load_network
from convatlas.weights.published import published
from convatlas.weights.source import find_weights
from convatlas.zoo.inference import normalised
from loopback import cache_repository
from peers import largest_difference, peer
from tiny import python, write_weights

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
TORCHVISION = ("ResNet18", "MobileNet_V2", "MobileNet_V3_Small", "DenseNet121", "GoogLeNet")
TIMM = ("resnet18.a1_in1k", "mobilenetv2_100.ra_in1k", "mobilenetv3_small_100.lamb_in1k", "tf_mobilenetv3_small_100.in1k",
        "densenet121.ra_in1k", "mobilenetv1_100.ra4_e3600_r224_in1k", "legacy_seresnet18.in1k")  # fmt: skip
slow = pytest.mark.slow


def save_as_torchvision_does(tag: str, model: nn.Module, caches: Path) -> Path:
    """The file of `tag` in torchvision's cache."""
    path = caches / "torch/hub/checkpoints" / published()[tag].file
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(model.state_dict(), path)
    return path


def save_as_timm_does(repository: str, model: nn.Module, caches: Path, *, safe: bool = True, **fields: Any) -> Path:
    """The repository in the hub's cache, made by timm's own function."""
    from timm.models import save_for_hf

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # timm's own, at import
        save_for_hf(model, str(caches / "saved"), safe_serialization=safe, **fields)
    return cache_repository(caches / "hub/hub", repository, caches / "saved")


def same_logits(ours: nn.Module, theirs: nn.Module) -> bool:
    images = torch.randn(2, 3, 65, 65, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        return largest_difference(ours(images), theirs(images)) <= 1e-5


@pytest.mark.parametrize("enum", [*TORCHVISION, pytest.param("VGG11", marks=slow)])
def test_torchvision_s_tags_give_torchvision_s_logits(enum: str, caches: Path) -> None:
    tag = f"torchvision/{enum}_Weights.IMAGENET1K_V1"
    one = published()[tag]
    fields: dict[str, Any] = {"init_weights": False, "transform_input": True} if enum == "GoogLeNet" else {}
    theirs = peer(one.counterpart, **fields)
    path = save_as_torchvision_does(tag, theirs, caches)
    if enum == "GoogLeNet":
        with pytest.warns(UserWarning, match="its auxiliary part .* was left out"):
            ours = convatlas.create(one.name, weights=tag)
    else:
        ours = convatlas.create(one.name, weights=tag)
    assert not ours.training
    source = find_weights(tag)
    assert (source.path, source.notes) == (path, ())
    pixels = torch.randint(0, 256, (2, 65, 65, 3), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    with torch.inference_mode():  # each prepares images as it says it does
        expected = theirs(normalised(pixels, *IMAGENET))
        found = ours(normalised(pixels, source.preprocessing.mean, source.preprocessing.std))
    assert largest_difference(found, expected) <= 1e-5
    copied = path.rename(caches / path.name)  # wherever the file lies, its name says what it is
    assert find_weights(copied).preprocessing == source.preprocessing


def test_densenet_s_files_have_older_names(caches: Path) -> None:
    """`denselayer1.norm.1.weight`, which torchvision renames when it loads them."""
    theirs = peer("torchvision/densenet121")
    state = {
        k.replace("norm1", "norm.1").replace("norm2", "norm.2").replace("conv1", "conv.1").replace("conv2", "conv.2"): v
        for k, v in theirs.state_dict().items()
        if not k.endswith("num_batches_tracked")  # younger than the files
    }
    assert "features.denseblock1.denselayer1.norm.1.weight" in state
    path = caches / "densenet121-a639ec97.pth"
    torch.save(state, path, _use_new_zipfile_serialization=False)
    assert same_logits(convatlas.create("densenet121", weights=path), theirs)


@pytest.mark.parametrize("tagged", [*TIMM, pytest.param("vgg11.tv_in1k", marks=slow)])
def test_timm_s_tags_give_timm_s_logits(tagged: str, caches: Path) -> None:
    one = published()[f"timm/{tagged}"]
    theirs = peer(one.counterpart)
    if one.url is not None:  # not on the hub: timm keeps it where torchvision does
        save_as_torchvision_does(one.tag, theirs, caches)
    else:
        save_as_timm_does(one.tag, theirs, caches)
    assert same_logits(convatlas.create(one.name, weights=one.tag), theirs)
    source = find_weights(one.tag)
    assert source.config == one.config
    if one.default:  # which is what timm's untrained network has as its `pretrained_cfg`
        assert source.preprocessing == one.preprocessing
    assert convatlas.weights_tags(one.tag)[0].path == source.path
    assert find_weights(name=one.name).tag == one.tag, "the best on this disk"


@pytest.mark.parametrize("safe", [True, False])
def test_a_repository_that_is_in_no_table(safe: bool, caches: Path) -> None:
    theirs = peer("timm/mobilenetv3_small_100", num_classes=5, pad_type="same", bn_eps=1e-3)
    names = [f"kind {i}" for i in range(5)]
    save_as_timm_does("somebody/birds", theirs, caches, safe=safe, model_config={"label_names": names})
    source = find_weights("hf-hub:somebody/birds")
    assert (source.name, source.labels) == ("mobilenet_v3_small", tuple(names))
    model, notes = load_network(source)
    assert notes == ()
    assert same_logits(model, theirs)
    assert same_logits(convatlas.create("mobilenet_v3_small", num_classes=5, weights=source.path.parent), theirs)
    folder = convatlas.pack(None, weights="hf-hub:somebody/birds@main", out=caches / "model")
    assert convatlas.load(folder).classes == tuple(names)


@pytest.mark.parametrize("name", ["googlenet_bn", "mobilenet_v3_small"])  # one under our names, one under timm's
def test_our_own_model_folders_are_weights_too(name: str, caches: Path) -> None:
    card = {"preprocessing": {"size": 64, "resize": 70, "mean": [0.5] * 3}}
    fields = {"padding": "tensorflow"} if name == "mobilenet_v3_small" else {}
    weights = write_weights(caches / "w.safetensors", name=name, num_classes=3, card=card, **fields)
    (caches / "names.txt").write_text("a\nb\nc")
    folder = convatlas.pack(None, weights=weights, out=caches / "model", classes=caches / "names.txt")
    source = find_weights(folder)
    assert (source.name, source.config, source.labels) == (name, fields, ("a", "b", "c"))
    assert (source.preprocessing.resize, source.preprocessing.mean) == (70, (0.5,) * 3)
    assert same_logits(load_network(source)[0], load_network(find_weights(weights))[0])


def test_a_probe_is_no_network(photos: Path, backbone: Path, tmp_path: Path) -> None:
    fitted = fit(photos, weights=backbone, out=tmp_path / "model", plan="probe:all")
    with pytest.raises(ConvAtlasError, match=r"config.json: a probe on resnet20_cifar, not a whole network"):
        find_weights(fitted.bundle)


def test_a_new_tag_of_a_known_architecture(caches: Path) -> None:
    theirs = peer("timm/resnet18")
    save_as_timm_does("timm/resnet18.some_new_tag", theirs, caches)
    assert same_logits(convatlas.create("resnet18", weights="timm/resnet18.some_new_tag"), theirs)
    assert find_weights("hf-hub:timm/resnet18.some_new_tag").tag == "timm/resnet18.some_new_tag"


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"model_args": {"output_stride": 8}}, "model_args has output_stride=8"),
        ({"model_args": {"global_pool": "max"}}, "model_args has global_pool='max'"),
        ({"model_args": {"bn_eps": 1e-3}}, "its card asks for another norm_eps, which resnet18 always has the same"),
        ({"architecture": "vit_tiny"}, "its config.json says 'vit_tiny', which is none of the networks here"),
    ],
)
def test_another_network_under_the_same_name_is_refused(fields: dict[str, Any], said: str, caches: Path) -> None:
    folder = save_as_timm_does("somebody/else", peer("timm/resnet18"), caches)
    described = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(described | fields))
    with pytest.raises(ConvAtlasError, match=said):
        load_network(find_weights("hf-hub:somebody/else"))


def test_tags_that_are_not_there(caches: Path) -> None:
    for tag, said in {
        "timm/resnet50.a1_in1": r"not on this disk \(looked in .*hub\). Allow `--download` .* timm/resnet50.a1_in1k",
        "timm/vit_base_patch16_224": "unknown weights tag 'timm/vit_base_patch16_224'; `convatlas list --weights`",
        "torchvision/ResNet50_Weights.IMAGENET1K_V3": "did you mean torchvision/ResNet50_Weights.IMAGENET1K_V",
        "torchvision/VGG16_Weights.IMAGENET1K_FEATURES": "unknown weights tag",
        "hf-hub:somebody/birds": "hf-hub:somebody/birds is not on this disk",
        "resnet50-0676ba61.pth": "there is no such weights file",
    }.items():
        with pytest.raises(ConvAtlasError, match=said):
            find_weights(tag)


def test_finding_weights_imports_neither_torch_nor_the_hub(caches: Path) -> None:
    code = """
import sys, convatlas.weights.source as s
from convatlas.errors import ConvAtlasError
assert len(s.weights_tags()) > 100
assert s.find_weights().tag == "embedded"
for tag in ("timm/resnet18.a1_in1k", "timm/resnet18.new", "torchvision/ResNet18_Weights.IMAGENET1K_V1", "hf-hub:a/b"):
    try:
        s.find_weights(tag)
    except ConvAtlasError:
        pass
    else:
        raise SystemExit(tag)
loaded = {"torch", "torchvision", "timm", "huggingface_hub"} & set(sys.modules)
raise SystemExit(str(loaded) if loaded else 0)
"""
    outcome = python(code)
    assert outcome.returncode == 0, outcome.stderr
