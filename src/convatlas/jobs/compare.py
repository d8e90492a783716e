"""Comparing networks as Canziani, Paszke and Culurciello did (2016, https://arxiv.org/abs/1605.07678): accuracy against what it costs.

A chart holds accuracies that were measured alike, unless a mixture is asked for by name, and says by which protocol. Counts cost nothing
and need no torch; latency, throughput, memory and energy are measured on this machine, only where they are asked for.
"""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import Any

import convatlas
from convatlas.bundle.folder import ensure_replaceable, whole_folder
from convatlas.errors import ConvAtlasError
from convatlas.jobs.candidates import Candidate, candidates
from convatlas.jobs.comparison_words import CONVENTIONS, answer, notes
from convatlas.jobs.images import Progress, resolve_device, silent
from convatlas.jobs.outcomes import pairs
from convatlas.jobs.protocols import IMAGENET, MIXED, Accuracy, Protocol, covered, matching
from convatlas.jobs.ranking import pareto_front, spearman
from convatlas.jobs.result import percent

SCHEMA = "convatlas.compare/1"
RESULT = "compare.json"
COUNTED = ("mult_adds", "parameters", "density")
MEASURED = ("latency", "throughput", "memory", "energy")
BY = (*COUNTED, *MEASURED)
_MORE_IS_BETTER = ("throughput", "density")


@dataclass(frozen=True)
class CompareResult:
    """What `compare` found; `json` is the content of `compare.json`."""

    json: dict[str, Any]

    @property
    def front(self) -> list[str]:
        """The networks that none of the others beats in accuracy and cost, cheapest first; the cost is that of `by`."""
        return self.json["fronts"].get(self.json["cost"], [])

    @property
    def report(self) -> Path | None:
        """The page, where a folder was asked for."""
        return Path(self.json["report"]) if self.json["report"] else None

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{escape(row['name'])}{' ✓' if row['name'] in self.front else ''}</td>"
            f"<td>{'–' if row['accuracy'] is None else percent(row['accuracy'])}</td>"
            f"<td>{row['parameters']:,}</td><td>{row['mult_adds']:,}</td></tr>"
            for row in self.json["networks"]
        )
        header = "<tr><th>network</th><th>top-1</th><th>parameters</th><th>mult-adds</th></tr>"
        return f"<p>{escape(self.json['answer'])}</p><table>{header}{rows}</table>"


def compare(
    names: str | Path | Iterable[str | Path] = (),
    *,
    by: str | Sequence[str] = "mult_adds",
    protocol: str | None = None,
    batch: int | None = None,
    device: str = "auto",
    repeats: int = 5,
    out: str | Path | None = None,
    progress: Progress = silent,
) -> CompareResult:
    """Compares networks of the zoo (names or shell patterns) and model folders: accuracy against cost, and who is on the front.

    `by` is one or several of `mult_adds`, `parameters`, `density`, `latency`, `throughput`, `memory`, `energy`: the first orders the
    networks, and those of the last four are measured here, in `repeats` rounds, on `device`, in batches of `batch` (latency: one
    image). `protocol` (part of its name, or a pattern) chooses how the accuracies were measured; by default it is what most of the
    networks have in common, and `mixed` takes of each network the commonest that it has. `out` becomes a folder with `compare.json`,
    `compare.html` and the charts. Without `names`, the networks whose published accuracies are comparable. Raises `ConvAtlasError`.
    """
    asked = _asked(by)
    if (batch is not None and batch < 1) or repeats < 1:
        raise ConvAtlasError(f"batch {batch} and repeats {repeats}: both count from 1.", remedy="Give larger numbers.")
    target = None if out is None else Path(out).expanduser()
    if target is not None:
        ensure_replaceable(target)
    given = [names] if isinstance(names, str | Path) else list(names)
    found = candidates(given)
    chosen, groups = _chosen(found, protocol)
    if not given:
        found = [candidate for candidate in found if chosen is None or chosen in candidate.accuracies]
    accuracies = {c.name: _accuracy(c, chosen, groups) for c in found}
    costs = [q for q in asked if q in MEASURED]
    _refuse_the_incomparable(found, accuracies, costs)

    measured: dict[str, Any] = {"figures": {}, "conditions": None}
    if costs:
        measured = _measure(found, costs, device, batch, repeats, progress)
    rows = [_row(candidate, accuracies[candidate.name], measured["figures"]) for candidate in found]
    order = next((q for q in asked if any(value_of(row, q) is not None for row in rows)), "mult_adds")
    main = "parameters" if order == "density" else order
    axes = list(dict.fromkeys([main, *(q for q in asked if q != "density"), "mult_adds", "parameters"]))
    result: dict[str, Any] = {
        "schema": SCHEMA,
        "version": convatlas.__version__,
        "created": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "command": _command(),
        "by": list(asked),
        "cost": main,  # against which accuracy is drawn first
        "protocol": _protocol_json(chosen, accuracies),
        "protocols": [
            {"dataset": p.dataset, "measured": p.measured, "networks": len(having)} for p, having in groups.items()
        ],
        "networks": sorted(rows, key=lambda row: _order(row, order)),
        "fronts": {} if chosen is None else {axis: _front(rows, axis) for axis in axes if len(_values(rows, axis)) > 1},
        "unreadable": _unreadable(rows, costs),
        "correlations": {q: _correlation(rows, q) for q in costs},
        "left_out": [{"name": c.name, "reason": _why_left_out(c)} for c in found if accuracies[c.name] is None],
        "measured": measured["conditions"],
        "conventions": CONVENTIONS,
        "pairs": pairs({c.name: c.folder for c in found if c.folder is not None}),
        "notes": notes(chosen, accuracies, protocol, _unreadable(rows, costs)),
        "ilsvrc": _ilsvrc(accuracies),
        "folder": None if target is None else str(target),
        "report": None if target is None else str(target / "compare.html"),
    }
    result["answer"] = answer(result)
    if target is not None:
        _write(target, result)
    return CompareResult(json.loads(json.dumps(result)))


