"""The small backbone that comes with the package: MobileNetV1-0.75 on small photos, for features rather than for its own 200 classes.

Photos of 64 pixels are shown at 128: MobileNet's stride of 32 would leave 2×2 positions of 64 pixels, and users' photos come in sharper and
larger. What counts is how well a linear classifier does on its features elsewhere (Kornblith, Shlens, Le. Do Better ImageNet Models
Transfer Better? CVPR 2019. https://arxiv.org/abs/1805.08974), so there is no label smoothing, which that paper found to harm them.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from convatlas import zoo
from convatlas.data import Preprocessing, examine, scan
from convatlas.errors import ConvAtlasError
from convatlas.metrics import wilson
from convatlas.train.config import Augment, Optim, TrainConfig
from convatlas.train.images import InMemory
from convatlas.train.learner import Epoch
from convatlas.train.loop import accuracy, train
from convatlas.train.processes import Alone

NETWORK = "mobilenet_v1_075"
_STORED = Preprocessing(size=64, resize=64, interpolation="bilinear")  # how the photos are kept for training
CROP = 0.875  # share of the short side that is shown in use: crops in training made things look larger than whole images do
MOST_BYTES = 4_000_000  # for weights and card together

CONFIG = TrainConfig(
    epochs=131,
    batch_size=256,
    image_size=128,
    optim=Optim(lr=0.2, weight_decay=5e-4, warmup_epochs=3),
    augment=Augment(scale=(0.2, 1.0), flip=0.5, colour=0.4, grey=0.1, mixup=0.2, cutmix=0.3),
    precision="bfloat16",
)
PROTOCOL = "held-out part, read for choosing among 12 configurations; weights of the last epoch"


def train_embedded(
    train_folder: Path,
    held_out_folder: Path,
    out: Path,
    *,
    config: TrainConfig = CONFIG,
    device: str = "cuda",
    log: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Trains the backbone on `train_folder/class/*` and writes `out/tiny.safetensors` (float16) and `out/tiny.json`; returns the card.

    Command: `python -m convatlas.train.recipes.embedded TRAIN HELD_OUT OUT`, with Tiny ImageNet's photos: 30,000 to train, 5,000 held
    out, 200 classes. Hardware and time: one H100 GPU, 6.3 minutes while it trained a second network beside this one. Expected: top-1
    0.513 on the held-out part, from one run (seed 0), so its spread over seeds is not known. Epochs, augmentation and weight decay were
    chosen on that held-out part and on features for other images; `docs/embedded.md` has the table.

    Raises `ConvAtlasError` for an unreadable image, classes that differ between the folders, or files above 4,000,000 bytes.
    """
    images, labels, classes = _read(train_folder, _STORED)
    held_out, held_out_labels, held_out_classes = _read(held_out_folder, _STORED)
    if classes != held_out_classes:
        differing = sorted(set(classes) ^ set(held_out_classes))
        raise ConvAtlasError(
            f"{train_folder} and {held_out_folder} differ in {len(differing)} classes: {', '.join(differing[:8])}.",
            remedy="Give both folders the same classes.",
        )
    log(f"{len(images)} images to train, {len(held_out)} held out, {len(classes)} classes")
    if torch.device(device).type == "cuda":
        torch.backends.cudnn.benchmark = True  # every batch has the same shape

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        model = zoo.build(NETWORK, num_classes=len(classes))
    started = time.perf_counter()

    def say(epoch: Epoch) -> None:
        log(
            f"epoch {epoch.epoch}/{config.epochs}: loss {epoch.loss:.3f}, held-out top-1 {epoch.held_out:.4f}, "
            f"{epoch.seconds:.1f} s, {time.perf_counter() - started:.0f} s in all"
        )

    train(
        *(model, InMemory(images.to(device), labels), config),
        held_out=InMemory(held_out.to(device), held_out_labels),
        together=Alone(device),
        log=say,
    )
    seconds = time.perf_counter() - started

    out.mkdir(parents=True, exist_ok=True)
    weights, card_file = out / "tiny.safetensors", out / "tiny.json"
    save_file({key: _packed(tensor) for key, tensor in model.state_dict().items()}, weights)
    model.load_state_dict(load_file(weights))  # what is measured is what was written, fed as its users will feed it
    served = Preprocessing(size=config.image_size, resize=round(config.image_size / CROP), interpolation="bilinear")
    as_served = InMemory(*_read(held_out_folder, served)[:2])
    top1 = accuracy(model, as_served, replace(config, precision="float32"), Alone(device))
    card = {
        "schema": "convatlas.weights/1",
        "name": NETWORK,
        "config": {},
        "preprocessing": served.to_json(),
        "num_classes": len(classes),
        "labels": list(classes),
        "keys": "convatlas",
        "dtype": "float16",
        "sha256": hashlib.sha256(weights.read_bytes()).hexdigest(),
        "training": {
            "data": f"{train_folder.name}: {len(images):,} images at {_STORED.size} px, {len(classes)} classes",
            "command": "python -m convatlas.train.recipes.embedded TRAIN HELD_OUT OUT",
            "config": asdict(config),
            "hardware": torch.cuda.get_device_name() if torch.device(device).type == "cuda" else device,
            "seconds": round(seconds),
            "seed": config.seed,
        },
        "reached": {
            "top1": top1,
            "top1_interval": [round(bound, 4) for bound in wilson(round(top1 * len(held_out)), len(held_out))],
            "images": len(held_out),
            "protocol": PROTOCOL,
        },
        "licence": "Apache-2.0",
    }
    written = json.dumps(card)
    card_file.write_text(written + "\n", encoding="utf-8")
    bytes_ = weights.stat().st_size + card_file.stat().st_size
    if bytes_ > MOST_BYTES:
        raise ConvAtlasError(f"{weights} and its card have {bytes_:,} bytes; the package has room for {MOST_BYTES:,}.")
    log(f"{weights}: {bytes_:,} bytes with its card, held-out top-1 {top1:.4f}, {seconds:.0f} s")
    return json.loads(written)


