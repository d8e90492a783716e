"""Fine-tuning on cached maps beside the same fine-tuning with its frozen part run in every step, beside what Amdahl's law allows, and
beside steps of bare PyTorch.

The analyser counts the mult-adds of the frozen part's forward pass and of the trained part's step (forward, and twice that backward,
without the gradient of its input). If time went with mult-adds, leaving the first away would make an epoch faster by the ratio of the sum
to the second: the bound. Bare PyTorch freezes the same parameters and norms and runs the network as it is, channels last. Whether the
losses of the first two are the same bits is looked at here too, on real photos.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

import convatlas
from convatlas import zoo
from convatlas.analysis.analysis import analyse
from convatlas.data import ClassMap, scan
from convatlas.jobs.images import silent
from convatlas.jobs.pixels import prepared
from convatlas.train.augment import standardised
from convatlas.train.images import Images
from convatlas.transfer.finetune import Finetune, tuning
from convatlas.transfer.frozen import parted
from convatlas.transfer.plans import Plan
from convatlas.weights.source import find_weights
from measuring import SHARED, WEIGHTS, interleaved, ratios, section, spread, table, target

CASES = {"resnet50": ("stage4", 64), "mobilenet_v1_075": ("stage5", 245)}  # network: cut, images
REPEATS = 5
SHARE, FASTER = 0.9, 2.0  # of the bound, and than the uncached run


@dataclass(frozen=True, kw_only=True)
class Side:
    """An epoch of one side."""

    seconds: float
    loss: float


def bound(name: str, cut: str) -> float:
    """How much faster an epoch may become, by mult-adds."""
    model = zoo.build(name, num_classes=2)
    stages = zoo.stage_names(model)
    trained = {*stages[stages.index(cut) :], "head"}
    prefix, suffix, first = 0, 0, None
    for row in analyse(model, torch.empty(1, 3, 224, 224)).layers:
        place = row.path.removeprefix("stages.").split(".")[0]
        if place in trained:
            first = row.cost.mult_adds if first is None and row.cost.mult_adds else first
            suffix += row.cost.mult_adds
        else:
            prefix += row.cost.mult_adds
    step = 3 * suffix - (first or 0)
    return (prefix + step) / step


def photos(count: int) -> Images:
    dataset = scan(SHARED / "data/hymenoptera")
    records = [record for record in dataset.of("train") if not record.path.endswith(".gif")]
    drawn = np.random.default_rng(0).permutation(len(records))[:count]
    chosen = [records[i] for i in drawn]
    labels = ClassMap(dataset.classes).indices([record.label for record in chosen]).astype(np.int64)
    square = find_weights(WEIGHTS).preprocessing
    return prepared(dataset, chosen, torch.from_numpy(labels), square, "memory", progress=silent, say=print)


def begun(name: str, cut: str, images: int) -> Finetune:
    torch.manual_seed(0)
    weights: Any = WEIGHTS if name == "mobilenet_v1_075" else None
    model = convatlas.create(name, num_classes=2, weights=weights)
    settings = tuning(Plan(kind="tune", at=(cut,)), images, 224, (0.5,) * 3, (0.5,) * 3)
    settings = replace(settings, config=replace(settings.config, epochs=2))
    return Finetune(model, settings, key=f"benchmark {name}")


def epoch(name: str, cut: str, images: Images, cached: bool) -> Side:
    """The second epoch: the first is the one that finds caches and threads cold. The maps were made before."""
    fine = begun(name, cut, len(images))
    last = fine.train(fine.shown(images, training=True) if cached else images)[-1]
    return Side(seconds=last.seconds, loss=last.loss)


def bare(name: str, cut: str, images: Images) -> Side:
    """The second epoch of a loop of a few lines, on pixels in memory."""
    fine = begun(name, cut, len(images))
    config, net = fine.tuning.config, parted(fine.model, cut, "frozen").to(memory_format=torch.channels_last)
    trained = [p for p in net.parameters() if p.requires_grad]
    optim = torch.optim.AdamW(trained, lr=config.optim.lr, weight_decay=config.optim.weight_decay)
    seconds, losses = 0.0, list[float]()
    for epoch in range(2):
        order = torch.randperm(len(images))[: len(images) // config.batch_size * config.batch_size]
        parts = [(part, epoch) for part in order.split(config.batch_size)]
        started = time.perf_counter()
        for (part, _), pixels in zip(parts, images.batches(parts), strict=True):
            x = standardised(pixels.float() / 255, config).contiguous(memory_format=torch.channels_last)
            loss = torch.nn.functional.cross_entropy(net(x), images.labels[part])
            optim.zero_grad()
            loss.backward()
            optim.step()
            losses.append(loss.item())
        seconds = time.perf_counter() - started
    return Side(seconds=seconds, loss=losses[-1])


def main() -> None:
    rows, targets = [], []
    for name, (cut, count) in CASES.items():
        images = photos(count)
        begun(name, cut, len(images)).shown(images, training=True)

        def cached(name: str = name, cut: str = cut, images: Images = images) -> Side:
            return epoch(name, cut, images, cached=True)

        def uncached(name: str = name, cut: str = cut, images: Images = images) -> Side:
            return epoch(name, cut, images, cached=False)

        def plain(name: str = name, cut: str = cut, images: Images = images) -> Side:
            return bare(name, cut, images)

        found = interleaved(REPEATS, uncached=uncached, cached=cached, plain=plain)
        seconds = {side: [each.seconds for each in found[side]] for side in found}
        faster = ratios(seconds["uncached"], seconds["cached"])
        most = bound(name, cut)
        same = len({each.loss for side in ("uncached", "cached") for each in found[side]}) == 1
        shares = [ratio / most for ratio in faster]
        what = f"`{name}` from {cut}, {len(images)} photos"
        times = [spread(seconds[side]) for side in ("plain", "uncached", "cached")]
        told = "the same bits" if same else "differ"
        beside = spread(ratios(seconds["plain"], seconds["cached"]))
        rows.append((what, *times, beside, spread(faster), f"{most:.2f}", spread(shares), told))
        targets.append(
            target(
                f"{name}: at least {FASTER:.0f} × faster an epoch",
                spread(faster),
                sorted(faster)[REPEATS // 2] >= FASTER,
            )
        )
        targets.append(
            target(
                f"{name}: at least {100 * SHARE:.0f} % of the bound",
                spread(shares),
                sorted(shares)[REPEATS // 2] >= SHARE,
            )
        )
    section(
        "Fine-tuning on cached maps",
        f"Seconds of an epoch after the first, {REPEATS} rounds in turn, in one process of {torch.get_num_threads()} threads; the bound is "
        "counted in mult-adds, so that a trained part that runs more slowly per mult-add than the frozen one stays below it, and one that "
        "runs faster is above. The uncached side is ours too, its frozen part folded and without gradients; its losses are compared with "
        "the cached side's.",
        table(
            (
                *("", "bare PyTorch, s", "uncached, s", "cached, s", "times faster than bare", "than uncached"),
                *("bound", "of the bound", "losses"),
            ),
            rows,
        ),
        targets=targets,
    )


if __name__ == "__main__":
    main()
