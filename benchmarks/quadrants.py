"""The lecture's table of transfer learning, measured: every plan on fourteen cases, and what the adviser, habits and the table choose.

`convatlas study quadrants` with the list of cases beside this file; MobileNetV1-0.25 with ImageNet weights. What is measured is kept in
recorded/quadrants plan by plan, so that the command, stopped, goes on where it was: the whole takes some hours.

Usage: `python benchmarks/quadrants.py` measures what is missing and prints the section; `--as-is` measures nothing.
"""

from __future__ import annotations

import math
import os
import statistics
import sys

import convatlas
from convatlas.report.study_page import shown
from measuring import ROOT, SHARED, python, say, section, spread, table, target

OUT = ROOT / "benchmarks/recorded/quadrants"
SETS = ROOT / "runs/sets"
SPLITS = 3
REGRET, SHARE = 1.0, 0.25  # points, of the time of the exhaustive search
FACTOR, WITHIN = 1.5, 0.9  # of a foretold time, in this share of the cases


def main() -> None:
    if not (SETS / "cifar10-train").is_dir():
        python(SHARED / "data/unpack.py", SETS, "mnist-10k", "cifar10-train")
    os.chdir(ROOT)  # the page tells the command, which shall name no folder of this machine
    cases = "benchmarks/quadrants.json"
    found = convatlas.study(
        "quadrants", cases, out=OUT, seeds=SPLITS, partial="--as-is" in sys.argv, device="cpu", say=say
    ).json
    regrets, factors = found["figures"]["regrets"], found["figures"]["factors"]
    ours = regrets["adviser"]
    habits = {who: each["value"] for who, each in regrets.items() if who != "adviser"}
    typical = math.exp(statistics.fmean(map(math.log, factors)))
    within = sum(factor <= FACTOR for factor in factors) / len(factors)
    targets = [
        target(
            f"the adviser's mean regret at most {REGRET:.0f} point",
            f"{100 * ours['value']:.2f} [{100 * ours['low']:.2f}, {100 * ours['high']:.2f}]",
            100 * ours["value"] <= REGRET,
        ),
        target(
            f"at most {100 * SHARE:.0f} % of the time that all plans take",
            f"{100 * statistics.fmean(found['figures']['cost']):.0f} %",
            statistics.fmean(found["figures"]["cost"]) <= SHARE,
        ),
        *(
            target(
                f"less regret than {who}", f"{100 * ours['value']:.2f} against {100 * value:.2f}", ours["value"] < value
            )
            for who, value in habits.items()
        ),
        target(
            f"times foretold within a factor of {FACTOR} in {100 * WITHIN:.0f} % of the cases",
            f"{100 * within:.0f} % of {len(factors)} within; typically {typical:.2f}, {spread(factors)}",
            within >= WITHIN,
        ),
    ]
    columns = found["columns"]
    rows = [[shown(cell, column["kind"]) for cell, column in zip(row, columns, strict=True)] for row in found["rows"]]
    section(
        "The four quadrants of transfer, measured",
        f"{found['paragraph']} {found['protocol']} Intervals of accuracies over splits, of regrets over cases. The page is "
        "recorded/quadrants/study.html.",
        table([column["name"] for column in columns], rows),
        targets=targets,
    )


if __name__ == "__main__":
    main()
