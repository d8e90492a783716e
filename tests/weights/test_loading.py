"""Weights from files: real foreign checkpoints, every key layout both ways, and everything that can be wrong with a file."""

from __future__ import annotations

import json
import pickle
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from convatlas import zoo
from convatlas.errors import ConvAtlasError
from convatlas.weights.files import read_tensors
from convatlas.weights.keys import inverted, rename
from convatlas.weights.load import create, in_layout, load_network
from convatlas.weights.source import find_weights


def test_templates_invert() -> None:
    table = {"blocks.{s}.{b}.conv_dw": "stages.stage{s+1}.{b}.depthwise", "bn1": "stages.stem.norm"}
    theirs = ["blocks.0.0.conv_dw.weight", "blocks.12.3.conv_dw.weight", "bn1.running_mean"]
    ours = rename(theirs, table)
    assert list(ours.values()) == [
        "stages.stage1.0.depthwise.weight",
        "stages.stage13.3.depthwise.weight",
        "stages.stem.norm.running_mean",
    ]
    assert list(rename([o for o in ours.values() if o], inverted(table)).values()) == theirs
    assert rename(["blocks.x.0.conv_dw.weight", "head.bias"], table) == {
        "blocks.x.0.conv_dw.weight": None,
        "head.bias": None,
    }


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_torchvision_weights_give_torchvision_s_logits(name: str, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torchvision's own, at import
        import torchvision

    theirs = torchvision.models.get_model(name, weights=None).eval()
    torch.save(theirs.state_dict(), tmp_path / f"{name}.pth")
    ours = create(name, weights=tmp_path / f"{name}.pth").eval()
    x = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        assert torch.allclose(ours(x), theirs(x), rtol=1e-5, atol=1e-6)
    theirs.load_state_dict(in_layout(ours, name, "torchvision"))  # strict


@pytest.mark.parametrize("name", ["mobilenetv1_100", "resnet34"])
def test_timm_weights_give_timm_s_logits(name: str, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # timm's own, at import
        import timm

    theirs = timm.create_model(name, pretrained=False).eval()
    save_file(theirs.state_dict(), tmp_path / "model.safetensors")
    ours_name = name.replace("mobilenetv1", "mobilenet_v1")
    ours = create(ours_name, weights=tmp_path).eval()  # a folder in the hub's layout
    x = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        assert torch.allclose(ours(x), theirs(x), rtol=1e-4, atol=1e-5)
    theirs.load_state_dict(in_layout(ours, ours_name, "timm" if "mobile" in name else "torchvision"))


@pytest.mark.parametrize("name", ["resnet20", "resnet32"])
def test_the_published_cifar_checkpoints_load(name: str, shared: Path) -> None:
    path = next((shared / "weights" / "cifar10").glob(f"{name}-*.th"))
    model, notes = load_network(find_weights(path, name=f"{name}_cifar"))
    assert notes == ()
    assert model(torch.randn(1, 3, 32, 32)).shape == (1, 10)
    assert not model.training


def test_the_imagenet_mobilenet_loads_with_what_its_card_says(shared: Path) -> None:
    source = find_weights(shared / "weights" / "mobilenet_v1_075_224_imagenet.safetensors")
    assert source.name == "mobilenet_v1_075"
    assert source.config == {"padding": "tensorflow", "norm_eps": 0.001}
    assert source.preprocessing.resize == 256
    assert source.preprocessing.mean == (0.5, 0.5, 0.5)
    assert source.labels is not None and len(source.labels) == 1000
    model, notes = load_network(source)
    assert notes == ()
    assert model(torch.zeros(1, 3, 224, 224)).shape == (1, 1000)


@pytest.fixture
def cifar_file(tmp_path: Path) -> Callable[..., Path]:
    """Writes the weights of a fresh ResNet-20 after an edit to its state dict."""

    def write(edit: Callable[[dict[str, Any]], Any] = lambda state: state, ending: str = ".pth") -> Path:
        path = tmp_path / f"weights{ending}"
        torch.save(edit(dict(zoo.build("resnet20_cifar", num_classes=10).state_dict())), path)
        return path

    return write


def test_another_number_of_classes_re_makes_the_head_and_says_so(cifar_file: Callable[..., Path]) -> None:
    with pytest.warns(UserWarning, match="has 10 classes, 3 were asked for; its classifier was re-made"):
        model = create("resnet20_cifar", num_classes=3, weights=cifar_file())
    assert model(torch.zeros(1, 3, 32, 32)).shape == (1, 3)
    assert create("resnet20_cifar", num_classes=0, weights=cifar_file())(torch.zeros(1, 3, 32, 32)).shape == (1, 64)


@pytest.mark.parametrize("ending", [".pth", ".th", ".bin", ".pt"])
def test_wrappers_and_module_prefixes_come_off(cifar_file: Callable[..., Path], ending: str) -> None:
    def wrap(state: dict[str, Any]) -> Any:
        return {"epoch": 3, "state_dict": {f"module.{key}": value for key, value in state.items()}}

    create("resnet20_cifar", num_classes=10, weights=cifar_file(wrap, ending))


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (lambda s: s | {"extra.weight": torch.zeros(1)}, "1 of its .* tensors do not belong .* extra.weight"),
        (lambda s: {k: v for k, v in s.items() if "stage2.0.conv1" not in k}, "missing stages.stage2.0.conv1.weight"),
        (
            lambda s: s | {"stages.stem.conv.weight": torch.zeros(16, 1, 3, 3)},
            r"stem.conv.weight \(16, 1, 3, 3\) where the network has \(16, 3",
        ),
        (lambda s: {"epoch": 3}, "no weights found in it; it holds a dict with the keys epoch"),
        (lambda s: [1, 2], "it holds a list"),
        (lambda s: Path("x"), "holds Python objects besides tensors"),
    ],
)
def test_what_does_not_fit_is_listed(cifar_file: Callable[..., Path], edit: Callable[..., Any], says: str) -> None:
    with pytest.raises(ConvAtlasError, match=says) as caught:
        create("resnet20_cifar", num_classes=10, weights=cifar_file(edit))
    assert "weights.pth" in str(caught.value)
    assert caught.value.remedy


