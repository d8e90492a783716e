"""Small images by the hundred thousand: decoded once into one file, which is then mapped into memory and read in place.

The file is in the cache under the hash of all that decides its bytes: the contents of the image files, the preprocessing, the decoder. It
holds one row an image, in the order of the contents' hashes, so that a renamed, moved or relabelled set finds it again and equal files
share a row; see `mapped`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from convatlas.data import DECODER, PASSING, Dataset, DecodeError, Preprocessing, Record, examine, hashed
from convatlas.errors import ConvAtlasError
from convatlas.mapped import Rows, mapped
from convatlas.train.images import Wanted, digest
from convatlas.train.streamed import Located

Progress = Callable[[str, int, int], None]  # what is being done, how much of it is done, of how much


class Cached:
    """The images of `records`, each prepared by `preprocessing` once; the files are read again by every run, but not decoded.

    Files that cannot be read or decoded are left out: `failures` names them, and labels and names are of the others.
    """

    crops = prepared = False

    def __init__(
        self,
        dataset: Dataset,
        records: Sequence[Record],
        labels: Tensor,
        preprocessing: Preprocessing,
        *,
        progress: Progress = lambda what, done, total: None,
        say: Callable[[str], None] = lambda message: None,
    ) -> None:
        """`say` is told of a damaged file. Raises `ConvAtlasError` where the images do not fit into the cache or the disk."""
        if len(records) != len(labels):
            raise ValueError(f"{len(records)} records with {len(labels)} labels")
        failures: dict[int, DecodeError] = {}
        sha256s: list[str] = []
        for item in hashed(dataset, records):
            if item.failure:
                failures[len(sha256s)] = item.failure
            sha256s.append(item.sha256)
            progress("read", len(sha256s), len(records))
        contents = sorted(set(sha256s) - {""})
        if not contents:
            raise ConvAtlasError(
                f"{dataset.root}: none of {len(records)} images could be read.",
                remedy="`convatlas check` names each file and the reason.",
            )
        rows = Rows(
            kind="pixels",
            words="the decoded images",
            otherwise="read the images as they are needed instead of caching them",
            identity={
                "what": "decoded images",
                "files": hashlib.sha256("".join(contents).encode()).hexdigest(),
                "preprocessing": {k: v for k, v in preprocessing.to_json().items() if k not in ("mean", "std")},
                "decoder": DECODER,
            },
            count=len(contents),
            shape=(preprocessing.channels, *preprocessing.shape[:2]),
            dtype="uint8",
        )
        first = dict(zip(reversed(sha256s), reversed(records), strict=True))
        needed = [first[sha256] for sha256 in contents]
        self.path = rows.path
        self._pixels, undecoded = mapped(
            rows, lambda said: _decoded(contents, needed, dataset, preprocessing, said, progress), say
        )
        row = {sha256: place for place, sha256 in enumerate(contents)}
        for place, sha256 in enumerate(sha256s):
            if sha256 in undecoded:
                failures[place] = DecodeError.from_json(undecoded[sha256]).named(dataset.locate(records[place]))
        kept = [place for place in range(len(records)) if place not in failures]
        self.failures = tuple(failures[place] for place in sorted(failures))
        self.labels = labels[kept]
        self.names = Located(dataset, [records[place] for place in kept])
        self.contents = [sha256s[place] for place in kept]
        self._rows = np.array([row[sha256] for sha256 in self.contents], dtype=np.int64)

    def __len__(self) -> int:
        return len(self._rows)

    def batches(self, wanted: Wanted) -> Generator[Tensor]:
        for indices, _ in wanted:
            yield torch.from_numpy(self._pixels[self._rows[indices.numpy()]])

    def sha256(self) -> str:
        return digest(self.labels, self.path.stem, torch.from_numpy(self._rows))


def _decoded(
    contents: Sequence[str],
    records: Sequence[Record],
    dataset: Dataset,
    preprocessing: Preprocessing,
    said: dict[str, Any],
    progress: Progress,
) -> Iterator[NDArray[np.uint8]]:
    """The images in the order of their contents, black where one cannot be decoded: then `said` has the reason."""
    shape = (preprocessing.channels, *preprocessing.shape[:2])
    for place, item in enumerate(examine(dataset, records, preprocessing=preprocessing)):
        if item.sha256 != contents[place]:
            raise ConvAtlasError(
                f"{dataset.locate(item.record)} changed while it was read.",
                remedy="Repeat the command when nothing writes there.",
            )
        if item.failure and item.failure.kind == PASSING:
            raise ConvAtlasError(f"{dataset.locate(item.record)}: {item.failure}", remedy="Try again with more memory.")
        if item.failure:
            said[item.sha256] = item.failure.to_json()
        yield np.zeros(shape, np.uint8) if item.pixels is None else item.pixels.transpose(2, 0, 1)
        progress("decode", place + 1, len(records))
