"""One decode for training and serving: any file's bytes to upright 8-bit RGB, or a named reason why not.

The format is decided by content, the size is checked before memory is spent, and damage is an error: a decoder that
fills lost parts with grey would let broken files train a network. JPEGs go through simplejpeg (libjpeg-turbo), whose
pixels equal Pillow's and which, unlike Pillow, reports lost data; everything else goes through Pillow's plugin for that
format, called directly, because `Image.open` checks sizes by a process-wide limit and a warning that threads share.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import PIL
import simplejpeg
from numpy.typing import NDArray
from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
    features,
)

from convatlas.data.colour import Colour, to_rgb
from convatlas.data.facts import DecodeError, Facts
from convatlas.data.headers import DAMAGED, Header, corrupt, read_header, truncated
from convatlas.data.likeness import thumbnail
from convatlas.data.problems import printable
from convatlas.data.sniff import EXTENSIONS, OTHER_PICTURES, PREFIX_BYTES, sniff

REVISION = 1  # raise it whenever a change here, in `colour` or in `headers` can change a pixel or a fact

PASSING = "memory"  # the kind of a failure that says nothing of the file
MAX_PIXELS = 178_956_970  # Pillow's own limit for refusing: 512 MiB as RGB

Box = tuple[int, int, int, int]  # left, top, right, bottom, in pixels

# All that can change pixels; part of every key under which decoded results are stored.
DECODER = "; ".join(
    (
        f"convatlas {REVISION}",
        f"pillow {PIL.__version__}",
        f"simplejpeg {simplejpeg.__version__}",
        *(f"{library} {features.version(library)}" for library in ("libjpeg_turbo", "webp", "libtiff", "littlecms2")),
    )
)

_PLUGINS: dict[str, Callable[[io.BytesIO], ImageFile.ImageFile]] = {
    "JPEG": JpegImagePlugin.JpegImageFile,
    "PNG": PngImagePlugin.PngImageFile,
    "WEBP": WebPImagePlugin.WebPImageFile,
    "GIF": GifImagePlugin.GifImageFile,
    "BMP": BmpImagePlugin.BmpImageFile,
    "TIFF": TiffImagePlugin.TiffImageFile,
    "PPM": PpmImagePlugin.PpmImageFile,
}
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_JPEG_MODES = {1: ("L", "GRAY"), 3: ("RGB", "RGBX"), 4: ("CMYK", "CMYK")}
# libjpeg's messages for data that is lost, as opposed to oddities around it (which Pillow reads without a word).
_JPEG_DAMAGE = re.compile(
    r"premature end|bad Huffman|bad arithmetic|instead of RST|extraneous bytes before marker 0xd[0-7]"
)
_SAMPLE = 64  # `Facts.grey` and `Facts.dominant` look at this many pixels each way


def decode(
    data: bytes, *, name: str = "", background: Colour = (255, 255, 255), max_pixels: int = MAX_PIXELS
) -> tuple[Image.Image, Facts]:
    """Decode an image file's bytes to an RGB image, upright, first frame, transparency composited on `background`.

    Samples of more than 8 bits are scaled by the depth the file declares (floating point must lie in 0 to 1). CMYK goes
    through its embedded profile; profiles of RGB images are not applied, as everywhere in the field.

    Raises `DecodeError`, and nothing else, whatever the bytes. `name` appears in its message. Files of more than
    `max_pixels` are refused from their header. Thread-safe; the decoding itself releases the interpreter's lock.
    """
    try:
        image, facts = _decode(data, background, max_pixels)
    except DecodeError as error:
        raise error.named(printable(name)) from None
    grey, dominant = _sample(image)
    return image, replace(facts, grey=grey, dominant=dominant, thumb=thumbnail(image))


def decode_part(
    data: bytes,
    part: Callable[[int, int], Box],
    *,
    least: int = 0,
    name: str = "",
    background: Colour = (255, 255, 255),
    max_pixels: int = MAX_PIXELS,
) -> NDArray[np.uint8]:
    """The part of the upright RGB image that `part(width, height)` chooses, decoded as by `decode`: (height, width, 3), without facts.

    With `least`, a JPEG of which more is there is decoded at a half, a quarter or an eighth of its size, such that both sides of the
    part keep at least `least` pixels; its edges then move outwards to whole pixels. The smaller inverse cosine transforms average
    nearly as a box filter does, at a fraction of the time. `part` may be called more than once, for the same size.

    Raises `DecodeError` as `decode`.
    """

    def divisor(width: int, height: int) -> int:
        left, top, right, bottom = part(width, height)
        sides = min(right - left, bottom - top)
        return next((by for by in (8, 4, 2) if least and sides >= by * least), 1)

    plain = _plain_jpeg(data, divisor, max_pixels)
    if plain is not None:
        samples, width, height = plain
        left, top, right, bottom = _shrunk(part(width, height), divisor(width, height))
        return np.ascontiguousarray(samples[top:bottom, left:right])
    try:
        image, facts = _decode(data, background, max_pixels, divisor)
    except DecodeError as error:
        raise error.named(printable(name)) from None
    width, height = (facts.height, facts.width) if facts.orientation >= 5 else (facts.width, facts.height)
    by = 1 if image.size == (width, height) else divisor(width, height)
    left, top, right, bottom = _shrunk(part(width, height), by)
    return np.array(image.crop((left, top, min(right, image.width), min(bottom, image.height))))


def _plain_jpeg(
    data: bytes, divisor: Callable[[int, int], int], max_pixels: int
) -> tuple[NDArray[np.uint8], int, int] | None:
    """The samples of an upright colour JPEG of which nothing odd is to be said, and its whole size: what nearly all photos are.

    Without the detour through a Pillow image, whose copies are a tenth of the time.
    """
    if sniff(data[:PREFIX_BYTES]) != "JPEG":
        return None
    try:
        header = read_header("JPEG", data)
        if header.size is None or header.bits != 8 or header.components != 3 or header.orientation != 1:
            return None
        _check_size(*header.size, max_pixels)
        return _jpeg_samples(data, "RGB", max_pixels, divisor(*header.size)), *header.size
    except Exception:  # `_decode` will meet the same, and says what it is
        return None


def _shrunk(box: Box, by: int) -> Box:
    """The pixels of the smaller image that a box touches; up to one beside it where the image was turned and its size is no multiple."""
    left, top, right, bottom = box
    return left // by, top // by, math.ceil(right / by), math.ceil(bottom / by)


def _whole(width: int, height: int) -> int:
    return 1


def _decode(
    data: bytes, background: Colour, max_pixels: int, divisor: Callable[[int, int], int] = _whole
) -> tuple[Image.Image, Facts]:
    """The facts lack what `decode` adds. A JPEG's upright size goes to `divisor`, which says by how much to shrink it."""
    if not data:
        raise DecodeError("empty", "it has 0 bytes", "Fetch the file again, or remove it.")
    format_ = sniff(data[:PREFIX_BYTES])
    if format_ not in EXTENSIONS:
        raise _refusal(format_, data)
    try:
        header = read_header(format_, data)
        whole = header.size if format_ == "JPEG" and header.size and all(header.size) else None
        by = divisor(*(whole[::-1] if header.orientation >= 5 else whole)) if whole else 1
        image = _jpeg(data, header, max_pixels, by) if format_ == "JPEG" else _plugin(format_, header, max_pixels)
        width, height = whole if whole and by > 1 else image.size
        mode = image.mode
        image, alpha, peak = to_rgb(image, header, background)
        if header.orientation in _UPRIGHT:
            image = image.transpose(_UPRIGHT[header.orientation])
    except DecodeError:
        raise
    except MemoryError:
        raise DecodeError(
            PASSING,
            "decoding it needs more memory than there was",
            "Try again with more memory, or save it with fewer pixels.",
        ) from None
    except Image.DecompressionBombError as error:
        raise DecodeError(
            "bomb", f"it has too many pixels ({error})", "Save it with fewer pixels, or remove it."
        ) from None
    except Exception as error:
        # Decoders meet damaged bytes with every kind of exception; which one says nothing about the program.
        raise _explain(format_, error) from None
    return image, Facts(
        format=format_,
        width=width,
        height=height,
        mode=mode,
        frames=header.frames,
        orientation=header.orientation,
        bits=header.bits,
        cmyk=mode == "CMYK",
        alpha=alpha,
        peak=peak,
    )


