"""Photos that do not fit into memory: read, decoded and cropped by threads while the network trains on the batches before.

Threads suffice, because reading, decoding and resizing release the interpreter's lock, and they cost neither a start nor a copy between
processes. Each image's random resized crop (Szegedy et al. Going Deeper with Convolutions. 2015. https://arxiv.org/abs/1409.4842; drawn as
torchvision's `RandomResizedCrop` draws it) is a function of the batch's seed and the image's place in the batch alone. So neither the
number of threads nor how far they are ahead changes a pixel, and a run goes on from any batch as if it had never stopped.

Where the time goes, for photos of 500 × 375: 1.7 ms of a core for the JPEG, of which 1.1 are its Huffman codes, which no crop and no scale
spares; 0.25 for resizing in torch's vectorised kernel, where Pillow takes 0.9; 0.3 for everything else.
"""

from __future__ import annotations

import json
import math
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from convatlas.data import DECODER, Box, Dataset, DecodeError, Preprocessing, Record, decode, decode_part, hashed
from convatlas.data.examine import default_workers
from convatlas.errors import ConvAtlasError
from convatlas.train.config import Augment
from convatlas.train.images import Wanted, digest

TRIES = 10  # at a crop that fits into the image, before its centre is taken
_TOGETHER = 4  # images that a thread does before it looks for more: handing over a task takes about 0.05 ms
_MARGIN = 2  # a JPEG is decoded smaller only if the crop stays this many times as large as what it is resized to
# Only with AVX2 has torch a kernel for bytes that does not start threads of its own, which would be threads in every thread.
_VECTORISED = torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512")


class Streamed:
    """The images of `records`, from wherever their data set lies, prepared anew for every batch.

    With `augment` that crops, by `scale` or `sides`, each is randomly cropped and resized bilinearly to `preprocessing.size`; else
    `preprocessing` does what it does everywhere. JPEGs of which much more is there than the crop needs are decoded at 1/2, 1/4 or
    1/8 of their size (for two of 3 and 5 megapixels at 224, 0.2 to 0.3 of 255 levels in the mean from decoding them whole, in 0.55 and 0.8
    of the time). Where torch resizes, values equal Pillow's but for one level in 2 % of them.

    A file that cannot be decoded ends the run with its name: training on without it, or on grey in its place, would be another run.
    """

    prepared = False

    def __init__(
        self,
        dataset: Dataset,
        records: Sequence[Record],
        labels: Tensor,
        preprocessing: Preprocessing,
        *,
        augment: Augment | None = None,
        workers: int | None = None,
        ahead: int = 4,
        progress: Callable[[str, int, int], None] = lambda what, done, total: None,
    ) -> None:
        """`workers` threads, one a processor if None (8 at most), work up to `ahead` batches ahead of the consumer. `progress` is that of
        reading all files for their checksum.

        Raises `ValueError` where records and labels do not fit together.
        """
        if len(records) != len(labels):
            raise ValueError(f"{len(records)} records with {len(labels)} labels")
        if ahead < 1 or (workers is not None and workers < 1):
            raise ValueError(f"{workers} workers, {ahead} batches ahead; both must be at least 1")
        self.labels = labels
        self.names = Located(dataset, records)
        self.crops = augment is not None and augment.crops
        self._dataset = dataset
        self._records = records
        self._preprocessing = preprocessing
        self._squash = replace(preprocessing, fit="squash", interpolation="bilinear")
        self._augment = augment or Augment()
        self._workers = workers or default_workers()
        self._ahead = ahead
        self._progress = progress

    def __len__(self) -> int:
        return len(self._records)

    def batches(self, wanted: Wanted) -> Generator[Tensor]:
        pool = ThreadPoolExecutor(self._workers, thread_name_prefix="images")
        waiting: deque[tuple[NDArray[np.uint8], list[Future[None]]]] = deque()
        try:
            for indices, seed in wanted:
                waiting.append(self._begin(pool, indices.tolist(), seed))
                if len(waiting) > self._ahead:
                    yield _finished(*waiting.popleft())
            while waiting:
                yield _finished(*waiting.popleft())
        finally:
            # Not waited for: this may run in one of its threads, if that is where the garbage is collected.
            pool.shutdown(wait=False, cancel_futures=True)

    def sha256(self) -> str:
        """Of what is in the files, of their order and labels, and of how images are prepared."""
        a = self._augment
        how = json.dumps([self._preprocessing.to_json(), self.crops and [a.scale, a.ratio, a.sides]])
        # what cannot be read ends the run when it is its turn
        contents = [sha256 or record.path for sha256, record in zip(self.contents, self._records, strict=True)]
        return digest(self.labels, DECODER, how, *contents)

    @cached_property
    def contents(self) -> list[str]:
        """The SHA-256 of the files, for which each is read once; empty for one that cannot be read."""
        found: list[str] = []
        for item in hashed(self._dataset, self._records):
            found.append(item.sha256)
            self._progress("read", len(found), len(self._records))
        return found

    def _begin(
        self, pool: ThreadPoolExecutor, indices: list[int], seed: int
    ) -> tuple[NDArray[np.uint8], list[Future[None]]]:
        size, channels = self._preprocessing.size, self._preprocessing.channels
        batch = np.empty((len(indices), size, size, channels), np.uint8)
        # Filled row by row, so that an image's draws do not depend on how many come after it.
        draws = np.random.Generator(np.random.PCG64(seed)).random((len(indices), TRIES, 4))

        def fill(places: range) -> None:
            for place in places:
                batch[place] = self._image(indices[place], draws[place])

        starts = range(0, len(indices), _TOGETHER)
        return batch, [pool.submit(fill, range(i, min(i + _TOGETHER, len(indices)))) for i in starts]

    def _image(self, index: int, draws: NDArray[np.float64]) -> NDArray[np.uint8]:
        """One image, (size, size, channels)."""
        record = self._records[index]

        def part(width: int, height: int) -> Box:
            if self._augment.sides[1]:
                return scaled_box(width, height, draws, self._augment, size)
            return random_box(width, height, draws, self._augment)

        size, background = self._preprocessing.size, self._preprocessing.background
        try:
            data = self._dataset.read(record)
            if not self.crops:
                return self._preprocessing.pixels(decode(data, background=background)[0])
            pixels = decode_part(data, part, least=_MARGIN * size, background=background)
        except DecodeError as error:
            raise ConvAtlasError(
                f"{self.names[index]}: {error.reason}.",
                remedy=f"Remove or replace it; `convatlas check {self._dataset.root}` names all such files.",
            ) from None
        if _VECTORISED and self._preprocessing.channels == 3:
            return _resized(pixels, size)
        return self._squash.pixels(pixels)


