"""The zoo: how long every network takes to build on `meta`, and whether networks written as chains run as fast as torchvision's and timm's.

Both sides have the same weights and get the same images; a round is one forward pass, or one forward and backward pass, of each.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import timm
import torch
import torchvision

from convatlas import zoo
from convatlas.weights.load import in_layout
from measuring import interleaved, python, ratios, section, spread, table, target

PEERS = (  # their name, ours, batch: one of each kind
    *(
        ("torchvision/resnet50", 8),
        ("torchvision/vgg16", 4),
        ("torchvision/googlenet", 8),
        ("torchvision/densenet121", 8),
    ),
    *(
        ("torchvision/mobilenet_v2", 8),
        ("torchvision/resnext50_32x4d", 8),
        ("timm/seresnet50", 8),
        ("timm/resnetv2_50", 8),
    ),
    ("timm/nasnetalarge", 1),
)
BUILD = """
import time, torch
from convatlas import zoo
started = time.perf_counter()
for name in zoo.variants():
    channels, classes = zoo.native(name)[0][0], zoo.native(name)[1]
    with torch.device("meta"):
        zoo.build(name, num_classes=classes, in_channels=channels)
print(time.perf_counter() - started)
"""


def pair(other: str) -> tuple[torch.nn.Module, torch.nn.Module]:
    """Our network and theirs with the same weights."""
    library, architecture = other.split("/")
    name, fields = next(f.ELSEWHERE[other] for f in zoo.FAMILIES if other in f.ELSEWHERE)
    ours = zoo.build(name, config=replace(zoo.config_of(name), **fields)).eval()
    if library == "timm":
        theirs = timm.create_model(architecture)
    else:
        theirs = torchvision.models.get_model(architecture, weights=None, **_PLAIN.get(architecture, {}))
    theirs.load_state_dict(in_layout(ours, name, library))
    return ours, theirs.eval()


_PLAIN = {"googlenet": {"aux_logits": False, "init_weights": False}}


def seconds(model: torch.nn.Module, images: torch.Tensor, *, backward: bool) -> Callable[[], float]:
    def run() -> float:
        started = time.perf_counter()
        if backward:
            model(images).sum().backward()
        else:
            with torch.inference_mode():
                model(images)
        return time.perf_counter() - started

    return run


def main() -> None:
    built = float(python("-c", BUILD).output)
    rows: list[tuple[object, ...]] = []
    forwards: list[float] = []
    for other, batch in PEERS:
        ours, theirs = pair(other)
        images = torch.randn(batch, 3, 224, 224)
        row: list[object] = [other, batch]
        for backward in (False, True):
            sides = {
                "ours": seconds(ours, images, backward=backward),
                "theirs": seconds(theirs, images, backward=backward),
            }
            for warm_up in sides.values():
                warm_up()
            runs = interleaved(5, **sides)
            ratio = ratios(runs["ours"], runs["theirs"])
            row += [spread(runs["ours"]), spread(ratio)]
            forwards += [] if backward else [sorted(ratio)[2]]
        rows.append(tuple(row))
    number = len(zoo.variants())
    compared = {name for family in zoo.FAMILIES for name, _ in family.ELSEWHERE.values()}
    architectures = sum(len(family.ELSEWHERE) for family in zoo.FAMILIES)
    section(
        "The zoo: building and running",
        f"{number} networks, of which {len(compared)} exist in torchvision or timm, under {architectures} names there; "
        "`pytest tests/zoo/test_parity.py` (with `-m slow` for all) compares every one of these with theirs, none exempted: outputs and "
        "input gradients in float64 to 1e-10 and float32 to 1e-5, state dicts strictly both ways. Times beside the peers': float32, "
        "224 pixels, seconds and ours over theirs, medians of 5 rounds (least–greatest).",
        table(("network", "batch", "forward", "ratio", "forward and backward", "ratio"), rows),
        targets=[
            target(f"all {number} networks built on `meta` in at most 60 s", f"{built:.1f} s", built <= 60),
            target("a forward pass at most 1.1 × theirs, at worst", f"{max(forwards):.2f}", max(forwards) <= 1.1),
        ],
        peers=("torchvision", "timm"),
    )


if __name__ == "__main__":
    main()
