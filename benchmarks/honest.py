"""Whether the statistics keep what they promise: intervals that cover, planted leaks found and no others.

Copies are planted in training images only. Coverage is measured against what a classifier reaches on a pool of images
so large that it counts as the truth: there the sampling is ours, so nothing else is uncertain.
"""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from convatlas.cache import cache_folder
from convatlas.data import ClassMap, Dataset, Examined, decode, folds, left_out, near_copies, scan
from convatlas.jobs.images import Pass, extract_features
from convatlas.metrics import repeated_interval, wilson
from convatlas.transfer.probe import fit_probe
from convatlas.weights.source import WeightsSource, find_weights
from measuring import SHARED, WEIGHTS, folder, process, say, section, table, target

SUBSET = 1000  # of the larger sets
POOL, TRAINED, TESTED = 6000, 200, 200  # images: to draw from, to learn from, to judge
DRAWS, FOLD_DRAWS = 2000, 500
STRENGTHS = (1e-1, 1e-2, 1e-3)
COPIED = 60  # images of each set that are planted again
SLACK = 3  # more false pairs than this in a set are heaps


@dataclass(frozen=True, kw_only=True)
class Known:
    """Some images of a set, after the pass."""

    dataset: Dataset
    passed: Pass
    items: list[Examined]
    labels: np.ndarray
    classes: int

    @property
    def sha256s(self) -> list[str]:
        return [item.sha256 for item in self.items]


def main() -> None:
    imagenet, embedded = find_weights(WEIGHTS), find_weights("embedded")
    unpacked = cache_folder() / "benchmark-images"
    for name in ("mnist-10k", "cifar10-train", "cifar10-test"):
        if not (unpacked / name).is_dir():
            say(f"unpacking {name}")
            process("python3", SHARED / "data" / "unpack.py", unpacked, name)
    sets: dict[str, Known] = {}
    for name in ("hymenoptera", "flowers12", "ucmerced"):
        say(f"{name}: features")
        sets[name] = known(SHARED / "data" / name, imagenet, "train")
    for name, place in (("cifar10", "cifar10-train"), ("mnist", "mnist-10k")):
        say(f"{name}: features")
        sets[name] = known(unpacked / place, imagenet, "all", SUBSET)
    targets: list[tuple[str, str, str]] = []
    pools = {name: known(unpacked / name, embedded, "all", POOL) for name in ("cifar10-test", "mnist-10k")}
    coverage = [row for name, pool in pools.items() for row in coverage_rows(name, pool, targets)]
    leaks = [leak_row(name, each, imagenet, targets) for name, each in sets.items()]
    section(
        "Honest statistics",
        "Coverage: classifiers on "
        f"{TRAINED} images of a pool of {POOL:,} (embedded backbone, last stage), judged on {TESTED} others, or by folds of their own; "
        f"the truth is their accuracy on the rest of the pool. Leaks: {COPIED} training images planted again, changed in one way at a "
        "time; pairs found that were not planted are listed as the set's own (those of flowers12 were looked at, and are copies). "
        f"MobileNetV1-0.75 with ImageNet weights but for coverage; {SUBSET:,} images of CIFAR-10 and of MNIST.",
        table(("coverage of 95 % intervals", "resamples", "covered", "mean width"), coverage),
        table(("recall of planted copies", *CHANGES, "the set's own pairs", "by looks alone"), leaks),
        targets=targets,
    )


def known(root: Path, source: WeightsSource, split: str, some: int | None = None) -> Known:
    """The features of a part of a set, or of some images drawn from it; the cache has them the second time."""
    dataset = scan(root)
    records = list(dataset.of(split))
    if some:
        chosen = np.random.default_rng(0).choice(len(records), some, replace=False)
        records = [records[i] for i in sorted(chosen)]
    passed = extract_features(dataset, tuple(records), source, device="cpu")
    items = [item for item in passed.examined if item.facts is not None]
    labels = ClassMap(dataset.classes).indices([item.record.label for item in items])
    return Known(dataset=dataset, passed=passed, items=items, labels=labels, classes=len(dataset.classes))


