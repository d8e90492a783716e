"""Sources of training images: the same batch whoever makes it, however many threads, wherever it starts; and nothing left behind."""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps
from torch import Tensor

from convatlas import cache
from convatlas.data import Dataset, Preprocessing, examine, scan
from convatlas.errors import ConvAtlasError
from convatlas.train import streamed
from convatlas.train.cached import Cached
from convatlas.train.config import Augment
from convatlas.train.images import Images, InMemory
from convatlas.train.streamed import Streamed, random_box, scaled_box

SQUARE = Preprocessing(size=16, resize=16, interpolation="bilinear")
GREY = Preprocessing(size=16, resize=16, interpolation="bilinear", channels=1, mean=(0.5,), std=(0.5,))
CROPS = Augment(scale=(0.08, 1.0))
COUNT = 14


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small photos of all sizes, some large enough to be decoded smaller, one turned by its EXIF orientation, one a PNG."""
    root = tmp_path_factory.mktemp("photos")
    generator = np.random.default_rng(0)
    for number in range(COUNT):
        coarse = Image.fromarray(generator.integers(0, 256, (7, 9, 3), dtype=np.uint8))
        image = coarse.resize((20 + 9 * number, 90 - 3 * number), Image.Resampling.BICUBIC)
        file = root / "ab"[number % 2] / f"{number:02}.{'png' if number == 5 else 'jpg'}"
        file.parent.mkdir(exist_ok=True)
        exif = Image.Exif()
        if number == 4:
            exif[274] = 6
        image.save(file, exif=exif)
    return root


def labels_of(dataset: Dataset) -> Tensor:
    return torch.tensor(["ab".index(record.label) for record in dataset.records])


def stream(root: Path, augment: Augment | None = CROPS, square: Preprocessing = SQUARE, **threads: Any) -> Streamed:
    dataset = scan(root)
    return Streamed(dataset, dataset.records, labels_of(dataset), square, augment=augment, **threads)


def cached(root: Path, square: Preprocessing = SQUARE, said: list[str] | None = None) -> Cached:
    dataset = scan(root)
    return Cached(dataset, dataset.records, labels_of(dataset), square, say=(said if said is not None else []).append)


def in_memory(root: Path, square: Preprocessing = SQUARE) -> InMemory:
    dataset = scan(root)
    pixels = [item.pixels for item in examine(dataset, dataset.records, preprocessing=square)]
    stacked = np.stack([p for p in pixels if p is not None]).transpose(0, 3, 1, 2)
    return InMemory(torch.from_numpy(stacked.copy()), labels_of(dataset), [dataset.locate(r) for r in dataset.records])


def wanted(batches: int = 6, size: int = 5) -> list[tuple[Tensor, int]]:
    draws = torch.Generator().manual_seed(0)
    return [(torch.randint(COUNT, (size,), generator=draws), 1000 + number) for number in range(batches)]


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("images")]


def wait_until_gone() -> None:
    for _ in range(500):
        if not threads():
            return
        time.sleep(0.01)
    pytest.fail(f"still there: {threads()}")


@pytest.mark.parametrize("square", [SQUARE, GREY], ids=["colour", "grey"])
def test_cached_equals_in_memory_equals_freshly_decoded(photos: Path, square: Preprocessing) -> None:
    sources: list[Images] = [
        in_memory(photos, square),
        cached(photos, square),
        cached(photos, square),
        stream(photos, None, square),
        stream(photos, Augment(flip=0.5), square),
    ]
    batches = [list(source.batches(wanted())) for source in sources]
    for source, found in zip(sources, batches, strict=True):
        assert not source.crops
        assert len(source) == COUNT
        assert torch.equal(source.labels, sources[0].labels)
        assert list(source.names) == list(sources[0].names)
        for batch, expected in zip(found, batches[0], strict=True):
            assert batch.dtype == torch.uint8
            assert torch.equal(batch, expected)


@pytest.mark.parametrize("vectorised", [True, False])
@pytest.mark.parametrize("square", [SQUARE, GREY], ids=["colour", "grey"])
def test_neither_threads_nor_how_far_they_are_ahead_nor_where_it_starts_change_a_pixel(
    photos: Path, square: Preprocessing, vectorised: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streamed, "_VECTORISED", vectorised)
    expected = list(stream(photos, square=square, workers=1, ahead=1).batches(wanted()))
    assert len({batch.numpy().tobytes() for batch in expected}) == len(expected)
    for workers, ahead in ((1, 4), (2, 1), (2, 3), (5, 2), (5, 50)):
        source = stream(photos, square=square, workers=workers, ahead=ahead)
        assert source.crops
        for start in (0, 1, 4):
            found = list(source.batches(wanted()[start:]))
            assert len(found) == len(expected) - start
            assert all(torch.equal(a, b) for a, b in zip(found, expected[start:], strict=True))


def test_an_image_depends_on_the_seed_and_its_place_alone(photos: Path) -> None:
    source = stream(photos)

    def batch(*indices: int, seed: int = 7) -> Tensor:
        (found,) = source.batches([(torch.tensor(indices), seed)])
        return found

    long = batch(3, 1, 4, 1, 5, 9, 2, 6)
    assert torch.equal(batch(3, 1, 4), long[:3])
    assert torch.equal(batch(8, 1, 8, 1)[1::2], long[1:4:2])
    assert not torch.equal(long[1], long[3])  # the same image in two places
    assert not torch.equal(batch(3, 1, 4, seed=8), long[:3])


def test_torch_and_pillow_resize_alike(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = torch.stack(list(stream(photos).batches(wanted()))).int()
    monkeypatch.setattr(streamed, "_VECTORISED", False)
    theirs = torch.stack(list(stream(photos).batches(wanted()))).int()
    assert (ours - theirs).abs().max() <= 1
    assert (ours != theirs).float().mean() < 0.05


def test_a_stream_shows_the_crop_it_says(photos: Path) -> None:
    """Against Pillow's own crop and resize of the whole image, by the box of the draws."""
    source, dataset = stream(photos), scan(photos)
    draws = np.random.Generator(np.random.PCG64(3)).random((COUNT, streamed.TRIES, 4))
    (found,) = source.batches([(torch.arange(COUNT), 3)])
    for place, record in enumerate(dataset.records):
        image = ImageOps.exif_transpose(Image.open(dataset.locate(record))).convert("RGB")
        crop = image.crop(random_box(*image.size, draws[place], CROPS)).resize((16, 16), Image.Resampling.BILINEAR)
        differences = np.abs(found[place].permute(1, 2, 0).numpy().astype(int) - np.asarray(crop))
        assert differences.mean() < 2.5, record.path  # decoded smaller, where it is large


