"""What the lecture's figures are drawn from: numbers only, so that whoever draws them needs no network."""

from __future__ import annotations

from itertools import pairwise
from math import prod
from typing import Any

from convatlas.analysis.memory import TrainingMemory
from convatlas.analysis.receptive import Field
from convatlas.studies import inception
from convatlas.studies.alexnet_slides import halves
from convatlas.studies.googlenet_slides import depth_column, naive, reduced
from convatlas.studies.layers import analysed, listed
from convatlas.studies.lecture_notation import ALEXNET, VGG
from convatlas.studies.resnet_slides import bottleneck_weights
from convatlas.studies.two_gpus import BATCH, CARD, WHOLE, on_one_gpu
from convatlas.studies.vgg_slides import elements, fields

DRAWN = ("alexnet", "vgg16", "googlenet", "resnet50")  # networks whose stages' fields are compared


def figures() -> dict[str, Any]:
    """By name, in the order of the slides."""
    return {
        "alexnet_memory": alexnet_memory(),
        "receptive_field": {"three": fields(3, 3), "one": fields(1, 7)},
        "vgg_layers": vgg_layers(),
        "inception": {"naive": naive().to_json(), "reduced": reduced().to_json()},
        "depth_growth": depth_growth(),
        "googlenet_depth": [
            {"part": name, "before": before, "depth": after}
            for (_, before), (name, after) in pairwise([("", 0), *depth_column()])
        ],
        "bottleneck": [{"block": name, "weights": count} for name, count in bottleneck_weights().items()],
        "stage_fields": stage_fields(),
    }


def vgg_layers() -> list[dict[str, Any]]:
    """Of each row its memory and its weights, with their shares of all."""
    found = listed(VGG)
    weights = sum(layer.weights for layer in found)
    image = found[0].given
    rows = [{"layer": "image", "elements": prod(image), "memory_share": prod(image) / elements(), "weights": 0}]
    stage, place, fc = 1, 0, 5
    for layer in found:
        if layer.kind == "conv":
            place += 1
            name = f"conv{stage}_{place}, {layer.made[0]}"
        elif layer.kind == "pool":
            name, stage, place = f"pool{stage}", stage + 1, 0
        else:
            fc += 1
            name = f"fc{fc}, {layer.made[0]}"
        share = layer.elements / elements()
        rows.append({"layer": name, "elements": layer.elements, "memory_share": share, "weights": layer.weights})
    return [{**row, "parameter_share": row["weights"] / weights} for row in rows]


def alexnet_memory() -> dict[str, Any]:
    """A training step on one GPU and on each of two, in bytes."""
    steps = {
        "slides' tower, 1 GPU": on_one_gpu(ALEXNET),
        "paper's, 1 GPU": on_one_gpu(WHOLE),
        "paper's, each of 2": halves().memory,
    }
    return {
        "batch": BATCH,
        "card_bytes": CARD,
        "steps": [{"step": name, **_parts(memory)} for name, memory in steps.items()],
        "exchanged": [{"layer": layer, "image_bytes": sent} for layer, sent in halves().exchanged.items()],
    }


def _parts(memory: TrainingMemory) -> dict[str, int]:
    return {
        "weights": memory.parameters,
        "gradients": memory.gradients,
        "momentum": memory.optimizer,
        "activations": memory.saved,
        "total": memory.total,
    }


def depth_growth() -> list[dict[str, Any]]:
    """The maps after each of nine modules."""
    lines = {
        "slides' module, naive": inception.depths_of_slide(reduced=False),
        "slides' module, bottlenecks": inception.depths_of_slide(reduced=True),
        "GoogLeNet's, naive": inception.depths_of_googlenet(reduced=False),
        "GoogLeNet's, as published": inception.depths_of_googlenet(reduced=True),
    }
    return [
        {"line": line, "module": module, "depth": depth}
        for line, depths in lines.items()
        for module, depth in enumerate(depths)
    ]


def stage_fields() -> list[dict[str, Any]]:
    """What a unit at the end of each stage sees of the image, before the pooling that sees all of it."""
    rows = []
    for name in DRAWN:
        found = analysed(name)
        for row in found.stages:
            if isinstance(row.field, Field) and len(row.output_shapes[-1]) == 4:
                stage = row.path.removeprefix("stages.")
                sides = {"size": int(row.field.size[0]), "stride": int(row.field.stride[0])}
                rows.append({"network": name, "stage": stage, **sides, "image": found.inputs[0].shape[-1]})
    return rows
