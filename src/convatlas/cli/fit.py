"""The verb `fit`: from images to a classifier, and its result in a screenful."""

from __future__ import annotations

import enum
import textwrap
from pathlib import Path
from typing import Annotated, Any

import typer

from convatlas.cli.options import Backbone, Device, DeviceOption, Download, Nodes, Processes, Weights
from convatlas.cli.output import Json, chance, percent, problems_text, progress_bars, put_json, say, table


class ResizeMode(enum.StrEnum):
    auto = "auto"
    crop = "crop"
    pad = "pad"
    squash = "squash"
    multicrop = "multicrop"


class ClassWeights(enum.StrEnum):
    none = "none"
    balanced = "balanced"


class Norms(enum.StrEnum):
    frozen = "frozen"
    stats = "stats"
    train = "train"


class Maps(enum.StrEnum):
    float32 = "float32"
    float16 = "float16"


def fit(
    data: Annotated[
        Path, typer.Argument(help="A folder (train/class/*, test/class/* or class/*), a zip or tar of one, or a CSV.")
    ],
    backbone: Backbone = None,
    backbones: Annotated[
        str | None,
        typer.Option(
            "--backbones",
            metavar="A,B,…",
            help="Several networks (names, files, tags), or a folder of weights: ranked on these images, one taken.",
        ),
    ] = None,
    weights: Weights = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="FOLDER",
            help="Where the model and the report go; by default ./DATA-classifier, numbered on.",
        ),
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
            "--budget",
            metavar="TIME",
            help="For --plan auto: time to try fine-tuning in, as 10m; 0 only tells what it takes.",
        ),
    ] = None,
    bn: Annotated[
        Norms,
        typer.Option("--bn", help="Batch norms of what trains: frozen, following the images' statistics, or trained."),
    ] = Norms.frozen,
    augment: Annotated[
        int, typer.Option("--augment", metavar="N", min=0, help="Tune on N random crops and mirrorings of each image.")
    ] = 0,
    maps: Annotated[
        Maps, typer.Option("--maps", help="How maps of a frozen part are cached: float16 takes half the space.")
    ] = Maps.float32,
    control: Annotated[
        bool, typer.Option("--control", help="Also train the network from scratch, to see what transfer bought.")
    ] = False,
    resize_mode: Annotated[
        ResizeMode,
        typer.Option(
            "--resize-mode",
            help="How images become square; auto: several crops of long ones, else as the weights.",
        ),
    ] = ResizeMode.auto,
    device: DeviceOption = Device.auto,
    processes: Processes = 1,
    nodes: Nodes = 1,
    download: Download = False,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Deals images to folds, and seeds what is trained.")] = 0,
    report: Annotated[bool, typer.Option("--report/--no-report", help="Write report.html.")] = True,
    json: Json = False,
) -> None:
    """Make a classifier from images: check, features of every stage, a probe on each, the best chosen, evaluated and saved.

    Stopped by Ctrl-C or killed, the same command goes on where it was, trainings too.
    """
    from convatlas.jobs.fit import fit as run

    with progress_bars() as progress:
        result = run(
            data,
            backbone=backbone,
            backbones=backbones,
            weights=weights,
            out=out,
            class_weights="balanced" if class_weights is ClassWeights.balanced else None,
            plan=plan,
            budget=budget,
            bn=bn.value,
            augment=augment,
            maps=maps.value,
            control=control,
            resize_mode=resize_mode.value,
            device=device.value,
            processes=processes,
            nodes=nodes,
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
            *(f"! {alarm}\n" for alarm in result["alarms"]),
            result["answer"],
            "",
            table(
                ("  stage", "features", "cross-validated, 95 % interval", "test, not used for the choice"),
                rows,
                right=(1, 2, 3),
            ),
            "",
            classes_text(result["classes"]),
            textwrap.fill(f"measured on {result['protocol']}", 110),
            "",
            *([networks_text(result["networks"]), ""] if result["networks"] else []),
            *([advice_text(result["advice"]), ""] if result["advice"] else []),
            *([textwrap.fill(result["untried"], 110), ""] if result["untried"] else []),
            *([textwrap.fill(result["control"]["words"], 110), ""] if result["control"] else []),
            *(evidence_text(result["evidence"]), ""),
            *([problems_text(errors, most=3), ""] if errors else []),
            *([labels_text(result["label_suspects"]), ""] if result["label_suspects"]["train"] else []),
            "seconds: " + ", ".join(f"{name} {value:.1f}" for name, value in seconds.items()),
            f"model:   {result['bundle']}",
            *([f"report:  {result['report']}"] if result["report"] else []),
        ]
    )


def classes_text(classes: list[dict[str, Any]], most: int = 5) -> str:
    """How many images of each class are named rightly, the hardest classes first."""
    judged = sorted((row for row in classes if row["test"]), key=lambda row: row["recall"])
    told = [f"{row['name']} {percent(row['recall'])} of {row['test']:,}" for row in judged[:most]]
    more = f", and {len(judged) - most} classes more" if len(judged) > most else ""
    return textwrap.fill(f"right by class, the hardest first: {', '.join(told)}{more}", 110)


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


def networks_text(networks: dict[str, Any]) -> str:
    """The networks that were ranked: what each reached on held-out training images, how sure the order is, what an answer costs."""
    rows = []
    for row in networks["rows"]:
        mark = "* " if row["chosen"] else "  "
        if row["failure"]:
            rows.append((mark + row["name"], "–", "", "", "", row["failure"]))
            continue
        low, high = row["interval"]
        beside = "the best"
        if row["difference_interval"]:
            less, more = row["difference_interval"]
            beside = f"{100 * row['difference']:+.1f} [{100 * less:+.1f}, {100 * more:+.1f}]"
            beside += f", worse by {row['worse_by']}" if row["worse_by"] else ", no difference shown"
        reached = f"{percent(row['accuracy'])} [{percent(low)}, {percent(high)}]"
        rows.append(
            (mark + row["name"], reached, f"{row['mult_adds'] / 1e6:,.0f} M", f"{row['logme']:.3f}", beside, "")
        )
    header = ("  network", "held-out training images, 95 %", "mult-adds", "LogME", "points beside the best", "")
    return (
        f"{table(header, rows, right=(1, 2, 3))}\n{networks['reason']}{_trust('LogME', networks['logme'], 'networks')}"
    )


def evidence_text(evidence: dict[str, Any]) -> str:
    """What more images would be worth, how like the source these are, and how far scores agree with what was measured."""
    scores, similarity = evidence["scores"], evidence["similarity"]
    trust = _trust("LogME", scores["logme"], "stages") + _trust("Nearness to the source", scores["nearness"], "stages")
    return "\n".join(
        [
            evidence["forecast"]["words"],
            similarity["words"],
            *([scores["words"] + trust] if scores["words"] else []),
        ]
    )


def _trust(score: str, tau: float | None, what: str) -> str:
    """How far a score orders things as their measured accuracies do."""
    return "" if tau is None else f" {score} orders these {what} as their accuracies do with Kendall's τ = {tau:+.2f}."


def labels_text(suspects: dict[str, Any], most: int = 5) -> str:
    """How many labels are suspected, and the surest of them."""
    rows = suspects["train"]
    shown = [(f"    {row['path']}", row["given"], row["suggested"], chance(row["chance"])) for row in rows[:most]]
    more = [f"    and {len(rows) - most:,} more, in fit.json"] * (len(rows) > most)
    return "\n".join(
        [suspects["words"], table(("    file", "label", "rather", "wrong with"), shown, right=(3,)), *more]
    )
