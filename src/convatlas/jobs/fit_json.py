"""What a fit found, as `fit.json` has it."""

from __future__ import annotations

import platform
import shlex
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

import convatlas
from convatlas.jobs.advice import advice_json, training_json
from convatlas.jobs.decide import Decided
from convatlas.jobs.doubts import labels_alarm, labels_json, shift_alarm, shift_json
from convatlas.jobs.images import fingerprint
from convatlas.jobs.leaks import leak_in_words, leak_json
from convatlas.jobs.material import Material, Side
from convatlas.jobs.outcomes import outcomes_json
from convatlas.jobs.promises import confidence_json
from convatlas.jobs.result import answer_in_words, classifier_in_words, protocol_in_words
from convatlas.jobs.scores import accuracy_with_interval, scores
from convatlas.jobs.shapes import shapes_json
from convatlas.metrics import repeated_interval, share_interval, softmax
from convatlas.transfer.plans import Plan
from convatlas.transfer.probe import Selection

SCHEMA = "convatlas.fit/1"
_IGNORED = ("junk", "ignored-files", "unlabelled", "outside-splits")  # findings whose files are no part of the data set


def fit_json(
    found: Material, decided: Decided, target: Path, *, device: str, report: bool, balanced: bool
) -> dict[str, Any]:
    """Everything but the pictures and the times; `target` is where the model folder will be."""
    dataset, source, train, test = found.dataset, found.source, found.train, found.test
    selection, adapted, trained = decided.selection, decided.adapted, decided.trained
    classes, counts = found.classes.names, np.bincount(train.labels, minlength=len(found.classes)).tolist()
    leak = leak_json(found, decided) if len(test) else None
    labelled = labels_json(found, decided, balanced=balanced)
    judged, labels = decided.judged, [record.label for record in decided.judged.records]
    result: dict[str, Any] = {
        "schema": SCHEMA,
        "version": convatlas.__version__,
        "created": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "command": shlex.join(["convatlas", *sys.argv[1:]])
        if Path(sys.argv[0]).stem == "convatlas"
        else "convatlas.fit(…)",
        "data": {
            "path": str(dataset.root),
            "resolved": str(dataset.root.resolve()),
            "layout": dataset.layout,
            "fingerprint": fingerprint(found.passed.examined),
        },
        "shapes": shapes_json(found.framing, source.preprocessing, found.passed.examined),
        **scores(decided.probabilities, judged.labels, classes, counts, judged.together),
        "temperature": 1 / decided.scale,
        "outcomes": outcomes_json(judged.sha256s, labels, decided.rights, judged.together),
        "confidence": _confidence(found, decided),
        "protocol": protocol_in_words(decided.judged.records, selection, decided.outer, adapted, decided.deals),
        "headline": "test" if len(test) else "outer folds",
        "deals": list(decided.deals.accuracies) if decided.deals else None,
        "accuracy_without_duplicates": leak["without"] if leak else None,
        "leak": leak,
        "shift": shift_json(found, decided, labelled) if len(test) else None,
        "label_suspects": labelled,
        "backbone": source.name,
        "weights": {"source": source.tag, "sha256": source.sha256(), "note": " ".join(source.notes)},
        "plan": str(adapted.advice.chosen if adapted and trained else Plan(kind="probe", at=(selection.name,))),
        "classifier": classifier_in_words(source.name, selection, adapted),
        "stage": None if trained else selection.name,
        "strength": None if trained else selection.probe.strength,
        "choice": adapted.advice.reason if adapted else selection.reason,
        "stages": _stage_rows(selection, decided.by_rung, train, test, chosen=None if trained else selection.name),
        "advice": advice_json(adapted.advice) if adapted else None,
        "training": training_json(trained) if trained else None,
        "control": None,
        "images": _image_counts(found),
        "mistakes": [],
        "problems": [problem.to_json() for problem in found.problems],
        "counts": _pass_counts(found),
        "right": [],
        "untried": decided.untried,
        "notes": [*source.notes, *([found.framing.reason] if found.framing.told else []), *decided.told],
        "bundle": str(target),
        "report": str(target / "report.html") if report else None,
        "environment": _environment(device),
    }
    if decided.deals:
        result |= {"accuracy": decided.deals.accuracy, "accuracy_interval": list(decided.deals.interval)}
    elif adapted and trained and not len(test):
        fold_of = adapted.fold_of[adapted.judged]
        interval = repeated_interval(decided.rights, fold_of[None], decided.judged.together)
        result |= {"accuracy_interval": list(interval)}
    result["alarms"] = [*leak_in_words(result), *labels_alarm(labelled), *shift_alarm(result["shift"])]
    return result | answer_in_words(result, classes)


def _confidence(found: Material, decided: Decided) -> dict[str, Any]:
    """What false-reject rates and sets of classes the images show."""
    probe, adapted, tested = decided.selection.probe, decided.adapted, None
    if decided.typicality is not None:
        judged = decided.judged
        tested = (decided.probabilities, decided.typicality, judged.labels, judged.together)
    if adapted and adapted.trained:
        out, held_out = adapted.judged, adapted.held_out[adapted.judged]
    else:
        out = np.flatnonzero(np.isfinite(probe.losses))
        held_out = softmax(probe.scale * probe.held_out[out])
    labels, together = found.train.labels[out], found.train.together[out]
    return confidence_json(decided.confidence, held_out, labels, together, found.classes.names, tested)


def _image_counts(found: Material) -> dict[str, int]:
    examined, used = found.passed.examined, len(found.train) + len(found.test)
    return {
        "train": len(found.train),
        "test": len(found.test),
        "unreadable": sum(item.failure is not None for item in examined),
        "conflicting": sum(item.facts is not None for item in examined) - used,
        "ignored": sum(len(problem.paths) for problem in found.problems if problem.kind in _IGNORED),
    }


def _pass_counts(found: Material) -> dict[str, int]:
    extraction = found.passed.extraction
    there = len({item.sha256 for item in found.passed.examined if item.facts is not None})
    return {
        "decoded": extraction.decoded,
        "forwarded": extraction.forwarded,
        "from_cache": there - extraction.forwarded,
    }


def _stage_rows(
    selection: Selection, by_rung: dict[str, np.ndarray], train: Side, judged: Side, chosen: str | None
) -> list[dict[str, Any]]:
    rows = []
    for name, probe in selection.probes.items():
        out = np.isfinite(probe.losses)
        row: dict[str, Any] = {
            "name": name,
            "features": len(probe.weight),
            "cv_accuracy": probe.accuracy,
            "cv_interval": list(
                share_interval(probe.held_out[out].argmax(axis=1) == train.labels[out], train.together[out])
            ),
            "cv_log_loss": probe.log_loss,
            "test_accuracy": None,
            "test_interval": None,
            "chosen": name == chosen,
            "strength": probe.strength,
            "note": "chosen" if name == chosen else "not used for the choice",
        }
        if name in by_rung:
            tested = accuracy_with_interval(by_rung[name].argmax(axis=1) == judged.labels, judged.together)
            row |= {"test_accuracy": tested["accuracy"], "test_interval": tested["accuracy_interval"]}
        rows.append(row)
    return rows


def _environment(device: str) -> dict[str, str]:
    packages = {name: version(name) for name in ("torch", "numpy", "pillow", "simplejpeg")}
    return {
        "convatlas": convatlas.__version__,
        "python": platform.python_version(),
        "system": platform.platform(),
        "device": device,
    } | packages
