"""Small images by the hundred thousand: decoded once into one file, which is then mapped into memory and read in place.

The file is in the cache (`convatlas cache` shows and prunes it) under the hash of all that decides its bytes: the contents of the image
files, the preprocessing, the decoder. It holds one row an image, in the order of the contents' hashes, so that a renamed, moved or
relabelled set finds it again and equal files share a row; then a checksum a row; then what it is. It arrives whole or not at all, and
every row is checked when it is opened: a damaged file is built anew.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from convatlas import cache
from convatlas.data import DECODER, Dataset, DecodeError, Facts, Preprocessing, Record, examine
from convatlas.errors import ConvAtlasError
from convatlas.train.checkpoint import sync_folder
from convatlas.train.images import Wanted, digest
from convatlas.train.streamed import Located

Progress = Callable[[str, int, int], None]  # what is being done, how much of it is done, of how much

_CHECKSUM = 16  # bytes a row
_READ_ONLY = Facts(format="", width=0, height=0, mode="")  # said of every file, so that it is hashed and not decoded


class Cached:
    """The images of `records`, each prepared by `preprocessing` once; the files are read again by every run, but not decoded.

    Files that cannot be read or decoded are left out: `failures` names them, and labels and names are of the others.
    """

    crops = False

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
        for item in examine(dataset, records, known=lambda sha256: _READ_ONLY):
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
        identity = {
            "what": "decoded images",
            "files": hashlib.sha256("".join(contents).encode()).hexdigest(),
            "preprocessing": {k: v for k, v in preprocessing.to_json().items() if k not in ("mean", "std")},
            "decoder": DECODER,
        }
        shape = (preprocessing.channels, preprocessing.size, preprocessing.size)
        self.path = cache.pixels_path(identity)
        found = _opened(self.path, identity, len(contents), shape, say)
        if found is None:
            first = dict(zip(reversed(sha256s), reversed(records), strict=True))
            needed = [first[sha256] for sha256 in contents]
            with _alone(self.path.parent):  # another process may have built it meanwhile
                found = _opened(self.path, identity, len(contents), shape, say)
                if found is None:
                    _build(self.path, identity, contents, needed, dataset, preprocessing, progress)
                    found = _opened(self.path, identity, len(contents), shape, say)
            cache.prune(keep=(self.path,))
        if found is None:
            raise ConvAtlasError(
                f"{self.path} cannot be read back.", remedy="Set CONVATLAS_CACHE to a folder on a sound disk."
            )
        self._pixels, undecoded = found
        row = {sha256: place for place, sha256 in enumerate(contents)}
        for place, sha256 in enumerate(sha256s):
            if sha256 in undecoded:
                failures[place] = DecodeError.from_json(undecoded[sha256]).named(dataset.locate(records[place]))
        kept = [place for place in range(len(records)) if place not in failures]
        self.failures = tuple(failures[place] for place in sorted(failures))
        self.labels = labels[kept]
        self.names = Located(dataset, [records[place] for place in kept])
        self._rows = np.array([row[sha256s[place]] for place in kept], dtype=np.int64)

    def __len__(self) -> int:
        return len(self._rows)

    def batches(self, wanted: Wanted) -> Generator[Tensor]:
        for indices, _ in wanted:
            yield torch.from_numpy(self._pixels[self._rows[indices.numpy()]])

    def sha256(self) -> str:
        return digest(self.labels, self.path.stem, torch.from_numpy(self._rows))


def _opened(
    path: Path, identity: Mapping[str, Any], count: int, shape: tuple[int, int, int], say: Callable[[str], None]
) -> tuple[NDArray[np.uint8], Mapping[str, Any]] | None:
    """The rows (n, c, h, w), all of them sound, and what could not be decoded; None where the file is not there or damaged."""
    if not path.exists():
        return None
    try:
        about = cache.described(path)
        if about["identity"] != identity or about["images"] != count:
            raise ValueError("it is described as something else")
        pixels = np.memmap(path, np.uint8, "r", shape=(count, *shape))
        sums = np.memmap(path, np.uint8, "r", offset=pixels.nbytes, shape=(count, _CHECKSUM))
        for place in range(count):
            if _checksum(pixels[place]) != sums[place].tobytes():
                raise ValueError(f"image {place} does not match its checksum")
        os.utime(path)  # when it was last used, for pruning
    except (OSError, ValueError, KeyError, TypeError) as error:
        say(f"{path} is damaged ({error}) and built anew")
        return None
    return pixels, about["failures"]


def _build(
    path: Path,
    identity: Mapping[str, Any],
    contents: Sequence[str],
    records: Sequence[Record],
    dataset: Dataset,
    preprocessing: Preprocessing,
    progress: Progress,
) -> None:
    each = preprocessing.channels * preprocessing.size**2
    _ensure_room(path.parent, len(contents) * (each + _CHECKSUM))
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    undecoded: dict[str, Any] = {}
    try:
        with partial.open("wb") as file:
            sums = bytearray()
            for place, item in enumerate(examine(dataset, records, preprocessing=preprocessing)):
                if item.sha256 != contents[place]:
                    raise ConvAtlasError(
                        f"{dataset.locate(item.record)} changed while it was read.",
                        remedy="Repeat the command when nothing writes there.",
                    )
                if item.failure:
                    undecoded[item.sha256] = item.failure.to_json()
                row = bytes(each) if item.pixels is None else item.pixels.transpose(2, 0, 1).tobytes()
                file.write(row)
                sums += _checksum(row)
                progress("decode", place + 1, len(records))
            file.write(sums)
            file.write(cache.description(identity, images=len(contents), failures=undecoded))
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        raise ConvAtlasError(
            f"{path}: the decoded images cannot be written ({error}).",
            remedy="Make room, or set CONVATLAS_CACHE to a folder on another disk.",
        ) from error
    finally:
        with contextlib.suppress(OSError):  # there only if something failed, and removed by the next build otherwise
            partial.unlink()


def _ensure_room(folder: Path, bytes_: int) -> None:
    limit, free = cache.size_limit(), shutil.disk_usage(folder).free
    if bytes_ > limit:
        raise ConvAtlasError(
            f"the decoded images take {bytes_ / 1e6:,.1f} MB, and the cache may hold {limit / 1e6:,.1f} MB.",
            remedy="Raise CONVATLAS_CACHE_LIMIT, or read the images as they are needed instead of caching them.",
        )
    if bytes_ > free:
        raise ConvAtlasError(
            f"{folder}: {free / 1e6:,.1f} MB are free, and the decoded images take {bytes_ / 1e6:,.1f} MB.",
            remedy="Make room, or set CONVATLAS_CACHE to a folder on another disk.",
        )


def _checksum(row: Any) -> bytes:
    return hashlib.blake2b(row, digest_size=_CHECKSUM).digest()


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One build at a time; what killed ones left is removed. A lock of the operating system's, free again when its holder is killed."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / ".pixels.lock").open("w")
    except OSError as error:
        raise ConvAtlasError(
            f"{folder}: the cache cannot be written ({error}).", remedy="Set CONVATLAS_CACHE to a writable folder."
        ) from error
    with lock:
        try:
            import fcntl
        except ImportError:  # Windows, which has no such locks: what is being written cannot be told from what was left
            yield
            return
        fcntl.flock(lock, fcntl.LOCK_EX)
        for left in folder.glob(".*.pixels.*.partial"):
            with contextlib.suppress(OSError):  # it takes up room, no more
                left.unlink()
        yield
