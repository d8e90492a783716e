"""Loading a model folder: every file is checked, then the stored images must give the stored logits; else it is refused."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import nn

from convatlas import zoo
from convatlas.bundle.save import CONFIG, SCHEMA, WEIGHTS, build, config_sha256, logits
from convatlas.data import DecodeError, Preprocessing, decode
from convatlas.data.sources import read_file
from convatlas.errors import ConvAtlasError
from convatlas.metrics import softmax
from convatlas.weights.files import read_tensors
from convatlas.weights.load import load_tensors, to_our_keys
from convatlas.zoo.heads.probe import ProbeConfig
from convatlas.zoo.inference import for_inference, normalised

TOLERANCE = 1e-4  # of the largest logit: what float32 on another processor may differ by, and no decoder or resize may


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """What the model says of one image, or why it could not be read."""

    path: str | None  # None for an image that was given as an array or a PIL image
    label: str | None
    probability: float | None
    top: tuple[tuple[str, float], ...] = ()  # the likeliest classes with their probabilities, likeliest first
    error: str | None = None

    def to_json(self) -> dict[str, Any]:
        row: dict[str, Any] = {"path": self.path, "label": self.label, "probability": self.probability}
        row["top"] = [{"label": label, "probability": probability} for label, probability in self.top]
        return row | ({"error": self.error} if self.error else {})


class Classifier:
    """A loaded, verified model folder: `load(folder).predict(["photo.jpg"])`."""

    def __init__(self, folder: Path, described: dict[str, Any], model: nn.Module, device: torch.device) -> None:
        own = described["convatlas"]
        self.folder = folder
        self.network: str = own["network"]
        self.probe = _probe(own)
        self.classes: tuple[str, ...] = tuple(described["label_names"])
        self.preprocessing = Preprocessing.from_json(own["preprocessing"])
        self.about: dict[str, Any] = own["about"]
        self.device = device
        self._model = model

    def predict(self, images: Any, *, top: int = 5) -> list[Prediction]:
        """Labels and calibrated probabilities of images, in order.

        `images` is one or a sequence of: paths, PIL images, arrays (h, w, 3) or (h, w) of uint8. A file that cannot be read gives a
        row with `error`; an array of another type is a `ConvAtlasError`, since a guess at its range would be silently wrong.
        """
        single = isinstance(images, str | Path | Image.Image) or (isinstance(images, np.ndarray) and images.ndim <= 3)
        given: Sequence[Any] = [images] if single else list(cast(Iterable[Any], images))
        rows: list[Prediction] = []
        for start in range(0, len(given), 32):
            rows += self._predict_batch(given[start : start + 32], top)
        return rows

    def probabilities(self, pixels: np.ndarray) -> np.ndarray:
        """Probabilities (n, classes) float64 of prepared pixels (n, size, size, channels) uint8."""
        p = self.preprocessing
        parts = []
        with torch.inference_mode():
            for start in range(0, len(pixels), 8):
                images = torch.from_numpy(np.ascontiguousarray(pixels[start : start + 8])).to(self.device)
                parts.append(self._model(normalised(images, p.mean, p.std)).double().cpu().numpy())
        return softmax(np.concatenate(parts)) if parts else np.zeros((0, len(self.classes)))

    def _predict_batch(self, given: Sequence[Any], top: int) -> list[Prediction]:
        found: list[np.ndarray | DecodeError] = [self._prepared(image) for image in given]
        pixels = [image for image in found if isinstance(image, np.ndarray)]
        each = iter(self.probabilities(np.stack(pixels)) if pixels else ())
        rows = []
        for image, prepared in zip(given, found, strict=True):
            path = str(image) if isinstance(image, str | Path) else None
            if isinstance(prepared, DecodeError):
                rows.append(Prediction(path=path, label=None, probability=None, error=str(prepared)))
            else:
                rows.append(self._row(path, next(each), top))
        return rows

    def _row(self, path: str | None, probabilities: np.ndarray, top: int) -> Prediction:
        best = np.argsort(-probabilities, kind="stable")[:top]
        likeliest = tuple((self.classes[i], float(probabilities[i])) for i in best)
        return Prediction(path=path, label=likeliest[0][0], probability=likeliest[0][1], top=likeliest)

    def _prepared(self, image: Any) -> np.ndarray | DecodeError:
        p = self.preprocessing
        if isinstance(image, str | Path):
            try:
                data = read_file(Path(image), str(image))
                return p.pixels(decode(data, name=str(image), background=p.background)[0])
            except DecodeError as error:
                return error
        if isinstance(image, np.ndarray):
            if (
                image.dtype != np.uint8
                or image.ndim not in (2, 3)
                or (image.ndim == 3 and image.shape[2] not in (1, 3))
                or not image.size
            ):
                raise ConvAtlasError(
                    f"an array of {image.dtype} with the shape {image.shape} is not an image.",
                    remedy="Give uint8 from 0 to 255, (height, width, 3) in RGB order or (height, width).",
                )
            image = Image.fromarray(image.squeeze(2) if image.ndim == 3 and image.shape[2] == 1 else image)
        if not isinstance(image, Image.Image):
            raise ConvAtlasError(
                f"a {type(image).__name__} is not an image.", remedy="Give paths, PIL images or uint8 arrays."
            )
        try:
            return p.pixels(_rgb(image, p.background))
        except DecodeError as error:
            return error


def _rgb(image: Image.Image, background: tuple[int, int, int]) -> Image.Image:
    """A PIL image as its file would be decoded: what `convert` does to depth, transparency and orientation is not what training saw."""
    try:
        upright = ImageOps.exif_transpose(image)
        if upright.mode in ("RGB", "L") and not upright.has_transparency_data:
            return upright
        buffer = io.BytesIO()  # a file without loss
        upright.save(buffer, "PNG" if upright.mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16") else "TIFF")
    except (OSError, ValueError, SyntaxError) as error:
        raise DecodeError(
            "corrupt", f"the image cannot be read ({error}).", "Open the file again, or leave it out."
        ) from None
    return decode(buffer.getvalue(), background=background)[0]


def load(folder: str | Path, *, device: str = "cpu") -> Classifier:
    """The classifier of a model folder, verified: files against their checksums, then the stored images against their logits.

    The check runs in float32 on the CPU and allows 1e-4 of the largest logit. Raises `ConvAtlasError`, naming the file, on anything else.
    """
    folder = Path(folder).expanduser()
    described = _described(folder)
    own = described["convatlas"]
    _check_files(folder, described)
    channels = own["preprocessing"]["channels"]
    num_classes = len(described["label_names"])
    try:
        model = build(own["network"], own["config"], _probe(own), num_classes=num_classes, channels=channels)
    except (ValueError, TypeError, KeyError) as error:
        raise ConvAtlasError(
            f"{folder / CONFIG}: describes a model that this version does not know ({error}).",
            remedy="Update ConvAtlas.",
        ) from error
    tensors = read_tensors(folder / WEIGHTS)
    if isinstance(model, zoo.ConvNet):
        tensors = to_our_keys(folder / WEIGHTS, tensors, zoo.family_of(own["network"]).keys(model.config))
        load_tensors(model, tensors, origin=str(folder / WEIGHTS))
    else:
        model.load_state_dict(tensors)
    size = own["preprocessing"]["size"]
    fast = for_inference(model, (1, channels, size, size))
    _check_logits(folder, described, fast)
    target = _device(device)
    return Classifier(folder, described, fast.to(target), target)


def _device(name: str) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        return torch.device(name)
    except RuntimeError as error:
        raise ConvAtlasError(f"unknown device {name!r};", remedy="use auto, cpu, cuda or mps.") from error


def _probe(own: dict[str, Any]) -> ProbeConfig | None:
    if own["probe"] is None:
        return None
    probe = own["probe"]
    return ProbeConfig(means=tuple(probe["means"]), deviations=tuple(probe["deviations"]), features=probe["features"])


def _described(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG
    try:
        described = json.loads(path.read_text(encoding="utf-8"))
        schema = described["convatlas"]["schema"]
    except FileNotFoundError as error:
        raise ConvAtlasError(
            f"{folder}: not a model folder, it has no {CONFIG}.",
            remedy="Give the folder that `convatlas fit` or `convatlas pack` wrote.",
        ) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConvAtlasError(
            f"{path}: not the {CONFIG} of a ConvAtlas model ({error}).", remedy="Copy the folder again."
        ) from error
    if schema != SCHEMA:
        raise ConvAtlasError(
            f"{path}: has the format {schema}, this version reads {SCHEMA}.", remedy="Update ConvAtlas."
        )
    return described


def _check_files(folder: Path, described: dict[str, Any]) -> None:
    own = described["convatlas"]
    if own.get("config_sha256") != config_sha256(described):
        raise ConvAtlasError(
            f"{folder / CONFIG}: was changed after it was written.", remedy="Copy the model folder again."
        )
    for name, expected in own["sha256"].items():
        try:
            found = hashlib.sha256((folder / name).read_bytes()).hexdigest()
        except OSError as error:
            raise ConvAtlasError(
                f"{folder / name}: missing or unreadable.", remedy="Copy the model folder again."
            ) from error
        if found != expected:
            raise ConvAtlasError(
                f"{folder / name}: was changed after it was written.", remedy="Copy the model folder again."
            )


def _check_logits(folder: Path, described: dict[str, Any], model: nn.Module) -> None:
    preprocessing = Preprocessing.from_json(described["convatlas"]["preprocessing"])
    for example in described["convatlas"]["examples"]:
        image, _ = decode(
            (folder / example["file"]).read_bytes(), name=example["file"], background=preprocessing.background
        )
        found = logits(model, preprocessing.pixels(image)[None], preprocessing)[0].numpy()
        expected = np.asarray(example["logits"], np.float32)
        drift = float(np.abs(found - expected).max() / max(float(np.abs(expected).max()), 1e-12))
        if not drift <= TOLERANCE:
            raise ConvAtlasError(
                f"{folder}: on this machine {example['file']} gives other logits than when the model was saved "
                f"(largest difference {drift:.1e} of the largest logit, {TOLERANCE:.0e} is allowed), so its predictions cannot be trusted.",
                remedy=f"It was made with {_versions(described)}; install those, or make the model again here.",
            )


def _versions(described: dict[str, Any]) -> str:
    return ", ".join(f"{name} {version}" for name, version in described["convatlas"]["made_with"].items())


def paths_in(images: Iterable[str | Path]) -> list[Path]:
    """Files as given, and folders replaced by the files in them, sorted; hidden ones are left out."""
    found: list[Path] = []
    for image in map(Path, images):
        inside = sorted(
            p
            for p in image.rglob("*")
            if p.is_file() and not any(part.startswith(".") for part in p.relative_to(image).parts)
        )
        found += inside if image.is_dir() else [image]
    return found
