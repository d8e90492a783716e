"""Published ImageNet weights of the zoo's networks: where the ecosystem keeps them on disk, and how to fetch them when asked.

torchvision keeps files in `$TORCH_HOME/hub/checkpoints`, with the start of their SHA-256 in the name; timm keeps snapshots of hub
repositories in the hub's cache. Files that users already have are found there, and downloads go there, so that nothing is fetched twice.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from convatlas.data import IMAGENET_MEAN, IMAGENET_STD, Preprocessing
from convatlas.errors import ConvAtlasError


@dataclass(frozen=True, kw_only=True)
class Published:
    """One published set of weights."""

    tag: str
    name: str  # of the network
    file: str
    top1: float  # ImageNet top-1 accuracy in percent as its publisher states it; only used to rank
    megabytes: int
    resize: int = 256

    @property
    def library(self) -> str:
        return self.tag.split("/")[0]

    @property
    def preprocessing(self) -> Preprocessing:
        """How torchvision prepares images for these weights (timm's own come with their `config.json`)."""
        return Preprocessing(
            size=224, resize=self.resize, interpolation="bilinear", mean=IMAGENET_MEAN, std=IMAGENET_STD
        )


def _torchvision(version: int, name: str, digest: str, top1: float, megabytes: int) -> Published:
    tag = f"torchvision/{name.replace('resnet', 'ResNet')}_Weights.IMAGENET1K_V{version}"
    resize = 256 if version == 1 else 232
    return Published(tag=tag, name=name, file=f"{name}-{digest}.pth", top1=top1, megabytes=megabytes, resize=resize)


def _timm(tag: str, name: str, top1: float, megabytes: int) -> Published:
    return Published(tag=f"timm/{tag}", name=name, file="model.safetensors", top1=top1, megabytes=megabytes)


# torchvision's figures are its own metadata; timm's are the originals' as a floor, since its results come in a separate file
PUBLISHED = (
    _torchvision(1, "resnet18", "f37072fd", 69.758, 45),
    _torchvision(1, "resnet34", "b627a593", 73.314, 83),
    _torchvision(1, "resnet50", "0676ba61", 76.130, 98),
    _torchvision(2, "resnet50", "11ad3fa6", 80.858, 98),
    _torchvision(1, "resnet101", "63fe2227", 77.374, 171),
    _torchvision(2, "resnet101", "cd907fc2", 81.886, 171),
    _torchvision(1, "resnet152", "394f9c45", 78.312, 230),
    _torchvision(2, "resnet152", "f82ba261", 82.284, 230),
    _timm("resnet18.a1_in1k", "resnet18", 69.758, 47),
    _timm("resnet34.a1_in1k", "resnet34", 73.314, 87),
    _timm("resnet50.a1_in1k", "resnet50", 76.130, 102),
    _timm("resnet101.a1_in1k", "resnet101", 77.374, 178),
    _timm("resnet152.a1_in1k", "resnet152", 78.312, 241),
    _timm("mobilenetv1_100.ra4_e3600_r224_in1k", "mobilenet_v1_100", 70.6, 17),
)
BEST = next(p for p in PUBLISHED if p.tag == "torchvision/ResNet50_Weights.IMAGENET1K_V2")  # what a download would take


def on_disk(published: Published) -> Path | None:
    """The file in its library's own cache folder, if it is there."""
    if published.library == "torchvision":
        path = _torch_checkpoints() / published.file
        return path if path.is_file() else None
    snapshots = _hub_cache() / f"models--timm--{published.tag.removeprefix('timm/')}" / "snapshots"
    found = sorted(snapshots.glob(f"*/{published.file}"), key=lambda path: path.stat().st_mtime)
    return found[-1] if found else None


def download_published(published: Published) -> Path:
    """Fetches the file into its library's own cache folder, checksum verified; only called when the user allowed it."""
    try:
        if published.library == "torchvision":
            import torch

            url, target = f"https://download.pytorch.org/models/{published.file}", _torch_checkpoints() / published.file
            target.parent.mkdir(parents=True, exist_ok=True)
            digest = published.file.removesuffix(".pth").rsplit("-", 1)[1]
            torch.hub.download_url_to_file(url, str(target), hash_prefix=digest)
            return target
        from huggingface_hub import hf_hub_download

        hf_hub_download(published.tag, "config.json")
        return Path(hf_hub_download(published.tag, published.file))
    except (OSError, RuntimeError, ValueError) as error:
        where = _torch_checkpoints() if published.library == "torchvision" else _hub_cache()
        raise ConvAtlasError(
            f"{published.tag}: the download failed ({error}).",
            remedy=f"Fetch {published.file} elsewhere and put it into {where}, or give it with --weights.",
        ) from error


def _torch_checkpoints() -> Path:
    home = os.environ.get("TORCH_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "torch"
    return Path(home).expanduser() / "hub" / "checkpoints"


def _hub_cache() -> Path:
    if cache := os.environ.get("HF_HUB_CACHE"):
        return Path(cache).expanduser()
    home = os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface"
    return Path(home).expanduser() / "hub"
