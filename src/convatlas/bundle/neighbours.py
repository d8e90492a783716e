"""The training images nearest to an image, by the features its classifier reads: an answer's precedents (Caruana et al. Case-based
explanation of non-case-based learning methods. 1999. https://pubmed.ncbi.nlm.nih.gov/10566351/).

A model folder keeps what each training image looked like to the classifier, in `training.safetensors`: a short vector of float16, the path
below the data's root, the label and eight bytes of the file's hash; never the image. Features are centred, then scaled to length 1, so
that the nearest are those of the greatest cosine. (Giving each stage the same variance, as the probe's fit does, finds neighbours of the
same class less often where stages stand together: 80 instead of 87 % on ants and bees, 89 instead of 96 % on twelve flowers.) Where all
vectors would take more than 10 MB they are turned to their principal axes and the last of these are left out; the file says how much of
the variance is left. It is checked against its hash like every other when a model is loaded, but may be deleted: nothing else needs it.

Of a network trained from scratch the file has the hashes alone: they tell that an image was learned from, and nothing is near to any.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from convatlas.errors import ConvAtlasError

if TYPE_CHECKING:
    from convatlas.bundle.look import Look

TRAINING = "training.safetensors"
SCHEMA = "convatlas.training/1"

_MOST_BYTES = 10_000_000  # of all vectors
_LEAST = 32  # axes kept, however many images there are
_AXES_FROM = 2048  # images that the principal axes are taken from
_HASH_BYTES = 8


@dataclass(frozen=True, kw_only=True)
class Neighbour:
    """A training image near to the one that was asked about."""

    path: str  # below the root of the data that was fitted
    label: str
    cosine: float  # of the two centred feature vectors: 1 for the same image, 0 for an unrelated one
    sha256: str  # the first 16 digits: whether a file at that path is still the same


@dataclass(frozen=True, kw_only=True, eq=False)
class FittedOn:
    """Which images a model was fitted on."""

    hashes: np.ndarray  # (n, 8) uint8

    @classmethod
    def of(cls, sha256s: Sequence[str]) -> FittedOn:
        hashes = [list(bytes.fromhex(sha)[:_HASH_BYTES]) for sha in sha256s]
        return cls(hashes=np.array(hashes, np.uint8).reshape(-1, _HASH_BYTES))

    def known(self, sha256s: Sequence[str]) -> np.ndarray:
        """(m,) which images of these hashes are among them."""
        own = set(self._names())
        return np.array([sha[: 2 * _HASH_BYTES] in own for sha in sha256s], bool)

    def save(self, folder: Path) -> None:
        """Writes FOLDER/training.safetensors."""
        from safetensors.numpy import save_file

        save_file({"hashes": self.hashes}, folder / TRAINING, metadata={"schema": SCHEMA})

    def _names(self) -> list[str]:
        return [bytes(row).hex() for row in self.hashes]


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainingImages(FittedOn):
    """What a model folder remembers of its training images, and how to look at a new one in the same way."""

    means: tuple[str, ...]  # the cuts whose maps' means are the features
    deviations: tuple[str, ...]  # and those whose deviations follow
    paths: tuple[str, ...]
    labels: tuple[str, ...]
    vectors: np.ndarray  # (n, m) float16, of length 1 before the last axes were left out
    centre: np.ndarray  # (d,) float32: the mean feature
    axes: np.ndarray | None  # (d, m) float16; None where all features are kept
    kept: float  # share of the variance in `vectors`

    @classmethod
    def seen(
        cls,
        features: Sequence[np.ndarray],
        *,
        means: Sequence[str],
        deviations: Sequence[str],
        paths: Sequence[str],
        labels: Sequence[str],
        sha256s: Sequence[str],
        most_bytes: int = _MOST_BYTES,
    ) -> TrainingImages:
        """From blocks of features (n, d_k), those of `means` and then of `deviations`, as the probe reads them."""
        count, width = len(paths), sum(block.shape[1] for block in features)
        centre = np.concatenate([block.mean(axis=0, dtype=np.float64) for block in features])
        found = _unit(np.concatenate(features, axis=1) - centre.astype(np.float32))
        room = max(_LEAST, most_bytes // (2 * count))
        axes, kept = None, 1.0
        if width > room:
            sample = found[:: -(-count // _AXES_FROM)].astype(np.float64)
            values, turned = np.linalg.eigh(sample.T @ sample)
            axes = turned[:, ::-1][:, :room].astype(np.float16)
            kept = float(values[::-1][:room].sum() / max(values.sum(), 1e-30))
            found = found @ axes.astype(np.float32)
        return cls(
            means=tuple(means),
            deviations=tuple(deviations),
            paths=tuple(paths),
            labels=tuple(labels),
            hashes=FittedOn.of(sha256s).hashes,
            vectors=found.astype(np.float16),
            centre=centre.astype(np.float32),
            axes=axes,
            kept=kept,
        )

    def nearest(self, seen: Look, count: int, *, without: Sequence[str] = ()) -> list[list[Neighbour]]:
        """The `count` nearest training images, nearest first, for each image that was looked at; those of the hashes `without` left out."""
        turned = _unit(seen.features(self.means, self.deviations) - self.centre)
        if self.axes is not None:
            turned = turned @ self.axes.astype(np.float32)
        cosines = turned @ self.vectors.astype(np.float32).T
        names = self._names()
        barred = {sha[: 2 * _HASH_BYTES] for sha in without}
        cosines[:, [i for i, name in enumerate(names) if name in barred]] = -np.inf
        order = np.argsort(-cosines, axis=1, kind="stable")[:, :count]
        return [
            [
                Neighbour(path=self.paths[i], label=self.labels[i], cosine=float(row[i]), sha256=names[i])
                for i in chosen
                if np.isfinite(row[i])
            ]
            for row, chosen in zip(cosines, order, strict=True)
        ]

    def save(self, folder: Path) -> None:
        from safetensors.numpy import save_file

        tensors = {"hashes": self.hashes, "vectors": self.vectors, "centre": self.centre}
        if self.axes is not None:
            tensors["axes"] = np.ascontiguousarray(self.axes)
        texts = {"means": self.means, "deviations": self.deviations, "paths": self.paths, "labels": self.labels}
        told = {"schema": SCHEMA, "kept": repr(self.kept)} | {name: json.dumps(value) for name, value in texts.items()}
        save_file(tensors, folder / TRAINING, metadata=told)


def fitted_on(folder: Path) -> FittedOn | None:
    """Which images the model folder remembers; None for a foreign model, one older than this, or whose file was deleted.

    With `fit`'s features of them it is a `TrainingImages`. Raises `ConvAtlasError` for a file that cannot be read; `load` has compared it
    with its hash.
    """
    from safetensors import SafetensorError, safe_open

    path = folder / TRAINING
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="numpy") as file:
            told: Mapping[str, str] = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
        if told.get("schema") != SCHEMA:
            raise ConvAtlasError(
                f"{path}: has the format {told.get('schema')}, this version reads {SCHEMA}.", remedy="Update ConvAtlas."
            )
        if "vectors" not in tensors:
            return FittedOn(hashes=tensors["hashes"])
        lists = {name: tuple(json.loads(told[name])) for name in ("means", "deviations", "paths", "labels")}
        return TrainingImages(
            **lists,
            hashes=tensors["hashes"],
            vectors=tensors["vectors"],
            centre=tensors["centre"],
            axes=tensors.get("axes"),
            kept=float(told["kept"]),
        )
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise ConvAtlasError(f"{path}: cannot be read ({error}).", remedy="Copy the model folder again.") from error


def _unit(rows: np.ndarray) -> np.ndarray:
    """Each row scaled to length 1; one of zeros stays."""
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
