"""The honest rival: what a competent user writes. Pillow, a network's pooled features, scikit-learn's logistic regression.

It takes the network from `convatlas.create`, because that starts sooner than any other library that has it (`import timm` alone costs
about as much as the rest of this script), which leaves the rival the stronger. Pixels are prepared as the weights' card demands: the
short side to 256, bicubic, the centre 224, −1 to 1. Threads decode ahead while the network runs.

Usage: `python rival_script.py DATA WEIGHTS [unscaled]`, where DATA holds train/class/* and test/class/* (or val).
"""

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from sklearn.linear_model import LogisticRegressionCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import convatlas

data, weights = Path(sys.argv[1]), sys.argv[2]
network = convatlas.prefix(convatlas.create("mobilenet_v1_075", weights=weights).eval(), "stage5")


def prepared(path: Path) -> torch.Tensor:
    image = Image.open(path).convert("RGB")
    scale = 256 / min(image.size)
    width, height = (max(256, int(side * scale)) for side in image.size)
    left, top = (width - 224) // 2, (height - 224) // 2
    image = image.resize((width, height), Image.Resampling.BICUBIC).crop((left, top, left + 224, top + 224))
    return torch.from_numpy(np.array(image)).permute(2, 0, 1) / 127.5 - 1


@torch.inference_mode()
def features(paths: list[Path]) -> np.ndarray:
    with ThreadPoolExecutor() as pool:
        images = pool.map(prepared, paths)
        batches = (torch.stack(list(islice(images, 32))) for _ in range(0, len(paths), 32))
        return torch.cat([network(batch).mean((2, 3)) for batch in batches]).numpy()


train = sorted(data.glob("train/*/*.jp*g"))  # not the GIF: torchvision's ImageFolder leaves it out too
test = sorted(data.glob("test/*/*.jp*g")) or sorted(data.glob("val/*/*.jp*g"))
classifier = make_pipeline(StandardScaler(), LogisticRegressionCV(cv=3, max_iter=1000))
if "unscaled" in sys.argv:
    classifier = classifier[-1]
classifier.fit(features(train), [path.parent.name for path in train])
accuracy = classifier.score(features(test), [path.parent.name for path in test])
print(json.dumps({"accuracy": accuracy, "train": len(train), "test": len(test)}))
