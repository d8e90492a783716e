"""The recipe of the embedded backbone runs end to end, and what the package ships is what its card says."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, replace
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from convatlas import zoo
from convatlas.errors import ConvAtlasError
from convatlas.metrics import wilson
from convatlas.train import TrainConfig
from convatlas.train.recipes.embedded import CONFIG, MOST_BYTES, NETWORK, train_embedded

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = Path(str(files("convatlas.weights"))) / "embedded"
SHORT = replace(CONFIG, epochs=1, batch_size=4, image_size=32, precision="float32")


@pytest.fixture
def photos(tmp_path: Path) -> Callable[..., Path]:
    def write(name: str, classes: tuple[str, ...] = ("dark", "light")) -> Path:
        rng = np.random.default_rng(0)
        for c, label in enumerate(classes):
            (tmp_path / name / label).mkdir(parents=True)
            for i in range(4):
                pixels = rng.integers(100 * c, 100 * c + 100, (40 + i, 50, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / name / label / f"{i}.png")
        return tmp_path / name

    return write


def test_the_recipe_writes_weights_and_a_card_that_load(photos: Callable[..., Path], tmp_path: Path) -> None:
    lines: list[str] = []
    out = tmp_path / "out"
    card = train_embedded(photos("train"), photos("held"), out, config=SHORT, device="cpu", log=lines.append)
    assert card == json.loads((out / "tiny.json").read_text())
    assert (card["labels"], card["num_classes"], card["name"]) == (["dark", "light"], 2, NETWORK)
    assert card["sha256"] == hashlib.sha256((out / "tiny.safetensors").read_bytes()).hexdigest()
    assert card["training"]["data"] == "train: 8 images at 64 px, 2 classes" and card["reached"]["images"] == 8
    model = zoo.build(NETWORK, num_classes=2)
    model.load_state_dict(load_file(out / "tiny.safetensors"))
    assert any("epoch 1/1" in line for line in lines)


def test_folders_with_other_classes_are_refused(photos: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(ConvAtlasError, match="differ in 2 classes: light, pale"):
        train_embedded(photos("train"), photos("held", ("dark", "pale")), tmp_path, config=SHORT, device="cpu")


def test_an_unreadable_image_is_named(photos: Callable[..., Path], tmp_path: Path) -> None:
    broken = photos("train") / "dark" / "0.png"
    broken.write_bytes(broken.read_bytes()[:300])
    with pytest.raises(ConvAtlasError, match=r"0\.png"):
        train_embedded(tmp_path / "train", photos("held"), tmp_path, config=SHORT, device="cpu")


def test_the_shipped_file_is_the_one_the_card_describes() -> None:
    card = json.loads((SHIPPED / "tiny.json").read_text(encoding="utf-8"))
    weights = SHIPPED / "tiny.safetensors"
    assert card["schema"] == "convatlas.weights/1"
    assert card["sha256"] == hashlib.sha256(weights.read_bytes()).hexdigest()
    assert weights.stat().st_size + (SHIPPED / "tiny.json").stat().st_size <= MOST_BYTES
    config = replace(zoo.config_of(card["name"]), **card["config"])
    model = zoo.build(card["name"], num_classes=card["num_classes"], config=config)
    tensors = load_file(weights)
    model.load_state_dict(tensors)
    assert {str(t.dtype) for t in tensors.values() if t.is_floating_point()} == {f"torch.{card['dtype']}"}
    assert all(torch.isfinite(t).all() for t in tensors.values())
    assert len(set(card["labels"])) == card["num_classes"] == 200


def test_the_shipped_card_says_how_to_get_there_again() -> None:
    card = json.loads((SHIPPED / "tiny.json").read_text(encoding="utf-8"))
    now, then = json.loads(json.dumps(asdict(CONFIG))), card["training"]["config"]
    usual = json.loads(json.dumps(asdict(TrainConfig(epochs=1))))  # fields that came later leave it as it was
    then = usual | then | {part: usual[part] | then[part] for part in ("optim", "augment")}
    assert then == now
    reached = card["reached"]
    interval = wilson(round(reached["top1"] * reached["images"]), reached["images"])
    assert reached["top1_interval"] == pytest.approx(interval, abs=1e-4)
    page = (ROOT / "docs" / "embedded.md").read_text(encoding="utf-8")
    for stated in (
        f"{reached['top1']:.3f}",
        card["training"]["command"],
        f"{card['training']['config']['epochs']} epochs",
    ):
        assert stated in page