def _jpeg(data: bytes, header: Header, max_pixels: int, divisor: int) -> Image.Image:
    """Through simplejpeg; what libjpeg merely finds odd goes through Pillow, whole, as everybody else reads it."""
    if header.bits != 8 or header.components not in _JPEG_MODES:
        return _plugin("JPEG", header, max_pixels)
    mode, layout = _JPEG_MODES[header.components]
    try:
        samples = _jpeg_samples(data, layout, max_pixels, divisor)
    except ValueError as complaint:
        message = str(complaint)
        if "premature end of jpeg file" in message.lower():
            raise truncated("the JPEG file ends before its last pixels") from None
        if _JPEG_DAMAGE.search(message):
            raise corrupt(f"part of its pixels is lost ({message})") from None
        try:
            return _plugin("JPEG", header, max_pixels)
        except DecodeError:
            raise
        except Exception:
            raise corrupt(f"the JPEG data cannot be decoded ({message})") from None
    height, width = samples.shape[:2]
    if mode == "CMYK":  # stored inverted, as Adobe began and every reader assumes
        return Image.frombuffer("CMYK", (width, height), 255 - samples, "raw", "CMYK", 0, 1)
    if mode == "L":
        return Image.frombuffer("L", (width, height), samples, "raw", "L", 0, 1)
    return _rgb_over(samples, width, height)


