"""Recipes: functions that say how a network is trained, each with its command, hardware, time and result in its docstring."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from functools import partial

from convatlas.errors import ConvAtlasError
from convatlas.train.recipes import cifar, cifar_fast
from convatlas.train.recipes.recipe import Recipe

_RESIDUAL = (
    *("plain20_cifar", "plain56_cifar"),
    *("resnet20_cifar", "resnet32_cifar", "resnet44_cifar", "resnet56_cifar", "resnet110_cifar", "resnet1202_cifar"),
    *("preresnet110_cifar", "preresnet164_cifar", "preresnet1001_cifar"),
)
_FAST = ("cifar_fast", "cifar_fast_050", "cifar_fast_025")
RECIPES: dict[str, Callable[[], Recipe]] = {
    **{name: partial(cifar.residual, name) for name in _RESIDUAL},
    **{name: partial(cifar_fast.fast, name) for name in _FAST},
}


def recipe(name: str) -> Recipe:
    """The recipe of that name; `ConvAtlasError` names the nearest if there is none."""
    if name not in RECIPES:
        near = difflib.get_close_matches(name, RECIPES, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(RECIPES)}."
        raise ConvAtlasError(f"there is no recipe {name!r};", remedy=hint)
    return RECIPES[name]()
