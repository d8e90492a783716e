"""From scratch against transfer, by how many images there are: where training from nothing catches up, or that it does not.

MobileNetV1-0.25, with ImageNet weights or without, on 5, 20, 80 and 400 images of each class where a set has them, five splits each. What
is transferred: the best probe, and the last two stages tuned. From scratch: the same number of epochs as a tuning has, and five times as
many, with random crops and flips. Photos are shown at 224 pixels; images of 28 and 32 pixels, which have no more to show, at 96, in
a fifth of the time. What a split gave is kept in recorded/crossover.json, and the command, stopped, goes on, set by set.

Usage: `python benchmarks/crossover.py` measures what is missing and prints the section; `--as-is` measures nothing. `hymenoptera …` (sets)
measures those only.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from convatlas.data import left_out
from convatlas.jobs.images import silent
from convatlas.jobs.quadrants import Bench, CaseSet, roles
from convatlas.metrics import over_seeds
from convatlas.transfer import finetune
from convatlas.transfer.plans import Plan
from convatlas.transfer.probe import select
from convatlas.weights.source import find_weights
from measuring import ROOT, SHARED, python, say, section, table

RECORD = ROOT / "benchmarks/recorded/crossover.json"
SETS = ROOT / "runs/sets"
NETWORK = SHARED / "weights/mobilenet_v1_025_224_imagenet.safetensors"
SPLITS = range(5)
SMALL = 96  # pixels at which images of 28 and 32 pixels are shown
CASES = (
    CaseSet(path=SHARED / "data/hymenoptera", similar=True, images=(5, 20, 80), test=60),
    CaseSet(path=SHARED / "data/flowers12", similar=True, images=(5, 20, 60), test=20),
    CaseSet(path=SHARED / "data/ucmerced", similar=False, images=(5, 20, 40), test=20),
    CaseSet(path=SETS / "mnist-10k", similar=False, images=(5, 20, 80, 400), test=100),
    CaseSet(path=SETS / "cifar10-train", similar=True, images=(5, 20, 80, 400), test=100),
)
WAYS = ("probe", "last two stages tuned", "from scratch, 1 ×", "from scratch, 5 ×")


def measured(bench: Bench, per_class: int) -> dict[str, float]:
    """The accuracy of each way on the split's test images."""
    shop, (rows, test) = bench.shop, bench.rows(per_class)
    mine = {name: tuple(block[rows] for block in blocks) for name, blocks in bench.rungs.items()}
    selection = select(mine, shop.labels[rows], shop.num_classes, folds=left_out(shop.labels[rows]))
    scores = {"probe": selection.probe.scores([block[test] for block in bench.rungs[selection.name]])}
    scores["last two stages tuned"] = shop.train(roles(bench.stages)["two"], rows, test).logits
    for times in (1, 5):
        finetune.SCRATCH = times
        scores[f"from scratch, {times} ×"] = shop.train(Plan(kind="scratch"), rows, test).logits
    return {way: float((found.argmax(axis=1) == shop.labels[test]).mean()) for way, found in scores.items()}


def fill(known: dict[str, dict[str, float]], sets: Sequence[str]) -> None:
    if unknown := set(sets) - {each.path.name for each in CASES}:
        sys.exit(f"unknown sets {sorted(unknown)}; there are {', '.join(each.path.name for each in CASES)}")
    if not (SETS / "cifar10-train").is_dir():
        python(SHARED / "data/unpack.py", SETS, "mnist-10k", "cifar10-train")
    photos = find_weights(NETWORK)
    small = replace(photos, preprocessing=replace(photos.preprocessing, size=SMALL, resize=SMALL))
    for each in CASES:
        for split in SPLITS:
            missing = [n for n in each.images if f"{each.path.name}/{n}/{split}" not in known]
            if not missing or (sets and each.path.name not in sets):
                continue
            bench = Bench.of(each, split, small if each.path.parent == SETS else photos, "cpu", silent, say)
            for count in missing:
                say(f"{each.path.name}, {count} a class, split {split}")
                known[f"{each.path.name}/{count}/{split}"] = measured(bench, count)
                RECORD.parent.mkdir(parents=True, exist_ok=True)
                RECORD.write_text(json.dumps(known, indent=1) + "\n")


def told(values: list[float]) -> str:
    low, high = over_seeds(values)
    if not np.isfinite(low):
        return f"{100 * values[0]:.1f}"
    return f"{100 * statistics.fmean(values):.1f} [{100 * max(low, 0):.1f}, {100 * min(high, 1):.1f}]"


def verdict(found: list[dict[str, float]]) -> str:
    """The better of the two from scratch against the better of the two that transfer, by their means, split by split."""
    transferred = max(WAYS[:2], key=lambda way: statistics.fmean(each[way] for each in found))
    scratch = max(WAYS[2:], key=lambda way: statistics.fmean(each[way] for each in found))
    apart = [each[transferred] - each[scratch] for each in found]
    low, high = over_seeds(apart)
    mean = statistics.fmean(apart)
    shown = "transfer ahead" if low > 0 else "scratch ahead" if high < 0 else "no difference shown"
    return f"{100 * mean:+.1f}, {shown}"


def main() -> None:
    known: dict[str, dict[str, float]] = json.loads(Path(RECORD).read_text()) if RECORD.exists() else {}
    if "--as-is" not in sys.argv:
        fill(known, sys.argv[1:])
    rows, reached = [], []
    for each in CASES:
        for count in each.images:
            found = [row for key, row in known.items() if key.startswith(f"{each.path.name}/{count}/")]
            if not found:
                continue
            rows.append(
                (
                    f"{each.path.name}, {count} a class",
                    *(told([row[way] for row in found]) for way in WAYS),
                    verdict(found),
                )
            )
            if "transfer ahead" not in rows[-1][-1]:
                reached.append(rows[-1][0])
    crossing = (
        f"From scratch is not shown to be behind on {', '.join(reached)}."
        if reached
        else "The crossover is not reached on any set."
    )
    section(
        "From scratch against transfer",
        f"MobileNetV1-0.25, photos at 224 pixels, digits and CIFAR-10 at {SMALL}; accuracy in % on test images drawn with each of up to "
        f"{len(SPLITS)} splits, with 95 % intervals over splits. Last: the better of the first two less the better of the last two, "
        f"split by split. {crossing}",
        table(("", *WAYS, "transfer less scratch, points"), rows),
    )


if __name__ == "__main__":
    main()