def _asked(by: str | Sequence[str]) -> tuple[str, ...]:
    asked = tuple(dict.fromkeys([by] if isinstance(by, str) else by)) or ("mult_adds",)
    for quantity in asked:
        if quantity not in BY:
            raise ConvAtlasError(f"unknown quantity {quantity!r};", remedy=f"use {', '.join(BY)}.")
    return asked


def _chosen(found: Sequence[Candidate], wanted: str | None) -> tuple[Protocol | None, dict[Protocol, list[Accuracy]]]:
    """By which protocol the accuracies are compared (None: each by its own, as asked for), and all that there are."""
    groups = covered(candidate.accuracies for candidate in found)
    if wanted == MIXED:
        return None, groups
    fitting = list(groups) if wanted is None else matching(groups, wanted)
    return (fitting[0] if fitting else None), groups


def _accuracy(candidate: Candidate, chosen: Protocol | None, groups: Iterable[Protocol]) -> Accuracy | None:
    if chosen is not None:
        return candidate.accuracies.get(chosen)
    return next((candidate.accuracies[p] for p in groups if p in candidate.accuracies), None)  # the commonest it has


def _refuse_the_incomparable(
    found: Sequence[Candidate], accuracies: Mapping[str, Accuracy | None], costs: Sequence[str]
) -> None:
    if len(found) < 2:
        raise ConvAtlasError(
            f"nothing to compare: only {found[0].name}." if found else "nothing to compare.",
            remedy="Name several networks, a pattern such as 'resnet*', or model folders; without names all are compared.",
        )
    if not costs and sum(accuracy is not None for accuracy in accuracies.values()) < 2:
        known = "; ".join(f"{c.name}: {_protocols_of(c)}" for c in found[:6])
        raise ConvAtlasError(
            f"nothing comparable: no two of these networks have accuracies that were measured alike ({known}).",
            remedy="Name networks that share one, ask for a cost (--by latency), or mix them knowingly (--protocol mixed).",
        )


def _protocols_of(candidate: Candidate) -> str:
    names = [str(protocol) for protocol in candidate.accuracies]
    return " and ".join(names[:2]) + (f" and {len(names) - 2} more" if names[2:] else "") if names else "none"


def _measure(
    found: Sequence[Candidate],
    quantities: Sequence[str],
    device: str,
    batch: int | None,
    repeats: int,
    progress: Progress,
) -> dict[str, Any]:
    chosen = resolve_device(device)
    from dataclasses import asdict

    from convatlas.jobs.measure import measure

    subjects = [candidate.subject() for candidate in found]
    taken = measure(subjects, quantities, device=chosen, batch=batch, repeats=repeats, progress=progress)
    figures = {name: {q: asdict(f) for q, f in by_quantity.items()} for name, by_quantity in taken.figures.items()}
    return {"figures": figures, "conditions": taken.conditions}


