"""MobileNetV1-0.75 against timm on 100 ImageNet photos: the same logits from the same tensors, the same answers from the same files.

timm builds the network from the same weights file (its "same" padding is TensorFlow's) and prepares the photos by its own evaluation
transform. Our answers come from a packed model folder. The photos are likely training images: this compares, it is no accuracy.
"""

from __future__ import annotations

from functools import partial

import torch
from PIL import Image
from safetensors.torch import load_file
from timm.data.transforms_factory import create_transform
from timm.models import efficientnet
from torchvision.transforms import Compose

import convatlas
from measuring import SHARED, WEIGHTS, folder, section, target

PHOTOS = sorted((SHARED / "data/imagenet-sample").glob("*.JPEG"))


def timm_network() -> torch.nn.Module:
    norm = partial(torch.nn.BatchNorm2d, eps=1e-3)
    network = efficientnet._gen_mobilenet_v1("mobilenetv1_100", 0.75, pad_type="same", norm_layer=norm)
    network.load_state_dict(load_file(WEIGHTS))
    return network.eval()


def timm_pixels() -> torch.Tensor:
    """The photos (100, 3, 224, 224) as timm prepares them."""
    transform = create_transform(
        (3, 224, 224), interpolation="bicubic", mean=(0.5,) * 3, std=(0.5,) * 3, crop_pct=0.875
    )
    assert isinstance(transform, Compose)
    return torch.stack([torch.as_tensor(transform(Image.open(path).convert("RGB"))) for path in PHOTOS])


@torch.inference_mode()
def main() -> None:
    images = timm_pixels()
    theirs = timm_network()(images)
    ours = convatlas.create("mobilenet_v1_075", weights=WEIGHTS).eval()(images)
    with folder() as scratch:
        classifier = convatlas.load(convatlas.pack(None, weights=WEIGHTS, out=scratch / "model"))
    answers = [classifier.classes.index(row.label) for row in classifier.predict(PHOTOS) if row.label]
    difference = (ours - theirs).abs().max().item()
    same = sum(a == b for a, b in zip(answers, theirs.argmax(1).tolist(), strict=True))
    right = [
        sum(a == int(path.name[:3]) for a, path in zip(found, PHOTOS, strict=True))
        for found in (answers, theirs.argmax(1).tolist())
    ]
    section(
        "ImageNet sample: MobileNetV1-0.75 beside timm",
        f"{len(PHOTOS)} photos. Logits: `convatlas.create` and timm's network on identical tensors, float32. Answers: a folder made by "
        f"`convatlas pack` reading the files, and timm's network after timm's own transform. "
        f"Of the labels ours names {right[0]}, timm's {right[1]}.",
        targets=[
            target("logits equal timm's to 1e-4", f"{difference:.1e}", difference <= 1e-4),
            target("the same top-1 on at least 99 of 100", str(same), same >= 99),
        ],
        peers=("timm",),
    )


if __name__ == "__main__":
    main()
