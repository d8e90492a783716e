"""One decode and one forward per image and nothing else: the floor that a fit is measured against.

`plain` is what a user writes: Pillow, image after image, then batches of 32 through the network as it was loaded. `fast` has all that
ConvAtlas does to be quick (simplejpeg, threads, batch norms folded, channels last, small batches) and none of what it does besides.

Usage: `python bare_loop.py DATA WEIGHTS` prints the seconds that `import torch`, decoding and forward take in a new process.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image

NETWORK, TOP = "mobilenet_v1_075", "stage5"
Seconds = dict[str, float]


def images_of(data: Path) -> list[Path]:
    return sorted(path for path in data.rglob("*") if path.is_file())


def prepared(path: Path) -> np.ndarray:
    """Pixels (224, 224, 3) uint8: the short side to 256, bicubic, then the centre."""
    image = Image.open(path).convert("RGB")
    scale = 256 / min(image.size)
    width, height = (max(256, int(side * scale)) for side in image.size)
    left, top = (width - 224) // 2, (height - 224) // 2
    return np.asarray(image.resize((width, height), Image.Resampling.BICUBIC).crop((left, top, left + 224, top + 224)))


def plain(paths: list[Path], weights: Path) -> Seconds:
    import torch

    import convatlas

    network = convatlas.prefix(convatlas.create(NETWORK, weights=weights).eval(), TOP)
    seconds: Seconds = {}
    with clock(seconds, "decode"):
        pixels = [prepared(path) for path in paths]
    with clock(seconds, "forward"), torch.inference_mode():
        for start in range(0, len(pixels), 32):
            batch = torch.from_numpy(np.stack(pixels[start : start + 32])).permute(0, 3, 1, 2)
            network(batch / 127.5 - 1).mean((2, 3))
    return seconds


def fast(paths: list[Path], weights: Path) -> Seconds:
    import torch

    import convatlas
    from convatlas.data import decode
    from convatlas.weights.source import find_weights
    from convatlas.zoo.inference import CPU_BATCH, for_inference, normalised

    p = find_weights(weights).preprocessing
    network = convatlas.prefix(convatlas.create(NETWORK, weights=weights).eval(), TOP)
    network = for_inference(network, (1, 3, p.size, p.size))
    seconds: Seconds = {}
    with clock(seconds, "both"), ThreadPoolExecutor() as pool, torch.inference_mode():
        pixels = pool.map(lambda path: p.pixels(decode(path.read_bytes())[0]), paths)
        for _ in range(0, len(paths), CPU_BATCH):
            batch = torch.from_numpy(np.stack(list(islice(pixels, CPU_BATCH))))
            network(normalised(batch, p.mean, p.std)).mean((2, 3))
    return seconds


@contextmanager
def clock(seconds: Seconds, what: str) -> Iterator[None]:
    started = time.perf_counter()
    yield
    seconds[what] = time.perf_counter() - started


def main() -> None:
    data, weights = map(Path, sys.argv[1:3])
    seconds: Seconds = {}
    with clock(seconds, "import"):
        import torch  # noqa: F401 - the import is what is timed
    print(json.dumps(seconds | plain(images_of(data), weights)))


if __name__ == "__main__":
    main()
