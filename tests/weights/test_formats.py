"""What is not a weights file of PyTorch: each kind is named, with what to do instead, before and without reading it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from convatlas import zoo
from convatlas.errors import ConvAtlasError
from convatlas.weights.files import read_tensors
from convatlas.weights.source import find_weights

FILES = {
    "model.h5": "Keras weights cannot be read. Load the model in Keras and copy its weights",
    "weights.hdf5": "Keras weights",
    "model.keras": "Keras weights",
    "frozen.pb": "TensorFlow weights cannot be read. Load the model in TensorFlow",
    "model.ckpt": "TensorFlow weights",
    "model.ckpt-1000.index": "TensorFlow weights",
    "model.ckpt-1000.meta": "TensorFlow weights",
    "model.ckpt-1000.data-00000-of-00001": "TensorFlow weights",
    "model.ckpt-1000": "TensorFlow weights",
    "model.tflite": "TensorFlow weights",
    "net.caffemodel": "Caffe weights cannot be read. Copy the weights into the same network of torchvision or timm",
    "net.prototxt": "Caffe weights",
    "resnet.onnx": "exported graphs .* cannot be read. Save the state_dict of the PyTorch network it was made from",
    "resnet.pt2": "exported graphs",
    "resnet.mlmodel": "exported graphs",
    "net.params": "MXNet",
    "resnet.RESNET": "the ending .resnet is not one of a weights file",
}


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("name", [None, "resnet18"])
def test_a_foreign_file(file: str, name: str | None, tmp_path: Path) -> None:
    (tmp_path / file).write_bytes(b"1234")
    with pytest.raises(ConvAtlasError, match=FILES[file]) as caught:
        source = find_weights(tmp_path / file, name=name or "resnet18" if file.endswith("RESNET") else name)
        read_tensors(source.path)
    assert str(tmp_path / file) in caught.value.message
    assert caught.value.remedy


def test_the_name_of_a_tensorflow_checkpoint_that_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "model.index").touch()
    for name in ("model", "gone.ckpt-7"):
        with pytest.raises(ConvAtlasError, match=f"{name}: TensorFlow weights"):
            find_weights(tmp_path / name)


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (("saved_model.pb", "variables/variables.index"), "a SavedModel folder of TensorFlow cannot be read. Load the model in Tens"),
        (("saved_model.pb", "keras_metadata.pb"), "a SavedModel folder of Keras cannot be read. Load the model in Keras"),
        (("checkpoint", "model.ckpt-7.index", "model.ckpt-7.data-00000-of-00001"), "a folder of TensorFlow weights"),
        (("config.json", "keras_model.h5", "labels.txt"), "a folder of Keras weights"),
        (("model.json", "metadata.json", "weights.bin"), "a folder of TensorFlow.js cannot"),
        (("readme.txt",), "holds neither model.safetensors nor pytorch_model.bin. Name the weights file itself"),
        ((), "holds neither model.safetensors"),
    ],
)  # fmt: skip
def test_a_foreign_folder(files: tuple[str, ...], said: str, tmp_path: Path) -> None:
    folder = tmp_path / "saved_model_folder"
    for file in ("", *files):
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).touch() if file else folder.mkdir(exist_ok=True)
    with pytest.raises(ConvAtlasError, match=said) as caught:
        find_weights(f"{folder}/")
    assert str(folder) in caught.value.message
    assert caught.value.remedy


def test_one_file_of_tensorflow_js(tmp_path: Path) -> None:
    for file in ("model.json", "weights.bin"):
        (tmp_path / file).write_text("{}")
    with pytest.raises(ConvAtlasError, match="weights.bin: TensorFlow.js weights"):
        find_weights(tmp_path / "weights.bin", name="resnet18")


@pytest.mark.filterwarnings("ignore:.*torch.jit")  # which is on its way out, and its files still lie about
def test_whole_models(tmp_path: Path) -> None:
    model = zoo.build("resnet20_cifar", num_classes=10).eval()
    torch.save(model, tmp_path / "whole.pt")
    with pytest.raises(
        ConvAtlasError, match=r"Python objects besides tensors \(convatlas.zoo.resnet.ResNet\)"
    ) as caught:
        read_tensors(tmp_path / "whole.pt")
    assert "torch.save(model.state_dict(), 'weights.pth')" in caught.value.remedy
    torch.jit.save(torch.jit.trace(model, torch.zeros(1, 3, 32, 32)), tmp_path / "traced.pt")
    with pytest.raises(ConvAtlasError, match="traced.pt: a TorchScript program") as caught:
        read_tensors(tmp_path / "traced.pt")
    torch.save({"state_dict": model.state_dict()}, tmp_path / "epoch=3.ckpt")
    with pytest.raises(ConvAtlasError, match="checkpoints of PyTorch Lightning cannot be read"):
        find_weights(tmp_path / "epoch=3.ckpt", name="resnet20_cifar")
