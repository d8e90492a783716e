"""The zoo: every network there is, by name. A family is one file with its paper, its variants as data and its model."""

from __future__ import annotations

import difflib
from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from convatlas.zoo import (
    airbench,
    alexnet,
    densenet,
    fractalnet,
    googlenet,
    lenet,
    mobilenet_v1,
    mobilenet_v2,
    mobilenet_v3,
    nasnet,
    nin,
    preresnet,
    resnet,
    senet,
    vgg,
)
from convatlas.zoo.convnet import ConvNet, Taps, feature, hidden_names, iter_cuts, prefix, stage_names, suffix, taps
from convatlas.zoo.dense import dense
from convatlas.zoo.sizes import side_range

FAMILIES: tuple[ModuleType, ...] = (
    *(lenet, alexnet, nin, vgg, googlenet, resnet, preresnet, densenet, fractalnet),
    *(mobilenet_v1, senet, nasnet, mobilenet_v2, mobilenet_v3, airbench),
)
_FAMILY_OF: dict[str, ModuleType] = {}
for _family in FAMILIES:
    for _name in _family.VARIANTS:
        if _name in _FAMILY_OF:
            raise RuntimeError(f"two families define {_name!r}")
        _FAMILY_OF[_name] = _family

__all__ = [
    "FAMILIES",
    "ConvNet",
    "Taps",
    "build",
    "config_of",
    "dense",
    "family_of",
    "feature",
    "hidden_names",
    "iter_cuts",
    "native",
    "prefix",
    "side_range",
    "skeleton",
    "stage_names",
    "suffix",
    "taps",
    "variants",
]


def variants() -> tuple[str, ...]:
    """The names of all networks, family by family in the order of their papers."""
    return tuple(_FAMILY_OF)


def family_of(name: str) -> ModuleType:
    """The module that defines the network `name`; `ValueError` names the nearest name if there is none."""
    if name not in _FAMILY_OF:
        near = difflib.get_close_matches(name, _FAMILY_OF, n=1)
        raise ValueError(f"unknown model {name!r}" + (f"; did you mean {near[0]!r}?" if near else ""))
    return _FAMILY_OF[name]


def config_of(name: str) -> Any:
    """The config of the variant `name`, a frozen dataclass of its family."""
    return family_of(name).VARIANTS[name]


def native(name: str) -> tuple[tuple[int, int, int], int]:
    """The paper's input (channels, height, width) and number of classes."""
    return family_of(name).native(config_of(name))


def build(name: str, *, num_classes: int = 1000, in_channels: int = 3, config: Any = None) -> ConvNet:
    """The network `name` with its paper's initialisation; `config` replaces the variant's own (same family)."""
    family = family_of(name)
    return family.MODEL(config or family.VARIANTS[name], num_classes=num_classes, in_channels=in_channels)


def skeleton(name: str, *, num_classes: int = 1000, in_channels: int = 3, config: Any = None) -> ConvNet:
    """The network `name` on the `meta` device: shapes without numbers, for what only asks how it is built. Takes no memory."""
    with _Skeleton():
        model = build(name, num_classes=num_classes, in_channels=in_channels, config=config)
    return model.to("meta") if any(not x.is_meta for x in model.buffers()) else model  # constants have numbers


class _Skeleton(TorchFunctionMode):
    """New tensors are made on `meta`, and nothing is drawn for them: torch would import its compiler to do so."""

    _MAKES = frozenset({torch.empty, torch.zeros, torch.ones, torch.full, torch.rand, torch.randn, torch.tensor})
    _FILLS = frozenset({Tensor.normal_, Tensor.uniform_, Tensor.erfinv_, Tensor.zero_, Tensor.fill_})

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in self._FILLS or getattr(func, "__module__", "") == "torch.nn.init":
            return args[0] if args else kwargs["tensor"]
        if func in self._MAKES:
            kwargs = {**kwargs, "device": "meta"}
        return func(*args, **kwargs)