def test_no_code_runs_from_a_file(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "ran",))

    for protocol in (2, 4):
        (tmp_path / "bomb.pth").write_bytes(pickle.dumps({"state_dict": Bomb()}, protocol=protocol))
        with pytest.raises(ConvAtlasError):
            read_tensors(tmp_path / "bomb.pth")
    torch.save({"state_dict": Bomb()}, tmp_path / "bomb.pth")
    with pytest.raises(ConvAtlasError, match="could run code"):
        read_tensors(tmp_path / "bomb.pth")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("ending", [".pth", ".safetensors"])
def test_damaged_files_are_named(cifar_file: Callable[..., Path], tmp_path: Path, ending: str) -> None:
    whole = cifar_file()
    if ending == ".safetensors":
        whole = tmp_path / "weights.safetensors"
        save_file(zoo.build("resnet20_cifar").state_dict(), whole)
    for kept in (0, 7, 1000, whole.stat().st_size - 100):
        cut = tmp_path / f"cut{ending}"
        cut.write_bytes(whole.read_bytes()[:kept])
        with pytest.raises(ConvAtlasError, match=f"cut{ending}"):
            read_tensors(cut)


@pytest.mark.parametrize(
    ("file", "says"),
    [("model.h5", "Keras"), ("model.pb", "TensorFlow"), ("model.xyz", "ending .xyz"), ("gone.pth", "no such")],
)
def test_other_files_are_refused_with_a_remedy(tmp_path: Path, file: str, says: str) -> None:
    if not file.startswith("gone"):
        (tmp_path / file).write_bytes(b"1234")
    with pytest.raises(ConvAtlasError, match=says):
        create("resnet18", weights=tmp_path / file)


def test_a_file_for_another_network_says_so(cifar_file: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(ConvAtlasError, match="does not fit the network: missing .* unknown"):
        create("resnet18", weights=cifar_file())
    with pytest.raises(ConvAtlasError, match="which network these weights are for"):
        find_weights(cifar_file())
    (tmp_path / "weights.json").write_text(json.dumps({"architecture": "resnet50"}))
    with pytest.raises(ConvAtlasError, match="its card says resnet50, not resnet20_cifar"):
        create("resnet20_cifar", weights=cifar_file())
    (tmp_path / "weights.json").write_text("[1]")
    with pytest.raises(ConvAtlasError, match="a JSON object is expected"):
        find_weights(cifar_file())
