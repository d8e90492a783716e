"""What each chart of the lecture's page draws: rows from the study's figures, without any plotting library; and each chart in words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Figures = dict[str, Any]
Rows = list[dict[str, Any]]

KINDS = ("memory", "parameters")
PARTS = ("weights", "gradients", "momentum", "activations")
NAIVE, BOTTLENECKS = "naive", "with bottlenecks"
WHOSE = ("GoogLeNet's modules", "the slides' module")


def vgg_layers(figures: Figures) -> Rows:
    rows = []
    for layer in figures["vgg_layers"]:
        for kind, share, count in (
            ("memory", layer["memory_share"], layer["elements"]),
            ("parameters", layer["parameter_share"], layer["weights"]),
        ):
            text = f"{100 * share:.1f} % · {short(count)}"
            rows.append({"layer": layer["layer"], "kind": kind, "share": share, "text": text})
    return rows


def alexnet_memory(figures: Figures) -> Rows:
    found = figures["alexnet_memory"]
    rows: Rows = []
    for step in found["steps"]:
        for place, part in enumerate(PARTS):
            rows.append({"step": step["step"], "part": part, "place": place, "gigabytes": step[part] / 1e9})
        rows.append({"step": step["step"], "total": step["total"] / 1e9, "text": f"{step['total'] / 1e9:.2f} GB"})
    card = found["card_bytes"] / 1e9
    rows.append({"card": card})
    return rows


def depth_growth(figures: Figures) -> Rows:
    found = figures["depth_growth"]
    last = max(row["module"] for row in found)
    return [
        {
            **row,
            "whose": WHOSE[row["line"].startswith("slides")],
            "kind": NAIVE if row["line"].endswith(NAIVE) else BOTTLENECKS,
            "last": row["module"] == last,
        }
        for row in found
    ]


def googlenet_depth(figures: Figures) -> Rows:
    return [
        {**row, "text": f"{row['depth']}" + (f" (+{added})" if (added := row["depth"] - row["before"]) > 1 else "")}
        for row in figures["googlenet_depth"]
    ]


def bottleneck(figures: Figures) -> Rows:
    return list(figures["bottleneck"])


def stage_fields(figures: Figures) -> Rows:
    return [{**row, "stage": f"{row['network']} {row['stage']}"} for row in figures["stage_fields"]]


ROWS: dict[str, Callable[[Figures], Rows]] = {
    "alexnet_memory": alexnet_memory,
    "vgg_layers": vgg_layers,
    "depth_growth": depth_growth,
    "googlenet_depth": googlenet_depth,
    "bottleneck": bottleneck,
    "stage_fields": stage_fields,
}


def in_words(name: str, figures: Figures) -> str:
    """What the figure shows, for those who do not see it."""
    return WORDS[name](figures)


def _alexnet_words(figures: Figures) -> str:
    found = figures["alexnet_memory"]
    steps = "; ".join(f"{step['step']} {step['total'] / 1e9:.2f} GB" for step in found["steps"])
    return f"Memory of a training step of {found['batch']} images: {steps}. The card has {found['card_bytes'] / 1e9:.2f} GB."


def _vgg_words(figures: Figures) -> str:
    rows = figures["vgg_layers"]
    memory, weights = (max(rows, key=lambda row: row[key]) for key in ("elements", "weights"))
    return (
        f"VGG-16 layer by layer: the most memory in {memory['layer']}, {100 * memory['memory_share']:.0f} % of all; the most parameters in "
        f"{weights['layer']}, {100 * weights['parameter_share']:.0f} % of all."
    )


def _growth_words(figures: Figures) -> str:
    ends = {row["line"]: row["depth"] for row in figures["depth_growth"]}  # the last of each line
    return "Maps after nine modules: " + "; ".join(f"{line} {depth:,}" for line, depth in ends.items()) + "."


def _depth_words(figures: Figures) -> str:
    parts = ", ".join(f"{row['part']} {row['depth']}" for row in figures["googlenet_depth"])
    return f"Depth of GoogLeNet after each part: {parts}."


def _bottleneck_words(figures: Figures) -> str:
    return "Weights: " + "; ".join(f"{row['block']} {row['weights']:,}" for row in figures["bottleneck"]) + "."


def _field_words(figures: Figures) -> str:
    seen = figures["receptive_field"]["three"]
    return (
        "What one unit sees after one, two and three 3×3 convolutions: "
        + ", ".join(f"{s}×{s}" for s in seen)
        + " pixels."
    )


def _stage_words(figures: Figures) -> str:
    rows = ", ".join(f"{row['network']} {row['stage']} {row['size']}" for row in figures["stage_fields"])
    return f"Receptive field at the end of each stage, in pixels: {rows}."


def _inception_words(figures: Figures) -> str:
    found = figures["inception"]
    told = "; ".join(
        f"{name} module {found[name]['ops'] / 1e6:.0f} million ops, {found[name]['made'][0]} maps"
        for name in ("naive", "reduced")
    )
    return f"Two inception modules side by side: {told}."


WORDS: dict[str, Callable[[Figures], str]] = {
    "alexnet_memory": _alexnet_words,
    "receptive_field": _field_words,
    "vgg_layers": _vgg_words,
    "inception": _inception_words,
    "depth_growth": _growth_words,
    "googlenet_depth": _depth_words,
    "bottleneck": _bottleneck_words,
    "stage_fields": _stage_words,
}


def short(count: int) -> str:
    """`3.2 M`, `803 k`."""
    for size, unit in ((10**6, "M"), (10**3, "k")):
        if count >= size:
            return f"{count / size:.{1 if count < 10 * size else 0}f} {unit}"
    return str(count)
