"""What is not a weights file of PyTorch, recognised by its name before anything is read, with what to do instead."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

from convatlas.errors import ConvAtlasError

_KERAS = (
    "Load the model in Keras and copy its weights, layer by layer, into the same network of torchvision or timm; save that as "
    ".safetensors. For ImageNet weights that is done already: `convatlas list --weights`."
)
_TENSORFLOW = _KERAS.replace("in Keras", "in TensorFlow")
_EXPORTED = "Save the state_dict of the PyTorch network it was made from, as .safetensors."
_OTHER = (
    "Copy the weights into the same network of torchvision or timm, and save that as .safetensors. For ImageNet weights "
    "that is done already: `convatlas list --weights`."
)
_LIGHTNING = "Save the state_dict of the network inside: `torch.save(module.network.state_dict(), 'weights.pth')`, by whichever name."
_ENDINGS = {
    **dict.fromkeys((".h5", ".hdf5", ".keras"), ("Keras weights", _KERAS)),
    **dict.fromkeys((".pb", ".pbtxt", ".ckpt", ".index", ".meta", ".tflite"), ("TensorFlow weights", _TENSORFLOW)),
    **dict.fromkeys((".caffemodel", ".prototxt"), ("Caffe weights", _OTHER)),
    **dict.fromkeys((".params", ".pdparams", ".msgpack"), ("weights of MXNet, Paddle or Flax", _OTHER)),
    **dict.fromkeys((".onnx", ".pt2", ".mlmodel", ".mlpackage"), ("exported graphs (ONNX, torch.export, Core ML)", _EXPORTED)),
}  # fmt: skip
# model.ckpt-1000, which names the files model.ckpt-1000.index, .meta and .data-00000-of-00001
_CHECKPOINT = re.compile(r"\.ckpt-\d+$|\.data-\d+-of-\d+$")


def refuse_foreign(path: Path) -> None:
    """Raises `ConvAtlasError` if `path`, a file or a folder, is another framework's; the remedy says how to convert it."""
    found = _in_folder(path) if path.is_dir() else _of_file(path)
    if found is not None:
        what, remedy = found
        raise ConvAtlasError(f"{path}: {what} cannot be read.", remedy=remedy)


def _of_file(path: Path) -> tuple[str, str] | None:
    kind = path.suffix.lower()
    if kind == ".ckpt" and path.is_file() and zipfile.is_zipfile(path):
        return "checkpoints of PyTorch Lightning", _LIGHTNING
    if kind == ".bin" and path.with_name("model.json").is_file():
        return "TensorFlow.js weights", _TENSORFLOW
    if _CHECKPOINT.search(path.name) or path.with_name(f"{path.name}.index").is_file():
        return "TensorFlow weights", _TENSORFLOW
    return _ENDINGS.get(kind)


def _in_folder(folder: Path) -> tuple[str, str] | None:
    """What a folder without weights of ours holds."""
    if folder.suffix.lower() in _ENDINGS:  # model.mlpackage is a folder
        return _ENDINGS[folder.suffix.lower()]
    names = sorted(path.name for path in folder.iterdir())
    if "model.json" in names and any(name.endswith(".bin") for name in names):
        return "a folder of TensorFlow.js", _TENSORFLOW
    if any(name.endswith((".safetensors", ".bin", ".pth", ".pt")) for name in names):
        return None
    if "keras_metadata.pb" in names:
        return "a SavedModel folder of Keras", _KERAS
    if {"saved_model.pb", "saved_model.pbtxt"} & set(names):
        return "a SavedModel folder of TensorFlow", _TENSORFLOW
    found = next((kind for name in names if (kind := _of_file(folder / name))), None)
    return (f"a folder of {found[0]}", found[1]) if found else None
