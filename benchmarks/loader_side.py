"""One side of `loader.py` in a process of its own: photos to standardised batches, by ConvAtlas's threads or by torchvision's workers.

Usage: `python loader_side.py ours|peer DATA WORKERS PASSES`. Prints JSON: `start` and `epoch` are seconds from listing the folder to the
first and to the last batch of one pass; `steady` is images a second over `PASSES` passes in one go, without the first batches.
"""

import itertools
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

side, data, workers, passes = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
BATCH = 32
UNCOUNTED = 8  # batches: what is begun ahead, and a little more
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
torch.set_num_threads(1)  # in both: the processors are for decoding


def order(images: int, times: int) -> list[int]:
    """So many shuffled passes, one after the other."""
    return [
        int(i) for seed in range(times) for i in torch.randperm(images, generator=torch.Generator().manual_seed(seed))
    ]


def ours(times: int) -> tuple[int, Iterator[Tensor]]:
    from convatlas.data import Preprocessing, scan
    from convatlas.train.config import Augment
    from convatlas.train.streamed import Streamed

    dataset = scan(data)
    records = [record for record in dataset.records if record.path.endswith((".jpg", ".jpeg"))]
    square = Preprocessing(size=224, resize=224, interpolation="bilinear")
    images = Streamed(
        dataset,
        records,
        torch.zeros(len(records), dtype=torch.int64),
        square,
        augment=Augment(scale=(0.08, 1.0)),
        workers=workers,
    )
    wanted = torch.tensor(order(len(images), times)).split(BATCH)
    # Channels come last in memory, so a row of pixels is one run of numbers: 0.13 ms an image, and 0.4 if three at a time are broadcast.
    std = 255 * torch.tensor(STD).repeat(224)
    scale, shift = 1 / std, -255 * torch.tensor(MEAN).repeat(224) / std

    def batches() -> Iterator[Tensor]:
        flips = torch.Generator().manual_seed(0)
        for batch in images.batches((indices, seed) for seed, indices in enumerate(wanted)):
            for i in (torch.rand(len(batch), generator=flips) < 0.5).nonzero().flatten().tolist():
                batch[i] = batch[i].flip(2)
            x = batch.permute(0, 2, 3, 1).reshape(len(batch), 224, -1).float()
            yield torch.addcmul(shift, x, scale, out=x).view(len(batch), 224, 224, 3).permute(0, 3, 1, 2)

    return len(records), batches()


def peer(times: int) -> tuple[int, Iterator[Tensor]]:
    from torch.utils.data import ConcatDataset, DataLoader
    from torchvision import transforms
    from torchvision.datasets import ImageFolder

    changes = transforms.Compose(
        [
            transforms.RandomResizedCrop(224),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize(MEAN, STD),
        ]
    )
    images = ConcatDataset([ImageFolder(data / part, changes) for part in ("train", "val")])
    loader = DataLoader(images, batch_size=BATCH, sampler=order(len(images), times), num_workers=workers)
    return len(images), (x for x, _ in loader)


make = {"ours": ours, "peer": peer}[side]
make(1)  # everything imported, the folder in the disk's cache
started = time.perf_counter()
count, batches = make(1)
next(batches)
start = time.perf_counter() - started
seen = BATCH
for x in batches:
    assert x.dtype == torch.float32 and x.shape[1:] == (3, 224, 224)
    seen += len(x)
epoch = time.perf_counter() - started
assert seen == count
_, batches = make(passes)
for _ in itertools.islice(batches, UNCOUNTED):
    pass
started, seen = time.perf_counter(), 0
for x in batches:
    seen += len(x)
steady = seen / (time.perf_counter() - started)
print(json.dumps({"images": count, "start": start, "epoch": epoch, "steady": steady}))
