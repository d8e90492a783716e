"""What a fit costs beyond decoding and running its images, in a process that has everything imported; and what the cache saves.

The first fit starts with an empty cache and makes no report; it scans, hashes, decodes, checks, runs every stage, stores the features,
fits all probes, evaluates and saves the model. The repeat finds the features in the cache. Both stand against the two bare loops.
"""

from __future__ import annotations

import os
import statistics
from pathlib import Path

import bare_loop
import convatlas
from measuring import SHARED, WEIGHTS, folder, interleaved, ratios, say, section, spread, table, target

SETS = ("hymenoptera", "ucmerced")
REPEATS = 5


def first_and_repeat(data: Path) -> dict[str, float]:
    """Seconds of a fit with an empty cache and of the same fit again."""
    seconds: dict[str, float] = {}
    with folder() as scratch:
        os.environ["CONVATLAS_CACHE"] = str(scratch / "cache")
        for which in ("first", "repeat"):
            with bare_loop.clock(seconds, which):
                convatlas.fit(data, weights=WEIGHTS, out=scratch / which, report=False)
    return seconds


def main() -> None:
    say("one of each to import everything, not counted")
    small = SHARED / "data" / SETS[0]
    first_and_repeat(small)
    bare_loop.fast(bare_loop.images_of(small), WEIGHTS)
    rows, targets = [], []
    for name in SETS:
        data = SHARED / "data" / name
        paths = bare_loop.images_of(data)
        say(name)
        runs = interleaved(
            REPEATS,
            plain=lambda p=paths: bare_loop.plain(p, WEIGHTS),
            ours=lambda d=data: first_and_repeat(d),
            fast=lambda p=paths: bare_loop.fast(p, WEIGHTS),
        )
        plain, fast = ([sum(run.values()) for run in runs[side]] for side in ("plain", "fast"))
        first, repeat = ([run[which] for run in runs["ours"]] for which in ("first", "repeat"))
        rows += [
            (f"{name}: bare loop, plain", len(paths), spread(plain), ""),
            ("bare loop, our settings", len(paths), spread(fast), ""),
            (
                "fit, empty cache",
                len(paths),
                spread(first),
                f"{spread(ratios(first, plain))} and {spread(ratios(first, fast))}",
            ),
            ("fit, from the cache", len(paths), spread(repeat), f"{spread(ratios(repeat, plain), 3)}"),
        ]
        to_plain, to_fast, faster = ratios(first, plain), ratios(first, fast), ratios(first, repeat)
        targets += [
            target(f"{name}: at most 1.25 × the plain loop", spread(to_plain), statistics.median(to_plain) <= 1.25),
            target(
                f"{name}: at most 1.25 × the loop with our settings",
                spread(to_fast),
                statistics.median(to_fast) <= 1.25,
            ),
            target(f"{name}: the repeat at least 10 × faster", spread(faster, 1), statistics.median(faster) >= 10),
        ]
    section(
        "Warm: beside one decode and one forward",
        f"In one process, everything imported and run once before; sides in turn, {REPEATS} rounds, medians (least–greatest). The fit "
        "makes no report here. The loop with our own settings is the harder floor, as it runs one stage's "
        "features, keeps nothing and answers nothing.",
        table(("", "images", "seconds", "ratio to plain and to ours"), rows),
        targets=targets,
    )


if __name__ == "__main__":
    main()
