"""What each chart shows, in words with its numbers: for those who do not see it, as the label that a screen reader speaks."""

from __future__ import annotations

from convatlas.report import rows, words
from convatlas.report.result import Result


def interval(result: Result) -> str:
    guess, again = rows.guessing(result), result.get("accuracy_without_duplicates")
    told = [
        f"Accuracy {words.percent(result['accuracy'])}, 95 % interval {words.interval(result['accuracy_interval'])}.",
        f"Balanced accuracy {words.percent(result['balanced_accuracy'])}, {words.interval(result['balanced_accuracy_interval'])}.",
    ]
    if again:
        told.append(
            f"Without leaked images {words.percent(again['accuracy'])}, {words.interval(again['accuracy_interval'])}."
        )
    if guess is not None:
        told.append(f"Always answering the most frequent class: {words.percent(guess)}.")
    return " ".join(told)


def ladder(result: Result) -> str:
    rungs = []
    for stage in result["stages"]:
        name = stage["name"] + (" (chosen)" if stage["chosen"] else "")
        rung = f"{name} {words.percent(stage['cv_accuracy'])}, {words.interval(stage['cv_interval'])}"
        if words.known(stage.get("test_accuracy")):
            rung += f", test {words.percent(stage['test_accuracy'])}"
        rungs.append(rung)
    return "Cross-validated accuracy and 95 % interval of each stage: " + "; ".join(rungs) + "."


def growth(result: Result) -> str:
    ahead = result["evidence"]["forecast"]
    measured = "; ".join(
        f"{point['per_class']:.0f} images a class {words.percent(point['accuracy'])}, {words.interval(point['interval'])}"
        for point in ahead["points"]
    )
    return f"Learning curve: {measured}. {ahead['words']}"


def confusion(result: Result) -> str:
    matrix = result["confusion"]["matrix"]
    right, images = sum(row[index] for index, row in enumerate(matrix)), sum(map(sum, matrix))
    pairs = "; ".join(
        f"{truth} taken for {predicted} {number}×" for truth, predicted, number, _ in rows.most_confused(result, 5)
    )
    return f"Confusion matrix: {right} of {words.count(images, 'image')} right. " + (
        f"Most often {pairs}." if pairs else ""
    )


def reliability(result: Result) -> str:
    points = "; ".join(
        f"{words.percent(part['confidence'], 0)} sure, {words.percent(part['accuracy'], 0)} right, {words.count(part['count'], 'image')}"
        for part in result["calibration"]
        if part["count"]
    )
    return f"Reliability diagram: {points}."


def time(result: Result) -> str:
    parts = ", ".join(f"{phase} {words.duration(seconds)}" for phase, seconds in rows.phases(result) if seconds)
    return f"Time by phase: {parts}."


def plans(result: Result) -> str:
    told = "; ".join(
        f"{plan['words']} {words.percent(plan['accuracy'])}, {words.interval(plan['interval'])}, {words.duration(plan['seconds'])}"
        for plan in rows.tried_plans(result)
    )
    return f"Held-out accuracy, 95 % interval and time of each plan that was tried: {told}."


IN_WORDS = {
    "interval": interval,
    "ladder": ladder,
    "plans": plans,
    "growth": growth,
    "confusion": confusion,
    "reliability": reliability,
    "time": time,
}
