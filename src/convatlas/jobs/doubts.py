"""What speaks against a fit's own figures: labels it doubts, and a test part that is not what cross-validation foretold.

None of it changes a choice, an image or a label.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from convatlas.data import Record, units
from convatlas.jobs.decide import Decided
from convatlas.jobs.leaks import leaked
from convatlas.jobs.material import Material, Side
from convatlas.jobs.result import percent
from convatlas.metrics import Gap, Rights, class_gaps, gap, label_suspects, softmax, without_choice
from convatlas.transfer.unlike import unlike

_CARRIERS = 3  # classes named in a sentence
_GOOD = 0.8  # cross-validated accuracy below which most suspects may be the classifier's own mistakes


def labels_json(found: Material, decided: Decided) -> dict[str, Any]:
    """The images of either part whose labels are suspected, the surest first; `of` so many training images that were judged."""
    probe = decided.selection.probe
    held_out = softmax(probe.scale * probe.held_out)
    judged = int(np.isfinite(held_out).all(axis=1).sum())
    rows = _suspects(found, found.train, held_out)
    tested = _suspects(found, found.test, decided.probabilities) if len(found.test) else []
    words = "No training label is suspected."
    if rows:
        verb = "looks" if len(rows) == 1 else "look"
        weak = f"; many may be mistakes of the classifier, which is right for only {percent(probe.accuracy)}"
        words = f"{len(rows):,} of {judged:,} training images {verb} wrongly labelled{weak if probe.accuracy < _GOOD else ''}."
    return {"train": rows, "test": tested, "of": judged, "words": words}


def label_records(found: Material, rows: Sequence[dict[str, Any]]) -> list[Record]:
    """The images that rows are about."""
    by_path = {found.dataset.locate(record): record for record in (*found.train.records, *found.test.records)}
    return [by_path[row["path"]] for row in rows]


def _suspects(found: Material, side: Side, probabilities: np.ndarray) -> list[dict[str, Any]]:
    names = found.classes.names
    return [
        {
            "path": found.dataset.locate(side.records[one.index]),
            "given": names[one.given],
            "suggested": names[one.suggested],
            "confidence": one.confidence,
            "given_probability": one.given_probability,
            "thumbnail": None,  # for a report
        }
        for one in label_suspects(probabilities, side.labels)
    ]


def shift_json(found: Material, decided: Decided) -> dict[str, Any]:
    """The accuracy that the training images foretold beside that of the test images, leaked ones left out, in all and by class."""
    new = ~leaked(found).mask
    foretold, new_ones = _foretold(found, decided), _rights(found.test, np.flatnonzero(new), decided.right[new])
    whole = gap(foretold, new_ones)
    by_class = class_gaps(foretold, new_ones, len(found.classes))
    shares = [
        np.bincount(side.labels, minlength=len(found.classes)) / max(len(side.labels), 1)
        for side in (foretold, new_ones)
    ]
    recalls = np.array([each.foretold if each.images[0] else 0.0 for each in by_class])
    looks = _looks(found, new)
    classes = [{"name": name, **_gap(each)} for name, each in zip(found.classes.names, by_class, strict=True)]
    mix = float((shares[1] - shares[0]) @ recalls) if whole.images[1] else 0.0
    return {
        **_gap(whole),
        "mix": mix,  # of the difference, what a rarer or commoner class accounts for
        "freed": not decided.trained,  # what is foretold, of the optimism of having chosen by it
        "classes": sorted(classes, key=_worst_first),
        "unlike": looks,
        "words": _in_words(whole, classes, looks),
    }


def shift_alarm(shift: dict[str, Any] | None) -> Iterator[str]:
    """What must be read before the accuracy, if the test part is harder than was foretold."""
    if shift and shift["shown"] and shift["difference"] < 0:
        yield "Shift: " + shift["words"]


def _rights(side: Side, rows: np.ndarray, right: np.ndarray) -> Rights:
    return Rights(right=right.astype(np.float64), together=side.together[rows], labels=side.labels[rows])


def _foretold(found: Material, decided: Decided) -> Rights:
    """Training images and how often each is right when held out, the choice among candidates taken out of it."""
    labels = found.train.labels
    if decided.adapted and decided.trained:
        trials = decided.adapted.advice.trials
        rows = np.concatenate([trial.rows for trial in trials])
        said = np.concatenate([trial.logits.argmax(axis=1) for trial in trials])
        return _rights(found.train, rows, said == labels[rows])
    probes = decided.selection.probes.values()
    rows = np.flatnonzero(np.isfinite(decided.selection.probe.losses))
    right = [probe.held_out[rows].argmax(axis=1) == labels[rows] for probe in probes]
    return _rights(found.train, rows, without_choice([probe.losses[rows] for probe in probes], right))


def _looks(found: Material, new: np.ndarray) -> dict[str, Any] | None:
    test = found.test.subset(np.flatnonzero(new))
    sha256s = [*found.train.sha256s, *test.sha256s]
    side = np.arange(len(sha256s)) >= len(found.train)
    groups = [record.group for record in (*found.train.records, *test.records)]
    place = {sha256: i for i, sha256 in enumerate(sha256s)}
    near = [(place[a], place[b]) for a, b in (pair.sha256s for pair in found.near) if a in place and b in place]
    told = unlike(
        found.passed.last_stage(sha256s),
        side,
        np.concatenate([found.train.labels, test.labels]),
        units(groups, sha256s, links=near),
    )
    return None if told is None else {**asdict(told), "images": list(told.images), "shown": told.shown}


def _gap(found: Gap) -> dict[str, Any]:
    known = found.images[0] and found.images[1]
    return {
        "foretold": found.foretold if found.images[0] else None,
        "found": found.found if found.images[1] else None,
        "difference": found.difference if known else None,
        "interval": list(found.interval),
        "shown": found.shown,
        "images": list(found.images),
    }


def _worst_first(row: dict[str, Any]) -> float:
    return 2.0 if row["difference"] is None else row["difference"]


def _in_words(whole: Gap, classes: Sequence[dict[str, Any]], looks: dict[str, Any] | None) -> str:
    if not whole.images[1]:
        return "Every test image is a training image too, so nothing is known of a shift."
    apart = ""
    if looks and looks["shown"]:
        apart = (
            f" By their features the test images can be told from training images of the same classes (a linear classifier orders "
            f"{percent(looks['told_apart'])} of pairs rightly, where 50 % is guessing)."
        )
    low, high = (100 * bound for bound in whole.interval)
    about = (
        (
            f"cross-validation on the training images foretold {percent(whole.foretold)}, the test images give {percent(whole.found)}: "
            f"{100 * whole.difference:+.1f} points (95 % interval {low:+.1f} to {high:+.1f})"
        )
        .replace("-", "−")
        .replace("cross−", "cross-")
    )
    if not whole.shown:
        return f"{about}, no more than chance may do.{apart}"
    if whole.difference > 0:
        return f"{about}. The test part is easier, or not independent of training: look whether both show the same subjects.{apart}"
    carriers = [row for row in classes if row["shown"] and row["difference"] < 0]
    carriers.sort(key=_worst_first)
    named = ", ".join(
        f"{row['name']} ({percent(row['foretold'])} to {percent(row['found'])})" for row in carriers[:_CARRIERS]
    )
    more = f" and {len(carriers) - _CARRIERS} more" if len(carriers) > _CARRIERS else ""
    who = f" It is carried by {named}{more}." if carriers else " No class is shown to carry it by itself."
    return f"{about}, more than chance does.{who}{apart}"