def coverage_rows(name: str, pool: Known, targets: list[tuple[str, str, str]]) -> list[tuple[str, ...]]:
    say(f"{name}: coverage")
    features, labels, classes = pool.passed.last_stage(pool.sha256s), pool.labels, pool.classes

    def right(learned: np.ndarray, judged: np.ndarray) -> np.ndarray:
        held_out = left_out(labels, rows=learned)
        probe = fit_probe(features, labels, classes, folds=held_out, rows=learned, strengths=STRENGTHS)
        return probe.scores(features[judged]).argmax(axis=1) == labels[judged]

    tested, dealt = [], []
    for draw in range(DRAWS):
        order = np.random.default_rng(draw).permutation(len(labels))
        learned, judged, rest = np.split(order, [TRAINED, TRAINED + TESTED])
        answers = right(learned, np.concatenate([judged, rest]))
        truth = answers[TESTED:].mean()
        low, high = wilson(answers[:TESTED].sum(), TESTED)
        tested.append((low <= truth <= high, high - low))
        if draw < FOLD_DRAWS:
            deals = np.array([folds(labels[learned], None, 5, 10 * draw + i) for i in range(5)])
            hits = np.zeros(deals.shape)
            for deal, row in zip(deals, hits, strict=True):
                for fold in range(5):
                    row[deal == fold] = right(learned[deal != fold], learned[deal == fold])
            for kind, part in (("one deal", slice(0, 1)), ("five deals", slice(0, 5))):
                low, high = repeated_interval(hits[part], deals[part])
                dealt.append((kind, low <= answers[TESTED:].mean() <= high, high - low))
    covered, width = np.mean(tested, axis=0)
    targets.append(target(f"{name}: test intervals cover 93 to 97 %", f"{covered:.1%}", 0.93 <= covered <= 0.97))
    rows = [(f"{name}, test part", f"{DRAWS}", f"{covered:.1%}", f"{width:.3f}")]
    for kind in ("one deal", "five deals"):
        own = np.array([values for what, *values in dealt if what == kind], dtype=float)
        covered, width = own.mean(axis=0)
        rows.append((f"{name}, outer folds, {kind}", f"{FOLD_DRAWS}", f"{covered:.1%}", f"{width:.3f}"))
        targets.append(
            target(f"{name}: intervals of {kind} cover 93 to 97 %", f"{covered:.1%}", 0.93 <= covered <= 0.97)
        )
    return rows


def saved(image: Image.Image, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return decode(buffer.getvalue())[0]


def resized(share: float) -> Callable[[Image.Image], Image.Image]:
    return lambda image: image.resize(
        (round(image.width * share), round(image.height * share)), Image.Resampling.BICUBIC
    )


def cropped(share: float) -> Callable[[Image.Image], Image.Image]:
    """What is cut lies on the left and at the bottom: the picture moves as well."""

    def crop(image: Image.Image) -> Image.Image:
        right, up = max(1, round(share * image.width)), max(1, round(share * image.height))
        return image.crop((right, 0, image.width, image.height - up))

    return crop


CHANGES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "JPEG 30": lambda image: saved(image, 30),
    "JPEG 60": lambda image: saved(image, 60),
    "50 %": resized(0.5),
    "75 %": resized(0.75),
    "crop 2 %": cropped(0.02),
    "crop 5 %": cropped(0.05),
    "brighter": lambda image: Image.eval(image, lambda level: min(255, int(1.2 * level))),
    "mirrored": lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
}


def leak_row(name: str, given: Known, source: WeightsSource, targets: list[tuple[str, str, str]]) -> tuple[str, ...]:
    say(f"{name}: leaks")
    features = dict(zip(given.sha256s, given.passed.last_stage(given.sha256s), strict=True))
    chosen = np.random.default_rng(1).choice(len(given.items), COPIED, replace=False)

    def pairs(items: list[Examined], rows: dict[str, np.ndarray]) -> set[frozenset[str]]:
        found = near_copies(items, lambda contents: np.stack([rows[content] for content in contents]))
        return {frozenset(pair.sha256s) for pair in found}

    own = pairs(given.items, features)
    cells, false = list[str](), set[frozenset[str]]()
    with folder() as scratch:
        for change in CHANGES.values():
            place = scratch / "planted"
            for label in ("a", "b"):
                (place / label).mkdir(parents=True)
            for number, i in enumerate(chosen):
                image = decode(given.dataset.read(given.items[i].record))[0]
                change(image).save(place / "ab"[number % 2] / f"{number:03d}.png")
            dataset = scan(place)
            passed = extract_features(dataset, dataset.records, source, device="cpu")
            items = {Path(item.record.path).stem: item for item in passed.examined}
            added = [items[f"{number:03d}"].sha256 for number in range(COPIED)]
            rows = features | dict(zip(added, passed.last_stage(added), strict=True))
            found = pairs([*given.items, *items.values()], rows)
            source_of = {copy: given.items[i].sha256 for copy, i in zip(added, chosen, strict=True)}
            planted = {frozenset(pair) for pair in source_of.items()}
            sources = {frozenset(source_of.get(sha256, sha256) for sha256 in pair) for pair in found}
            false |= {pair for pair in sources - own if len(pair) == 2}  # a picture and its copy have one source
            cells.append(f"{len(found & planted) / len(planted):.2f}")
            shutil.rmtree(place)
    what = f"{name}: no more than {SLACK} pairs of different pictures, all ways together"
    targets.append(target(what, f"{len(false)}", len(false) <= SLACK))
    return name, *cells, f"{len(own)}", f"{len(near_copies(given.items))}"


if __name__ == "__main__":
    main()
