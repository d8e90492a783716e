"""What each chart draws: rows and sizes computed from a fit result, without any plotting library.

`fill(name, result, width)` returns the properties that turn a chart's structure (charts.py) into a whole Vega-Lite specification: its rows,
its width in CSS pixels, and the few settings that depend on how many rows there are.
"""

from __future__ import annotations

from typing import Any

from convatlas.report import words
from convatlas.report.result import Result

WIDE, NARROW = 880, 344  # CSS pixels: a desk, and a telephone of 400 with its margins

CROSS_VALIDATED = "cross-validated, with 95 % interval"
TEST = "test, not used for the choice"
MEASURED, FORETOLD = "measured, with 95 % interval", "forecast, with 80 % band"
PHASES = ("import", "rank", "decode", "forward", "solve", "adapt", "control", "report", "other")

WHOLE_MATRIX = 30  # up to so many classes the confusion matrix is drawn whole
PART_OF_MATRIX = 15  # of more than that, so many are drawn


def interval(result: Result, width: int) -> dict[str, Any]:
    rows = [
        _estimate("accuracy", result["accuracy"], result["accuracy_interval"]),
        _estimate("balanced", result["balanced_accuracy"], result["balanced_accuracy_interval"]),
    ]
    if again := result.get("accuracy_without_duplicates"):
        rows.append(_estimate("deduplicated", again["accuracy"], again["accuracy_interval"]))
    most_frequent = guessing(result)
    if most_frequent is not None:
        rows.append({"figure": "guessing", "value": most_frequent, "text": words.percent(most_frequent)})
    return {"data": {"values": rows}, "width": width}


def _estimate(figure: str, value: float, bounds: list[float] | None) -> dict[str, Any]:
    low, high = bounds or (value, value)
    return {"figure": figure, "value": value, "low": low, "high": high, "text": words.percent(value)}


def ladder(result: Result, width: int) -> dict[str, Any]:
    rows = []
    for stage in result["stages"]:
        for kind, value, bounds in (
            (CROSS_VALIDATED, stage["cv_accuracy"], stage["cv_interval"]),
            (TEST, stage.get("test_accuracy"), stage.get("test_interval")),
        ):
            if words.known(value):
                low, high = bounds or (value, value)
                rows.append(
                    {
                        "stage": stage["name"],
                        "kind": kind,
                        "value": value,
                        "low": low,
                        "high": high,
                        "chosen": bool(stage["chosen"]),
                        "text": words.percent(value),
                    }
                )
    return {"data": {"values": rows}, "width": width}


def growth(result: Result, width: int) -> dict[str, Any]:
    """The learning curve: what was measured, and the power laws that agree with it."""
    ahead = (result.get("evidence") or {}).get("forecast") or {"points": [], "band": []}
    measured = [
        {
            "kind": MEASURED,
            "per_class": point["per_class"],
            "value": point["accuracy"],
            "low": point["interval"][0],
            "high": point["interval"][1],
        }
        for point in ahead["points"]
    ]
    foretold = [
        {"kind": FORETOLD, "per_class": at["per_class"], "value": at["accuracy"], "low": at["low"], "high": at["high"]}
        for at in ahead["band"]
    ]
    return {"data": {"values": foretold + measured}, "width": width}


def has_growth(result: Result) -> bool:
    """Whether there is a learning curve to draw: more than one point."""
    return len(growth(result, WIDE)["data"]["values"]) > 1


