"""The table of published weights: as torchvision's and timm's own metadata have it, and complete."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

import pytest

import convatlas
from convatlas import catalogue
from convatlas.weights import published as module
from convatlas.weights.published import default_tag, published, rank


def test_the_table_is_what_the_libraries_say() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # their own, at import
        pytest.importorskip(
            "torchvision", reason="the table is computed from torchvision's metadata (a dev dependency)"
        )
        pytest.importorskip("timm", reason="the table is computed from timm's metadata (a dev dependency)")
        found = module.as_text()
    written = Path(module.__file__).with_name("published.json").read_text()
    assert found == written, "run `python -m convatlas.weights.published`"


def test_every_counterpart_has_weights() -> None:
    theirs = {other for network in catalogue.networks().values() for other in network.elsewhere}
    untrained = {"timm/resnetv2_152", "timm/seresnet101", "timm/seresnet152"}  # by timm's own metadata
    assert {one.counterpart for one in published().values()} == theirs - untrained
    assert {one.name for one in published().values() if one.default} | {"preresnet152"} == {
        network.name for network in catalogue.networks().values() if network.elsewhere
    }


@pytest.mark.parametrize("tag", published())
def test_every_row_can_be_used(tag: str) -> None:
    one = published()[tag]
    assert one.preprocessing.resize >= one.preprocessing.size
    assert one.name in catalogue.networks()
    if one.url is not None:
        assert one.url.startswith("https://") and one.url.endswith(f"/{one.file}")
        assert re.search(r"-[0-9a-f]{8}\.pth$", one.file), "its hash is checked by its name"
    else:
        assert one.file == "model.safetensors"
    if one.library == "torchvision":
        assert one.top1 is not None and one.top5 is not None and 50 < one.top1 < one.top5 < 100
        assert one.megabytes is not None
        parameters = catalogue.find(one.name).parameters * 4 / 1e6
        if tag == "torchvision/Wide_ResNet50_2_Weights.IMAGENET1K_V1":
            assert one.megabytes == pytest.approx(parameters / 2, rel=0.01)  # in half precision
        elif tag != "torchvision/Wide_ResNet101_2_Weights.IMAGENET1K_V1":  # in half precision too
            assert 0.95 < one.megabytes / parameters < 2.1  # GoogLeNet's auxiliary classifiers double it


def test_special_cases() -> None:
    googlenet = published()["torchvision/GoogLeNet_Weights.IMAGENET1K_V1"]
    assert (googlenet.preprocessing.mean, googlenet.preprocessing.std) == ((0.5,) * 3, (0.5,) * 3)
    assert published()["timm/mobilenetv3_small_100.lamb_in1k"].config == {"norm_eps": 1e-5}
    assert published()["timm/tf_mobilenetv3_small_100.in1k"].config == {"padding": "tensorflow"}
    assert published()["torchvision/MobileNet_V3_Small_Weights.IMAGENET1K_V1"].config == {}
    assert published()["timm/resnet50.a1_in1k"].preprocessing.resize == 235  # floor(224 / 0.95), as timm has it
    assert published()["timm/resnet50.a1_in1k"].size == "about 102 MB"
    assert not [tag for tag in published() if "FEATURES" in tag or "in21k" in tag.rpartition("_ft_")[2]]


def test_default_tags() -> None:
    assert default_tag("timm/resnet50") == "timm/resnet50.a1_in1k"
    assert default_tag("torchvision/ResNet50_Weights.DEFAULT") == "torchvision/ResNet50_Weights.IMAGENET1K_V2"
    assert default_tag("timm/nothing") == "timm/nothing"


def test_ranking() -> None:
    def best(name: str) -> list[str]:
        found = sorted((one for one in published().values() if one.name == name), key=rank, reverse=True)
        return [one.tag for one in found]

    tags = best("resnet50")
    assert tags[:3] == [
        "torchvision/ResNet50_Weights.IMAGENET1K_V2",
        "torchvision/ResNet50_Weights.IMAGENET1K_V1",
        "timm/resnet50.a1_in1k",
    ]
    assert [tag for tag in tags if "fb_" in tag] == tags[-2:], "what forbids commercial use is not taken unasked"
    for name in {one.name for one in published().values()}:
        assert not (published()[best(name)[0]].licence or "").startswith("cc-by-nc")
    assert best("resnext101_32x4d")[0] == "timm/resnext101_32x4d.gluon_in1k"
    v1, a1 = published()["torchvision/ResNet18_Weights.IMAGENET1K_V1"], published()["timm/resnet50.a1_in1k"]
    assert rank(a1) > rank(v1)


def test_weights_tags(caches: Path) -> None:
    rows = convatlas.weights_tags()
    assert [row.tag for row in rows] == ["embedded", *published()]
    assert [row.tag for row in rows if row.path] == ["embedded"]
    assert {row.network for row in convatlas.weights_tags("densenet*")} == {
        *(f"densenet{depth}" for depth in (121, 161, 169, 201))
    }
    assert {row.tag for row in convatlas.weights_tags("timm/resnet18*")} == {
        tag for tag in published() if tag.startswith("timm/resnet18.")
    }
    file = caches / "torch/hub/checkpoints/vgg11-8a719046.pth"
    file.parent.mkdir(parents=True)
    file.touch()
    (row,) = [row for row in convatlas.weights_tags("vgg11") if row.path]
    assert (row.tag, row.path) == ("torchvision/VGG11_Weights.IMAGENET1K_V1", file)
    assert (row.top1, row.megabytes) == (69.02, 531.46)
