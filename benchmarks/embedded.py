"""What the embedded backbone's training bought: its ladder of stages beside raw pixels, the same network untrained, and ImageNet weights.

The network is the same throughout (MobileNetV1-0.75); ImageNet's weights were trained on forty times as many photos and see 224 pixels, the
others 128. On each rung a probe is fitted and its strength chosen inside the training part; the rung too, by the least held-out
log-loss, as `fit` does. The test part is looked at once, for the figures here; a random initialisation is drawn several times.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from convatlas import catalogue, zoo
from convatlas.data import ClassMap, Dataset, examine, left_out, scan
from convatlas.jobs.images import extract_features
from convatlas.transfer.plans import TOGETHER
from convatlas.transfer.probe import fit_probe, ladder, select
from convatlas.weights.source import WeightsSource, find_weights
from measuring import SHARED, WEIGHTS, folder, say, section, table, target

SETS = ("hymenoptera", "flowers12", "ucmerced")
SEEDS = range(5)
WANTED = 0.5  # of the way from the untrained network to the one with ImageNet weights
PIXELS = 32  # side of the images that are themselves the features
DRAWS = 10_000


@dataclass(frozen=True, kw_only=True)
class Ladder:
    """Which test images each rung has right, (n,) of 0 and 1, or of shares where several draws are averaged."""

    rungs: dict[str, np.ndarray]
    chosen: np.ndarray  # of the rung that cross-validation on the training part chose
    name: str


def main() -> None:
    rungs = (*catalogue.find(find_weights("embedded").name).rungs, TOGETHER)
    rows, targets = [], []
    with folder() as scratch:
        untrained = [_untrained(scratch / f"{seed}.safetensors", seed) for seed in SEEDS]
        for name in SETS:
            dataset = scan(SHARED / "data" / name)
            say(f"{name}: pixels")
            pixels = _pixels(dataset)
            say(f"{name}: untrained")
            drawn = [_ladder(dataset, source) for source in untrained]
            say(f"{name}: embedded and ImageNet")
            embedded, imagenet = _ladder(dataset, find_weights("embedded")), _ladder(dataset, find_weights(WEIGHTS))
            mean = Ladder(
                rungs={rung: np.mean([each.rungs[rung] for each in drawn], axis=0) for rung in drawn[0].rungs},
                chosen=np.mean([each.chosen for each in drawn], axis=0),
                name="chosen in each draw",
            )
            found = {f"untrained, mean of {len(SEEDS)} draws": mean, "embedded": embedded, "ImageNet weights": imagenet}
            rows.append((f"{name}: pixels, {PIXELS} × {PIXELS}", *["" for _ in rungs], f"{pixels.mean():.3f}"))
            for what, each in found.items():
                cells = [f"{each.rungs[rung].mean():.3f}" for rung in rungs]
                rows.append((f"{name}: {what}", *cells, f"{each.chosen.mean():.3f} ({each.name})"))
            closed, (low, high) = _closed(mean.chosen, embedded.chosen, imagenet.chosen)
            measured = f"{100 * closed:.0f} % [{100 * low:.0f}, {100 * high:.0f}]"
            targets.append(target(f"{name}: at least {100 * WANTED:.0f} % of the gap", measured, closed >= WANTED))
    section(
        "The embedded backbone, stage by stage",
        "Accuracy on the test parts of a ridge probe on each stage of MobileNetV1-0.75, as fit makes it; last the rung that "
        "cross-validation on the training part chose. The gap is that between the chosen rungs of the untrained network and of "
        "ImageNet's weights; its share has a 95 % bootstrap interval over test images "
        f"({DRAWS:,} resamples, the sides paired). The backbone's weights are those in the package, one training run.",
        table(("", *rungs, "chosen"), rows),
        targets=targets,
    )


def _untrained(path: Path, seed: int) -> WeightsSource:
    """The embedded backbone's network and preprocessing with initial weights."""
    embedded = find_weights("embedded")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        save_file(zoo.build(embedded.name, num_classes=2).state_dict(), path)
    return replace(embedded, path=path, tag=f"untrained, seed {seed}")


def _ladder(dataset: Dataset, source: WeightsSource) -> Ladder:
    passed = extract_features(dataset, dataset.records, source, device="cpu")
    usable = [item for item in passed.examined if item.facts is not None]
    labels = ClassMap(dataset.classes).indices([item.record.label for item in usable])
    sha256s, test = [item.sha256 for item in usable], np.array([item.record.split != "train" for item in usable])
    rungs = ladder(passed.store.means(sha256s), passed.store.deviations(sha256s))
    train = np.flatnonzero(~test)
    selection = select(rungs, labels, len(dataset.classes), folds=left_out(labels, rows=train), rows=train)
    right = {
        name: (probe.scores([block[test] for block in rungs[name]]).argmax(axis=1) == labels[test]).astype(float)
        for name, probe in selection.probes.items()
    }
    return Ladder(rungs=right, chosen=right[selection.name], name=selection.name)


def _pixels(dataset: Dataset) -> np.ndarray:
    """Which test images a probe on the pixels themselves has right."""
    square = replace(find_weights("embedded").preprocessing, size=PIXELS, resize=PIXELS)
    usable = [item for item in examine(dataset, dataset.records, preprocessing=square) if item.pixels is not None]
    labels = ClassMap(dataset.classes).indices([item.record.label for item in usable])
    test = np.array([item.record.split != "train" for item in usable])
    features = np.stack([item.pixels.ravel() for item in usable if item.pixels is not None]).astype(np.float32) / 255
    train = np.flatnonzero(~test)
    probe = fit_probe(features, labels, len(dataset.classes), folds=left_out(labels, rows=train), rows=train)
    return probe.scores(features[test]).argmax(axis=1) == labels[test]


def _closed(untrained: np.ndarray, embedded: np.ndarray, imagenet: np.ndarray) -> tuple[float, tuple[float, float]]:
    """The share of the gap that is closed, and its interval."""
    generator = np.random.default_rng(0)
    drawn = generator.integers(0, len(embedded), (DRAWS, len(embedded)))
    low, ours, high = (side[drawn].mean(axis=1) for side in (untrained, embedded, imagenet))
    shares = (ours - low) / (high - low)
    bounds = np.quantile(shares, (0.025, 0.975))
    whole = (embedded.mean() - untrained.mean()) / (imagenet.mean() - untrained.mean())
    return float(whole), (float(bounds[0]), float(bounds[1]))


if __name__ == "__main__":
    main()
