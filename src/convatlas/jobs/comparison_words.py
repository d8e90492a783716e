"""What a comparison says in words: its answer, its notes, and what each of its figures is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from convatlas.jobs.protocols import IMAGENET, MIXED, Accuracy, Protocol
from convatlas.jobs.result import percent

CONVENTIONS = {
    "accuracy": "top-1, as a share of 1",
    "mult_adds": "multiplications with the addition that follows, of convolutions and fully connected layers, one image of native size",
    "parameters": "trained numbers of the whole network, its classifier included",
    "density": "percent of top-1 accuracy for each million parameters (Canziani et al. 2016, figure 10)",
    "latency": "seconds for one image, median of the rounds with their range",
    "throughput": "images a second in a batch, median of the rounds with their range",
    "memory": "bytes at the peak of one forward pass of a batch",
    "energy": "joules an image in a batch, of the whole package or board, nothing subtracted",
}


def answer(result: Mapping[str, Any]) -> str:
    """What came out, in a sentence or two: the front, by which protocol."""
    protocol = result["protocol"]
    having = [row for row in result["networks"] if row["accuracy"] is not None]
    front = result["fronts"].get(result["cost"], [])
    what = {"mult_adds": "mult-adds", "memory": "peak memory"}.get(result["cost"], result["cost"])
    if protocol is None and len(having) > 1:
        return f"{len(having)} networks whose accuracies were not measured alike, against {what}: read each with its protocol."
    if protocol is None or len(having) < 2:
        return f"{len(result['networks'])} networks by {what}; their accuracies were not measured alike and are not compared."
    rows = {row["name"]: row for row in having}
    listed = ", ".join(f"{name} ({percent(rows[name]['accuracy'])})" for name in front)
    how = f"{protocol['dataset']}: {protocol['measured']}"
    return (
        f"Of {len(having)} networks measured alike ({how}), the front of accuracy against {what}, where no other is at least as good in "
        f"both, holds {len(front)}: {listed}."
    )


def notes(
    chosen: Protocol | None,
    accuracies: Mapping[str, Accuracy | None],
    wanted: str | None,
    unreadable: Mapping[str, list[str]],
) -> list[str]:
    """What a reader must know beside the figures."""
    having = [accuracy for accuracy in accuracies.values() if accuracy is not None]
    found = []
    if wanted == MIXED and len({accuracy.protocol for accuracy in having}) > 1:
        found.append(
            "These accuracies were measured on different data or in different ways, as was asked for: they do not show which network is "
            "better, and no front is drawn."
        )
    if chosen is not None and chosen.dataset == IMAGENET and any(accuracy.interval is None for accuracy in having):
        middle = sorted(accuracy.top1 for accuracy in having)[len(having) // 2]
        half = 196 * (middle * (1 - middle) / 50_000) ** 0.5
        found.append(
            f"Publishers give no intervals. From 50,000 validation images alone an accuracy of {percent(middle)} is uncertain by "
            f"±{half:.1f} percentage points (95 %), and training anew changes it too: small differences show nothing."
        )
    if any(accuracy.protocol.dataset.startswith("data ") for accuracy in having):
        found.append("The model folders' accuracies are those that convatlas fit measured, with 95 % intervals.")
    for quantity, reasons in unreadable.items():
        found.append(f"{quantity.capitalize()} is not readable here: {'; '.join(reasons)}.")
    return found
