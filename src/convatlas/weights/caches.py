"""Where the ecosystem keeps weights on disk: torchvision's checkpoints folder and the hub's cache of repositories.

Files that users already have are found there, and downloads go there, so that nothing is fetched twice. Both libraries' environment
variables are honoured; neither library is imported.
"""

from __future__ import annotations

import os
from pathlib import Path

from convatlas.weights.published import Published

HUB_FILES = ("model.safetensors", "pytorch_model.bin")  # what a repository calls its weights, the better first


def on_disk(weights: Published) -> Path | None:
    """The file of published weights in its library's own cache folder, if it is there."""
    if weights.url is None:
        return in_hub_cache(weights.tag)
    path = torch_checkpoints() / weights.file
    return path if path.is_file() else None


def in_hub_cache(repository: str, revision: str | None = None) -> Path | None:
    """The weights file of a hub repository, from the snapshot that `revision` (by default `main`) names, if it is there.

    The newest snapshot serves where no name is recorded, as after a download by commit.
    """
    folder = hub_cache() / f"models--{repository.replace('/', '--')}"
    named = folder / "refs" / (revision or "main")
    commit = named.read_text().strip() if named.is_file() else revision
    if commit:
        snapshots = [folder / "snapshots" / commit]
    else:
        snapshots = sorted(folder.glob("snapshots/*"), key=lambda path: path.stat().st_mtime, reverse=True)
    files = (snapshot / file for snapshot in snapshots for file in HUB_FILES)
    return next((file for file in files if file.is_file()), None)


def torch_checkpoints() -> Path:
    """Where `torch.hub` keeps what it downloads."""
    home = os.environ.get("TORCH_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "torch"
    return Path(home).expanduser() / "hub" / "checkpoints"


def hub_cache() -> Path:
    """Where `huggingface_hub` keeps repositories."""
    for variable in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if cache := os.environ.get(variable):
            return Path(os.path.expandvars(cache)).expanduser()
    home = os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface"
    return Path(os.path.expandvars(home)).expanduser() / "hub"
