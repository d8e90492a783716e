"""`convatlas show`: a network's card, what it costs and sees, and its picture."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from convatlas.cli.output import Json, pairs_text, percent, progress_bars, put, put_json, say, table, tables_text
from convatlas.errors import ConvAtlasError

if TYPE_CHECKING:
    from convatlas.analysis.analysis import Analysis


class Form(enum.StrEnum):
    text = "text"
    markdown = "markdown"
    html = "html"
    card = "card"
    lecture = "lecture"


class By(enum.StrEnum):
    stage = "stage"
    block = "block"
    layer = "layer"


class Optimizer(enum.StrEnum):
    sgd = "sgd"
    momentum = "momentum"
    adam = "adam"


def show(
    name: Annotated[
        str,
        typer.Argument(
            help="A network (`convatlas list` shows all), or your own: module:function or file.py:function that returns one."
        ),
    ],
    size: Annotated[
        list[str] | None,
        typer.Option(
            "--input",
            metavar="C,H,W",
            help="Size of the input without the batch, as 3,224,224 or 77:int64; again for each input.",
        ),
    ] = None,
    batch: Annotated[int, typer.Option("--batch", min=1, help="Images in the pass that is counted.")] = 1,
    by: Annotated[By, typer.Option("--by", help="A row for each.")] = By.block,
    convention: Annotated[
        str | None,
        typer.Option(
            "--convention",
            metavar="NAME",
            help="Only the total that paper, fvcore, ptflops, ptflops_aten or torchinfo gives.",
        ),
    ] = None,
    training_batch: Annotated[
        int, typer.Option("--training-batch", min=2, help="Images in a training step, for its memory.")
    ] = 32,
    optimizer: Annotated[Optimizer, typer.Option("--optimizer", help="Whose state a training step keeps.")] = (
        Optimizer.momentum
    ),
    budget: Annotated[
        str | None,
        typer.Option("--budget", metavar="SIZE", help="Memory to train in, as 8G: the largest batch that fits."),
    ] = None,
    form: Annotated[
        Form, typer.Option("--as", help="How to show it; card needs no computation, lecture is the slides' list.")
    ] = Form.text,
    effective: Annotated[
        bool,
        typer.Option(
            "--effective",
            help="Receptive fields of the stages instead, also as measured by gradients; runs the network.",
        ),
    ] = False,
    weights: Annotated[
        str | None,
        typer.Option("--weights", metavar="FILE_OR_TAG", help="For --effective (else as initialised) and --sees."),
    ] = None,
    image: Annotated[
        Path | None, typer.Option("--image", metavar="FILE", help="A photo to draw the fields of --effective on.")
    ] = None,
    sees: Annotated[
        Path | None,
        typer.Option(
            "--sees",
            metavar="DATA",
            help="What the stages see in these images instead, as stages.html in the folder --out; NAME may be a model folder.",
        ),
    ] = None,
    diagram: Annotated[bool, typer.Option("--diagram", help="As an SVG picture.")] = False,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Write to a file (--sees: a folder) instead of stdout.")
    ] = None,
    json: Json = False,
) -> None:
    """Show what a network costs and sees: its blocks with shapes, parameters, mult-adds, memory, receptive fields; and its card."""
    if image is not None and not effective:
        raise typer.BadParameter("it is for --effective, which draws fields on it", param_hint="--image")
    if weights is not None and not effective and sees is None:
        raise typer.BadParameter("they are for --effective and --sees", param_hint="--weights")
    if json and (diagram or form is Form.lecture):
        raise typer.BadParameter("a picture, or the slides' list, has no JSON", param_hint="--json")
    if form is Form.card:
        show_card(name, out, json=json)
        return
    if form is Form.lecture:
        from convatlas.studies.lecture_notation import as_lecture

        put(as_lecture(name), out)
        return
    if sees is not None:
        show_sees(name, sees, weights, out, json=json)
        return
    if effective:
        show_fields(name, size, weights, image, form, out, diagram=diagram, json=json)
        return
    found = analysis(name, size, batch=batch, training_batch=training_batch, optimizer=optimizer)
    if diagram:
        put(found.diagram(), out)
        return
    from convatlas.analysis import tables

    if convention is not None:
        show_count(found, convention, out, json=json)
        return
    largest = None if budget is None else largest_batches(found, budget)
    if json:
        own = tables.to_json(found)
        put_json({**own, "card": card_of(name, as_json=True), "largest_batch": largest}, out)
        return
    parts = tables.tables(found, by.value)
    if largest is not None:
        parts.insert(2, largest_table(budget or "", largest))
    if form is Form.markdown:
        put("\n".join(tables.markdown(part) for part in parts), out)
    elif form is Form.html:
        from convatlas.report.network import network_page

        put(network_page(found.name, [vars(part) for part in parts], found.diagram(), card_of(name, as_json=True)), out)
    else:
        put("\n".join([card_of(name), *tables_text(parts)]), out)


def analysis(name: str, size: list[str] | None, *, batch: int, training_batch: int, optimizer: Optimizer) -> Analysis:
    """Of a network of ours or of the user's, which is run and said to have been."""
    from convatlas.jobs.analyse import analyse, build_users, parse_input

    sizes, dtypes = zip(*(parse_input(text) for text in size or ()), strict=True) if size else (None, ())
    model: Any = name
    if ":" in name:
        built = build_users(name)
        say(f"{built.ran}")
        model = built.model
    found = analyse(
        model,
        sizes,
        dtypes=dtypes,
        batch=batch,
        training_batch=training_batch,
        optimizer=optimizer.value,
        name=name,
    )
    for note in found.notes:
        say(f"note: {note}")
    return found


