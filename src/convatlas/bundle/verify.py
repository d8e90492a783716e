"""The files of a model folder against what its config.json says of them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from convatlas.bundle.neighbours import TRAINING
from convatlas.bundle.save import CONFIG, SCHEMA, config_sha256
from convatlas.errors import ConvAtlasError

ENSEMBLE = "convatlas.bundle.ensemble/1"  # the format of a folder of several models, as SCHEMA is of one


def read_config(folder: Path, *formats: str) -> dict[str, Any]:
    """The content of a model folder's config.json, of one of `formats`, or of any this version reads. `ConvAtlasError` where it is none."""
    path = folder / CONFIG
    try:
        described = json.loads(path.read_text(encoding="utf-8"))
        schema = described["convatlas"]["schema"]
    except FileNotFoundError as error:
        raise ConvAtlasError(
            f"{folder}: not a model folder, it has no {CONFIG}.",
            remedy="Give the folder that `convatlas fit` or `convatlas pack` wrote, or `model/` of a run.",
        ) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConvAtlasError(
            f"{path}: not the {CONFIG} of a ConvAtlas model ({error}).", remedy="Copy the folder again."
        ) from error
    if schema not in (formats or (SCHEMA, ENSEMBLE)):
        raise ConvAtlasError(
            f"{path}: has the format {schema}, this version reads {SCHEMA}.", remedy="Update ConvAtlas."
        )
    return described


def check_files(folder: Path, described: dict[str, Any]) -> None:
    """Raises `ConvAtlasError`, naming the file, unless the config and every file it lists are as they were written.

    `training.safetensors` may be missing."""
    own = described["convatlas"]
    if own.get("config_sha256") != config_sha256(described):
        raise ConvAtlasError(
            f"{folder / CONFIG}: was changed after it was written.", remedy="Copy the model folder again."
        )
    for name in (
        *own["sha256"],
        *(row["file"] for row in own["examples"]),
        *(row["folder"] for row in own.get("members", ())),
    ):
        if not _lies_inside(name):
            raise ConvAtlasError(
                f"{folder / CONFIG}: names the file {name!r}, which is not one of the folder's own.",
                remedy="Do not use this folder; ask whoever made it.",
            )
    for name, expected in own["sha256"].items():
        if name == TRAINING and not (folder / name).exists():
            continue  # people may delete what is remembered of their images
        try:
            found = hashlib.sha256((folder / name).read_bytes()).hexdigest()
        except OSError as error:
            raise ConvAtlasError(
                f"{folder / name}: missing or unreadable.", remedy="Copy the model folder again."
            ) from error
        if found != expected:
            raise ConvAtlasError(
                f"{folder / name}: was changed after it was written.", remedy="Copy the model folder again."
            )


def _lies_inside(name: str) -> bool:
    """Whether a file's name leads nowhere else, on any system."""
    return not set(name) & set("\\:") and all(part not in ("", ".", "..") for part in name.split("/"))


def versions(described: dict[str, Any]) -> str:
    """What the model was made with, for messages."""
    return ", ".join(f"{name} {version}" for name, version in described["convatlas"]["made_with"].items())
