"""The verb `list`: which networks there are, the weights that are published for them, and the recipes that train them."""

from __future__ import annotations

from typing import Annotated

import typer

from convatlas.cli.output import Json, put_json, table


def list_(
    pattern: Annotated[str, typer.Argument(help="A shell pattern, such as 'resnet*'.")] = "*",
    weights: Annotated[bool, typer.Option("--weights", help="List the tags of weights for them instead.")] = False,
    recipes: Annotated[bool, typer.Option("--recipes", help="List the recipes that `train` has instead.")] = False,
    json: Json = False,
) -> None:
    """List the networks there are, with parameters and mult-adds; the published weights they can load; or how they are trained."""
    from dataclasses import asdict

    from convatlas import catalogue

    if weights:
        list_weights(pattern, json)
        return
    if recipes:
        list_recipes(pattern, json)
        return

    found = [catalogue.networks()[name] for name in catalogue.names(pattern)]
    if json:
        put_json({"schema": "convatlas.list/1", "networks": [asdict(network) for network in found]})
        return
    rows = [
        (
            n.name,
            f"{n.family} {n.year}",
            "×".join(map(str, n.input_size)),
            str(n.num_classes),
            f"{n.parameters:,}",
            f"{n.mult_adds / 1e6:,.1f} M",
        )
        for n in found
    ]
    print(table(("name", "family", "input", "classes", "parameters", "mult-adds"), rows, right=(3, 4, 5)))


def list_recipes(pattern: str, json: bool) -> None:
    """What `convatlas list --recipes` shows."""
    from convatlas.train.recipes.table import COLUMNS, described, row

    found = described(pattern)
    if json:
        put_json({"schema": "convatlas.recipes/1", "recipes": found})
        return
    print(table(COLUMNS, [row(each) for each in found], right=(3, 4, 5)))


def list_weights(pattern: str, json: bool) -> None:
    """What `convatlas list --weights` shows."""
    from convatlas.weights.source import weights_tags

    found = weights_tags(pattern)
    if json:
        rows = [{**vars(row), "path": None if row.path is None else str(row.path)} for row in found]
        put_json({"schema": "convatlas.weights_tags/1", "weights": rows})
        return
    lines = [
        (
            row.tag,
            row.network,
            "–" if row.top1 is None else f"{row.top1:.1f} %",
            "–" if row.megabytes is None else f"{row.megabytes:.0f}",
            "yes" if row.path else "no",
        )
        for row in found
    ]
    print(table(("tag", "network", "published top-1", "MB", "on this disk"), lines, right=(2, 3)))
