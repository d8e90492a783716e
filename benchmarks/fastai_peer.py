# pyright: reportMissingImports=false
"""fastai's `vision_learner` and `fine_tune(4)`, as its book's first chapter has it, with the same weights as ours.

https://github.com/fastai/fastbook: items resized, batches augmented and normalised as the weights demand, the body frozen for one epoch,
then four with discriminative learning rates.

Usage: `python fastai_peer.py [DATA WEIGHTS [SEED]]`
"""

import json
import sys
from pathlib import Path

from fastai.vision.all import (
    ImageDataLoaders,
    Normalize,
    Resize,
    accuracy,
    aug_transforms,
    params,
    set_seed,
    vision_learner,
)
from torch import nn

import convatlas
from measuring import SHARED, WEIGHTS

data, weights = map(Path, sys.argv[1:3] or (SHARED / "data/hymenoptera", WEIGHTS))
seed = int(sys.argv[3]) if len(sys.argv) > 3 else 0


def mobilenet(pretrained: bool = True) -> nn.Sequential:
    """The network as a sequence of two, stages and head, which `cut=-1` parts."""
    network = convatlas.create("mobilenet_v1_075", weights=weights if pretrained else None)
    return nn.Sequential(network.stages, network.head)


def main() -> None:
    set_seed(seed)
    loaders = ImageDataLoaders.from_folder(
        data,
        train="train",
        valid="val" if (data / "val").is_dir() else "test",
        item_tfms=Resize(460),
        batch_tfms=[*aug_transforms(size=224), Normalize.from_stats([0.5] * 3, [0.5] * 3, cuda=False)],
    )
    learner = vision_learner(
        loaders, mobilenet, normalize=False, cut=-1, splitter=lambda m: [params(m[0]), params(m[1])], metrics=accuracy
    )
    with learner.no_bar(), learner.no_logging():
        learner.fine_tune(4)
        found = learner.validate()
    print(json.dumps({"accuracy": float(found[1])}))


if __name__ == "__main__":
    main()
