"""Reading parameters from a file: tensors only, so that no file can run code.

`.safetensors` holds nothing else. The pickled formats (`.pth`, `.pt`, `.th`, `.bin`, `.tar`) go through PyTorch's restricted unpickler, and
there is no fallback to the unrestricted one: a file that needs it is refused.
"""

from __future__ import annotations

import json
import pickle
import re
import struct
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from convatlas.errors import ConvAtlasError
from convatlas.weights.formats import refuse_foreign

PICKLED = (".pth", ".pt", ".th", ".bin", ".tar")
WRAPPERS = ("state_dict", "model_state_dict", "model", "net")  # what checkpoints call the entry that holds the weights


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Every tensor of a weights file by its own name, without wrappers and without `module.` before every name.

    Raises `ConvAtlasError`, naming the file and the remedy, where it is missing, damaged, of another framework, or holds more than tensors.
    """
    refuse_foreign(path)
    if not path.is_file():
        raise ConvAtlasError(f"{path}: there is no such weights file.", remedy="Check the path.")
    kind = path.suffix.lower()
    if kind == ".safetensors":
        found = _read_safetensors(path)
    elif kind in PICKLED:
        found = _unwrap(path, _read_pickled(path))
    else:
        raise ConvAtlasError(
            f"{path}: the ending {kind or '(none)'} is not one of a weights file.",
            remedy=f"Give a .safetensors file or one of {', '.join(PICKLED)}.",
        )
    if all(name.startswith("module.") for name in found):  # saved from DataParallel
        found = {name.removeprefix("module."): tensor for name, tensor in found.items()}
    return found


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        return load(path.read_bytes())
    except (SafetensorError, ValueError, KeyError, struct.error, json.JSONDecodeError) as error:
        raise ConvAtlasError(
            f"{path}: not a whole safetensors file ({error}).", remedy="Fetch or copy it again."
        ) from error


def _read_pickled(path: Path) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Detected pickle protocol")  # old protocols load or are refused below
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        reason = str(error).splitlines()[0]
        if "Weights only load failed" in str(error) or "Unsupported" in str(error):
            named = re.search(r"GLOBAL ([\w.]+)", str(error))
            what = f" ({named[1]})" if named else ""
            raise ConvAtlasError(
                f"{path}: holds Python objects besides tensors{what}, which could run code when loaded, so it was not loaded.",
                remedy="If it is a whole model and you trust its author, load it where it was made and save its weights alone: "
                "`torch.save(model.state_dict(), 'weights.pth')`.",
            ) from error
        raise ConvAtlasError(f"{path}: damaged ({reason}).", remedy="Fetch or copy it again.") from error
    except (RuntimeError, EOFError, ValueError, KeyError, IndexError, AttributeError, TypeError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        if "TorchScript" in str(error):
            raise ConvAtlasError(
                f"{path}: a TorchScript program, which is code, so it was not loaded.",
                remedy="Where it was made, save the weights alone: `torch.save(model.state_dict(), 'weights.pth')`.",
            ) from error
        raise ConvAtlasError(f"{path}: damaged ({reason}).", remedy="Fetch or copy it again.") from error


def _unwrap(path: Path, loaded: Any) -> dict[str, Tensor]:
    """The dict of tensors inside a checkpoint: at the top, or one level down under one of the usual names."""
    candidates = [loaded]
    if isinstance(loaded, dict):
        candidates += [loaded[name] for name in WRAPPERS if name in loaded]
    for candidate in candidates:
        if isinstance(candidate, dict) and candidate and all(isinstance(v, Tensor) for v in candidate.values()):
            return {str(name): tensor for name, tensor in candidate.items()}
    inside = (
        f"a dict with the keys {', '.join(map(str, list(loaded)[:8]))}"
        if isinstance(loaded, dict)
        else f"a {type(loaded).__name__}"
    )
    raise ConvAtlasError(
        f"{path}: no weights found in it; it holds {inside}.",
        remedy=f"Weights are expected at the top or under one of {', '.join(WRAPPERS)}.",
    )
