"""A model folder of several models whose probabilities are averaged: `members/1`, `members/2`, … are whole model folders themselves.

So each member keeps its network, its input size and its preprocessing, is verified as it is alone, and can be taken out again. The
`config.json` above them holds the classes, what the ensemble reached, and what it says of the synthetic images. It names no architecture
that timm or another reader could take for one network.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from convatlas.bundle.examples import example_images
from convatlas.bundle.member import Member
from convatlas.bundle.neighbours import TRAINING
from convatlas.bundle.save import CONFIG, EXAMPLES, TOLERANCE, write_config
from convatlas.bundle.verify import ENSEMBLE, read_config, versions
from convatlas.data import DECODER, decode
from convatlas.errors import ConvAtlasError
from convatlas.zoo.heads.ensemble import Ensemble, averaged
from convatlas.zoo.inference import apart, by_image, normalised

MEMBERS = "members"


def member_folders(folder: Path, count: int) -> list[Path]:
    """Where the members of the ensemble in `folder` are, in their order."""
    return [folder / MEMBERS / str(number) for number in range(1, count + 1)]


def save_ensemble(folder: Path, members: Sequence[Member], classes: Sequence[str], about: dict[str, Any]) -> None:
    """Writes the ensemble into `folder`, which exists and is the caller's to make whole. Moves the members to the CPU.

    Of a member's folder only what its config lists is copied: a report with people's photos beside it is not.
    """
    for member in members:
        member.to(torch.device("cpu"))
    rows, files = [], []
    for place, member in zip(member_folders(folder, len(members)), members, strict=True):
        described = read_config(member.folder)
        for name in (CONFIG, *described["convatlas"]["sha256"]):
            if name == TRAINING and not (member.folder / name).exists():
                continue
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(member.folder / name, place / name)
        relative = place.relative_to(folder).as_posix()
        files.append(f"{relative}/{CONFIG}")
        rows.append({"folder": relative, "network": member.network, "preprocessing": member.preprocessing.to_json()})
    (folder / EXAMPLES).mkdir()
    examples = []
    for name, data in example_images().items():
        (folder / EXAMPLES / name).write_bytes(data)
        files.append(f"{EXAMPLES}/{name}")
        found, _ = _outputs(members, classes, data)
        examples.append({"file": files[-1], "log_probabilities": found.tolist()})
    described = {
        "architecture": f"convatlas ensemble of {len(members)} models",
        "num_classes": len(classes),
        "label_names": list(classes),
        "convatlas": {
            "schema": ENSEMBLE,
            "members": rows,
            "about": about,
            "made_with": {"torch": torch.__version__, "decoder": DECODER},
            "examples": examples,
            "sha256": {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in files},
        },
    }
    write_config(folder, described)


def check_outputs(folder: Path, described: dict[str, Any], members: Sequence[Member]) -> None:
    """Raises `ConvAtlasError` unless the mean of the members on the stored images is what it was when the ensemble was saved."""
    for example in described["convatlas"]["examples"]:
        found, allowed = _outputs(members, described["label_names"], (folder / example["file"]).read_bytes())
        drift = float(np.abs(found - np.asarray(example["log_probabilities"])).max())
        if not drift <= allowed:
            raise ConvAtlasError(
                f"{folder}: on this machine {example['file']} gives other probabilities than when the ensemble was saved (largest "
                f"difference of a logarithm {drift:.1e}, {allowed:.0e} is allowed), so its predictions cannot be trusted.",
                remedy=f"It was made with {versions(described)}; install those, or make the ensemble again here.",
            )


@torch.inference_mode()
def _outputs(members: Sequence[Member], classes: Sequence[str], data: bytes) -> tuple[np.ndarray, float]:
    """Logarithms of the mean probabilities (classes,) of one image file, and how far the members' own tolerance lets them drift.

    A logit off by t moves a logarithm of a probability by 2 t at most, and the mean of several no further.
    """
    orders = [member.classes.align(classes).tolist() for member in members]
    batches = []
    for member in members:
        p = member.preprocessing
        pixels = torch.from_numpy(p.pixels(decode(data, background=p.background)[0])[None])
        batches.append(apart(normalised(pixels, p.mean, p.std)))
    each = [by_image(logits, 1) for logits in Ensemble([member.model for member in members], orders).each(batches)]
    largest = max(float(logits.abs().max()) for logits in each)
    return averaged([logits.double() for logits in each])[0].numpy(), 2 * TOLERANCE * largest
