"""The verbs `predict` and `evaluate`: what a model says of images, why, and how good that is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from convatlas.cli.options import Device, DeviceOption, FalseReject, Sets, ViewsOption
from convatlas.cli.output import Json, percent, progress_bars, put_json, say, table
from convatlas.errors import ConvAtlasError

if TYPE_CHECKING:
    from convatlas.bundle.prediction import Prediction


def predict(
    folder: Annotated[Path, typer.Argument(help="A model folder.")],
    images: Annotated[list[Path], typer.Argument(help="Image files, or folders of them.")],
    top: Annotated[
        int,
        typer.Option(
            "--top", min=1, help="How many of the likeliest classes to give; three at the most with --explain."
        ),
    ] = 5,
    views: ViewsOption = "centre",
    false_reject: FalseReject = None,
    sets: Sets = None,
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
        if str(explain).startswith("-"):  # an option, which stands where a folder should
            raise ConvAtlasError(f"--explain needs a folder, not {explain}.", remedy="Give one, as --explain out.")
        if false_reject is not None or sets is not None:
            raise ConvAtlasError(
                "--explain shows neither what is none of the classes nor sets.", remedy="Leave one of them out."
            )
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
            chosen = paths[start : start + 32]
            rows += classifier.predict(chosen, top=top, views=views, false_reject=false_reject, sets=sets)
            progress("predict", len(rows), len(paths))
    if json:
        described = {"schema": "convatlas.predict/1", "model": str(folder), "views": views_json(classifier, looked)}
        described |= {"false_reject": false_reject, "sets": sets}
        put_json(described | {"rows": [row.to_json() for row in rows]})
    for row in rows:
        if row.error:
            say(f"convatlas: {row.error}")
        elif not json:
            print(row_text(row))
    if any(row.error for row in rows):
        raise typer.Exit(1)


def row_text(row: Prediction) -> str:
    """A prediction on a line: path, class, probability; then, where asked for, the nearest class of a rejected image, and the set."""
    cells = [str(row.path), str(row.label), "–" if row.probability is None else f"{row.probability:.4f}"]
    if row.rejected:
        cells.append(f"nearest: {row.nearest_class} {row.top[0][1]:.4f}")
    if row.one_of is not None:
        cells.append("one of: " + ", ".join(row.one_of))
    return "\t".join(cells)


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


def evaluate(
    folder: Annotated[Path, typer.Argument(help="A model folder.")],
    data: Annotated[Path, typer.Argument(help="A folder, a zip or tar of one, or a CSV.")],
    split: Annotated[
        str | None, typer.Option("--split", help="train, val, test or all; by default test, else val, else all.")
    ] = None,
    views: ViewsOption = "centre",
    false_reject: FalseReject = None,
    sets: Sets = None,
    device: DeviceOption = Device.auto,
    json: Json = False,
) -> None:
    """Judge a model on labelled images; classes are matched by name."""
    from convatlas.jobs.evaluate import evaluate as run

    with progress_bars() as progress:
        result = run(
            folder,
            data,
            split=split,
            views=views,
            false_reject=false_reject,
            sets=sets,
            device=device.value,
            progress=progress,
        ).json
    if json:
        put_json(result)
        return
    print(scores_text(result))
    for line in promises_text(result):
        print(line)
    print(views_text(result["views"]))
    for path in result["unreadable"]:
        say(f"not counted, unreadable: {path}")


def scores_text(result: dict[str, Any]) -> str:
    """Accuracy with its interval, calibration, and the classes that do worst."""
    low, high = result["accuracy_interval"]
    worst = sorted((row for row in result["classes"] if row["recall"] is not None), key=lambda row: row["recall"])[:10]
    rows = [(row["name"], str(row["test"]), percent(row["recall"]), percent(row["precision"])) for row in worst]
    return "\n".join(
        [
            *(f"! {alarm}\n" for alarm in result.get("alarms", ())),
            f"accuracy {percent(result['accuracy'])}, 95 % interval {percent(low)} to {percent(high)} ({result['protocol']})",
            f"balanced accuracy {percent(result['balanced_accuracy'])}, calibration error {percent(result['expected_calibration_error'])}",
            "",
            table(("lowest recall", "images", "recall", "precision"), rows, right=(1, 2, 3)),
        ]
    )


def promises_text(result: dict[str, Any]) -> list[str]:
    """What was promised of the answers against what was measured."""
    lines = []
    if found := result["none_of_these"]:
        low, high = found["rejected_interval"]
        lines.append(
            f"\nnone of these: {percent(found['rejected'])} of {found['images']} images of known classes, 95 % interval {percent(low)} to "
            f"{percent(high)}; stated {percent(found['stated'])}; accuracy of the others {percent(found['accuracy_of_others'])}"
        )
    if found := result["sets"]:
        low, high = found["coverage_interval"]
        small, large = found["mean_size_interval"]
        sizes = (
            f"mean size {found['mean_size']:.2f} [{small:.2f}, {large:.2f}], {percent(found['single'])} of one class"
        )
        lines.append(
            f"\nsets: hold the true class for {percent(found['coverage'])}, 95 % interval {percent(low)} to {percent(high)}; stated "
            f"{percent(found['stated'])}; {sizes}"
        )
    return lines


def views_text(views: dict[str, Any]) -> str:
    """What of each image was shown, and at what cost."""
    passes = views["forward_passes"]
    most = "at most " if views["name"] == "along" else ""
    return (
        f"\nviews: {views['name']} ({views['what']}), {most}{passes} forward pass{'es' if passes > 1 else ''} an image"
    )
