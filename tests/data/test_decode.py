"""Decoding: equal to Pillow where Pillow is right, right where it is not, and `DecodeError` or nothing for any bytes."""

from __future__ import annotations

import contextlib
import io
import math
import pickle
import struct
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import nasty
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, ImageOps

from convatlas.data import MAX_PIXELS, Box, DecodeError, Facts, decode, decode_part

PHOTO = nasty.photo(1)
LOSSLESS: dict[str, dict[str, Any]] = {"WEBP": {"lossless": True}, "JPEG": {"quality": 95}}
GREY = np.asarray(PHOTO.convert("L"))


def pixels(data: bytes) -> np.ndarray:
    return np.asarray(decode(data)[0])


def failure(data: bytes, max_pixels: int = MAX_PIXELS) -> DecodeError:
    with pytest.raises(DecodeError) as caught:
        decode(data, name="some/file", max_pixels=max_pixels)
    assert str(caught.value).startswith("some/file: ")
    assert caught.value.remedy
    return caught.value


@pytest.mark.parametrize("folder", ["hymenoptera/val", "imagenet-sample"])
def test_photos_equal_pillow(shared: Path, folder: str) -> None:
    files = [path for path in (shared / "data" / folder).rglob("*") if path.is_file()]
    assert len(files) >= 100
    for path in files:
        data = path.read_bytes()
        theirs = Image.open(io.BytesIO(data))
        assert np.array_equal(pixels(data), np.asarray(ImageOps.exif_transpose(theirs).convert("RGB"))), path


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"quality": 100, "subsampling": 0},
        {"progressive": True, "subsampling": 1},
        {"keep_rgb": True},
        {"optimize": True, "restart_marker_rows": 1},
        {"exif": nasty.exif(1).tobytes(), "comment": b"hello"},
    ],
)
@pytest.mark.parametrize("size", [(96, 72), (1, 1), (17, 9)])
def test_jpeg_variants_equal_pillow(options: dict, size: tuple[int, int]) -> None:
    data = nasty.encoded(nasty.photo(2, *size), **options)
    assert np.array_equal(pixels(data), np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))


@pytest.mark.parametrize("format_", ["PNG", "BMP", "TIFF", "PPM", "WEBP"])
@pytest.mark.parametrize("mode", ["RGB", "L", "P", "1"])
def test_lossless_formats_return_the_pixels(format_: str, mode: str) -> None:
    if (format_, mode) in (("PPM", "P"), ("WEBP", "P"), ("WEBP", "1")):
        pytest.skip("the format has no such mode")
    image = PHOTO.convert(mode)
    decoded, facts = decode(nasty.encoded(image, format_, **LOSSLESS.get(format_, {})))
    assert decoded.mode == "RGB"
    assert np.array_equal(np.asarray(decoded), np.asarray(image.convert("RGB")))
    assert (facts.format, facts.width, facts.height, facts.frames, facts.alpha) == (format_, 96, 72, 1, False)
    assert facts.grey == (mode in ("L", "1"))


