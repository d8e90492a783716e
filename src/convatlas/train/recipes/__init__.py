"""Recipes: functions that say how a network is trained, each with its command, what departs from the paper, and what the paper reports.

None of them has been run here at full length: what a docstring reports is the paper's. They are data, and need no torch.
"""

from __future__ import annotations

import difflib

from convatlas.errors import ConvAtlasError
from convatlas.train.recipes import (
    alexnet,
    cifar_fast,
    cifar_residual,
    fractalnet,
    googlenet,
    imagenet_residual,
    lenet,
    mobile,
    nasnet,
)
from convatlas.train.recipes import network_in_network as nin
from convatlas.train.recipes.recipe import Formula, Recipe

RECIPES: dict[str, Formula] = {}
for _module in (
    lenet,
    alexnet,
    nin,
    googlenet,
    imagenet_residual,
    cifar_residual,
    fractalnet,
    mobile,
    nasnet,
    cifar_fast,
):
    RECIPES |= _module.RECIPES


def recipe(name: str, network: str | None = None) -> Recipe:
    """The recipe of that name, for its usual network or another one that it is for.

    Raises `ConvAtlasError` where there is no such recipe, naming the nearest, or where it is not for that network.
    """
    if name not in RECIPES:
        near = difflib.get_close_matches(name, RECIPES, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(RECIPES)}."
        raise ConvAtlasError(f"there is no recipe {name!r};", remedy=hint)
    networks = RECIPES[name].networks
    if network is not None and network not in networks:
        near = difflib.get_close_matches(network, networks, n=1)
        hint = f"did you mean {near[0]}?" if near else f"it is for {', '.join(networks)}."
        raise ConvAtlasError(f"{name} is no recipe for {network!r};", remedy=hint)
    return RECIPES[name](network)