def _jpeg_samples(data: bytes, layout: str, max_pixels: int, divisor: int) -> NDArray[np.uint8]:
    """Raises `ValueError` with libjpeg's complaint, whatever it is about."""
    height, width = map(int, simplejpeg.decode_jpeg_header(data, strict=False)[:2])
    _check_size(width, height, max_pixels)
    # the least size of those it can scale to; 0 is no demand, which is the whole
    high, wide = (math.ceil(height / divisor), math.ceil(width / divisor)) if divisor > 1 else (0, 0)
    return simplejpeg.decode_jpeg(data, layout, min_height=high, min_width=wide, strict=True)


def _rgb_over(samples: np.ndarray[Any, Any], width: int, height: int) -> Image.Image:
    """An RGB image whose memory *is* `samples`, (height, width, 4): Pillow keeps RGB in four bytes too.

    `Image.frombuffer` maps memory for some modes and copies for RGB, which costs a fifth of the decode.
    """
    try:
        image = Image.new("RGB", (0, 0))._new(Image.core.map_buffer(samples, (width, height), "raw", 0, ("RGB", 0, 1)))
    except (AttributeError, TypeError, ValueError):  # another Pillow's internals
        return Image.frombuffer("RGB", (width, height), samples.tobytes(), "raw", "RGBX", 0, 1).convert("RGB")
    image.readonly = 1
    return image


def _plugin(format_: str, header: Header, max_pixels: int) -> Image.Image:
    if header.size is not None:
        _check_size(*header.size, max_pixels)
    if format_ == "GIF" and header.size is not None:  # the plugin itself warns above this size
        _check_size(*header.size, Image.MAX_IMAGE_PIXELS or max_pixels)
    image = _PLUGINS[format_](io.BytesIO(header.data))
    _check_size(*image.size, max_pixels)
    if format_ == "TIFF" and Image.MAX_IMAGE_PIXELS and image.width * image.height > Image.MAX_IMAGE_PIXELS:
        image.im = Image.new(image.mode, image.size).im  # the plugin warns when it allocates this much itself
    image.load()
    return image


def _check_size(width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise DecodeError(
            "bomb",
            f"it announces {width:,} × {height:,} = {width * height:,} pixels; at most {max_pixels:,} are decoded",
            "Save it with fewer pixels, or remove it.",
        )


def _refusal(format_: str | None, data: bytes) -> DecodeError:
    readable = f"{', '.join(EXTENSIONS)} are read"
    if format_ in ("HEIC", "AVIF"):
        return DecodeError(
            "heic",
            f"it is a {format_} image, which needs the plugin pillow-heif",
            "Convert it to JPEG or PNG (for instance in Python: `pip install pillow-heif`, then "
            "`pillow_heif.register_heif_opener()` and Pillow's open and save), or set the phone to save JPEG.",
        )
    if format_ in OTHER_PICTURES:
        return DecodeError(
            "unsupported", f"it is a {format_} image; {readable}", "Convert it to JPEG or PNG, or remove it."
        )
    if format_ == "HTML":
        reason = "it looks like HTML, probably a web page that was saved in place of the picture"
    elif format_ is not None:
        reason = f"it is not an image but {format_}"
    elif not data.strip(b"\x00"):
        reason = f"it holds nothing but {len(data):,} zero bytes"
    else:
        reason = f"it is not an image ({readable}; this begins with {data[:8]!r})"
    return DecodeError("not-an-image", reason, "Fetch the picture again, or remove the file.")


def _explain(format_: str, error: Exception) -> DecodeError:
    message = str(error) or type(error).__name__
    if isinstance(error, EOFError) or re.search(
        r"truncated|too short|not enough|end of file|EOF", message, re.IGNORECASE
    ):
        return truncated(f"the {format_} file ends before its last pixels ({message})")
    if re.search(r"unsupported|unknown pixel mode|cannot handle|not yet supported|-bit layers", message, re.IGNORECASE):
        return DecodeError(
            "unsupported",
            f"it is a kind of {format_} that is not decoded ({message})",
            "Save it as an ordinary 8-bit JPEG or PNG.",
        )
    return DecodeError("corrupt", f"the {format_} data cannot be decoded ({message})", DAMAGED)


def _sample(image: Image.Image) -> tuple[bool, float]:
    """`Facts.grey` and `Facts.dominant`, from a grid of pixels."""
    pixels = np.asarray(image.resize((_SAMPLE, _SAMPLE), Image.Resampling.NEAREST))
    red, green, blue = pixels[..., 0], pixels[..., 1], pixels[..., 2]
    grey = bool((red == green).all() and (green == blue).all())
    coarse = (red >> 3).astype(np.uint16) << 10 | (green >> 3).astype(np.uint16) << 5 | blue >> 3
    return grey, float(np.bincount(coarse.ravel()).max()) / coarse.size
