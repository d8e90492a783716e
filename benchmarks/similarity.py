"""How like the source: the distance of known sets from what two networks were trained on, by which the words near and far were chosen.

MobileNetV1-0.75 has seen ImageNet, the embedded backbone Tiny ImageNet; both keep the statistics of these in their norms. As many images as
`fit` looks at are drawn twice, so that one sees how much the distance depends on the draw.
"""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image

from convatlas.data import decode
from convatlas.transfer.similarity import FAR, IMAGES, NEAR, likeness
from convatlas.weights.load import load_network
from convatlas.weights.source import find_weights
from convatlas.zoo.inference import normalised
from drawn import Sets
from measuring import SHARED, WEIGHTS, say, section, table, target

SETS = ("tiny-imagenet-val", "hymenoptera", "flowers12", "ucmerced", "cifar10-test", "mnist-10k")
DRAWS = 2


def main() -> None:
    sources = {"ImageNet": find_weights(WEIGHTS), "Tiny ImageNet": find_weights("embedded")}
    found: dict[tuple[str, str], list[float]] = {}
    stages: dict[str, list[str]] = {}
    with Sets() as sets:
        for name in ("imagenet-sample", *SETS):
            for own, source in sources.items():
                say(f"{name}: {own}")
                model, _ = load_network(source, num_classes=0)
                p = source.preprocessing
                for draw in range(DRAWS):
                    pixels = [p.pixels(image) for image in _images(sets, name, draw)]
                    rows = likeness(model, normalised(torch.from_numpy(np.stack(pixels)), p.mean, p.std))
                    found.setdefault((name, own), []).append(float(np.median([row.distance for row in rows])))
                    if draw == 0:
                        each = " ".join(f"{row.distance:.2f}" for row in rows)
                        stages.setdefault(name, []).append(each)
    near = max(*found["imagenet-sample", "ImageNet"], *found["tiny-imagenet-val", "Tiny ImageNet"])
    far = min(min(found["mnist-10k", own]) for own in sources)
    body = [
        (
            name,
            *(
                " and ".join(f"{x:.2f}" for x in found[name, own]) + f" ({by})"
                for own, by in zip(sources, each, strict=True)
            ),
        )
        for name, each in stages.items()
    ]
    section(
        "How like the source",
        f"The distance that `fit` tells, the median of the stages, of two draws of {IMAGES} images; in brackets that of each stage in the "
        "first draw. The networks: MobileNetV1-0.75 with ImageNet weights, and the embedded backbone, from Tiny ImageNet.",
        table(("", *(f"network from {own}" for own in sources)), body),
        targets=[
            target(f"their own source's images are near, below {NEAR}", f"{near:.2f} at most", near < NEAR),
            target(f"digits are far, from {FAR}", f"{far:.2f} at least", far >= FAR),
        ],
    )


def _images(sets: Sets, name: str, draw: int) -> list[Image.Image]:
    if name == "imagenet-sample":  # photos without class folders
        files = sorted((SHARED / "data" / name).glob("*.JPEG"))
        order = np.random.default_rng(draw).permutation(len(files))[:IMAGES]
        return [decode(files[place].read_bytes())[0] for place in order]
    dataset = sets.dataset(name)
    records = [record for record in dataset.records if record.split in ("train", "all")]
    order = np.random.default_rng(draw).permutation(len(records))[: IMAGES + 2]
    read = [dataset.read(records[place]) for place in order]
    return [decode(data)[0].convert("RGB") for data in read if not data.startswith(b"GIF8")][:IMAGES]


if __name__ == "__main__":
    main()
