"""Ours beside the ways most people learn first: both halves of PyTorch's transfer-learning tutorial, and fastai's `fine_tune(4)`.

Whole processes on hymenoptera, the tutorial's own data, and on flowers12, all with the same weights, each peer from several seeds; ours has
no seed that its answer depends on. Peers take minutes, so what a run gave is kept in recorded/fine_tuning.json and the command, stopped,
goes on; a round is one run of each side, ours among them, so that a ratio is of times of one round.

Usage: `python benchmarks/fine_tuning.py` runs what is missing and prints the section; `python benchmarks/fine_tuning.py hymenoptera/2 …`
(set/seed) runs those rounds only; `--as-is` runs nothing.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from measuring import ROOT, SHARED, WEIGHTS, Finished, fit, python, ratios, say, section, spread, table, target

SETS = ("hymenoptera", "flowers12")
SEEDS = range(5)
ROUNDS = [f"{name}/{seed}" for seed in SEEDS for name in SETS]
RECORD = ROOT / "benchmarks/recorded/fine_tuning.json"
FASTER = 10
NAMES = {
    "ours": "`convatlas fit`",
    "frozen": "PyTorch's tutorial, new classifier, 25 epochs",
    "tutorial": "PyTorch's tutorial, everything, 25 epochs",
    "fastai": "fastai, `fine_tune(4)`",
}
STUDENT = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776}  # 97.5 % quantiles of t, by degrees of freedom


def run(side: str, data: Path, seed: int) -> Finished:
    if side == "ours":
        return fit(data, "--weights", WEIGHTS)
    if side == "fastai":
        return python("-W", "ignore", ROOT / "benchmarks/fastai_peer.py", data, WEIGHTS, str(seed))
    half = ["frozen"] if side == "frozen" else []
    return python("-W", "ignore", ROOT / "benchmarks/tutorial.py", data, WEIGHTS, str(seed), *half)


def recorded() -> dict[str, Any]:
    """Round and side: accuracy and seconds."""
    return json.loads(RECORD.read_text()) if RECORD.exists() else {}


def measure(rounds: Sequence[str]) -> None:
    """Those of `rounds` that are not recorded, one after the other."""
    for each in rounds:
        if each in recorded():
            continue
        name, seed = each.split("/")
        found: dict[str, Any] = {}
        for side in NAMES:
            say(f"{name}, seed {seed}: {side}")
            ran = run(side, SHARED / "data" / name, int(seed))
            found[side] = {"accuracy": ran.json["accuracy"], "best": ran.json.get("best")}
            found[side] |= {"seconds": ran.seconds, "cpu_seconds": ran.cpu_seconds}
        RECORD.parent.mkdir(parents=True, exist_ok=True)
        RECORD.write_text(json.dumps(recorded() | {each: found}, indent=1) + "\n")


def differences(rounds: list[dict[str, Any]], side: str) -> tuple[float, float]:
    """Ours less theirs in accuracy: the mean over seeds, and half of its 95 % interval, by Student's t."""
    apart = [each["ours"]["accuracy"] - each[side]["accuracy"] for each in rounds]
    if len(apart) < 2:
        return apart[0], float("inf")
    return statistics.fmean(apart), STUDENT[len(apart) - 1] * statistics.stdev(apart) / len(apart) ** 0.5


def main() -> None:
    asked = [word for word in sys.argv[1:] if word != "--as-is"]
    if unknown := set(asked) - set(ROUNDS):
        sys.exit(f"unknown rounds {sorted(unknown)}; there are {', '.join(ROUNDS)}")
    if "--as-is" not in sys.argv:
        measure(asked or ROUNDS)
    if asked:
        return
    known, rows, targets = recorded(), [], []
    for name in SETS:
        rounds = [found for key, found in known.items() if key.startswith(f"{name}/")]
        if not rounds:
            continue
        for side, words in NAMES.items():
            accuracy = spread([each[side]["accuracy"] for each in rounds], 4)
            if side == "tutorial":
                accuracy += f"; best epoch {spread([each[side]['best'] for each in rounds], 4)}"
            times, work = (
                ratios([each[side][unit] for each in rounds], [each["ours"][unit] for each in rounds])
                for unit in ("seconds", "cpu_seconds")
            )
            seconds = spread([each[side]["seconds"] for each in rounds], 1)
            rows.append((f"{name}: {words}", accuracy, seconds, spread(times, 1), spread(work, 1)))
            if side != "ours":
                mean, half = differences(rounds, side)
                few = f"points, {len(rounds)} of {len(SEEDS)} seeds"
                beside = f"± {100 * half:.1f} {few}" if half < float("inf") else f"{few}, which shows nothing"
                told = f"{100 * mean:+.1f} {beside}, {statistics.median(times):.0f} × the time"
                met = len(rounds) == len(SEEDS) and mean + half >= 0 and statistics.median(times) >= FASTER
                targets.append(target(f"{name}: not shown to be worse than {words}, {FASTER} × faster", told, met))
    section(
        "Beside fine-tuning: PyTorch's tutorial and fastai",
        f"Whole processes, the same weights, {len(known)} rounds in all, each from another seed; differences are ours less theirs, with "
        "a 95 % interval over seeds. The tutorial reports its best epoch, which is chosen on the very images it is judged by; the "
        "accuracy to compare is that of the last. Processor time is what other work on the machine changes least.",
        table(("", "accuracy", "seconds", "times ours", "processor time, times ours"), rows),
        targets=targets,
        peers=("torchvision", "fastai"),
    )


if __name__ == "__main__":
    main()
