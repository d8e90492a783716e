"""Runs the benchmarks and writes RESULTS.md: each script prints its section, which goes between its markers. `make bench` calls this.

Usage: `python benchmarks/run.py [NAME …]`; with names only those sections are made anew, and those that take hours by name alone.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "RESULTS.md"
NAMES = (
    "rival",
    "warm",
    "startup",
    "memory",
    "cifar",
    "embedded",
    "confidence",
    "imagenet_sample",
    "fine_tuning",
    "prefix",
    "half_maps",
    "few_images",
    "long_photos",
    "discriminant",
    "forecast",
    "which_network",
    "similarity",
    "honest",
    "label_errors",
    "loader",
    "loop",
    "zoo",
    "analysis",
    "solver",
)
LONG = ("cifar_fast", "quadrants", "crossover")  # hours of training: made by name only
PREFACE = """# Benchmarks

`make bench` makes the peers' environment and rewrites everything between markers, but for three sections that take hours and are made
by name; the scripts say how each figure comes about. A section is of the commit that stands under it. Real images and weights are
expected in `../shared`. Times in seconds; where sides are compared they ran in turn, and a ratio is of two times of one round, since
the machine may have had other work. Whether a target is met is computed from the figures beside it.
"""


def replaced(text: str, name: str, section: str) -> str:
    """`text` with the section between its markers, at the end if it has none yet."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    block = f"{begin}\n{section.strip()}\n{end}"
    if begin not in text:
        return f"{text.rstrip()}\n\n{block}\n"
    before, _, rest = text.partition(begin)
    return before + block + rest.partition(end)[2]


def main() -> None:
    asked = sys.argv[1:] or list(NAMES)
    if unknown := set(asked) - {*NAMES, *LONG}:
        sys.exit(f"unknown benchmarks {sorted(unknown)}; there are {', '.join((*NAMES, *LONG))}")
    for name in asked:
        print(name, file=sys.stderr)
        started = time.perf_counter()
        script = subprocess.run([sys.executable, HERE / f"{name}.py"], stdout=subprocess.PIPE, text=True, check=True)
        text = RESULTS.read_text(encoding="utf-8") if RESULTS.exists() else PREFACE
        RESULTS.write_text(replaced(text, name, script.stdout), encoding="utf-8")
        print(f"{name}: {time.perf_counter() - started:.0f} s", file=sys.stderr)


if __name__ == "__main__":
    main()