@pytest.mark.parametrize("format_", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied(format_: str, orientation: int) -> None:
    options = LOSSLESS.get(format_, {})
    data = nasty.encoded(PHOTO, format_, exif=nasty.exif(orientation), **options)
    stored = pixels(nasty.encoded(PHOTO, format_, **options))
    tagged = Image.fromarray(stored)
    tagged.getexif()[274] = orientation
    image, facts = decode(data)
    assert facts.orientation == orientation
    assert (facts.width, facts.height) == PHOTO.size
    assert np.array_equal(np.asarray(image), np.asarray(ImageOps.exif_transpose(tagged)))


PARTS = {
    "JPEG": {},
    "JPEG progressive": {"progressive": True},
    "PNG": {},
    "WEBP": {},
    "TIFF": {},
    "grey": {},
    "CMYK": {},
    "alpha": {},
}


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", PARTS)
def test_a_part_is_the_part_of_the_whole(kind: str, orientation: int) -> None:
    mode = {"grey": "L", "CMYK": "CMYK", "alpha": "RGBA"}.get(kind, "RGB")
    format_ = "PNG" if kind == "alpha" else kind.split()[0] if mode == "RGB" else "JPEG"
    data = nasty.encoded(PHOTO.convert(mode), format_, exif=nasty.exif(orientation).tobytes(), **PARTS[kind])
    whole, facts = decode(data)
    assert facts.orientation == orientation
    asked: list[tuple[int, int]] = []

    def part(width: int, height: int) -> Box:
        asked.append((width, height))
        return width // 5, height // 3, width - 7, height - 1

    box = part(*whole.size)
    found = decode_part(data, part)
    assert np.array_equal(found, np.asarray(whole)[box[1] : box[3], box[0] : box[2]])
    assert set(asked) == {whole.size}


@pytest.mark.parametrize("orientation", [1, 3, 6, 7])
@pytest.mark.parametrize("least", [0, 30, 60, 100, 210])
def test_a_large_part_is_decoded_smaller_and_shows_the_same(least: int, orientation: int) -> None:
    photo = nasty.photo(3, *((643, 487) if orientation == 1 else (640, 480)))
    data = nasty.encoded(photo, quality=95, exif=nasty.exif(orientation).tobytes())
    whole, _ = decode(data)
    box = (40, 30, whole.width - 60, whole.height - 50)
    found = decode_part(data, lambda width, height: box, least=least)
    wide, high = box[2] - box[0], box[3] - box[1]
    by = round(wide / found.shape[1])
    assert found.shape[:2] == pytest.approx((high / by, wide / by), abs=2)
    if least:  # as small as it may be, and no smaller
        assert min(wide, high) // by >= least
        assert by == 8 or min(wide, high) < 2 * by * least
    else:
        assert by == 1
    # the edges moved outwards to pixels of the smaller image
    outer = (box[0] // by * by, box[1] // by * by, math.ceil(box[2] / by) * by, math.ceil(box[3] / by) * by)
    expected = whole.resize((28, 28), Image.Resampling.BILINEAR, box=outer)
    shown = Image.fromarray(found).resize((28, 28), Image.Resampling.BILINEAR)
    assert np.abs(np.asarray(expected, float) - np.asarray(shown, float)).mean() < 1.0


@pytest.mark.parametrize("orientation", [1, 2, 8])
def test_small_parts_are_whole_pixels_of_the_smaller_image(orientation: int) -> None:
    for side in range(16, 40):
        data = nasty.encoded(nasty.photo(side, side, 30), exif=nasty.exif(orientation).tobytes())
        for least in (1, 2, 5):
            found = decode_part(data, lambda width, height: (0, 0, width, height), least=least)
            by = next(by for by in (8, 4, 2, 1) if min(side, 30) >= by * least)
            assert found.shape[:2] == tuple(math.ceil(s / by) for s in ((side, 30) if orientation == 8 else (30, side)))


@pytest.mark.parametrize("least", [0, 4])
def test_parts_of_damaged_files_fail_as_the_whole_does(least: int) -> None:
    large = nasty.encoded(nasty.photo(7, 400, 300), quality=95)
    damaged = [
        nasty.damaged_jpeg(),
        nasty.damaged_png(),
        large[: len(large) // 2],
        b"",
        b"<html>",
        nasty.bomb(),
        large[:90],
    ]
    for data in damaged:
        expected = failure(data)
        with pytest.raises(DecodeError) as caught:
            decode_part(data, lambda width, height: (0, 0, width, height), least=least, name="some/file")
        assert str(caught.value) == str(expected)
    with pytest.raises(DecodeError, match="at most 100 are"):
        decode_part(large, lambda width, height: (0, 0, width, height), max_pixels=100)


def test_sixteen_bits_are_scaled_alike() -> None:
    deep = GREY.astype(np.uint16) * 257
    expected = np.stack([GREY] * 3, axis=-1)
    for data in (
        nasty.encoded(Image.fromarray(deep), "PNG"),
        nasty.encoded(Image.fromarray(deep), "TIFF"),
        nasty.encoded(Image.fromarray(deep), "TIFF", compression="tiff_deflate"),
        b"P5 96 72 65535\n" + deep.astype(">u2").tobytes(),
        _colour_png(deep),
    ):
        image, facts = decode(data)
        assert facts.bits == 16
        assert np.array_equal(np.asarray(image), expected)
    assert decode(nasty.encoded(Image.fromarray(deep // 16), "PNG"))[1].peak < 0.07


def _colour_png(deep: np.ndarray) -> bytes:
    high, wide = deep.shape
    rows = np.stack([deep] * 3, axis=-1).astype(">u2").reshape(high, -1)
    raw = b"".join(b"\x00" + row.tobytes() for row in rows)
    header = nasty.png_chunk(b"IHDR", struct.pack(">IIBBBBB", wide, high, 16, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + nasty.png_chunk(b"IDAT", zlib.compress(raw)) + nasty.png_chunk(b"IEND", b"")


def test_white_is_zero_is_turned_round() -> None:
    deep = GREY.astype(np.uint16) * 257
    data = nasty.encoded(Image.fromarray(65535 - deep), "TIFF", tiffinfo={262: 0})
    assert getattr(Image.open(io.BytesIO(data)), "tag_v2")[262] == 0  # noqa: B009 - only TIFFs have it, and the type does not say so
    assert np.array_equal(pixels(data)[..., 0], GREY)


def test_float_from_zero_to_one_is_scaled() -> None:
    assert np.array_equal(pixels(nasty.encoded(Image.fromarray(GREY.astype(np.float32) / 255), "TIFF"))[..., 0], GREY)


@pytest.mark.parametrize("bad", [float("nan"), -0.01, 1.01, float("inf")])
def test_other_floats_are_refused(bad: float) -> None:
    samples = GREY.astype(np.float32) / 255
    samples[3, 4] = bad
    assert failure(nasty.encoded(Image.fromarray(samples), "TIFF")).kind == "float-range"


@pytest.mark.parametrize("background", [(255, 255, 255), (10, 200, 30)])
def test_transparency_is_composited(background: tuple[int, int, int]) -> None:
    clear = PHOTO.convert("RGBA")
    clear.putalpha(Image.fromarray(np.where(GREY > 128, 255, 0).astype(np.uint8)))
    palette = PHOTO.quantize(64)
    palette.info["transparency"] = bytes([0] * 10 + [255] * 54)
    one_colour = PHOTO.quantize(64)
    one_colour.info["transparency"] = 3
    for image in (clear, clear.convert("LA"), palette, one_colour):
        decoded, facts = decode(nasty.encoded(image, "PNG"), background=background)
        rgba = image.convert("RGBA")
        see_through = np.asarray(rgba.getchannel("A")) == 0
        assert facts.alpha
        assert see_through.any()
        assert (np.asarray(decoded)[see_through] == background).all()
        assert np.array_equal(np.asarray(decoded)[~see_through], np.asarray(rgba.convert("RGB"))[~see_through])
    opaque = PHOTO.convert("RGBA")
    assert not decode(nasty.encoded(opaque, "PNG"))[1].alpha


@pytest.mark.parametrize(("bits", "colour", "wide", "row", "clear"), [
    (2, 0, 4, bytes([0b00_01_10_11]), (1,)),
    (4, 0, 4, bytes([0x01, 0x6F]), (6,)),
    (8, 2, 2, bytes([1, 2, 3, 9, 8, 7]), (9, 8, 7)),
])  # fmt: skip
def test_transparent_colour_of_png(bits: int, colour: int, wide: int, row: bytes, clear: tuple[int, ...]) -> None:
    trns = struct.pack(f">{len(clear)}H", *clear)
    header = struct.pack(">IIBBBBB", wide, 1, bits, colour, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"tRNS", trns), (b"IDAT", zlib.compress(b"\x00" + row)), (b"IEND", b""))
    data = b"\x89PNG\r\n\x1a\n" + b"".join(nasty.png_chunk(name, body) for name, body in chunks)
    image, facts = decode(data, background=(1, 255, 1))
    assert facts.alpha
    assert (np.asarray(image)[0] == (1, 255, 1)).all(axis=-1).sum() == 1


def test_cmyk_equals_pillow_and_goes_through_its_profile() -> None:
    cmyk = PHOTO.convert("CMYK")
    for progressive in (False, True):
        data = nasty.encoded(cmyk, progressive=progressive)
        image, facts = decode(data)
        assert facts.cmyk
        assert np.array_equal(np.asarray(image), np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))
    not_for_cmyk = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    data = nasty.encoded(cmyk, icc_profile=not_for_cmyk)
    assert np.array_equal(pixels(data), np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))
    broken = bytes(16) + b"CMYK" + bytes(200)
    assert np.array_equal(pixels(nasty.encoded(cmyk, icc_profile=broken)), pixels(nasty.encoded(cmyk)))


def test_first_frame_and_their_number() -> None:
    second = nasty.photo(3)
    for format_ in ("GIF", "WEBP", "PNG", "TIFF"):
        data = nasty.encoded(PHOTO, format_, save_all=True, append_images=[second, PHOTO], **LOSSLESS.get(format_, {}))
        image, facts = decode(data)
        assert facts.frames == 3, format_
        if format_ != "GIF":
            assert np.array_equal(np.asarray(image), np.asarray(PHOTO)), format_


@pytest.mark.parametrize(
    ("kind", "data", "words"),
    [
        ("empty", b"", "0 bytes"),
        ("not-an-image", b"<html><body>no</body></html>", "looks like HTML"),
        ("not-an-image", b"\n\n <!doctype HTML>", "looks like HTML"),
        ("not-an-image", b"%PDF-1.7 ...", "PDF"),
        ("not-an-image", b'{"error": 404}', "JSON"),
        ("not-an-image", bytes(1000), "zero bytes"),
        ("not-an-image", bytes(range(1, 200)), "not an image"),
        ("not-an-image", b"version https://git-lfs.github.com/spec/v1\n", "Git LFS"),
        ("heic", b"\x00\x00\x00\x1cftypmif1\x00\x00\x00\x00heic", "pillow-heif"),
        ("heic", b"\x00\x00\x00\x1cftypavif\x00\x00\x00\x00mif1", "AVIF"),
        ("unsupported", b"8BPS\x00\x01", "Photoshop"),
        ("unsupported", b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
        ("truncated", b"\xff\xd8\xff\xe0", "ends before"),
        ("truncated", b"\x89PNG\r\n\x1a\n", "ends before"),
        ("corrupt", b"\xff\xd8\xff\xd9\xff\xd9", "no pixels"),
        ("corrupt", nasty.damaged_jpeg(), "lost"),
        ("corrupt", nasty.damaged_png(), "checksum"),
        ("bomb", nasty.bomb(), "3,600,000,000"),
    ],
)
def test_refusals(kind: str, data: bytes, words: str) -> None:
    error = failure(data)
    assert error.kind == kind
    assert words in str(error)


@pytest.mark.parametrize("format_", ["JPEG", "PNG", "WEBP", "TIFF", "GIF", "BMP", "PPM"])
def test_cut_files_are_truncated(format_: str) -> None:
    for mode in ("RGB", "CMYK") if format_ == "JPEG" else ("RGB",):
        data = nasty.encoded(PHOTO.convert(mode), format_)
        assert failure(data[: len(data) * 2 // 3]).kind == "truncated", mode


def test_oddities_around_the_pixels_are_accepted() -> None:
    data = nasty.encoded(PHOTO)
    for odd in (
        data + b"trailing bytes",
        data[:-2] + b"\x11\x22\x33" + data[-2:],  # before the end mark
        data[:2] + b"\xff\xfe\x00\x05\x00\xff\x00" + data[2:],
    ):
        assert np.array_equal(pixels(odd), pixels(data))
    png = nasty.encoded(PHOTO, "PNG")
    assert np.array_equal(pixels(png[:-12]), np.asarray(PHOTO))  # no end mark


def test_size_limit_is_read_from_the_header() -> None:
    for format_ in ("JPEG", "PNG", "WEBP", "TIFF", "GIF", "BMP", "PPM"):
        data = nasty.encoded(PHOTO, format_)
        decode(data, max_pixels=96 * 72)
        assert failure(data, max_pixels=96 * 72 - 1).kind == "bomb"
    start = time.perf_counter()
    failure(nasty.bomb(13_400, 13_400))
    assert time.perf_counter() - start < 1


def test_large_images_raise_no_warning_of_pillow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sizes between Pillow's two limits would warn; the limit is lowered here to keep the images small."""
    files = [nasty.encoded(PHOTO, format_) for format_ in ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "PPM")]
    files.append(nasty.encoded(PHOTO, "TIFF", compression="tiff_lzw"))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 96 * 72 - 1)
    for data in files:
        decode(data)
    assert failure(nasty.encoded(PHOTO, "GIF")).kind == "bomb"
    assert Image.MAX_IMAGE_PIXELS == 96 * 72 - 1


def test_many_threads_agree() -> None:
    files = [nasty.encoded(nasty.photo(seed), format_) for seed in range(8) for format_ in ("JPEG", "PNG", "TIFF")] * 4
    alone = [pixels(data) for data in files]
    with ThreadPoolExecutor(8) as pool:
        for one, other in zip(alone, pool.map(pixels, files), strict=True):
            assert np.array_equal(one, other)


def test_facts_and_failures_travel() -> None:
    facts = decode(nasty.encoded(PHOTO))[1]
    assert Facts.from_json(facts.to_json()) == facts
    error = failure(b"")
    for copy in (pickle.loads(pickle.dumps(error)), DecodeError.from_json(error.to_json()).named(error.name)):
        assert (copy.kind, str(copy), copy.remedy) == (error.kind, str(error), error.remedy)


ENCODINGS = [
    nasty.encoded(nasty.photo(1, 24, 18), format_, **options)
    for format_, options in (
        ("JPEG", {"exif": nasty.exif(6)}),
        ("JPEG", {"progressive": True}),
        ("PNG", {}),
        ("PNG", {"save_all": True, "append_images": [nasty.photo(2, 24, 18)]}),
        ("WEBP", {"exif": nasty.exif(3)}),
        ("GIF", {"save_all": True, "append_images": [nasty.photo(2, 24, 18)]}),
        ("BMP", {}),
        ("TIFF", {"exif": nasty.exif(8)}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("TIFF", {"compression": "jpeg"}),
        ("PPM", {}),
    )
] + [
    nasty.encoded(nasty.photo(1, 24, 18).convert("CMYK")),
    nasty.encoded(nasty.photo(1, 24, 18).quantize(8), "PNG", transparency=1),
]


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_no_bytes_get_past_decode_error(data: st.DataObject) -> None:
    """Mutations of real encodings: an image, a `DecodeError`, and never anything else, a warning included."""
    file = bytearray(data.draw(st.sampled_from(ENCODINGS)))
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(file) - 1))
        match data.draw(st.integers(0, 3)):
            case 0:
                file[at] = data.draw(st.integers(0, 255))
            case 1:
                file[at : at + 4] = data.draw(
                    st.sampled_from([b"\xff" * 4, bytes(4), b"\x7f\xff\xff\xff", b"\x00\x01\x00\x01"])
                )
            case 2:
                del file[at : at + data.draw(st.integers(1, 40))]
            case _:
                file[at:at] = data.draw(st.binary(max_size=20))
        if not file:
            break
    try:
        image, facts = decode(bytes(file), max_pixels=1_000_000)
    except DecodeError:
        return
    assert image.mode == "RGB"
    Facts.from_json(facts.to_json())


@settings(max_examples=100, deadline=None)
@given(
    st.binary(max_size=200), st.sampled_from([b"", b"\xff\xd8\xff", b"II*\x00", b"MM\x00+", b"GIF89a", b"P6 ", b"BM"])
)
def test_nor_do_arbitrary_bytes(data: bytes, start: bytes) -> None:
    with contextlib.suppress(DecodeError):
        decode(start + data, max_pixels=1_000_000)


def test_libraries_print_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    """Except libtiff, whose complaints about damaged files Pillow leaves on the standard error stream."""
    generator = np.random.default_rng(0)
    files = [data for data in ENCODINGS if data[:2] not in (b"II", b"MM")]
    for _ in range(300):
        file = bytearray(files[int(generator.integers(len(files)))])
        for at in generator.integers(4, len(file), 4):
            file[at] = int(generator.integers(256))
        with contextlib.suppress(DecodeError):
            decode(bytes(file), max_pixels=1_000_000)
    assert capfd.readouterr() == ("", "")