class Located(Sequence[str]):
    """Where files are, found out when somebody asks."""

    def __init__(self, dataset: Dataset, records: Sequence[Record]) -> None:
        self._dataset = dataset
        self._records = records

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return Located(self._dataset, self._records[index])
        return self._dataset.locate(self._records[index])


def random_box(width: int, height: int, draws: NDArray[np.float64], augment: Augment) -> Box:
    """A crop of `augment.scale` of the image's area and of an aspect ratio within `augment.ratio`, uniform in the logarithm.

    As torchvision's `RandomResizedCrop.get_params`: the first of `TRIES` boxes that fits, each from four of `draws` (tries, 4), which are
    uniform in [0, 1); if none does, the largest centred one of an allowed ratio, whatever its area.
    """
    low, high = (math.log(bound) for bound in augment.ratio)
    least, most = augment.scale
    for area, ratio, top, left in draws.tolist():
        pixels = width * height * (least + (most - least) * area)
        aspect = math.exp(low + (high - low) * ratio)
        wide, tall = round(math.sqrt(pixels * aspect)), round(math.sqrt(pixels / aspect))
        if 0 < wide <= width and 0 < tall <= height:
            x, y = int(left * (width - wide + 1)), int(top * (height - tall + 1))
            return x, y, x + wide, y + tall
    wide = min(width, max(1, round(height * augment.ratio[1])))
    tall = min(height, max(1, round(width / augment.ratio[0])))
    x, y = (width - wide) // 2, (height - tall) // 2
    return x, y, x + wide, y + tall


def scaled_box(width: int, height: int, draws: NDArray[np.float64], augment: Augment, size: int) -> Box:
    """A square crop of `size` pixels of the image scaled so that its shorter side is drawn from `augment.sides`, as the VGGs and ResNets
    were trained (Simonyan, Zisserman. 2014. https://arxiv.org/abs/1409.1556, section 3.1); at most the shorter side.

    Uses the first row of `draws` (tries, 4).
    """
    scale, _, top, left = draws[0].tolist()
    least, most = augment.sides
    shorter = min(width, height)
    edge = min(max(round(shorter * size / (least + (most - least) * scale)), 1), shorter)
    x, y = int(left * (width - edge + 1)), int(top * (height - edge + 1))
    return x, y, x + edge, y + edge


def _resized(pixels: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """(h, w, 3) to (size, size, 3), bilinear, antialiased where it shrinks."""
    # By reshape, not by [None]: torch recognises channels last by the stride of the batch, which for [None] is 0, and would copy twice.
    image = torch.from_numpy(pixels.reshape(1, *pixels.shape)).permute(0, 3, 1, 2)
    return F.interpolate(image, (size, size), mode="bilinear", antialias=True)[0].permute(1, 2, 0).numpy()


def _finished(batch: NDArray[np.uint8], parts: list[Future[None]]) -> Tensor:
    for part in parts:
        part.result()
    return torch.from_numpy(batch).permute(0, 3, 1, 2)
