"""Studies, end to end: computed, written as JSON, as a page, and as figures for slides."""

from __future__ import annotations

import importlib
import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import convatlas
from convatlas.bundle.folder import ensure_replaceable, whole_folder
from convatlas.errors import ConvAtlasError
from convatlas.jobs.images import Progress, resolve_device, silent
from convatlas.jobs.study_images import study_images
from convatlas.studies.plans import Length, Plan, plan_of

if TYPE_CHECKING:
    from convatlas.studies.finding import Finding

# The networks of each section of the lecture that are drawn whole
DIAGRAMS = (
    ("LeNet-5", "lenet5"),
    ("AlexNet", "alexnet"),
    ("ZFNet", "zfnet"),
    ("VGG", "vgg16"),
    ("GoogLeNet", "googlenet"),
    ("ResNet", "resnet34"),
    ("ResNet", "resnet50"),
)


@dataclass(frozen=True, kw_only=True)
class StudyResult:
    """What a study found and where it was written."""

    folder: Path
    json: dict[str, Any]


def study_lecture(out: str | Path = "lecture", *, progress: Progress = silent) -> StudyResult:
    """The lecture's figures, computed, into `out`: lecture.json, lecture.html, figures/*.png and *.svg, diagrams/*.svg.

    Raises `ConvAtlasError` where `out` is a file or a folder that holds anything else; an earlier study there is replaced.
    """
    folder = Path(out).expanduser()
    ensure_replaceable(folder)  # before the work, not after
    from convatlas.analysis.diagram import diagram
    from convatlas.report.lecture_page import render_lecture, save_lecture_figures
    from convatlas.studies.layers import analysed, stage_paths
    from convatlas.studies.lecture import lecture

    found = {"version": convatlas.__version__, **lecture(progress).to_json()}
    with whole_folder(folder) as new:
        (new / "diagrams").mkdir()
        found["diagrams"] = []
        for done, (section, name) in enumerate(DIAGRAMS, start=1):
            svg = diagram(analysed(name).tape, title=name, stages=stage_paths(name))
            (new / f"diagrams/{name}.svg").write_text(svg, encoding="utf-8")
            found["diagrams"].append({"section": section, "network": name, "path": f"diagrams/{name}.svg"})
            progress("diagrams", done, len(DIAGRAMS))
        (new / "lecture.json").write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        render_lecture(new)
        save_lecture_figures(new, progress)
    return StudyResult(folder=folder, json=found)


def study(
    name: str,
    data: str | Path | None = None,
    *,
    out: str | Path | None = None,
    runs: str | Path | None = None,
    epochs: int | None = None,
    images: int | None = None,
    seeds: int | None = None,
    settings: Sequence[str] = (),
    full: bool = False,
    partial: bool = False,
    device: str = "auto",
    progress: Progress = silent,
    say: Callable[[str], None] = lambda message: None,
) -> StudyResult:
    """One of the lecture's experiments (`studies.plans.PLANS` lists them), or `lecture` itself, into the folder `out`, by default its name.

    `data` is a folder or zip with train/class/* and test/class/*. `out` gets study.json, study.html, chart.png and chart.svg; what is
    trained is a run in `out`/runs, or in `runs`, where several studies may share what they have in common. Called again it goes on where it
    was, and trains nothing that is there. The usual length takes two cores about an hour; `full` is the paper's, for a GPU; `epochs`,
    `images` and `seeds` change either, and `settings` every training, as `optim.warmup_epochs=5`. With `partial` nothing is trained: what
    is there is told, finished or not.

    Raises `ConvAtlasError` for what cannot be studied, `train.run.Stopped` after Ctrl-C or SIGTERM, when the run has saved where it is.
    """
    given = {"--epochs": epochs, "--images": images, "--set": settings, "--full": full, "--runs": runs}
    if name == "lecture":
        _ensure_none(name, {"images": data, "--seeds": seeds, "--partial": partial, **given}, "it trains nothing.")
        return study_lecture(out or name, progress=progress)
    plan = plan_of(name)
    folder = Path(out or name).expanduser()
    if name == "quadrants":
        _ensure_none(name, given, "its list of cases says what it trains on.")
        return _quadrants(data, folder, seeds, partial, resolve_device(device), progress, say)
    length = _length(name, plan, full, epochs, images, seeds)
    _ensure_settable(name, plan, settings)
    if not plan.usual:
        _ensure_none(name, {"images": data, "--runs": runs, "--partial": partial}, "it draws its own images.")
    _ensure_ours(folder, name)
    if plan.usual and data is None:
        raise ConvAtlasError(
            f"the study {name} trains on images;", remedy=f"give a folder: `convatlas study {name} cifar10`."
        )
    kind = resolve_device(device)
    find = importlib.import_module(f"convatlas.studies.{plan.module}").find
    if length and data is not None:
        from convatlas.studies.laboratory import Laboratory

        training, held_out, classes = study_images(data, length.images, progress=progress)
        length = replace(length, images=len(training))
        laboratory = Laboratory(
            runs=Path(runs).expanduser() if runs else folder / "runs",
            training=training,
            held_out=held_out,
            classes=classes,
            length=length,
            settings=tuple(settings),
            partial=partial,
            device=kind,
            version=convatlas.__version__,
            progress=progress,
            say=say,
        )
        finding = find(laboratory)
    else:
        finding = find(progress)
    return _written(folder, name, finding, length, _command(name, data, length, settings, partial), settings)


