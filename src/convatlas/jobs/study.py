"""Studies, end to end: computed, written as JSON, as a page, and as figures for slides."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import convatlas
from convatlas.bundle.folder import ensure_replaceable, whole_folder
from convatlas.jobs.images import Progress, silent

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
