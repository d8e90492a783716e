"""The verbs, each a thin shell around a function of `convatlas`: arguments in, a result out as text or JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from convatlas.cli.cached import cache_app
from convatlas.cli.compare import compare
from convatlas.cli.ensemble import ensemble
from convatlas.cli.fit import fit, fit_text
from convatlas.cli.listing import list_
from convatlas.cli.options import Download
from convatlas.cli.output import Json, problems_text, progress_bars, put_json
from convatlas.cli.predict import evaluate, predict
from convatlas.cli.show import show
from convatlas.cli.study import study
from convatlas.cli.train import train

app = typer.Typer(
    name="convatlas",
    help="From a folder of images to a classifier you can trust, through the classic convolutional networks.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _version(wanted: bool) -> None:
    if wanted:
        import convatlas

        print(f"convatlas {convatlas.__version__}")
        raise typer.Exit


@app.callback()
def convatlas_(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and leave.")
    ] = False,
) -> None:
    """From a folder of images to a classifier you can trust, through the classic convolutional networks."""


app.command("list")(list_)
app.command()(show)


@app.command()
def check(
    data: Annotated[Path, typer.Argument(help="A folder, a zip or tar of one, or a CSV.")], json: Json = False
) -> None:
    """Decode every image and name what is wrong with the data; nothing is changed. Exit status 1 if there is an error."""
    from convatlas.jobs.check import check as run

    with progress_bars() as progress:
        result = run(data, progress=progress)
    found = result.to_json()
    if json:
        put_json(found)
    else:
        counts = ", ".join(f"{sum(by_class.values()):,} {split}" for split, by_class in found["splits"].items())
        print(
            f"{found['path']}: {found['images']:,} files ({counts}), {len(found['classes'])} classes, {found['layout']}"
        )
        print(problems_text(found["problems"]) or "nothing to report.")
    if not result.sound:
        raise typer.Exit(1)


app.command()(fit)
app.command()(predict)
app.command()(evaluate)


@app.command()
def pack(
    name: Annotated[
        str | None, typer.Argument(help="The network; left out, the card beside the weights names it.")
    ] = None,
    # `...` is how typer marks an option that must be given after an argument that need not
    weights: Annotated[
        str, typer.Option("--weights", metavar="FILE_OR_TAG", help="The weights, with their classifier.")
    ] = ...,  # type: ignore[assignment] - typer: required
    out: Annotated[Path, typer.Option("--out", metavar="FOLDER", help="The model folder to write.")] = ...,  # type: ignore[assignment] - typer: required
    classes: Annotated[
        Path | None,
        typer.Option("--classes", metavar="FILE", help="Class names, one a line, in the order of the outputs."),
    ] = None,
    preprocess: Annotated[
        Path | None,
        typer.Option(
            "--preprocess",
            metavar="FILE",
            help="JSON with input_size, mean, std, interpolation, crop_pct (as timm has them).",
        ),
    ] = None,
    download: Download = False,
    json: Json = False,
) -> None:
    """Make a model folder from plain weights: network, class names and preprocessing together."""
    from convatlas.jobs.pack import pack as run

    folder = run(name, weights=weights, out=out, classes=classes, preprocess=preprocess, download=download)
    if json:
        put_json({"schema": "convatlas.pack/1", "bundle": str(folder)})
    else:
        print(f"{folder}: ready for `convatlas predict {folder} photo.jpg`")


@app.command()
def demo(
    out: Annotated[
        Path, typer.Option("--out", metavar="FOLDER", help="Where the digits, the model and the report go.")
    ] = Path("demo"),
    json: Json = False,
) -> None:
    """Write scikit-learn's handwritten digits as PNG folders and run `fit` on them with the embedded backbone; no network needed."""
    from convatlas.jobs.demo import demo as run

    with progress_bars() as progress:
        result = run(out, progress=progress).json
    if json:
        put_json(result)
    else:
        print(fit_text(result))


app.command()(compare)
app.command()(ensemble)
app.command()(study)
app.command()(train)
app.add_typer(cache_app, name="cache")
