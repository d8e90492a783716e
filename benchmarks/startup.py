"""Start-up is part of the job: what a process costs before and around the work, and which libraries it drags in.

New processes throughout, bytecode and disk warm. A whole `convatlas fit` stands against the sum of the three things it cannot do without
(`import torch`, decoding, the forward pass), each timed plainly in a process of its own by `bare_loop.py`.
"""

from __future__ import annotations

import json
import statistics

from measuring import (
    CONVATLAS,
    ROOT,
    SHARED,
    WEIGHTS,
    fit,
    folder,
    interleaved,
    process,
    python,
    ratios,
    say,
    section,
    spread,
    table,
    target,
)

DATA = SHARED / "data/hymenoptera"
REPEATS, SHORT_REPEATS = 5, 15
WATCHED = ("torch", "torchvision", "timm", "sklearn", "pandas", "scipy", "matplotlib", "huggingface_hub", "altair")
NEEDED = {"list": set(), "check": set(), "fit": {"torch"}, "fit again, from the cache": {"torch"}, "predict": {"torch"}}
RECORDED = f"""
import atexit, json, os, sys
atexit.register(lambda: json.dump([name for name in {WATCHED!r} if name in sys.modules], open(os.environ["RECORD"], "w")))
sys.argv[0] = "convatlas"
from convatlas.cli import main
main()
"""


def milliseconds() -> dict[str, list[float]]:
    runs = interleaved(
        SHORT_REPEATS,
        python=lambda: python("-c", "pass"),
        convatlas=lambda: python("-c", "import convatlas"),
        list=lambda: process(CONVATLAS, "list"),
        torch=lambda: python("-c", "import torch"),
    )
    return {side: [1000 * run.seconds for run in found] for side, found in runs.items()}


def imported_by() -> dict[str, set[str]]:
    """Which of the watched libraries each command has imported when it ends."""
    found: dict[str, set[str]] = {}
    with folder() as scratch:
        options = ("--weights", str(WEIGHTS), "--json", "--out")
        verbs = {
            "list": ("list",),
            "check": ("check", str(DATA)),
            "fit": ("fit", str(DATA), *options, str(scratch / "a")),
            "fit again, from the cache": ("fit", str(DATA), *options, str(scratch / "b")),
            "predict": ("predict", str(scratch / "a"), str(DATA / "val/ants")),
        }
        for name, words in verbs.items():
            record = scratch / "record.json"
            python("-c", RECORDED, *words, RECORD=str(record), CONVATLAS_CACHE=str(scratch / "cache"))
            found[name] = set(json.loads(record.read_text()))
    return found


def main() -> None:
    short = milliseconds()
    added = [a - b for a, b in zip(short["convatlas"], short["python"], strict=True)]
    say("whole fits")
    runs = interleaved(
        REPEATS,
        floor=lambda: python(ROOT / "benchmarks/bare_loop.py", DATA, WEIGHTS).json,
        ours=lambda: (run := fit(DATA, "--weights", WEIGHTS)).json["seconds"] | {"whole": run.seconds},
    )
    floor, whole = [sum(run.values()) for run in runs["floor"]], [run["whole"] for run in runs["ours"]]
    over = ratios(whole, floor)
    say("libraries")
    imported = imported_by()
    needless = sorted(set[str]().union(*(names - NEEDED[verb] for verb, names in imported.items())))

    parts = {what: [run[what] for run in runs["floor"]] for what in ("import", "decode", "forward")}
    own = {
        what: [run[what] for run in runs["ours"]]
        for what in ("import", "decode", "forward", "solve", "report", "total")
    }
    section(
        "Start-up and the whole process",
        f"Short commands {SHORT_REPEATS} rounds in turn, fits {REPEATS}; medians (least–greatest). A fit decodes while it imports and "
        "while the network runs, so its `decode` is only what the network had to wait.",
        table(
            ("new process", "milliseconds"),
            [
                ("`python -c pass`", spread(short["python"], 0)),
                ("`python -c 'import convatlas'`", spread(short["convatlas"], 0)),
                ("`convatlas list`", spread(short["list"], 0)),
                ("`python -c 'import torch'`", spread(short["torch"], 0)),
            ],
        ),
        table(
            ("seconds on hymenoptera", *own, "whole process"),
            [
                ("bare loop", *(spread(parts[what]) for what in parts), "", "", spread(floor), ""),
                ("`convatlas fit`", *(spread(values) for values in own.values()), spread(whole)),
            ],
        ),
        table(
            ("after", f"imported, of {', '.join(WATCHED)}"),
            [(verb, ", ".join(sorted(names)) or "none") for verb, names in imported.items()],
        ),
        targets=[
            target("`import convatlas` adds less than 50 ms", f"{spread(added, 0)} ms", statistics.median(added) < 50),
            target(
                "`convatlas list` in less than 500 ms",
                f"{spread(short['list'], 0)} ms",
                statistics.median(short["list"]) < 500,
            ),
            target(
                "a whole `fit` at most 1.5 × (import torch + decode + forward)",
                spread(over),
                statistics.median(over) <= 1.5,
            ),
            target(
                "nothing imported but torch, and that only to compute",
                ", ".join(needless) or "nothing else",
                not needless,
            ),
        ],
    )


if __name__ == "__main__":
    main()
