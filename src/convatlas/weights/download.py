"""Fetching weights when, and only when, the user allowed it: whole and verified into the ecosystem's cache folders, or not at all.

torchvision's files carry the start of their SHA-256 in the name and are fetched here; the hub's repositories are fetched by
`huggingface_hub`, and what it calls a file after is the file's SHA-256, which is compared as well.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import re
import sys
import urllib.request
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from convatlas.errors import ConvAtlasError
from convatlas.weights.caches import HUB_FILES, hub_cache, torch_checkpoints
from convatlas.weights.published import Published

Progress = Callable[[str, int, int], None]  # what is being fetched, how many megabytes of it are here, of how many

MIRROR = "CONVATLAS_MIRROR"  # names a folder on the web that has the files which are not on the hub
_TIMEOUT_SECONDS = 30.0  # of silence, not for the whole
_PIECE_BYTES = 1 << 20


def on_terminal(what: str, done: int, total: int) -> None:
    """Progress as one line on stderr that is written over and over; nothing where stderr is not a terminal."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r{what}: {done} of {total} MB" + ("\n" if done >= total else ""))
        sys.stderr.flush()


class _Steps:
    """Bytes as steps of a megabyte, each told once, the last one when all is there; of small files nothing is told."""

    def __init__(self, what: str, progress: Progress) -> None:
        self.what, self.progress, self.told = what, progress, 0

    def __call__(self, done: int, total: int) -> None:
        megabytes = round(max(done, total) / 1e6)
        step = megabytes if done >= total > 0 else min(done // 10**6, megabytes - 1)
        if step > self.told:
            self.told = step
            self.progress(self.what, step, megabytes)


def fetch_published(weights: Published, progress: Progress = on_terminal) -> Path:
    """The file of published weights, fetched into its library's own cache folder, checksum verified."""
    if weights.url is None:
        return fetch_repository(weights.tag, None, progress)
    mirror = os.environ.get(MIRROR)
    url = f"{mirror.rstrip('/')}/{weights.file}" if mirror else weights.url
    return fetch_file(url, torch_checkpoints() / weights.file, progress)


def fetch_file(url: str, target: Path, progress: Progress = on_terminal) -> Path:
    """Fetches `url` into `target`, whose name ends in the start of the content's SHA-256: `resnet50-11ad3fa6.pth`.

    It is written under another name and moved when it is whole and right, so a killed download never looks like a file.
    """
    digest, done, steps = hashlib.sha256(), 0, _Steps(f"fetch {target.name}", progress)
    partial = target.with_name(f"{target.name}.{uuid.uuid4().hex[:8]}.partial")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        request = urllib.request.Request(url, headers={"User-Agent": "convatlas"})
        with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS) as response, partial.open("wb") as file:
            total = int(response.headers.get("Content-Length") or 0)
            while piece := response.read(_PIECE_BYTES):
                file.write(piece)
                digest.update(piece)
                done += len(piece)
                steps(done, total)
        if done < total:
            raise OSError(f"the connection ended after {done:,} of {total:,} bytes")
        expected = re.search(r"-([0-9a-f]{8,})\.", target.name)
        if expected and not digest.hexdigest().startswith(expected[1]):
            raise ConvAtlasError(
                f"{url}: what came has SHA-256 {digest.hexdigest()[:16]}…, not {expected[1]}…, so it was thrown away.",
                remedy=f"Try again; if it stays, fetch {target.name} elsewhere and put it into {target.parent}.",
            )
        partial.replace(target)
    except (OSError, http.client.HTTPException, ValueError) as error:  # ValueError: a mirror that is no address
        raise ConvAtlasError(
            f"{url}: the download failed ({error}).",
            remedy=f"Fetch {target.name} elsewhere and put it into {target.parent}, or give it with --weights.",
        ) from error
    finally:
        partial.unlink(missing_ok=True)
    return target


def fetch_repository(repository: str, revision: str | None, progress: Progress = on_terminal) -> Path:
    """The weights file of a hub repository, fetched with its `config.json` into the hub's cache, checksum verified."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError
    from huggingface_hub.utils import tqdm

    steps = _Steps(f"fetch {repository}", progress)

    class Reported(tqdm):
        """Their bar, drawn by `progress`."""

        def display(self, *_: Any, **__: Any) -> None:
            steps(int(self.n), int(self.total or 0))

        def close(self) -> None:
            self.leave = False  # no line of its own behind
            super().close()

    def fetch(file: str) -> Path:
        found = hf_hub_download(
            repository,
            file,
            revision=revision,
            cache_dir=hub_cache(),
            endpoint=os.environ.get("HF_ENDPOINT"),  # now: the library keeps what it read when it was imported
            tqdm_class=Reported,
        )
        return Path(found)

    try:
        fetch("config.json")
        for file in HUB_FILES:
            try:
                path = fetch(file)
            except LocalEntryNotFoundError:  # offline, though also an EntryNotFoundError
                raise
            except EntryNotFoundError:
                continue
            _verify_blob(repository, path)
            return path
    except ConvAtlasError:
        raise
    except Exception as error:  # which classes the hub's transport raises differs from version to version
        raise ConvAtlasError(
            f"{repository}: the download failed ({_first_line(error)}).",
            remedy=f"Fetch the repository elsewhere, and give its folder with --weights or put it into {hub_cache()}.",
        ) from error
    raise ConvAtlasError(
        f"{repository}: has neither {' nor '.join(HUB_FILES)}.", remedy="Give a repository with weights for PyTorch."
    )


def _verify_blob(repository: str, path: Path) -> None:
    """The hub's cache names a large file after its SHA-256 and links to it; where it holds copies there is no name to compare."""
    named = path.readlink().name if path.is_symlink() else ""  # one step: a blob may itself be a link to a shared store
    if not re.fullmatch(r"[0-9a-f]{64}", named):
        return
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != named:
        for link in (path.resolve(), path.parent / path.readlink(), path):
            link.unlink(missing_ok=True)
        raise ConvAtlasError(
            f"{repository}/{path.name}: what came has SHA-256 {found[:16]}…, not {named[:16]}…, so it was thrown away.",
            remedy="Try again; if it stays, fetch the repository elsewhere and give its folder with --weights.",
        )


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
