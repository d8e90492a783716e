"""A network and a set of images so small that a whole fit takes a third of a second.

Three classes, told apart by colour and by the direction of their stripes, so that even an untrained network's features separate them.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from convatlas import zoo
from convatlas.bundle.save import Contents, build, save
from convatlas.data import Preprocessing
from convatlas.jobs.fit import FitResult, fit
from convatlas.zoo.heads.probe import ProbeConfig
from convatlas.zoo.inference import apart, normalised

NETWORK = "resnet20_cifar"
STAGES = ("stage1", "stage2", "stage3")
CLASSES = ("blue", "green", "red")  # in the order of their indices
CARD: dict[str, Any] = {"name": NETWORK, "preprocessing": {"size": 32, "resize": 32, "interpolation": "bilinear"}}


def photo(label: str, number: int) -> Image.Image:
    """Number `number` of the class `label`, 40×36; no two are alike."""
    channel = ("red", "green", "blue").index(label)
    pixels = np.random.default_rng((channel, number)).integers(0, 90, (36, 40, 3))
    y, x = np.mgrid[:36, :40] // 4
    pixels[..., channel] += (x, y, x + y)[channel] % 2 * 150
    return Image.fromarray(pixels.astype(np.uint8))


def write_photos(folder: Path, first: int, count: int, labels: tuple[str, ...] = CLASSES) -> None:
    """`folder`/{label}/{number}.png, `count` of each label from number `first` on."""
    for label in labels:
        (folder / label).mkdir(parents=True, exist_ok=True)
        for number in range(first, first + count):
            photo(label, number).save(folder / label / f"{number:03d}.png")


def write_split(root: Path, splits: Mapping[str, int], labels: tuple[str, ...] = CLASSES) -> Path:
    """`root`/{split}/{label}/*.png with so many of each label; returns `root`."""
    for i, (split, count) in enumerate(splits.items()):
        write_photos(root / split, 100 * i, count, labels)
    return root


def write_weights(path: Path, *, name: str = NETWORK, num_classes: int = 10, card: Any = CARD, **config: Any) -> Path:
    """Untrained weights of `name`, always the same, batch norms included, with their card beside them."""
    from dataclasses import replace

    torch.manual_seed(7)
    own = replace(zoo.config_of(name), **config)
    model = zoo.build(name, num_classes=num_classes, in_channels=card["preprocessing"].get("channels", 3), config=own)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            assert module.running_mean is not None and module.running_var is not None
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 1.5)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(model.state_dict(), path)
    path.with_suffix(".json").write_text(json.dumps({**card, "name": name, "config": config}))
    return path


def write_model(
    folder: Path,
    *,
    name: str = NETWORK,
    seed: int = 0,
    classes: tuple[str, ...] = CLASSES,
    probe: ProbeConfig | None = None,
    **preprocessing: Any,
) -> Path:
    """A model folder of an untrained network whose answers differ from image to image."""
    own = Preprocessing.from_json({**CARD["preprocessing"], **preprocessing})
    torch.manual_seed(seed)
    model = build(name, {}, probe, num_classes=len(classes), channels=own.channels)
    seen = np.stack([own.pixels(photo(label, number)) for number in range(6) for label in CLASSES])
    images = apart(normalised(torch.from_numpy(seen), own.mean, own.std))
    with torch.inference_mode():
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.momentum = 1.0
        model.train()(images)
        logits = model.eval()(images)
        last = [module for module in model.modules() if isinstance(module, torch.nn.Linear)][-1]
        if last.out_features == len(classes):  # each class is the likeliest of some images
            scale = 2 / logits.std(0)
            last.weight.mul_(scale[:, None])
            last.bias.copy_((last.bias - logits.mean(0)) * scale)
    folder.mkdir(parents=True)
    save(folder, model, Contents(name=name, config={}, probe=probe, classes=classes, preprocessing=own))
    return folder


def state(folder: Path) -> dict[str, tuple[int, str]]:
    """When each entry below `folder` was last changed, and its content: equal before and after if nothing was touched."""
    return {
        str(path.relative_to(folder)): (
            path.stat().st_mtime_ns,
            hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder",
        )
        for path in (folder, *folder.rglob("*"))
    }


def content(folder: Path) -> dict[str, str]:
    """What `folder` holds, times aside."""
    return {name: digest for name, (_, digest) in state(folder).items()}


def damage(store: Path, key: str) -> None:
    """Flips a bit of the value that the cache file `store` holds under `key`."""
    with sqlite3.connect(store) as db:
        (value,) = db.execute("SELECT value FROM entries WHERE key = ?", (key,)).fetchone()
        broken = bytearray(value)
        broken[len(broken) // 2] ^= 4
        db.execute("UPDATE entries SET value = ? WHERE key = ?", (bytes(broken), key))
    db.close()


def python(code: str, *arguments: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    """Another interpreter that runs `code` with warnings as errors and one thread."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        **options,
    )


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> Iterator[None]:
    """On networks this small, threads wait for each other longer than they compute."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A weights file; its card lies beside it."""
    return write_weights(tmp_path_factory.mktemp("backbone") / "tiny.safetensors")


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Split folders: eight of each class to train, four to test. Not to be changed."""
    return write_split(tmp_path_factory.mktemp("photos") / "stripes", {"train": 8, "test": 4})


@pytest.fixture(scope="session")
def fitted(photos: Path, backbone: Path, tmp_path_factory: pytest.TempPathFactory) -> FitResult:
    """What a fit of the photos gives, without a report. Not to be changed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CONVATLAS_CACHE", str(tmp_path_factory.mktemp("cache")))
        return fit(photos, weights=backbone, out=tmp_path_factory.mktemp("fitted") / "model", report=False)
