"""The verbs, each a thin shell around a function of `convatlas`: arguments in, a result out as text or JSON."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated, Any

import typer

from convatlas.cli.cached import cache_app
from convatlas.cli.compare import compare
from convatlas.cli.ensemble import ensemble
from convatlas.cli.listing import list_
from convatlas.cli.output import Json, percent, problems_text, progress_bars, put_json, say, table
from convatlas.cli.show import show
from convatlas.cli.study import study
from convatlas.cli.train import train
from convatlas.errors import ConvAtlasError

app = typer.Typer(
    name="convatlas",
    help="From a folder of images to a classifier you can trust, through the classic convolutional networks.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


class Device(enum.StrEnum):
    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"
    mps = "mps"


class ResizeMode(enum.StrEnum):
    auto = "auto"
    crop = "crop"
    pad = "pad"
    squash = "squash"


class ClassWeights(enum.StrEnum):
    none = "none"
    balanced = "balanced"


DeviceOption = Annotated[Device, typer.Option("--device", help="Where to compute; auto takes a GPU if there is one.")]
Backbone = Annotated[
    str | None, typer.Option("--backbone", metavar="NAME", help="The network (`convatlas list` shows all).")
]
Weights = Annotated[
    str | None,
    typer.Option(
        "--weights",
        metavar="FILE_OR_TAG",
        help="Its weights: a file, a hub folder, or a tag (`convatlas list --weights` shows them).",
    ),
]
ViewsOption = Annotated[
    str,
    typer.Option(
        "--views",
        metavar="NAME",
        help="What of an image is shown, probabilities averaged: centre, flip, ten, 144, along, dense or dense:SIDE,SIDE.",
    ),
]
Download = Annotated[bool, typer.Option("--download", help="Allow fetching published weights.")]


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


@app.command()
def fit(
    data: Annotated[
        Path, typer.Argument(help="A folder (train/class/*, test/class/* or class/*), a zip or tar of one, or a CSV.")
    ],
    backbone: Backbone = None,
    weights: Weights = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FOLDER", help="Where the model and the report go.")
    ] = None,
    class_weights: Annotated[
        ClassWeights, typer.Option("--class-weights", help="balanced: rare classes count as much as others.")
    ] = ClassWeights.none,
    plan: Annotated[
        str,
        typer.Option(
            "--plan",
            metavar="PLAN",
            help="auto, probe, probe:STAGE, probe:STAGE+STAGE, tune:STAGE, tune:all or scratch.",
        ),
    ] = "auto",
    budget: Annotated[
        str | None,
        typer.Option(
            "--budget", metavar="TIME", help="For --plan auto: time to try fine-tuning in, as 10m; else it only probes."
        ),
    ] = None,
    resize_mode: Annotated[
        ResizeMode,
        typer.Option(
            "--resize-mode", help="How images become square; auto squashes very long ones, else as the weights."
        ),
    ] = ResizeMode.auto,
    device: DeviceOption = Device.auto,
    download: Download = False,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Deals images to folds.")] = 0,
    report: Annotated[bool, typer.Option("--report/--no-report", help="Write report.html.")] = True,
    json: Json = False,
) -> None:
    """Make a classifier from images: check, features of every stage, a probe on each, the best chosen, evaluated and saved."""
    from convatlas.jobs.fit import fit as run

    with progress_bars() as progress:
        result = run(
            data,
            backbone=backbone,
            weights=weights,
            out=out,
            class_weights="balanced" if class_weights is ClassWeights.balanced else None,
            plan=plan,
            budget=budget,
            resize_mode=resize_mode.value,
            device=device.value,
            download=download,
            seed=seed,
            report=report,
            progress=progress,
        ).json
    for note in result["notes"]:
        say(f"note: {note}")
    if json:
        put_json(result)
    else:
        print(fit_text(result))


@app.command()
def predict(
    folder: Annotated[Path, typer.Argument(help="A model folder.")],
    images: Annotated[list[Path], typer.Argument(help="Image files, or folders of them.")],
    top: Annotated[int, typer.Option("--top", min=1, help="How many of the likeliest classes to give.")] = 5,
    views: ViewsOption = "centre",
    explain: Annotated[
        Path | None,
        typer.Option(
            "--explain", metavar="FOLDER", help="Write explain.html: where each answer comes from, and precedents."
        ),
    ] = None,
    trained_on: Annotated[
        Path | None,
        typer.Option(
            "--trained-on", metavar="DATA", help="For --explain: where the training images are, if they moved."
        ),
    ] = None,
    device: DeviceOption = Device.auto,
    json: Json = False,
) -> None:
    """Name the class of images, with calibrated probabilities. Exit status 1 if one could not be read."""
    if explain is not None:
        predict_explained(folder, images, explain, trained_on, top, views, device, json=json)
        return
    if trained_on is not None:
        raise ConvAtlasError("--trained-on is for --explain.", remedy="Give both, or neither.")
    from convatlas.bundle.load import load, paths_in
    from convatlas.jobs.images import resolve_device
    from convatlas.jobs.judge import views_json

    classifier = load(folder, device=resolve_device(device.value))
    looked = classifier.looking(views)
    paths = paths_in(images)
    if not paths:
        raise ConvAtlasError(
            f"no files in {', '.join(map(str, images))}.", remedy="Give image files, or folders that hold some."
        )
    rows = []
    with progress_bars() as progress:
        for start in range(0, len(paths), 32):
            rows += classifier.predict(paths[start : start + 32], top=top, views=views)
            progress("predict", len(rows), len(paths))
    if json:
        described = {"schema": "convatlas.predict/1", "model": str(folder), "views": views_json(classifier, looked)}
        put_json(described | {"rows": [row.to_json() for row in rows]})
    for row in rows:
        if row.error:
            say(f"convatlas: {row.error}")
        elif not json:
            print(f"{row.path}\t{row.label}\t{row.probability:.4f}")
    if any(row.error for row in rows):
        raise typer.Exit(1)


def predict_explained(
    folder: Path,
    images: list[Path],
    out: Path,
    trained_on: Path | None,
    top: int,
    views: str,
    device: Device,
    *,
    json: bool,
) -> None:
    """The predictions with their reasons on a page."""
    from convatlas.jobs.explain import explain

    if views != "centre":
        raise ConvAtlasError(
            f"--explain shows what the model itself sees, not the views {views!r}.", remedy="Leave one of them out."
        )
    with progress_bars() as progress:
        found = explain(
            folder, images, out=out, top=min(top, 3), data=trained_on, device=device.value, progress=progress
        )
    if json:
        put_json(found.json)
    errors = [row["error"] for row in found.json["rows"] if "error" in row]
    for row in found.json["rows"]:
        if "error" not in row and not json:
            print(f"{row['path']}\t{row['label']}\t{row['probability']:.4f}")
    for error in errors:
        say(f"convatlas: {error}")
    say(f"explained: {found.page}")
    if errors:
        raise typer.Exit(1)


@app.command()
def evaluate(
    folder: Annotated[Path, typer.Argument(help="A model folder.")],
    data: Annotated[Path, typer.Argument(help="A folder, a zip or tar of one, or a CSV.")],
    split: Annotated[
        str | None, typer.Option("--split", help="train, val, test or all; by default test, else val, else all.")
    ] = None,
    views: ViewsOption = "centre",
    device: DeviceOption = Device.auto,
    json: Json = False,
) -> None:
    """Judge a model on labelled images; classes are matched by name."""
    from convatlas.jobs.evaluate import evaluate as run

    with progress_bars() as progress:
        result = run(folder, data, split=split, views=views, device=device.value, progress=progress).json
    if json:
        put_json(result)
        return
    print(scores_text(result))
    print(views_text(result["views"]))
    for path in result["unreadable"]:
        say(f"not counted, unreadable: {path}")


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


def fit_text(result: dict[str, Any]) -> str:
    """The result of a fit in a screenful: the answer, the ladder, where things are."""
    rows = [
        (
            ("* " if stage["chosen"] else "  ") + stage["name"],
            str(stage["features"]),
            f"{percent(stage['cv_accuracy'])} [{percent(stage['cv_interval'][0])}, {percent(stage['cv_interval'][1])}]",
            percent(stage["test_accuracy"]),
        )
        for stage in result["stages"]
    ]
    seconds = {name: value for name, value in result["seconds"].items() if value is not None}
    errors = [problem for problem in result["problems"] if problem["severity"] == "error"]
    return "\n".join(
        [
            result["answer"],
            "",
            table(
                ("  stage", "features", "cross-validated, 95 % interval", "test, not used for the choice"),
                rows,
                right=(1, 2, 3),
            ),
            "",
            *([advice_text(result["advice"]), ""] if result["advice"] else []),
            *([problems_text(errors), ""] if errors else []),
            "seconds: " + ", ".join(f"{name} {value:.1f}" for name, value in seconds.items()),
            f"model:   {result['bundle']}",
            *([f"report:  {result['report']}"] if result["report"] else []),
        ]
    )


def advice_text(advice: dict[str, Any]) -> str:
    """The plans that were weighed: what each reached on held-out training images, what it takes, why it is not the one."""
    rows = []
    for row in advice["plans"]:
        low, high = row["interval"] or (None, None)
        reached = "–" if row["accuracy"] is None else f"{percent(row['accuracy'])} [{percent(low)}, {percent(high)}]"
        memory = "–" if row["memory"] is None else f"{row['memory'] / 1e6:,.0f} MB"
        mark = "* " if row["chosen"] else "  "
        rows.append((mark + row["plan"], reached, f"{row['seconds']:,.0f} s", memory, row["note"]))
    header = ("  plan", "held-out training images, 95 %", "to train", "memory", "")
    return table(header, rows, right=(1, 2, 3))


def scores_text(result: dict[str, Any]) -> str:
    """Accuracy with its interval, calibration, and the classes that do worst."""
    low, high = result["accuracy_interval"]
    worst = sorted((row for row in result["classes"] if row["recall"] is not None), key=lambda row: row["recall"])[:10]
    rows = [(row["name"], str(row["test"]), percent(row["recall"]), percent(row["precision"])) for row in worst]
    return "\n".join(
        [
            f"accuracy {percent(result['accuracy'])}, 95 % interval {percent(low)} to {percent(high)} ({result['protocol']})",
            f"balanced accuracy {percent(result['balanced_accuracy'])}, calibration error {percent(result['expected_calibration_error'])}",
            "",
            table(("lowest recall", "images", "recall", "precision"), rows, right=(1, 2, 3)),
        ]
    )


def views_text(views: dict[str, Any]) -> str:
    """What of each image was shown, and at what cost."""
    passes = views["forward_passes"]
    most = "at most " if views["name"] == "along" else ""
    return (
        f"\nviews: {views['name']} ({views['what']}), {most}{passes} forward pass{'es' if passes > 1 else ''} an image"
    )


app.command()(compare)
app.command()(ensemble)
app.command()(study)
app.command()(train)
app.add_typer(cache_app, name="cache")
