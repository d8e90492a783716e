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
from convatlas.metrics import Gap, LabelErrors, Rights, class_gaps, gap, label_errors, softmax, without_choice
from convatlas.transfer.probe import usual_rung
from convatlas.transfer.unlike import unlike

_CARRIERS = 3  # classes named in a sentence
_MANY = 0.02  # of the labels, surely wrong: then it must be read before the accuracy


def labels_json(found: Material, decided: Decided, *, balanced: bool) -> dict[str, Any]:
    """How many labels of each part are wrong, and the images whose labels are suspected, the surest first.

    `balanced` says whether the probabilities are those of classes that are equally frequent.
    """
    probe = decided.selection.probe
    held_out = softmax(probe.scale * probe.held_out)
    trained = label_errors(held_out, found.train.labels, balanced=balanced)
    tested = label_errors(decided.probabilities, found.test.labels, balanced=balanced) if len(found.test) else None
    return {
        "rate": trained.rate,
        "rate_interval": list(trained.interval),
        "of": trained.judged,
        "train": _suspects(found, found.train, trained),
        "test_rate": tested.rate if tested else None,
        "test_rate_interval": list(tested.interval) if tested else None,
        "test": _suspects(found, found.test, tested) if tested else [],
        "words": _labels_in_words(trained),
    }


def _labels_in_words(found: LabelErrors) -> str:
    low, high = found.interval
    if not found.suspects:
        return f"No training label is suspected; at most {percent(high)} are wrong at random (95 % sure)."
    one = len(found.suspects) == 1
    return (
        f"{len(found.suspects):,} of {found.judged:,} training images may be labelled wrongly, {'' if one else 'each '}with a chance of "
        f"one in ten or more; about {percent(found.rate)} of all labels are (95 % interval {percent(low)} to {percent(high)})."
    )


def labels_alarm(labels: dict[str, Any]) -> Iterator[str]:
    """What must be read before the accuracy, if many training labels are wrong."""
    if labels["rate_interval"][0] >= _MANY:
        yield "Labels: " + labels["words"]


def label_records(found: Material, rows: Sequence[dict[str, Any]]) -> list[Record]:
    """The images that rows are about."""
    by_path = {found.dataset.locate(record): record for record in (*found.train.records, *found.test.records)}
    return [by_path[row["path"]] for row in rows]


def _suspects(found: Material, side: Side, doubts: LabelErrors) -> list[dict[str, Any]]:
    names = found.classes.names
    return [
        {
            "path": found.dataset.locate(side.records[one.index]),
            "given": names[one.given],
            "suggested": names[one.suggested],
            "chance": one.chance,
            "thumbnail": None,  # for a report
        }
        for one in doubts.suspects
    ]


def shift_json(found: Material, decided: Decided, labels: dict[str, Any]) -> dict[str, Any]:
    """The accuracy that the training images foretold beside that of the test images, leaked ones left out, in all and by class.

    `labels` is what `labels_json` gives: wrong ones in training make a test part look easier.
    """
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
        "words": _in_words(whole, classes, looks, labels),
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
    selection = decided.selection
    probes = selection.probes.values()
    rows = np.flatnonzero(np.isfinite(selection.probe.losses))
    freed = without_choice(
        [probe.losses[rows] for probe in probes],
        [probe.held_out[rows].argmax(axis=1) == labels[rows] for probe in probes],
        usual=list(selection.probes).index(usual_rung(selection.probes)),
        weights=selection.weights[rows],
        together=found.train.together[rows],
    )
    return _rights(found.train, rows, freed)


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


def _in_words(
    whole: Gap, classes: Sequence[dict[str, Any]], looks: dict[str, Any] | None, labels: dict[str, Any]
) -> str:
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
        wrong = (
            f" Or it is that about {percent(labels['rate'])} of the training labels are wrong."
            if labels["rate_interval"][0] > 0
            else ""
        )
        return f"{about}. The test part is easier, or not independent of training: look whether both show the same subjects.{wrong}{apart}"
    carriers = [row for row in classes if row["shown"] and row["difference"] < 0]
    carriers.sort(key=_worst_first)
    named = ", ".join(
        f"{row['name']} ({percent(row['foretold'])} to {percent(row['found'])})" for row in carriers[:_CARRIERS]
    )
    more = f" and {len(carriers) - _CARRIERS} more" if len(carriers) > _CARRIERS else ""
    who = f" It is carried by {named}{more}." if carriers else " No class is shown to carry it by itself."
    return f"{about}, more than chance does.{who}{apart}"
