"""Loading a model folder: every file is checked, then the stored images must give the stored logits; else it is refused."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from convatlas import zoo
from convatlas.bundle.classifier import Classifier
from convatlas.bundle.ensemble import check_outputs, member_folders
from convatlas.bundle.member import Member
from convatlas.bundle.save import CONFIG, SCHEMA, TOLERANCE, WEIGHTS, build, logits
from convatlas.bundle.verify import ENSEMBLE, check_files, read_config, versions
from convatlas.data import Preprocessing, decode
from convatlas.errors import ConvAtlasError
from convatlas.weights.files import read_tensors
from convatlas.weights.load import load_tensors, to_our_keys
from convatlas.zoo.heads.probe import ProbeConfig
from convatlas.zoo.inference import for_inference


def load(folder: str | Path, *, device: str = "cpu") -> Classifier:
    """The classifier of a model folder, verified: files against their checksums, then the stored images against their logits.

    Of an ensemble every member is verified so, and then their mean. The check runs in float32 on the CPU and allows 1e-4 of the largest
    logit. Raises `ConvAtlasError`, naming the file, on anything else.
    """
    folder = Path(folder).expanduser()
    described = read_config(folder)
    if described["convatlas"]["schema"] == ENSEMBLE:
        check_files(folder, described)
        places = member_folders(folder, len(described["convatlas"]["members"]))
        members = [_network(place, read_config(place, SCHEMA)) for place in places]
        check_outputs(folder, described, members)
    else:
        members = [_network(folder, described)]
    found = Classifier(folder, described["label_names"], described["convatlas"]["about"], members)
    target = _device(device)
    for member in members:
        member.to(target)
    return found


def _network(folder: Path, described: dict[str, Any]) -> Member:
    """The one network of a model folder, built, filled and checked against its stored logits."""
    own = described["convatlas"]
    check_files(folder, described)
    channels = own["preprocessing"]["channels"]
    num_classes = len(described["label_names"])
    try:
        model = build(own["network"], own["config"], _probe(own), num_classes=num_classes, channels=channels)
    except (ValueError, TypeError, KeyError) as error:
        raise ConvAtlasError(
            f"{folder / CONFIG}: describes a model that this version does not know ({error}).",
            remedy="Update ConvAtlas.",
        ) from error
    tensors = read_tensors(folder / WEIGHTS)
    if isinstance(model, zoo.ConvNet):
        tensors = to_our_keys(folder / WEIGHTS, tensors, zoo.family_of(own["network"]).keys(model.config))
        load_tensors(model, tensors, origin=str(folder / WEIGHTS))
    else:
        model.load_state_dict(tensors)
    size = own["preprocessing"]["size"]
    fast = for_inference(model, (1, channels, size, size))
    _check_logits(folder, described, fast)
    return Member(
        folder,
        network=own["network"],
        probe=_probe(own),
        classes=tuple(described["label_names"]),
        preprocessing=Preprocessing.from_json(own["preprocessing"]),
        model=fast,
    )


def _device(name: str) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        return torch.device(name)
    except RuntimeError as error:
        raise ConvAtlasError(f"unknown device {name!r};", remedy="use auto, cpu, cuda or mps.") from error


def _probe(own: dict[str, Any]) -> ProbeConfig | None:
    if own["probe"] is None:
        return None
    probe = own["probe"]
    return ProbeConfig(means=tuple(probe["means"]), deviations=tuple(probe["deviations"]), features=probe["features"])


def _check_logits(folder: Path, described: dict[str, Any], model: nn.Module) -> None:
    preprocessing = Preprocessing.from_json(described["convatlas"]["preprocessing"])
    for example in described["convatlas"]["examples"]:
        image, _ = decode(
            (folder / example["file"]).read_bytes(), name=example["file"], background=preprocessing.background
        )
        found = logits(model, preprocessing.pixels(image)[None], preprocessing)[0].numpy()
        expected = np.asarray(example["logits"], np.float32)
        drift = float(np.abs(found - expected).max() / max(float(np.abs(expected).max()), 1e-12))
        if not drift <= TOLERANCE:
            raise ConvAtlasError(
                f"{folder}: on this machine {example['file']} gives other logits than when the model was saved "
                f"(largest difference {drift:.1e} of the largest logit, {TOLERANCE:.0e} is allowed), so its predictions cannot be trusted.",
                remedy=f"It was made with {versions(described)}; install those, or make the model again here.",
            )


def paths_in(images: Iterable[str | Path]) -> list[Path]:
    """Files as given, and folders replaced by the files in them, sorted; hidden ones are left out, and links that lead nowhere are not."""
    found: list[Path] = []
    for image in map(Path, images):
        inside = sorted(
            p
            for p in image.rglob("*")
            if (p.is_file() or (p.is_symlink() and not p.exists()))
            and not any(part.startswith(".") for part in p.relative_to(image).parts)
        )
        found += inside if image.is_dir() else [image]
    return found
