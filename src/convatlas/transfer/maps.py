"""Cached-prefix fine-tuning: what the frozen part of a network makes of an image does not change, so it is made once.

The maps at the cut lie in a mapped file of the cache (see `mapped`), one row for each way in which an image is shown; the part that trains
takes them from there. In float32 and without augmentation, training on them gives the same losses, bit for bit, as running the frozen
part every time: the maps are made in batches as large as those of training, since a kernel for another size may add in another order,
while what else is in the batch does not matter. In float16 they take half of the space, and losses are the same but for rounding. Konuk
et al. (Learning from Offline Foundation Features with Tensor Augmentations. 2024. https://arxiv.org/abs/2410.02527) keep features in the
same way.
"""

from __future__ import annotations

import json
import math
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, replace
from typing import Any, Literal

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from convatlas.cache import code_sha256
from convatlas.errors import ConvAtlasError
from convatlas.mapped import Rows, Unmappable, mapped
from convatlas.train.augment import augmented, standardised
from convatlas.train.config import Augment, TrainConfig
from convatlas.train.images import Images, Wanted, digest
from convatlas.train.order import seed_of
from convatlas.transfer.kept import CODE
from convatlas.zoo.inference import apart, stacked

Precision = Literal["float32", "float16"]  # of numbers that are kept
MOST = 65504.0  # in float16


class TooLarge(ConvAtlasError):
    """A map has numbers that float16 does not have."""


class Maps:
    """The maps (n, c, h, w) of labelled images at a cut, those of several squares one under the other, with `views` ways to see each:
    batches take one of them by their seed."""

    crops, prepared = False, True

    def __init__(self, rows: NDArray[Any], views: int, labels: Tensor, names: Sequence[str], key: str) -> None:
        self.rows, self.views = rows, views
        self.labels, self.names = labels, names
        self._key = key

    def __len__(self) -> int:
        return len(self.labels)

    def batches(self, wanted: Wanted) -> Generator[Tensor]:
        for indices, seed in wanted:
            place = indices * self.views
            if self.views > 1:
                draws = torch.Generator().manual_seed(seed)
                place = place + torch.randint(self.views, (len(indices),), generator=draws)
            yield torch.from_numpy(self.rows[place.numpy()])

    def sha256(self) -> str:
        return digest(self.labels, self._key)


class Squares:
    """Images of several squares each, as a network takes them: every square changed at random by itself, then standardised."""

    crops, prepared = False, True

    def __init__(self, images: Images, config: TrainConfig) -> None:
        self.labels, self.names = images.labels, images.names
        self._images, self._config = images, config

    def __len__(self) -> int:
        return len(self.labels)

    def batches(self, wanted: Wanted) -> Generator[Tensor]:
        config, seeds = self._config, deque[int]()

        def noted() -> Iterator[tuple[Tensor, int]]:
            for pair in wanted:
                seeds.append(pair[1])
                yield pair

        for pixels in self._images.batches(noted()):
            x, draws = apart(pixels).float() / 255, torch.Generator().manual_seed(seeds.popleft())
            x = augmented(x, config.image_size, config.augment, draws, colour=config.mean)
            yield stacked(standardised(x, config), len(pixels))

    def sha256(self) -> str:
        c = self._config
        return digest(self._images.sha256(), json.dumps([asdict(c.augment), c.image_size, c.mean, c.std]))


def cached_maps(
    frozen: nn.Module,
    images: Images,
    config: TrainConfig,
    *,
    key: str,
    views: int = 1,
    dtype: Precision = "float32",
    device: str = "cpu",
    progress: Callable[[int, int], None] = lambda done, total: None,
    say: Callable[[str], None] = lambda message: None,
) -> Maps:
    """What `frozen` makes of `images`, standardised as `config` says, from the cache where it is there.

    `key` is a hash of what decides the frozen part's numbers: the weights and the cut. With more than one of `views`, each is a draw of
    the config's augmentation, so many an image; else the images are shown as they are. Raises `Unmappable` for a network whose blocks pass
    more than one map, and where there is no room; `TooLarge` where float16 cannot hold them.
    """
    frozen = frozen.to(device, memory_format=torch.channels_last).eval()  # pyright: ignore[reportCallIssue] - no such overload
    augment = config.augment if views > 1 else Augment()
    shown = replace(config, augment=augment)
    with torch.inference_mode():
        first = frozen(_shown(images, shown, [0], 0, device))
    if not isinstance(first, Tensor):
        raise Unmappable("blocks of this network pass two maps on, which are not cached.")
    identity = {
        "what": "maps of a frozen part",
        "key": key,
        "images": images.sha256(),
        "shown": [config.shown_size if views == 1 else config.image_size, config.mean, config.std],
        "views": [views, asdict(augment), config.seed] if views > 1 else 1,
        "batch": config.batch_size,
        "dtype": dtype,
        "torch": torch.__version__,
        "device": torch.cuda.get_device_name() if device == "cuda" else device,
        "code": code_sha256(*CODE),
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
    }
    rows = Rows(
        kind="maps",
        words="the cached maps",
        otherwise=f"fine-tune from a later stage{', or on maps in float16, which take half' * (dtype == 'float32')}",
        identity=json.loads(json.dumps(identity)),  # as it will be read back
        count=len(images) * views,
        shape=tuple(stacked(first, 1).shape[1:]),
        dtype=dtype,
    )

    def make(said: dict[str, Any]) -> Iterator[NDArray[Any]]:
        size = min(config.batch_size, len(images))
        for start in range(0, len(images), size):
            fresh = min(size, len(images) - start)
            chosen = [(start + i) % len(images) for i in range(size)]  # a last batch is filled up
            with torch.inference_mode():
                made = [frozen(_shown(images, shown, chosen, view, device)) for view in range(views)]
            for image in torch.stack([stacked(maps, size)[:fresh].cpu() for maps in made], dim=1).flatten(0, 1):
                yield image.numpy() if dtype == "float32" else _halved(image)
            progress(start + fresh, len(images))

    values, _ = mapped(rows, make, say)
    return Maps(values, views, images.labels, images.names, rows.path.stem)


def _halved(image: Tensor) -> NDArray[Any]:
    most = float(image.abs().max())
    if MOST < most < math.inf:
        raise TooLarge(f"the maps reach {most:,.0f}, and float16 ends at {MOST:,.0f}.", remedy="Keep them in float32.")
    return image.half().numpy()


def _shown(images: Images, config: TrainConfig, chosen: Sequence[int], view: int, device: str) -> Tensor:
    """The squares (b · m, c, h, w) of those images as the network sees them the `view`-th time, standardised."""
    with closing(images.batches([(torch.tensor(chosen), 0)])) as read:
        pixels = next(read).to(device).float() / 255
    if config.augment != Augment():
        drawn = [
            augmented(
                apart(x[None]),
                config.image_size,
                config.augment,
                _draws(config.seed, view, i, device),
                colour=config.mean,
            )
            for i, x in zip(chosen, pixels, strict=True)
        ]
        pixels = torch.cat(drawn)
    return standardised(apart(pixels), config).contiguous(memory_format=torch.channels_last)


def _draws(seed: int, view: int, image: int, device: str) -> torch.Generator:
    return torch.Generator(device).manual_seed(seed_of(seed, f"view {view}", image))
