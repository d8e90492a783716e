"""Fit results made up for the tests: any number of classes and stages, thumbnails drawn on the spot."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image


def result(classes: Sequence[str] = ("ants", "bees"), *, mistakes: int = 3, tested: bool = True) -> dict[str, Any]:
    """A fit of these classes, ten images each, of which the first `mistakes` classes have two named as the next class."""
    size = len(classes)
    matrix = [[0] * size for _ in classes]
    for index in range(size):
        wrong = 2 if index < mistakes and size > 1 else 0
        matrix[index][index] = 10 - wrong
        matrix[index][(index + 1) % size] += wrong
    right = sum(matrix[index][index] for index in range(size))
    accuracy = right / (10 * size)
    stages = [
        {
            "name": name,
            "features": 48 * (position + 1),
            "cv_accuracy": 0.5 + 0.1 * position,
            "cv_interval": [0.45 + 0.1 * position, 0.55 + 0.1 * position],
            "cv_log_loss": 0.9 - 0.1 * position,
            "test_accuracy": 0.51 + 0.1 * position if tested else None,
            "test_interval": [0.41 + 0.1 * position, 0.61 + 0.1 * position] if tested else None,
            "chosen": position == 2,
            "strength": 10.0**position,
            "note": "not used for the choice",
        }
        for position, name in enumerate(("stage1", "stage2", "stage3"))
    ]
    return {
        "schema": "convatlas.fit/1",
        "version": "0.1.0",
        "created": "2026-11-22T12:00:00Z",
        "command": "convatlas fit photos --out model",
        "data": {"path": "/home/ana/insects", "layout": "split folders", "fingerprint": "f00d"},
        "question": "Which insect is it?",
        "answer": "The third stage tells them apart.",
        "accuracy": accuracy,
        "accuracy_interval": [max(0.0, accuracy - 0.05), min(1.0, accuracy + 0.03)],
        "balanced_accuracy": accuracy - 0.01,
        "balanced_accuracy_interval": [accuracy - 0.07, accuracy],
        "log_loss": 0.182,
        "expected_calibration_error": 0.031,
        "temperature": 1.31,
        "protocol": "test split of 20 images, read once after every choice",
        "headline": "test" if tested else "outer folds",
        "accuracy_without_duplicates": None,
        "backbone": "mobilenet_v1_075",
        "weights": {"source": "embedded", "sha256": "beef", "note": ""},
        "plan": "linear probe on stage3",
        "stage": "stage3",
        "strength": 12.3,
        "stages": stages,
        "advice": advice(),
        "classes": [
            {
                "name": name,
                "train": 20,
                "test": 10,
                "recall": matrix[index][index] / 10,
                "recall_interval": [0.4, 0.95],
                "precision": 0.9,
                "f1": 0.85,
            }
            for index, name in enumerate(classes)
        ],
        "images": {"train": 20 * size, "test": 10 * size, "unreadable": 1, "ignored": 3},
        "confusion": {"classes": list(classes), "matrix": matrix},
        "mistakes": [
            {
                "path": f"/home/ana/insects/{classes[index]}/{index}.jpg",
                "truth": classes[index],
                "predicted": classes[(index + 1) % size],
                "probability": 0.98 - 0.01 * index,
                "truth_probability": 0.02,
                "thumbnail": f"assets/mistake-{index:03d}.jpg",
            }
            for index in range(min(mistakes, size, 24))
            if size > 1
        ],
        "calibration": [
            {"from": 0.0, "to": 0.5, "count": 0, "confidence": None, "accuracy": None},
            {"from": 0.5, "to": 1.0, "count": 10 * size, "confidence": 0.93, "accuracy": accuracy},
        ],
        "problems": [
            {
                "kind": "truncated",
                "severity": "error",
                "paths": ["/home/ana/insects/ants/broken.jpg"],
                "message": "The file is cut short.",
                "remedy": "Replace it by a whole copy.",
            },
            {
                "kind": "duplicates",
                "severity": "warning",
                "paths": [f"/home/ana/insects/copy-{index}.jpg" for index in range(250)],
                "message": "250 images are copies.",
                "remedy": "Remove the copies.",
            },
        ],
        "seconds": {"import": 2.8, "decode": 1.9, "forward": 4.1, "solve": 0.2, "report": None, "total": 9.7},
        "counts": {"decoded": 60, "forwarded": 60, "from_cache": 0},
        "notes": [],
        "networks": {
            "chosen": "mobilenet_v1_075",
            "reason": "No difference is shown between mobilenet_v1_100, the best, and mobilenet_v1_075; it costs least.",
            "logme": 1.0,
            "rows": [
                _network("mobilenet_v1_100", 0.95, 568_000_000),
                _network("mobilenet_v1_075", 0.94, 325_000_000, difference=-0.01, chosen=True),
                _network("mobilenet_v1_025", 0.85, 41_000_000, difference=-0.1, worse_by="accuracy"),
                {"name": "<i>broken</i>", "chosen": False, "failure": "broken.safetensors: not whole. Fetch it again."},
            ],
        },
        "evidence": {
            "forecast": {
                "rung": "stage3",
                "more": 50,
                "told": True,
                "gain": 0.01,
                "interval": [0.002, 0.018],
                "interval95": [-0.003, 0.024],
                "words": "50 more images of each class would be worth about 1.0 ± 0.8 percentage points.",
                "points": [
                    {"images": size * 2, "per_class": size, "accuracy": 0.95 - 1 / size, "interval": [0.8, 0.97]}
                    for size in (8, 12, 20)
                ],
                "band": [
                    {"per_class": size, "accuracy": 0.95 - 1 / size, "low": 0.94 - 1 / size, "high": 0.96 - 1 / size}
                    for size in (8, 12, 20, 40, 70)
                ],
            },
            "similarity": {
                "images": 32,
                "distance": 0.21,
                "words": "To the network these images look some way from those it was trained on.",
                "stages": [
                    {"stage": "stage1", "distance": 0.21, "shift": 0.1, "spread": 0.9, "words": "some way from"}
                ],
            },
            "scores": {
                "stages": [
                    {"stage": "stage1", "accuracy": 0.5, "log_loss": 0.9, "logme": -0.7, "distance": 0.21},
                    {"stage": "stage2", "accuracy": 0.6, "log_loss": 0.8, "logme": -0.6, "distance": None},
                ],
                "logme": 0.33,
                "nearness": None,
                "words": "Of single stages stage3 serves best (70.0 %), the last.",
            },
        },
        "bundle": "model",
        "report": "model/report.html",
        "environment": {"convatlas": "0.1.0", "python": "3.11.7", "torch": "2.15.0", "device": "cpu"},
    }


def _network(
    name: str, accuracy: float, mult_adds: int, *, difference: float = 0.0, worse_by: str = "", chosen: bool = False
) -> dict[str, Any]:
    return {
        "name": name,
        "backbone": name,
        "weights": f"{name}.safetensors",
        "accuracy": accuracy,
        "interval": [accuracy - 0.03, accuracy + 0.02],
        "log_loss": 1 - accuracy,
        "difference": difference,
        "difference_interval": [difference - 0.02, difference + 0.02] if difference else None,
        "worse_by": worse_by,
        "stage": "stage3",
        "images": 40,
        "input": 224,
        "parameters": 2_000_000,
        "mult_adds": mult_adds,
        "logme": accuracy / 2,
        "seconds": 3.0,
        "chosen": chosen,
        "failure": None,
    }


def write(content: dict[str, Any], folder: Path) -> Path:
    """Write a result and its thumbnails into `folder`, which is made; returns it."""
    (folder / "assets").mkdir(parents=True)
    for index, mistake in enumerate(content["mistakes"]):
        if mistake["thumbnail"]:
            Image.new("RGB", (16, 12), (40 * index % 256, 90, 160)).save(folder / mistake["thumbnail"])
    (folder / "fit.json").write_text(json.dumps(content), encoding="utf-8")
    return folder


def advice() -> dict[str, Any]:
    """Four plans, of which the second is both quicker and better than the third, and the last was not tried."""
    plans = [
        {
            "plan": plan,
            "words": words,
            "seconds": seconds,
            "memory": 120_000_000,
            "accuracy": accuracy,
            "interval": [accuracy - 0.04, accuracy + 0.02] if accuracy else None,
            "log_loss": 0.3 if accuracy else None,
            "images": 40 if accuracy else 0,
            "difference": accuracy - 0.9 if accuracy and not chosen else None,
            "difference_interval": [accuracy - 0.95, accuracy - 0.88] if accuracy and not chosen else None,
            "took": seconds,
            "note": "" if chosen else "no better, and costs more",
            "chosen": chosen,
        }
        for plan, words, seconds, accuracy, chosen in (
            ("probe:stage3", "linear probe on stage3", 0.0, 0.8, False),
            ("tune:stage3", "fine-tuning from stage3 on", 12.0, 0.9, True),
            ("tune:all", "fine-tuning of the whole network", 90.0, 0.85, False),
            ("scratch", "training from scratch", 400.0, None, False),
        )
    ]
    reason = "fine-tuning from stage3 on has a lower held-out log-loss than the probe."
    return {"chosen": "tune:stage3", "reason": reason, "budget": 600.0, "spent": 102.0, "plans": plans}