def _row(candidate: Candidate, accuracy: Accuracy | None, figures: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    row: dict[str, Any] = {**candidate.row(), **dict.fromkeys(("accuracy", "top5_accuracy", "accuracy_interval"))}
    row |= {"protocol": None, "basis": None, "density": None}
    if accuracy is not None:
        row |= {
            "accuracy": accuracy.top1,
            "top5_accuracy": accuracy.top5,
            "accuracy_interval": None if accuracy.interval is None else list(accuracy.interval),
            "protocol": str(accuracy.protocol),
            "basis": accuracy.basis,
            "density": 100 * accuracy.top1 / (candidate.parameters / 1e6),
        }
    return row | {quantity: figures.get(candidate.name, {}).get(quantity) for quantity in MEASURED}


def value_of(row: Mapping[str, Any], quantity: str) -> float | None:
    """A network's figure for `quantity`, measured or counted; None where there is none."""
    found = row[quantity]
    return found["value"] if isinstance(found, Mapping) else found


def _values(rows: Sequence[Mapping[str, Any]], axis: str) -> list[tuple[str, float, float]]:
    """Name, cost (less is better) and accuracy of the networks that have both."""
    sign = -1 if axis in _MORE_IS_BETTER else 1
    return [
        (row["name"], sign * cost, row["accuracy"])
        for row in rows
        if row["accuracy"] is not None and (cost := value_of(row, axis)) is not None
    ]


def _front(rows: Sequence[Mapping[str, Any]], axis: str) -> list[str]:
    points = _values(rows, axis)
    return [points[i][0] for i in pareto_front([cost for _, cost, _ in points], [value for _, _, value in points])]


def _correlation(rows: Sequence[Mapping[str, Any]], quantity: str) -> float | None:
    """Whether mult-adds order the networks as the measured quantity does."""
    pairs = [(row["mult_adds"], value) for row in rows if (value := value_of(row, quantity)) is not None]
    return spearman([first for first, _ in pairs], [second for _, second in pairs])


def _order(row: Mapping[str, Any], quantity: str) -> tuple[bool, float, str]:
    value = value_of(row, quantity)
    sign = -1 if quantity in _MORE_IS_BETTER else 1
    return value is None, 0 if value is None else sign * value, row["name"]


def _why_left_out(candidate: Candidate) -> str:
    if candidate.accuracies:
        return f"measured otherwise ({_protocols_of(candidate)})"
    if candidate.folder is not None:
        return "the model folder holds no accuracy; `convatlas fit` writes one"
    return "no top-1 accuracy of it alone is published that we know of"


def _protocol_json(chosen: Protocol | None, accuracies: Mapping[str, Accuracy | None]) -> dict[str, Any] | None:
    having = [accuracy for accuracy in accuracies.values() if accuracy is not None]
    if chosen is None or not having:
        return None
    bases = list(dict.fromkeys(accuracy.basis for accuracy in having))
    return {"dataset": chosen.dataset, "measured": chosen.measured, "basis": bases, "networks": len(having)}


def _unreadable(rows: Sequence[Mapping[str, Any]], costs: Sequence[str]) -> dict[str, list[str]]:
    """Which quantities some network has no figure of, and why."""
    missing = {q: sorted({row[q]["reason"] for row in rows if row[q]["value"] is None}) for q in costs}
    return {quantity: reasons for quantity, reasons in missing.items() if reasons}


def _ilsvrc(accuracies: Mapping[str, Accuracy | None]) -> dict[str, Any] | None:
    """The challenge's history, where networks are compared on its images."""
    from convatlas.studies.ilsvrc import ilsvrc

    on_it = any(accuracy is not None and accuracy.protocol.dataset == IMAGENET for accuracy in accuracies.values())
    return ilsvrc() if on_it else None


def _command() -> str:
    if Path(sys.argv[0]).stem == "convatlas":
        return shlex.join(["convatlas", *sys.argv[1:]])
    return "convatlas.compare(…)"


def _write(target: Path, result: Mapping[str, Any]) -> None:
    with whole_folder(target) as folder:
        text = json.dumps(result, indent=1, ensure_ascii=False)
        (folder / RESULT).write_text(text, encoding="utf-8", errors="backslashreplace")
        from convatlas.report.comparison import render, save_charts

        render(folder)
        save_charts(folder)