def show_fields(
    name: str,
    size: list[str] | None,
    weights: str | None,
    image: Path | None,
    form: Form,
    out: Path | None,
    *,
    diagram: bool,
    json: bool,
) -> None:
    """What the stages can see and what they make use of."""
    from convatlas.analysis import tables
    from convatlas.jobs.analyse import parse_input
    from convatlas.jobs.fields import fields

    if size is not None and len(size) > 1:
        raise ConvAtlasError("effective fields are of one image;", remedy="give --input once.")
    found = fields(name, parse_input(size[0])[0] if size else None, weights=weights, image=image)
    if diagram:
        put(found.picture(), out)
    elif json:
        put_json(found.to_json(), out)
    elif form is Form.markdown:
        put(tables.markdown(found.table()), out)
    elif form is Form.html:
        from convatlas.report.network import network_page

        put(network_page(found.name, [vars(found.table())], found.picture(), card_of(name, as_json=True)), out)
    else:
        put("\n".join(tables_text([found.table()])), out)


def show_sees(name: str, data: Path, weights: str | None, out: Path | None, *, json: bool) -> None:
    """What the stages see in the user's images."""
    from convatlas.jobs.sees import sees

    if out is None and not json:
        raise ConvAtlasError("--sees makes pictures;", remedy="give the folder for them with --out.")
    with progress_bars() as progress:
        found = sees(name, data, out=out, weights=weights, progress=progress)
    if json:
        put_json(found.json)
        return
    rows = [
        (
            stage["name"],
            " × ".join(map(str, stage["maps"])),
            "?" if stage["field"] is None else " × ".join(map(str, stage["field"])),
            percent(stage["neighbours_agree"]),
        )
        for stage in found.json["stages"]
    ]
    header = ("stage", "maps", "a unit sees, pixels", "nearest image of the same class")
    put(f"{table(header, rows, right=(3,))}\npage: {found.page}")


def show_card(name: str, out: Path | None, *, json: bool) -> None:
    """The card alone: nothing is computed."""
    from convatlas.cards import card

    found = card(name)
    if json:
        put_json(found.to_json(), out)
    else:
        put("\n\n".join(f"{heading}\n{pairs_text(pairs)}" for heading, pairs in found.sections().items()), out)


def card_of(name: str, *, as_json: bool = False) -> Any:
    """The card of a network of ours as JSON or, without its table of cuts, as text; nothing for others."""
    from convatlas.cards import card
    from convatlas.catalogue import networks

    if name not in networks():
        return None if as_json else ""
    found = card(name)
    if as_json:
        return found.to_json()
    sections = {heading: pairs for heading, pairs in found.sections().items() if not heading.startswith("cuts")}
    return "\n\n".join(f"{heading}\n{pairs_text(pairs)}" for heading, pairs in sections.items()) + "\n"


def show_count(found: Analysis, convention: str, out: Path | None, *, json: bool) -> None:
    """One total, with why it is not ours."""
    from convatlas.analysis.conventions import CONVENTIONS

    if convention not in CONVENTIONS:
        raise ConvAtlasError(f"unknown convention {convention!r};", remedy=f"there are {', '.join(CONVENTIONS)}.")
    count = found.count(convention)
    if json:
        put_json({"schema": "convatlas.count/1", "name": found.name, "convention": convention, **vars(count)}, out)
        return
    passed_over = ", ".join(f"{number} {kind}" for kind, number in count.skipped.items())
    put(
        "\n".join(
            [f"{count.total:,} {count.unit}", count.why, *([f"Passed over: {passed_over}."] * bool(passed_over))]
        ),
        out,
    )


def largest_batches(found: Analysis, budget: str) -> dict[str, int]:
    """For each freeze depth the largest batch that can be trained."""
    from convatlas.cache import parse_size

    bytes_ = parse_size(budget)
    return {freeze.upto or "nothing": found.largest_batch(bytes_, frozen=freeze.upto) for freeze in found.training}


def largest_table(budget: str, largest: dict[str, int]) -> Any:
    """The same as a table."""
    from convatlas.analysis.tables import Table

    return Table(
        title=f"largest batch to train in {budget}",
        header=("frozen up to", "images"),
        rows=tuple((name, f"{images:,}") for name, images in largest.items()),
        figures=(1,),
        notes=("Leave some room: scratch memory of kernels and the allocator's rounding are not in it.",),
    )
