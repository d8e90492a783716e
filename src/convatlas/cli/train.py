"""The verb `train`: a network of the zoo from scratch, by its paper's recipe."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated, Any

import typer

from convatlas.cli.options import Device, DeviceOption, Nodes, Processes
from convatlas.cli.output import Json, percent, progress_bars, put_json, say, table


class How(enum.StrEnum):
    auto = "auto"
    memory = "memory"
    cached = "cached"
    streamed = "streamed"


def train(
    recipe: Annotated[str, typer.Argument(help="A recipe, as resnet20_cifar: `convatlas list --recipes` has all.")],
    data: Annotated[
        Path, typer.Argument(help="A folder (train/class/*, test/class/* or class/*), a zip or tar of one, or a CSV.")
    ],
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FOLDER", help="The run; one that is there goes on.")
    ] = None,
    network: Annotated[
        str | None, typer.Option("--network", metavar="NAME", help="Another network that the recipe is for.")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="FIELD=VALUE", help="Change the recipe, as epochs=30 or optim.lr=0.05."),
    ] = None,
    images: Annotated[
        How, typer.Option("--images", help="How images are read; auto streams photos that are cropped.")
    ] = How.auto,
    device: DeviceOption = Device.auto,
    processes: Processes = 1,
    nodes: Nodes = 1,
    save_every: Annotated[
        int, typer.Option("--save-every", metavar="STEPS", min=0, help="Checkpoints between those of the epochs.")
    ] = 0,
    lr_find: Annotated[
        bool, typer.Option("--lr-find", help="Do not train: try growing learning rates, and say which would do.")
    ] = False,
    json: Json = False,
) -> None:
    """Train a network from scratch by a recipe. Stopped by Ctrl-C or killed, the same command goes on where it was, bit for bit."""
    from convatlas.jobs.train import find_lr, train_recipe

    if lr_find:
        for given, option in (
            (out, "--out"),
            (processes > 1, "--processes"),
            (nodes > 1, "--nodes"),
            (save_every, "--save-every"),
        ):
            if given:
                raise typer.BadParameter("--lr-find makes no run, and works alone", param_hint=option)
        with progress_bars() as progress:
            found = find_lr(
                recipe,
                data,
                network=network,
                settings=settings or (),
                images=images.value,
                device=device.value,
                progress=progress,
                say=lambda message: say(f"note: {message}"),
            )
        if json:
            put_json(found)
        else:
            print(lr_text(found))
        return
    if out is None:
        raise typer.BadParameter("the run needs a folder", param_hint="--out")
    with progress_bars() as progress:
        result = train_recipe(
            recipe,
            data,
            out=out,
            network=network,
            settings=settings or (),
            images=images.value,
            device=device.value,
            processes=processes,
            nodes=nodes,
            save_every=save_every,
            progress=progress,
            say=lambda message: say(f"note: {message}"),
        )
    from convatlas.train.processes import leads

    if not leads():
        return
    if json:
        put_json(result.json)
    else:
        print(train_text(result.json))
        print(f"model:  {result.model}\nreport: {result.folder / 'report.html'}")


def lr_text(found: dict[str, Any]) -> str:
    """The loss by rate, with a bar for it, and what to make of it."""
    pairs = list(zip(found["rates"], found["losses"], strict=True))
    shown = pairs[:: max(1, len(pairs) // 24)]
    most = max(loss for _, loss in shown)
    rows = [(f"{rate:.2e}", f"{loss:.3f}", "█" * max(1, round(30 * loss / most))) for rate, loss in shown]
    steepest = "nowhere" if found["steepest"] is None else f"at {found['steepest']:.2g}"
    end = "it exploded in the end" if found["exploded"] else "it did not explode: rates above were not tried"
    return (
        f"{table(('rate', 'loss', ''), rows, right=(0, 1))}\n\n"
        f"the loss falls the fastest {steepest}, a tenth of where it is least is {found['tenth']:.2g}; {end}\n"
        f"try --set optim.lr={found['suggestion']:.2g}"
    )


def train_text(result: dict[str, Any]) -> str:
    """What was reached and how that was measured."""
    if result["accuracy"] is None:
        return f"{result['network']}: trained; {result['protocol']}"
    low, high = result["accuracy_interval"]
    alarms = "".join(f"{alarm}\n" for alarm in result["alarms"])
    return f"{alarms}{result['network']}: {percent(result['accuracy'])} [{percent(low)}, {percent(high)}]\n{result['protocol']}"