def _read(folder: Path, square: Preprocessing) -> tuple[Tensor, Tensor, tuple[str, ...]]:
    """All images of a folder of classes: uint8 (n, 3, size, size), labels (n,), class names in the labels' order."""
    dataset = scan(folder)
    index = {name: i for i, name in enumerate(dataset.classes)}
    images = np.empty((len(dataset.records), 3, square.size, square.size), np.uint8)
    for i, found in enumerate(examine(dataset, dataset.records, preprocessing=square)):
        if found.pixels is None:
            raise found.failure or ConvAtlasError(f"{dataset.locate(found.record)}: has no pixels.")
        images[i] = found.pixels.transpose(2, 0, 1)
    labels = torch.tensor([index[record.label] for record in dataset.records])
    return torch.from_numpy(images), labels, dataset.classes


def _packed(tensor: Tensor) -> Tensor:
    tensor = tensor.detach().cpu().contiguous()
    return tensor.half() if tensor.is_floating_point() else tensor


def main() -> None:
    """The command line of this recipe."""
    parser = argparse.ArgumentParser(description="Train the embedded backbone.")
    parser.add_argument("train", type=Path, metavar="TRAIN", help="folder of class/image to train on")
    parser.add_argument("held_out", type=Path, metavar="HELD_OUT", help="folder of class/image to measure on")
    parser.add_argument("out", type=Path, metavar="OUT", help="folder to write tiny.safetensors and tiny.json to")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--epochs", type=int, default=CONFIG.epochs)
    given = parser.parse_args()
    try:
        train_embedded(
            given.train,
            given.held_out,
            given.out,
            config=replace(CONFIG, epochs=given.epochs),
            device=given.device,
            log=lambda line: print(line, file=sys.stderr),
        )
    except ConvAtlasError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