def confusion(result: Result, width: int) -> dict[str, Any]:
    classes, matrix = result["confusion"]["classes"], result["confusion"]["matrix"]
    shown = most_confused_classes(result) if len(classes) > WHOLE_MATRIX else range(len(classes))
    rows = []
    for truth in shown:
        images = sum(matrix[truth])
        for predicted in shown:
            number = matrix[truth][predicted]
            rows.append(
                {
                    "truth": _label(classes, truth),
                    "predicted": _label(classes, predicted),
                    "count": number,
                    "share": number / images if images else 0,
                    "right": truth == predicted,
                }
            )
    digits = len(str(max((row["count"] for row in rows), default=0)))
    step = max(26 if len(shown) > 12 else 34, 10 + 8 * digits, 260 // max(len(shown), 3))
    longest = max((len(_label(classes, index)) for index in shown), default=0)
    turned = 7 * longest > step  # the names above the columns would meet each other
    return {
        "data": {"values": rows},
        "width": {"step": step},
        "height": {"step": step},
        "params": [{"name": "angle", "value": -45 if turned else 0}],
    }


def _label(classes: list[str], index: int) -> str:
    """The class's name, cut where no axis could show it (Vega would measure it letter by letter), with its number to stay unique."""
    name = classes[index]
    return name if len(name) <= 80 else f"{name[:60]}… ({index + 1})"


def reliability(result: Result, width: int) -> dict[str, Any]:
    rows = [
        {
            "confidence": part["confidence"],
            "accuracy": part["accuracy"],
            "count": part["count"],
            "low": (part.get("accuracy_interval") or [part["accuracy"]])[0],
            "high": (part.get("accuracy_interval") or [part["accuracy"]])[-1],
        }
        for part in result["calibration"]
        if part["count"]
    ]
    return {"data": {"values": rows}, "width": min(width, NARROW)}


def time(result: Result, width: int) -> dict[str, Any]:
    rows = [
        {"phase": phase, "position": position, "seconds": seconds}
        for position, (phase, seconds) in enumerate(phases(result))
    ]
    return {"data": {"values": rows}, "width": width}


def plans(result: Result, width: int) -> dict[str, Any]:
    """The plans that were tried. A probe trains nothing: it stands a decade before the quickest training, on an axis that has no 0."""
    rows: list[dict[str, Any]] = []
    tried = list(tried_plans(result))
    quickest = min((plan["seconds"] for plan in tried if plan["seconds"]), default=1.0)
    for plan in tried:
        low, high = plan["interval"]
        rows.append(
            {
                "plan": plan["plan"],
                "seconds": max(plan["seconds"] or quickest / 10, 0.01),
                "value": plan["accuracy"],
                "low": low,
                "high": high,
                "chosen": bool(plan["chosen"]),
                "front": False,
            }
        )
    best = -1.0
    for row in sorted(rows, key=lambda row: (row["seconds"], -row["value"])):
        row["front"] = row["value"] > best
        best = max(best, row["value"])
    return {"data": {"values": rows}, "width": width}


ROWS = {
    "interval": interval,
    "ladder": ladder,
    "plans": plans,
    "growth": growth,
    "confusion": confusion,
    "reliability": reliability,
    "time": time,
}


def fill(name: str, result: Result, width: int = WIDE) -> dict[str, Any]:
    """The top-level Vega-Lite properties (data, width, …) of the chart `name` for this result; `width` in CSS pixels."""
    return ROWS[name](result, width)


def tried_plans(result: Result) -> list[dict[str, Any]]:
    """The plans whose accuracy is known, where a fit weighed several."""
    return [plan for plan in (result.get("advice") or {}).get("plans", ()) if words.known(plan["accuracy"])]


def guessing(result: Result) -> float | None:
    """The accuracy of always answering the class that the evaluated images hold most of; None without images."""
    support = [sum(row) for row in result["confusion"]["matrix"]]
    return max(support) / sum(support) if sum(support) else None


def confusions(result: Result) -> list[tuple[int, int, int]]:
    """(true class, predicted class, mistakes) of every pair of classes with mistakes, most of them first; classes as indices."""
    matrix = result["confusion"]["matrix"]
    pairs = [
        (truth, predicted, number)
        for truth, row in enumerate(matrix)
        for predicted, number in enumerate(row)
        if number and truth != predicted
    ]
    return sorted(pairs, key=lambda pair: (-pair[2], -pair[2] / sum(matrix[pair[0]])))


def most_confused(result: Result, limit: int = 20) -> list[tuple[str, str, int, int]]:
    """(true class, predicted class, mistakes, images of the true class) of the most frequent confusions; classes as names."""
    classes, matrix = result["confusion"]["classes"], result["confusion"]["matrix"]
    return [
        (classes[truth], classes[predicted], number, sum(matrix[truth]))
        for truth, predicted, number in confusions(result)[:limit]
    ]


def most_confused_classes(result: Result, limit: int = PART_OF_MATRIX) -> list[int]:
    """The indices, in class order, of the classes of the most frequent confusions; any classes when there are too few mistakes."""
    chosen: dict[int, None] = {}  # a set in order
    for truth, predicted, _ in confusions(result):
        chosen.update({truth: None, predicted: None})
    chosen.update(dict.fromkeys(range(len(result["confusion"]["classes"]))))
    return sorted(list(chosen)[:limit])


def phases(result: Result) -> list[tuple[str, float]]:
    """The seconds of each phase, in the order of PHASES; "other" is what the total has beyond the named ones."""
    seconds = {name: value or 0.0 for name, value in result["seconds"].items()}
    named = [(phase, seconds.get(phase, 0.0)) for phase in PHASES if phase != "other"]
    beyond = seconds.get("total", 0.0) - sum(value for _, value in named)
    return [*named, ("other", beyond if beyond > 0.005 else 0.0)]
