"""Tar archives, read in place: one, or the shards into which large sets are cut (as for WebDataset, https://github.com/webdataset/webdataset).

A tar file has no index, so the headers are walked once (0.05 ms of processor time a member, whatever its size) and the place of each file
is kept; from then on any file is one read, from any thread. That needs archives that are not compressed; photos would not shrink anyway.
"""

from __future__ import annotations

import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from convatlas.data.facts import DecodeError
from convatlas.data.problems import Problem, count, listing, printable
from convatlas.data.sniff import IMAGE_EXTENSIONS, PREFIX_BYTES, extension
from convatlas.data.sources import MOST_BYTES, Source, is_junk, listing_problems, reason_of, unreadable
from convatlas.errors import ConvAtlasError

LABEL = ".cls"  # of a file that holds the class of the images of its name
_COMPRESSED = {b"\x1f\x8b": "gzip", b"\xfd7zXZ": "xz", b"BZh": "bzip2", b"\x28\xb5\x2f\xfd": "zstd"}
_COMPRESSED_NAMES = re.compile(r"\.(tar\.[a-z0-9]+|tgz|txz|tbz2?)$", re.IGNORECASE)
_MOST_SHARDS = 1_000_000
_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")


@dataclass(frozen=True, slots=True)
class Member:
    """Where a file's bytes are."""

    shard: int
    inside: str  # its path in the archive
    offset: int
    bytes_: int


class TarSource:
    """One tar archive, or several that are read as one; several threads may read at once. Survives pickling.

    Below a common `root`, the folders in which the archives lie are part of the paths (`train/000.tar` is a training part), the archives'
    own names are not: a class may go on from one to the next. Only where archives hold `LABEL` files, whose names go with images of one
    archive, are paths those of the archive and within it.
    """

    def __init__(self, root: Path, shards: tuple[Path, ...] = ()) -> None:
        """`root` is the archive, or what `shards` lie in. Raises `ConvAtlasError` for archives that are damaged or compressed."""
        self.root = root
        self._shards = shards or (root,)
        self._several = bool(shards)
        self._members: dict[str, Member] = {}
        folders: dict[str, None] = {}
        junk: dict[str, None] = {}
        special: list[str] = []
        repeated: list[str] = []
        unended: list[str] = []
        found: list[Member] = []
        for number, shard in enumerate(self._shards):
            ended = False
            for info, ended in _walk(shard):  # noqa: B007 - how the last one ended counts
                if info is None:
                    continue
                parts = [part for part in printable(info.name).split("/") if part not in ("", ".")]
                hidden = next((place for place, part in enumerate(parts) if is_junk(part)), None)
                if hidden is not None:  # ".." among them: a name that points out of the archive
                    junk["/".join(parts[: hidden + 1])] = None
                elif parts and info.isdir():
                    folders["/".join([*self._above(shard), *parts])] = None
                elif parts and (not info.isreg() or info.issparse()):
                    special.append("/".join(parts))
                elif parts:
                    found.append(Member(number, "/".join(parts), info.offset_data, info.size))
            if not ended:
                unended.append(printable(shard.name))
        paired = any(extension(member.inside) == LABEL for member in found)
        for member in found:
            shard = self._shards[member.shard]
            own = (printable(shard.name),) if paired and self._several else ()
            path = "/".join([*self._above(shard), *own, member.inside])
            there = self._members.get(path)
            # within one archive the later replaces the earlier, as for tar itself
            if there and there.shard != member.shard:
                repeated.append(path)
                continue
            self._members[path] = member
            steps = path.split("/")
            for depth in range(1, len(steps)):
                folders["/".join(steps[:depth])] = None
        self.files, self.folders = tuple(sorted(self._members)), tuple(sorted(folders))
        self.problems = (*listing_problems(sorted(junk)), *_problems(special, repeated, unended))

    @property
    def archives(self) -> int:
        """How many there are."""
        return len(self._shards)

    def read(self, path: str) -> bytes:
        member = self._members.get(path)
        if member is None:
            raise unreadable(path, "the archive holds no such file")
        if member.bytes_ > MOST_BYTES:
            raise unreadable(path, f"it has {member.bytes_:,} bytes; at most {MOST_BYTES:,} are read")
        return self._read(path, member, member.bytes_)

    def prefix(self, path: str) -> bytes:
        member = self._members[path]
        try:
            return self._read(path, member, min(PREFIX_BYTES, member.bytes_))
        except DecodeError:
            return b""

    def locate(self, path: str) -> str:
        member = self._members.get(path)
        return printable(str(self.root)) + f"/{path}" if member is None else self._place(member)

    def __reduce__(self) -> tuple[type[TarSource], tuple[Path, tuple[Path, ...]]]:
        return TarSource, (self.root, self._shards if self._several else ())

    def _above(self, shard: Path) -> tuple[str, ...]:
        """The folders between the root and an archive."""
        if not self._several or not self.root.is_dir():
            return ()
        return tuple(printable(part) for part in shard.relative_to(self.root).parts[:-1])

    def _place(self, member: Member) -> str:
        return f"{printable(str(self._shards[member.shard]))}/{member.inside}"

    def _read(self, path: str, member: Member, bytes_: int) -> bytes:
        try:
            # Opened for each file: 0.02 ms with the reading. It needs no lock, and thousands of shards are never open at once.
            with self._shards[member.shard].open("rb", buffering=0) as file:
                file.seek(member.offset)
                data = file.read(bytes_)
                while len(data) < bytes_ and (more := file.read(bytes_ - len(data))):
                    data += more
        except (OSError, ValueError) as error:
            raise unreadable(path, reason_of(error)) from None
        if len(data) < bytes_:
            raise unreadable(path, f"{self._place(member)} ends before it does")
        return data


