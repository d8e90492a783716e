"""What a fit or an evaluation returns, and how its figures are put into words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convatlas.data import Record
from convatlas.transfer.outer_folds import OuterFolds
from convatlas.transfer.probe import Selection

if TYPE_CHECKING:
    from convatlas.jobs.adapt import Adapted
    from convatlas.jobs.decide import Deals


@dataclass(frozen=True)
class Judged:
    """Figures of a classifier on labelled images; `json` is all of them, versioned."""

    json: dict[str, Any]

    @property
    def accuracy(self) -> float:
        return self.json["accuracy"]

    @property
    def accuracy_interval(self) -> tuple[float, float]:
        """95 %, Wilson's."""
        low, high = self.json["accuracy_interval"]
        return low, high


@dataclass(frozen=True)
class EvaluateResult(Judged):
    """What `evaluate` found."""

    def _repr_html_(self) -> str:
        low, high = map(percent, self.accuracy_interval)
        return f"<p>accuracy {percent(self.accuracy)} (95 % interval {low} to {high}) of {self.json['images']:,} images</p>"


@dataclass(frozen=True)
class FitResult(Judged):
    """What `fit` found; `json` is the content of `fit.json`."""

    @property
    def stage(self) -> str | None:
        """The stage with the probe; None where the network was trained."""
        return self.json["stage"]

    @property
    def plan(self) -> str:
        """What was done, as `--plan` takes it."""
        return self.json["plan"]

    @property
    def bundle(self) -> Path:
        """The model folder, for `convatlas.load`."""
        return Path(self.json["bundle"])

    @property
    def report(self) -> Path | None:
        return Path(self.json["report"]) if self.json["report"] else None

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{escape(stage['name'])}{' ✓' if stage['chosen'] else ''}</td><td>{percent(stage['cv_accuracy'])}</td></tr>"
            for stage in self.json["stages"]
        )
        alarms = "".join(f"<p><strong>{escape(alarm)}</strong></p>" for alarm in self.json["alarms"])
        return f"{alarms}<p>{escape(self.json['answer'])}</p><table><tr><th>stage</th><th>cross-validated accuracy</th></tr>{rows}</table>"


def protocol_in_words(
    judged: Sequence[Record],
    selection: Selection,
    outer: OuterFolds | None,
    adapted: Adapted | None,
    deals: Deals | None,
) -> str:
    """On what the headline was measured, and on what the choices rest."""
    count, given = len(judged), len(selection.probes) == 1
    if adapted and adapted.trained:
        searched = len(adapted.advice.verdicts) > 1
        chosen = "plan chosen by trials on folds of the training images" if searched else "the plan was given"
        if judged[0].split in ("test", "val"):
            return f"{judged[0].split} split of {count} images, read once after every choice; {chosen}"
        flatters = "; the plan was chosen by these too, so it flatters a little" if searched else ""
        return f"folds of {count} images, each judged by a network trained on the others, duplicates and groups on one side{flatters}"
    if outer is not None:
        several = f", dealt {len(deals.accuracies)} times and averaged" if deals and len(deals.accuracies) > 1 else ""
        tables = "; the tables are of the deal nearest to the mean" if several else ""
        how = f"the {'strength is' if given else 'stage and the strength are'} chosen anew on the others"
        without = sum(rung is None for rung in outer.chosen.values())
        nearest = "leaves nothing to choose by: the nearest of the classes' means on the last stage counts"
        if without == len(outer.chosen):
            how = f"what is left {nearest}"
        elif without:
            how += f"; in {without} of them what is left {nearest}"
        folds = f"{len(outer.chosen)} outer folds of {count} images, stratified, copies and groups on one side{several}"
        searched = adapted and sum(verdict.images > 0 for verdict in adapted.advice.verdicts) > 1
        flatters = (
            "; that no plan that trains was chosen rests on these too, so it flatters a little" if searched else ""
        )
        return f"{folds}; in each {how}{tables}{flatters}"
    what = "the stage was given, the strength" if given else "stage and strength"
    read = f"{judged[0].split} split of {count} images, read once after every choice"
    return f"{read}; {what} chosen on the training images by {selection.probe.protocol}"


def classifier_in_words(network: str, selection: Selection, adapted: Adapted | None) -> str:
    """The classifier, as the subject of a sentence."""
    if adapted is None or not adapted.trained:
        return f"A linear classifier on {selection.name} of {network}"
    match adapted.advice.chosen.kind, adapted.advice.chosen.at:
        case "scratch", _:
            return f"{network}, trained from scratch,"
        case _, ("all",):
            return f"{network}, fine-tuned as a whole,"
        case _, at:
            return f"{network}, fine-tuned from {at[0]} on,"


def answer_in_words(result: dict[str, Any], classes: Sequence[str]) -> dict[str, str]:
    """The question and the answer in plain words."""
    low, high = (percent(bound) for bound in result["accuracy_interval"])
    names = ", ".join(classes[:6]) + (f" and {len(classes) - 6} more" if len(classes) > 6 else "")
    counts = [row["test"] for row in result["classes"]]
    leaks = result["leak"] and result["leak"]["images"]
    seen = "held out in turn" if result["headline"] != "test" else "of the test part" if leaks else "it never saw"
    parts = [
        f"{result['classifier']} names the right class for {percent(result['accuracy'])} of "
        f"{sum(counts):,} images {seen} (95 % interval {low} to {high}; always answering the commonest class would give "
        f"{percent(max(counts) / sum(counts))}).",
        result["choice"][0].upper() + result["choice"][1:],
    ]
    errors = sum(problem["severity"] == "error" for problem in result["problems"])
    if errors:
        parts.append(f"The check found {errors} {'error' if errors == 1 else 'errors'} in the data, listed below.")
    return {
        "question": f"Which of {len(classes)} classes ({names}) does an image show, and how sure can one be of the answer?",
        "answer": " ".join(parts),
    }


def percent(share: float) -> str:
    return f"{100 * share:.1f} %"