def _quadrants(
    data: str | Path | None,
    folder: Path,
    splits: int | None,
    partial: bool,
    device: str,
    progress: Progress,
    say: Callable[[str], None],
) -> StudyResult:
    """The study that trains as `fit` does, on several sets: their list is its data, and `seeds` are splits."""
    from convatlas.jobs.quadrants import SPLITS, quadrants

    if data is None:
        raise ConvAtlasError(
            "the study quadrants wants a list of cases;", remedy="docs/studies.md shows what one looks like."
        )
    _ensure_ours(folder, "quadrants")
    wanted = splits or SPLITS
    finding = quadrants(data, folder, splits=wanted, partial=partial, device=device, progress=progress, say=say)
    words = ["convatlas", "study", "quadrants", str(data), f"--seeds={wanted}", *(["--partial"] if partial else [])]
    return _written(folder, "quadrants", finding, None, shlex.join(words))


def _ensure_none(name: str, given: Mapping[str, object], why: str) -> None:
    """Raises `ConvAtlasError` for what would do nothing."""
    if wrong := [flag for flag, value in given.items() if value]:
        raise ConvAtlasError(f"the study {name} takes no {wrong[0]};", remedy=why)


def _written(
    folder: Path, name: str, finding: Finding, length: Length | None, command: str, settings: Sequence[str] = ()
) -> StudyResult:
    """The finding as study.json, page and chart."""
    plan = plan_of(name)
    changed = f"Every training has {', '.join(settings)}, whatever its recipe and what follows say." if settings else ""
    found = {
        **finding.to_json(),
        "schema": "convatlas.study/1",
        "study": name,
        "version": convatlas.__version__,
        "question": plan.question,
        "shortened": " ".join(part for part in (_shortened(length, plan.full), finding.shortened) if part),
        "changed": changed,
        "length": asdict(length) if length else None,
        "settings": list(settings),
        "full": asdict(plan.full) if plan.full else None,
        "command": command,
    }
    _write(folder, found)
    return StudyResult(folder=folder, json=found)


def _length(
    name: str, plan: Plan, full: bool, epochs: int | None, images: int | None, seeds: int | None
) -> Length | None:
    given = {"epochs": epochs, "images": images, "seeds": seeds}
    changed = {key: value for key, value in given.items() if value is not None}
    length = plan.full if full else plan.usual
    if length is None:
        if changed or full:
            raise ConvAtlasError(
                f"the study {name} trains on no images;", remedy="leave out --epochs, --images, --seeds and --full."
            )
        return None
    if plan.full and plan.full.seeds == 1 and (seeds or 1) > 1:
        raise ConvAtlasError(f"the study {name} trains each network once;", remedy="leave out --seeds.")
    for key, value in changed.items():
        if value < 1:
            raise ConvAtlasError(f"{key} is {value};", remedy="give a number from 1.")
    return replace(length, **changed)


def _shortened(length: Length | None, full: Length | None) -> str:
    """By what the study is shorter than its full length; nothing where it is not."""
    if not length or not full:
        return ""
    less = [key for key, value in asdict(length).items() if value < asdict(full)[key]]
    return f"This is {length}, where the full length is {full}: with more, other things may come out." if less else ""


def _command(name: str, data: str | Path | None, length: Length | None, settings: Sequence[str], partial: bool) -> str:
    words = ["convatlas", "study", name, *([str(data)] if data is not None and length else [])]
    if length:
        words += [f"--epochs={length.epochs}", f"--images={length.images}", f"--seeds={length.seeds}"]
    words += [f"--set={setting}" for setting in settings]
    return shlex.join([*words, *(["--partial"] if partial else [])])


def _ensure_settable(name: str, plan: Plan, settings: Sequence[str]) -> None:
    """Raises `ConvAtlasError` for what is no setting, has an option of its own, or has nothing to change."""
    if not settings:
        return
    from convatlas.train.config import TrainConfig
    from convatlas.train.overrides import overridden

    if not plan.usual:
        raise ConvAtlasError(f"the study {name} trains on no images;", remedy="leave out --set.")
    overridden(TrainConfig(epochs=1), settings)
    for path in (setting.partition("=")[0].strip() for setting in settings):
        if path in ("epochs", "seed"):
            raise ConvAtlasError(f"a study has its own {path};", remedy="give --epochs or --seeds.")


def _ensure_ours(folder: Path, name: str) -> None:
    """Raises `ConvAtlasError` where `folder` is a file, or holds another study or something else, which it would be a pity to mix with."""
    ours = {"runs", "cells.json", "study.json", "study.html", "chart.png", "chart.svg"}
    if folder.exists() and not folder.is_dir():
        raise ConvAtlasError(f"{folder} is a file.", remedy="Give another folder with --out.")
    there = {path.name for path in folder.iterdir()} if folder.exists() else set()
    foreign = sorted(there - ours)
    if foreign:
        raise ConvAtlasError(
            f"{folder} holds {foreign[0]!r}{' and more' if foreign[1:] else ''}, which is no part of a study.",
            remedy="Give another folder with --out.",
        )
    if "study.json" in there:
        from convatlas.report.study_page import read_study

        other = read_study(folder)["study"]
        if other != name:
            raise ConvAtlasError(
                f"{folder} holds the study {other}.",
                remedy="Give another folder with --out; with --runs both use the same trainings.",
            )


def _write(folder: Path, found: dict[str, Any]) -> None:
    from convatlas.report.page import replaced
    from convatlas.report.study_page import render_study

    try:
        folder.mkdir(parents=True, exist_ok=True)
        replaced(folder / "study.json", json.dumps(found, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
        render_study(folder)
    except OSError as error:
        raise ConvAtlasError(
            f"{folder}: cannot be written ({error}).", remedy="Give another folder with --out."
        ) from error
