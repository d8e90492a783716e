"""Maps in float16 beside float32: what tuning on them loses, if anything, and what disk and time they save.

Training images only, five folds: on each a network is tuned from a cut on float32 maps, on float16 maps, and on float32 maps once more with
another seed, which orders the images otherwise: what such luck does is the yardstick. All are judged by the whole network on the images
left out. What a fold gave is kept in recorded/half_maps.json, and the command, stopped, goes on.

Usage: `python benchmarks/half_maps.py` measures what is missing and prints the section; `--as-is` measures nothing.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from convatlas import cache
from convatlas.data import ClassMap, folds, scan
from convatlas.jobs.images import extract_features, silent
from convatlas.jobs.pixels import prepared
from convatlas.metrics import log_loss, over_seeds, softmax
from convatlas.transfer.maps import Precision
from convatlas.transfer.plans import Plan
from convatlas.transfer.workshop import Workshop
from convatlas.weights.source import WeightsSource, find_weights
from measuring import ROOT, SHARED, python, say, section, spread, table, target

RECORD = ROOT / "benchmarks/recorded/half_maps.json"
SETS = ROOT / "runs/sets"
DATA = {
    "hymenoptera": SHARED / "data/hymenoptera",
    "flowers12": SHARED / "data/flowers12",
    "cifar10": SETS / "cifar10-train",
}
MOST = 100  # images of a class
CASES = (  # width, cut, set; what takes least first
    ("025", "stage5", "hymenoptera"),
    ("025", "stage5", "flowers12"),
    ("025", "stage5", "cifar10"),
    ("075", "stage5", "hymenoptera"),
)
FOLDS = 5
SIDES: dict[str, tuple[Precision, int]] = {
    "float32": ("float32", 0),
    "float16": ("float16", 0),
    "another seed": ("float32", 1),
}
POINTS, NATS = 0.5, 0.01  # that float16 may lose and be harmless: accuracy in percent, log-loss


def shops(source: WeightsSource, path: Path) -> dict[str, Workshop]:
    """A workshop of each side, with the training images of a set."""
    dataset = scan(path)
    seen: dict[str | None, int] = {}
    records = []
    for record in dataset.of("train" if "train" in dataset.splits else "all"):
        seen[record.label] = seen.get(record.label, 0) + 1
        if seen[record.label] <= MOST:
            records.append(record)
    passed = extract_features(dataset, tuple(records), source, device="cpu", progress=silent)
    top = list(passed.store.means([item.sha256 for item in passed.examined]).values())[-1]
    classes = ClassMap(dataset.classes)
    labels = torch.from_numpy(classes.indices([record.label for record in records]).astype(np.int64))
    images = prepared(dataset, records, labels, source.preprocessing, "auto", progress=silent, say=say)
    return {
        side: Workshop(source, images, top, len(classes), maps=maps, seed=seed) for side, (maps, seed) in SIDES.items()
    }


def judged(shop: Workshop, plan: Plan, fold_of: np.ndarray, fold: int) -> dict[str, float]:
    rows, out = np.flatnonzero(fold_of != fold), np.flatnonzero(fold_of == fold)
    started = time.process_time()
    found = shop.train(plan, rows, out)
    seconds = time.process_time() - started
    probabilities, truth = softmax(found.logits), shop.labels[out]
    return {
        "accuracy": float((probabilities.argmax(axis=1) == truth).mean()),
        "log_loss": float(log_loss(probabilities, truth)),
        "cpu_seconds": seconds,
    }


def fill(known: dict[str, Any]) -> Iterator[None]:
    """Adds what is missing, fold by fold."""
    if not DATA["cifar10"].is_dir():
        python(SHARED / "data/unpack.py", SETS, "cifar10-train")
    for width, cut, name in CASES:
        key = f"{width}/{cut}/{name}"
        if len(known.get(key, {}).get("folds", [])) == FOLDS:
            continue
        source = find_weights(SHARED / f"weights/mobilenet_v1_{width}_224_imagenet.safetensors")
        with tempfile.TemporaryDirectory() as scratch:
            os.environ["CONVATLAS_CACHE"] = scratch
            bench, plan = shops(source, DATA[name]), Plan(kind="tune", at=(cut,))
            fold_of = folds(bench["float32"].labels, np.arange(len(bench["float32"].labels)), k=FOLDS, seed=0)
            entry = known.setdefault(key, {"images": len(fold_of), "folds": [], "bytes": {}})
            for side in ("float32", "float16"):
                before = {file.path for file in cache.contents()}
                bench[side].keep(plan)  # maps are made before anything is timed
                made = [file.bytes_ for file in cache.contents() if file.path not in before]
                entry["bytes"][side] = sum(made)
            bench["another seed"].keep(plan)
            torch.optim.AdamW([torch.zeros(1, requires_grad=True)])  # imports what takes seconds, once
            for fold in range(len(entry["folds"]), FOLDS):
                order = list(SIDES)[fold % len(SIDES) :] + list(SIDES)[: fold % len(SIDES)]
                found = {side: judged(bench[side], plan, fold_of, fold) for side in order}
                say(f"{key}, fold {fold}: {found}")
                entry["folds"].append(found)
                yield


def apart(entry: dict[str, Any], side: str, what: str) -> list[float]:
    """Of a side from float32, fold by fold."""
    return [found[side][what] - found["float32"][what] for found in entry["folds"]]


def told(values: list[float], scale: float, digits: int) -> str:
    low, high = over_seeds(values)
    mean = statistics.fmean(values)
    return f"{scale * mean:+.{digits}f} [{scale * low:+.{digits}f}, {scale * high:+.{digits}f}]"


def main() -> None:
    known: dict[str, Any] = json.loads(RECORD.read_text()) if RECORD.exists() else {}
    for _ in fill(known) if "--as-is" not in sys.argv else ():
        RECORD.parent.mkdir(parents=True, exist_ok=True)
        RECORD.write_text(json.dumps(known, indent=1) + "\n")
    rows, worst, costs, sizes = [], [], [], []
    for width, cut, name in CASES:
        entry = known.get(f"{width}/{cut}/{name}", {"folds": []})
        if not entry["folds"]:
            continue
        seconds = [each["float16"]["cpu_seconds"] / each["float32"]["cpu_seconds"] for each in entry["folds"]]
        size = entry["bytes"]["float16"] / entry["bytes"]["float32"]
        worst.append(100 * min(statistics.fmean(apart(entry, "float16", "accuracy")), 0))
        costs.append(over_seeds(apart(entry, "float16", "log_loss"))[1])
        sizes.append(size)
        rows.append(
            (
                f"{name}, 0.{width[1:]}, {cut}",
                f"{100 * statistics.fmean(each['float32']['accuracy'] for each in entry['folds']):.1f}",
                told(apart(entry, "float16", "accuracy"), 100, 2),
                told(apart(entry, "another seed", "accuracy"), 100, 2),
                told(apart(entry, "float16", "log_loss"), 1, 4),
                told(apart(entry, "another seed", "log_loss"), 1, 4),
                f"{entry['bytes']['float32'] / 1e6:.0f} MB",
                f"{size:.2f}",
                spread(seconds),
            )
        )
    header = (
        *(
            "set, MobileNetV1, tuned from",
            "accuracy, float32",
            "points, float16 less float32",
            "another seed less float32",
        ),
        *("log-loss, float16 less float32", "another seed less float32", "maps in float32", "in float16, of that"),
        "processor time, float16 to float32",
    )
    section(
        "Maps in float16",
        f"Training images only, {FOLDS} folds, at most {MOST} images of a class; 95 % intervals over folds, paired. "
        "The yardstick is another seed. Times are of a training and of judging it, for which with float16 the whole network is run.",
        table(header, rows),
        targets=[
            target(
                f"accuracy falls by no more than {POINTS} points",
                f"{min(worst):+.2f} on the worst set",
                min(worst) >= -POINTS,
            ),
            target(
                f"log-loss rises by no more than {NATS}, upper ends",
                f"{max(costs):+.4f} on the worst set",
                max(costs) <= NATS,
            ),
            target("half of the space", f"{max(sizes):.3f}", max(sizes) < 0.51),
        ],
    )


if __name__ == "__main__":
    main()