def is_tar(path: Path) -> bool:
    """By content, or by its name where that says so. Raises `ConvAtlasError` for one that is compressed."""
    try:
        with path.open("rb") as file:
            start = file.read(512)
    except OSError:
        start = b""
    kind = next((name for magic, name in _COMPRESSED.items() if start.startswith(magic)), None)
    if _COMPRESSED_NAMES.search(path.name) or (kind and extension(path.name) in (".tar", ".gz", ".xz", ".bz2", ".zst")):
        raise ConvAtlasError(
            f"{printable(str(path))} is compressed{f' ({kind})' if kind else ''}: to read one image, all before it would be unpacked.",
            remedy="Unpack it and give the folder, or give the archive as a plain .tar.",
        )
    return start[257:262] == b"ustar" or extension(path.name) == ".tar"


def matching(pattern: Path) -> tuple[Path, ...]:
    """The archives of a pattern such as `train-{000..145}.tar` or `train-*.tar`; none where it is no pattern.

    Raises `ConvAtlasError` where one of a range is missing.
    """
    if not any(mark in pattern.name for mark in "*?{"):
        return ()
    ranged = _RANGE.search(pattern.name)
    if not ranged:
        return tuple(sorted(path for path in pattern.parent.glob(pattern.name) if path.is_file()))
    first, last = ranged.groups()
    if int(last) - int(first) > _MOST_SHARDS:
        raise ConvAtlasError(f"{printable(str(pattern))} means over {_MOST_SHARDS:,} archives.", remedy="Give fewer.")
    names = [
        pattern.name[: ranged.start()] + str(number).zfill(len(first)) + pattern.name[ranged.end() :]
        for number in range(int(first), int(last) + 1)
    ]
    missing = [name for name in names if not (pattern.parent / name).is_file()]
    if missing:
        raise ConvAtlasError(
            f"of {count(len(names), 'archive')} {printable(str(pattern))}, {len(missing):,} are not there: {listing(missing)}.",
            remedy="Fetch them, or give the range that is there.",
        )
    return tuple(pattern.parent / name for name in names)


def archives_among(source: Source) -> tuple[Path, ...]:
    """The tar archives in a folder that holds no images beside them; compressed ones too, for which there is a word to say."""
    if any(extension(path) in IMAGE_EXTENSIONS for path in source.files):
        return ()
    found = (path for path in source.files if extension(path) == ".tar" or _COMPRESSED_NAMES.search(path))
    return tuple(source.root / path for path in found)


def _walk(shard: Path) -> Iterator[tuple[tarfile.TarInfo | None, bool]]:
    """The members in order, then None with whether the archive has its end mark. Raises `ConvAtlasError` for one that is damaged."""
    is_tar(shard)  # which refuses a compressed one
    try:
        bytes_ = shard.stat().st_size
        with tarfile.open(shard, "r:", encoding="utf-8", errors="surrogateescape") as archive:
            at = -1
            while (info := archive.next()) is not None:
                # It would keep a kilobyte for each. The stubs lack the attribute, though every Python has it.
                archive.members.clear()  # pyright: ignore[reportAttributeAccessIssue] - the stubs lack it
                if info.size < 0 or archive.offset <= at:
                    raise tarfile.ReadError(f"the size of {info.name} is nonsense")
                # what a sparse file or a link announces is not what is stored
                if info.isreg() and not info.issparse() and info.offset_data + info.size > bytes_:
                    raise tarfile.ReadError(f"it ends inside {info.name}")
                at = archive.offset
                yield info, False
            rest = archive.offset
        with shard.open("rb") as file:
            # tarfile takes a damaged header for the end
            file.seek(rest)
            block = file.read(tarfile.BLOCKSIZE)
        if any(block):
            raise tarfile.ReadError(f"its header at byte {rest:,} is damaged")
        yield None, len(block) == tarfile.BLOCKSIZE
    except (OSError, tarfile.TarError, ValueError, OverflowError, EOFError) as error:
        raise ConvAtlasError(
            f"the tar archive {printable(str(shard))} cannot be read: {reason_of(error)}.",
            remedy="Fetch it again, or unpack what `tar` can of it and give the folder.",
        ) from None


def _problems(special: list[str], repeated: list[str], unended: list[str]) -> Iterator[Problem]:
    if special:
        yield Problem(
            kind="not-a-file",
            severity="warning",
            paths=tuple(special),
            message=f"{count(len(special), 'link, device or sparse file', 'links, devices or sparse files')} left out: {listing(special)}.",
            remedy="Pack the files themselves, as `tar --dereference --hard-dereference` does.",
        )
    if repeated:
        yield Problem(
            kind="repeated-member",
            severity="warning",
            paths=tuple(repeated),
            message=f"{count(len(repeated), 'file')} in more than one archive under the same path; the first is used: {listing(repeated)}.",
            remedy="Give them different names.",
        )
    if unended:
        yield Problem(
            kind="no-end-mark",
            severity="warning",
            paths=tuple(unended),
            message=f"{count(len(unended), 'archive')} without the mark that ends a tar file: {listing(unended)}.",
            remedy="If it was cut short, fetch it again; some programs leave the mark out.",
        )