@pytest.mark.parametrize("size", [(500, 375), (30, 400), (1, 1), (3, 2000), (1200, 7)])
@pytest.mark.parametrize("augment", [CROPS, Augment(scale=(0.5, 0.9), ratio=(1.0, 1.0))])
def test_boxes_lie_within_and_have_the_area_and_the_ratio(size: tuple[int, int], augment: Augment) -> None:
    width, height = size
    generator = np.random.default_rng(1)
    fitting = 0
    for _ in range(200):
        left, top, right, bottom = random_box(width, height, generator.random((10, 4)), augment)
        assert 0 <= left < right <= width
        assert 0 <= top < bottom <= height
        wide, high = right - left, bottom - top
        centred = (left, top) == ((width - wide) // 2, (height - high) // 2)
        low, most = (share * width * height for share in augment.scale)
        # the sides are rounded, so of the area and of the ratio all is known but for half a pixel of each
        fits = (wide - 0.5) * (high - 0.5) <= most and (wide + 0.5) * (high + 0.5) >= low
        assert fits or centred
        assert (wide - 0.5) / (high + 0.5) <= augment.ratio[1] or centred
        assert (wide + 0.5) / (high - 0.5) >= augment.ratio[0] or centred
        fitting += fits
    if size == (500, 375):
        assert fitting >= 190


def test_a_box_is_what_torchvision_computes_from_the_same_draws() -> None:
    """`RandomResizedCrop.get_params` of torchvision 0.29 draws area and logarithm of the ratio, then the corner of a box that fits."""

    def theirs(width: int, height: int, draws: np.ndarray) -> tuple[int, int, int, int]:
        scale, ratio = CROPS.scale, CROPS.ratio
        for area, skew, top, left in draws:
            target = height * width * (scale[0] + (scale[1] - scale[0]) * area)
            log = np.log(ratio)
            aspect = np.exp(log[0] + (log[1] - log[0]) * skew)
            w, h = round(np.sqrt(target * aspect)), round(np.sqrt(target / aspect))
            if 0 < w <= width and 0 < h <= height:
                i, j = int(top * (height - h + 1)), int(left * (width - w + 1))  # torch.randint's range
                return j, i, j + w, i + h
        if width / height < min(ratio):
            w, h = width, round(width / min(ratio))
        elif width / height > max(ratio):
            w, h = round(height * max(ratio)), height
        else:
            w, h = width, height
        i, j = (height - h) // 2, (width - w) // 2
        return j, i, j + w, i + h

    generator = np.random.default_rng(0)
    for size in ((500, 375), (375, 500), (30, 400), (400, 30), (64, 64), (200, 150), (8, 9)):
        for _ in range(100):
            draws = generator.random((10, 4))
            assert random_box(*size, draws, CROPS) == theirs(*size, draws)
        never = np.ones((10, 4)) - 1e-12 * np.arange(4)
        never[:, 1] = np.tile([0.0, 1.0], 5)
        assert random_box(*size, never, CROPS) == theirs(*size, never)


@pytest.mark.parametrize("how", ["closed", "dropped", "finished", "failed", "never begun"])
def test_threads_end(photos: Path, how: str) -> None:
    wait_until_gone()
    iterator = stream(photos, workers=3).batches(wanted(40))
    if how != "never begun":
        next(iterator)
        assert threads()
    if how == "closed":
        iterator.close()
    elif how == "finished":
        assert len(list(iterator)) == 39
    elif how == "failed":

        def broken() -> Iterator[tuple[Tensor, int]]:
            yield from wanted(2)
            raise RuntimeError("no more")

        iterator = stream(photos, workers=3).batches(broken())
        with pytest.raises(RuntimeError, match="no more"):
            list(iterator)
    del iterator
    gc.collect()
    wait_until_gone()


def test_the_stream_is_a_bounded_number_of_batches_ahead(photos: Path) -> None:
    taken = 0

    def counted() -> Iterator[tuple[Tensor, int]]:
        nonlocal taken
        for pair in wanted(30):
            taken += 1
            yield pair

    for consumed, _ in enumerate(stream(photos, workers=2, ahead=3).batches(counted()), start=1):
        assert taken <= consumed + 3
    assert taken == 30


@pytest.mark.parametrize("bad", [b"", b"<html>not found</html>", None], ids=["empty", "page", "gone"])
@pytest.mark.parametrize("workers", [1, 5])
def test_a_file_that_fails_is_named_where_its_batch_would_have_been(
    photos: Path, tmp_path: Path, bad: bytes | None, workers: int
) -> None:
    root = tmp_path / "copy"
    for file in photos.rglob("*.*"):
        (root / file.parent.name).mkdir(parents=True, exist_ok=True)
        (root / file.parent.name / file.name).write_bytes(file.read_bytes())
    source = stream(root, workers=workers)
    victim = Path(source.names[3])
    victim.unlink()
    if bad is not None:
        victim.write_bytes(bad)
    batches = source.batches([(torch.tensor(indices), 0) for indices in ([0, 1], [2, 4], [5, 3], [6, 7])])
    assert len(next(batches)) == len(next(batches)) == 2
    with pytest.raises(ConvAtlasError) as caught:
        next(batches)
    assert str(victim) in caught.value.message
    assert f"convatlas check {root}" in caught.value.remedy
    wait_until_gone()


def test_bad_arguments(photos: Path) -> None:
    dataset = scan(photos)
    for source in (Streamed, Cached):
        with pytest.raises(ValueError, match="14 records with 13 labels"):
            source(dataset, dataset.records, labels_of(dataset)[1:], SQUARE)
    for workers, ahead in ((0, 1), (1, 0)):
        with pytest.raises(ValueError, match="at least 1"):
            stream(photos, workers=workers, ahead=ahead)
    images, labels = torch.zeros(4, 3, 8, 8, dtype=torch.uint8), torch.zeros(4, dtype=torch.int64)
    for pixels, truth, names in (
        (images.float(), labels, []),
        (images[0], labels, []),
        (images, labels[1:], []),
        (images, labels, ["a"]),
    ):
        with pytest.raises(ValueError, match="images"):
            InMemory(pixels, truth, names)


def test_names_are_found_out_when_asked_for(photos: Path) -> None:
    dataset = scan(photos)
    names = stream(photos).names
    assert list(names) == [dataset.locate(record) for record in dataset.records]
    assert list(names[2:4]) == [names[2], names[3]]


def test_what_decides_the_batches_is_in_the_checksum(photos: Path) -> None:
    sources: list[Images] = [
        in_memory(photos),
        stream(photos),
        stream(photos, None),
        stream(photos, Augment(scale=(0.5, 1.0))),
        stream(photos, square=GREY),
        cached(photos),
        cached(photos, GREY),
    ]
    sums = [source.sha256() for source in sources]
    assert len(set(sums)) == len(sums)
    assert stream(photos, workers=3, ahead=1).sha256() == stream(photos).sha256()
    changed = in_memory(photos)
    changed.images[0, 0, 0, 0] += 1
    assert changed.sha256() != sums[0]


class TestCached:
    def test_a_second_run_decodes_nothing(self, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        first = cached(photos)
        before = first.path.stat().st_ino
        monkeypatch.setattr(
            sys.modules["convatlas.data.examine"], "decode", lambda *_, **__: pytest.fail("decoded again")
        )
        assert cached(photos).path.stat().st_ino == before
        (found,) = cache.contents()
        assert (found.path, found.entries) == (first.path, COUNT)
        assert found.identity["what"] == "decoded images"
        cache.prune(0)
        assert not first.path.exists()

    def test_moved_and_relabelled_files_are_found_again(self, photos: Path, tmp_path: Path) -> None:
        for number, file in enumerate(sorted(photos.rglob("*.*"), reverse=True)):
            (tmp_path / "s" / "ba"[number % 2]).mkdir(parents=True, exist_ok=True)
            (tmp_path / "s" / "ba"[number % 2] / f"{number}{file.suffix}").write_bytes(file.read_bytes())
        moved = cached(tmp_path / "s")
        assert moved.path == cached(photos).path
        (all_,) = moved.batches([(torch.arange(COUNT), 0)])
        assert torch.equal(all_, in_memory(tmp_path / "s").images)

    def test_other_preprocessing_and_other_files_are_other_caches(self, photos: Path, tmp_path: Path) -> None:
        paths = {cached(photos).path, cached(photos, GREY).path}
        for file in list(photos.rglob("*.*"))[1:]:
            (tmp_path / "s" / file.parent.name).mkdir(parents=True, exist_ok=True)
            (tmp_path / "s" / file.parent.name / file.name).write_bytes(file.read_bytes())
        paths.add(cached(tmp_path / "s").path)
        assert len(paths) == 3
        # what is done after the bytes are read is no other cache
        assert (
            cached(photos, Preprocessing(size=16, resize=16, interpolation="bilinear", mean=(0.1,) * 3)).path in paths
        )

    def test_equal_files_share_a_row_and_bad_ones_are_left_out(self, photos: Path, tmp_path: Path) -> None:
        one, other = sorted(photos.rglob("*.jpg"))[:2]
        for name, data in {
            "a/0.jpg": one.read_bytes(),
            "a/1.jpg": b"no image",
            "a/2.jpg": other.read_bytes(),
            "b/3.jpg": one.read_bytes(),
            "b/4.jpg": b"",
        }.items():
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_bytes(data)
        for _ in range(2):  # built, then found
            source = cached(tmp_path)
            assert [Path(name).name for name in source.names] == ["0.jpg", "2.jpg", "3.jpg"]
            assert source.labels.tolist() == [0, 0, 1]
            assert [failure.kind for failure in source.failures] == ["not-an-image", "empty"]
            assert "1.jpg" in str(source.failures[0])
            (batch,) = source.batches([(torch.arange(3), 0)])
            assert torch.equal(batch[0], batch[2])
            assert not torch.equal(batch[0], batch[1])
            assert cache.contents()[0].entries == 4

    def test_a_damaged_file_is_built_anew_wherever_the_damage_is(self, photos: Path) -> None:
        path = cached(photos).path
        sound = path.read_bytes()
        places = [0, 5000, COUNT * 768 - 1, COUNT * 768 + 3, len(sound) - 300, len(sound) - 8, len(sound) - 1]
        for damaged in (
            *(sound[:at] + bytes([sound[at] ^ 1]) + sound[at + 1 :] for at in places),
            sound[:-1],
            sound[:4000],
            b"",
            sound[768:],
        ):
            path.write_bytes(damaged)
            said: list[str] = []
            assert cached(photos, said=said).path == path
            assert path.read_bytes() == sound
            assert said[0].startswith(f"{path} is damaged")

    @pytest.mark.skipif(sys.platform == "win32", reason="kills a forked child")
    def test_a_killed_build_leaves_nothing_half(self, photos: Path) -> None:
        def killer(left: int) -> Callable[[str, int, int], None]:
            def tell(what: str, done: int, total: int) -> None:
                if (what, done) == ("decode", left):
                    os.kill(os.getpid(), signal.SIGKILL)

            return tell

        dataset, folder = scan(photos), cache.cache_folder()
        wait_until_gone()
        for left in (1, 7, COUNT):
            child = os.fork()
            if not child:
                Cached(dataset, dataset.records, labels_of(dataset), SQUARE, progress=killer(left))
                os._exit(0)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
            assert not list(folder.glob("*.pixels"))
            assert not cache.contents()
        assert list(folder.glob(".*.partial"))
        assert cached(photos).path.exists()
        assert not list(folder.glob(".*.partial"))  # what the killed ones left is gone

    def test_a_file_that_changes_while_it_is_read_is_named(self, photos: Path, tmp_path: Path) -> None:
        for number, file in enumerate(sorted(photos.rglob("*.jpg"))[:3]):
            (tmp_path / "ab"[number % 2]).mkdir(exist_ok=True)
            (tmp_path / "ab"[number % 2] / file.name).write_bytes(file.read_bytes())
        dataset = scan(tmp_path)

        def change(what: str, done: int, total: int) -> None:
            if (what, done) == ("read", total):
                Path(dataset.locate(dataset.records[0])).write_bytes(b"something else")

        with pytest.raises(ConvAtlasError, match="changed while it was read"):
            Cached(dataset, dataset.records, torch.zeros(3), SQUARE, progress=change)
        assert not [path for path in cache.cache_folder().iterdir() if "lock" not in path.name]

    def test_what_does_not_fit_is_told(self, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("CONVATLAS_CACHE_LIMIT", "10000")
        with pytest.raises(ConvAtlasError, match="the cache may hold 0.0 MB") as caught:
            cached(photos)
        assert "CONVATLAS_CACHE_LIMIT" in caught.value.remedy
        monkeypatch.delenv("CONVATLAS_CACHE_LIMIT")
        monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=5))
        with pytest.raises(ConvAtlasError, match="are free"):
            cached(photos)

    def test_nothing_that_can_be_read(self, tmp_path: Path) -> None:
        for name in "ab":
            (tmp_path / name).mkdir()
            (tmp_path / name / "1.jpg").symlink_to(tmp_path / "nowhere")
        with pytest.raises(ConvAtlasError, match="none of 2 images"):
            cached(tmp_path)


@given(st.integers(1, 900), st.integers(1, 900), st.integers(1, 300), st.integers(0, 200), st.integers(0, 2**32))
def test_a_crop_of_the_scaled_image_lies_in_it(width: int, height: int, size: int, range_: int, seed: int) -> None:
    augment, draws = Augment(sides=(256, 256 + range_)), np.random.default_rng(seed).random((10, 4))
    left, top, right, bottom = scaled_box(width, height, draws, augment, size)
    assert 0 <= left < right <= width and 0 <= top < bottom <= height and right - left == bottom - top
    shorter = min(width, height)
    shares = [min(size / side, 1) * shorter for side in (256 + range_, 256)]
    assert shares[0] - 1 <= right - left <= max(shares[1] + 1, 1)


def test_crops_of_scaled_photos_come_from_the_whole_file(photos: Path) -> None:
    """Against Pillow's own crop of the whole image, which is that of the scaled image, resized."""
    crops, larger = Augment(sides=(24, 40)), replace(SQUARE, size=20, resize=20)
    source, dataset = stream(photos, crops, larger), scan(photos)
    assert source.crops and source.sha256() != stream(photos, Augment(sides=(24, 41)), larger).sha256()
    draws = np.random.Generator(np.random.PCG64(3)).random((COUNT, streamed.TRIES, 4))
    (found,) = source.batches([(torch.arange(COUNT), 3)])
    for place, record in enumerate(dataset.records):
        image = ImageOps.exif_transpose(Image.open(dataset.locate(record))).convert("RGB")
        box = scaled_box(*image.size, draws[place], crops, 20)
        crop = image.crop(box).resize((20, 20), Image.Resampling.BILINEAR)
        differences = np.abs(found[place].permute(1, 2, 0).numpy().astype(int) - np.asarray(crop))
        assert differences.mean() < 2.5, record.path
