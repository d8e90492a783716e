"""Ridge regression whose held-out predictions cost no refit: Cook and Weisberg, Residuals and Influence, 1982.

One eigendecomposition gives every regularisation strength, and the leverages of the images give, exactly, what a model
fitted without them would predict: one left out at a time, or a whole fold. With weights w_i, mean 1, and an intercept
that is not penalised, the model is

    minimise  Σ w_i |y_i − b − Wᵀx_i|²  +  strength · n · |W|²

where each block of features is multiplied by one factor, so that all have the same variance and the total is 1: a
strength means the same for any network, stage and number of images. With X̃ = √w (x − x̄), ỹ = √w (y − ȳ) and
q = √(w / n), the fitted values are H ỹ with H = X̃ (X̃ᵀX̃ + λ)⁻¹ X̃ᵀ + q qᵀ. The last term is the intercept's share: without
it the held-out prediction of an image depends on its own label. For images F held out together

    ỹ_F − held-out prediction = (1 − H_FF)⁻¹ (ỹ_F − fitted),

for one image a division by 1 − h_ii. The weights, and the factors of the blocks, stay those of all images.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Index = NDArray[np.int64]

ROWS = 1024  # images are taken this many at a time, so that no float64 copy of all features is needed
ROUNDING = 128  # units in the last place by which features differ on another processor or with norms folded
TABLE = 20_000_000  # numbers in a table of held-out scores; beyond, fewer strengths are made in one pass


class Ridge:
    """X̃ in its own principal axes, from which the solution and the held-out scores follow at any strength.

    With X̃ = Z Vᵀ and e the squared lengths of Z's columns, X̃ (X̃ᵀX̃ + λ)⁻¹ X̃ᵀ = Z diag(1 / (e + λ)) Zᵀ. The decomposition is
    of the smaller Gram matrix, (d, d) or (n, n). Directions without variance are dropped: a ridge gives them no weight.

    Args:
        blocks: arrays (n, d_k) of any float type; they are kept, not copied.
        targets: (n, K).
        weights: (n,), with a mean of 1.
        rows: where the blocks hold more than these n images, which rows these are.

    Raises:
        ValueError: if a feature is not finite.
    """

    def __init__(self, blocks: Sequence[np.ndarray], targets: Array, weights: Array, rows: Index | None = None) -> None:
        self.blocks, self.targets, self.rows = blocks, targets, rows
        self.count, self.width = len(targets), sum(block.shape[1] for block in blocks)
        self.root = np.sqrt(weights)[:, None]
        self.intercept = self.root / np.sqrt(self.count)  # q, of length 1
        self.mean_target = weights @ targets / self.count
        self.centred_targets = self.root * (targets - self.mean_target)

        self.scaling = np.ones(self.width)
        self.mean = np.sum([weights[part] @ self._features(part) for part in self._parts()], axis=0) / self.count
        if not np.isfinite(self.mean).all():
            raise ValueError("the features hold NaN or infinite values")
        self.scaling, self.rounding = self._equal_variance()

        self.left: Array | None = None  # Z, where it is no larger than (n, n)
        if self.width <= self.count:
            gram, cross = np.zeros((self.width, self.width)), np.zeros((self.width, targets.shape[1]))
            for part in self._parts():
                scaled = self._rows(part)
                gram += scaled.T @ scaled
                cross += scaled.T @ self.centred_targets[part]
            self.energy, self.directions = _eigen(gram)
            self.moments = self.directions.T @ cross
        else:
            scaled = self._rows(np.arange(self.count))
            self.energy, vectors = _eigen(scaled @ scaled.T)
            self.left = vectors * np.sqrt(self.energy)
            self.directions = scaled.T @ (vectors / np.sqrt(self.energy))
            self.moments = self.left.T @ self.centred_targets

    def solution(self, strength: float) -> tuple[Array, Array]:
        """Weight (d, K) and bias (K,), for features as they were given."""
        weight = self.scaling[:, None] * (self.directions @ (self.moments * self.gains(strength)[:, None]))
        return weight, self.mean_target - self.mean @ weight

    def principal(self) -> Array:
        """Z, (n, r): all that a linear fit to some of these images can use, in as few numbers as there are."""
        return self._axes(np.arange(self.count))

    def held_out(self, strengths: Sequence[float], sets: Sequence[Index]) -> Iterator[tuple[float, Array]]:
        """For each strength the scores (n, K) that each image gets without the set it is in; NaN for one in no set."""
        at_once = max(1, TABLE // self.targets.size)
        alone = np.array([index[0] for index in sets if len(index) == 1], dtype=np.int64)
        leverages = np.empty((len(alone), len(strengths)))
        for first in range(0, len(strengths), at_once):
            now = slice(first, first + at_once)
            table = np.full((len(strengths[now]), *self.targets.shape), np.nan)
            if len(alone):
                self._leave_each_out(alone, strengths, now, leverages, table)
            for index in _stacked(sets):
                self._leave_out(index, strengths[now], table)
            yield from zip(strengths[now], table, strict=True)

    def held_out_leverages(self, strength: float, sets: Sequence[Index]) -> Array:
        """How far each image lies from all others, (n,): (1, x̃) times the inverse of their moments, penalty included, times (1, x̃).

        As from a fit without the set it is in, H_FF (1 − H_FF)⁻¹ less the image's own weight; NaN for one in no set.
        """
        gains, found = self.gains(strength), np.full(self.count, np.nan)
        alone = np.array([index[0] for index in sets if len(index) == 1], dtype=np.int64)
        for start in range(0, len(alone), ROWS):
            index = alone[start : start + ROWS]
            hat = self._leverages(index, self._axes(index), gains[:, None])[:, 0]
            found[index] = hat / (1 - hat)
        for index in _stacked(sets):
            wide = self._wide(index) * np.sqrt(np.append(gains, 1.0))
            images, numbers = wide.shape[1:]
            if images <= numbers:
                hat = wide @ wide.mT
                found[index] = np.linalg.solve(np.eye(images) - hat, hat).diagonal(axis1=1, axis2=2)
            else:  # the same in the smaller dimension
                inner = np.linalg.solve(np.eye(numbers) - wide.mT @ wide, wide.mT)
                found[index] = np.einsum("sij,sji->si", wide, inner)
        return found / self.root[:, 0] ** 2

    def _leverages(self, index: Index, axes: Array, gains: Array) -> Array:
        """h_ii of some images, whose rows of Z are `axes`, with several `gains` (r, strengths): (images, strengths)."""
        return axes**2 @ gains + self.intercept[index] ** 2

    def _leave_each_out(
        self, alone: Index, strengths: Sequence[float], now: slice, leverages: Array, table: Array
    ) -> None:
        """Writes the scores of single images into the table, of the strengths that are due `now`.

        The first time it finds the `leverages` of all strengths too, (images, strengths): they need Z, which takes long.
        """
        first = now.start == 0
        gains = np.stack([self.gains(strength) for strength in strengths], axis=1)
        # all strengths side by side, (r, strengths × K), in one product
        fits = (self.moments[:, None] * gains[:, now, None]).reshape(len(gains), len(table) * table.shape[2])
        in_axes = first or self.left is not None
        if not in_axes:
            fits = self.directions @ fits
        at_once = max(1, min(ROWS, TABLE // (4 * fits.shape[1])))
        for start in range(0, len(alone), at_once):
            here = slice(start, start + at_once)
            index = alone[here]
            rows = self._axes(index) if in_axes else self._rows(index)
            if first:
                leverages[here] = self._leverages(index, rows, gains)
            residual = (rows @ fits).reshape(len(index), len(table), -1)
            np.subtract(self.centred_targets[index][:, None], residual, out=residual)
            residual /= ((1 - leverages[here, now]) * self.root[index])[..., None]
            table[:, index] = self.targets[index] - residual.swapaxes(0, 1)

    def _leave_out(self, index: Index, strengths: Sequence[float], table: Array) -> None:
        """Writes the scores of some sets, (sets, images), into the table."""
        wide = self._wide(index)
        images, numbers = wide.shape[1:]
        gram = None if images <= numbers else wide.mT @ wide
        for strength, scores in zip(strengths, table, strict=True):
            gains = self.gains(strength)
            residual = self.centred_targets[index] - wide[..., :-1] @ (self.moments * gains[:, None])
            gains = np.append(gains, 1.0)
            if gram is None:
                residual = np.linalg.solve(np.eye(images) - (wide * gains) @ wide.mT, residual)
            else:  # the same by Woodbury's identity, in the smaller dimension
                residual += wide @ np.linalg.solve(np.diag(1 / gains) - gram, wide.mT @ residual)
            scores[index] = self.targets[index] - residual / self.root[index]

    def _wide(self, index: Index) -> Array:
        """Rows of Z, and q as a last column: (sets, images, r + 1) of as many indices."""
        axes = self._axes(index.ravel()).reshape(*index.shape, len(self.energy))
        return np.concatenate([axes, self.intercept[index]], axis=-1)

    def gains(self, strength: float) -> Array:
        """1 / (e + λ) of each principal axis."""
        return 1 / (self.energy + strength * self.count)

    def _parts(self) -> Iterator[Index]:
        for start in range(0, self.count, ROWS):
            yield np.arange(start, min(start + ROWS, self.count))

    def _axes(self, index: Index) -> Array:
        """Rows of Z."""
        return self._rows(index) @ self.directions if self.left is None else self.left[index]

    def _features(self, index: Index) -> Array:
        place = index if self.rows is None else self.rows[index]
        return np.concatenate([block[place] for block in self.blocks], axis=1, dtype=np.float64)

    def _rows(self, index: Index) -> Array:
        """Rows of X̃."""
        rows = self._features(index)
        rows -= self.mean
        rows *= self.scaling
        rows *= self.root[index]
        return rows

    def _equal_variance(self) -> tuple[Array, float]:
        """The factor (d,) of each feature, one a block, and the share of the total variance that may be rounding.

        A block that varies no more than rounding does is constant: it gets the factor 0, for there is nothing to scale up.
        """
        energy = np.zeros(self.width)
        for part in self._parts():
            energy += (self._rows(part) ** 2).sum(axis=0)
        scaling, start, rounding = np.zeros(self.width), 0, 0.0
        for block in self.blocks:
            here = slice(start, start + block.shape[1])
            start = here.stop
            precision = np.finfo(block.dtype if block.dtype.kind == "f" else np.float64).eps
            noise = self.count * ((ROUNDING * precision * self.mean[here]) ** 2).sum()
            if energy[here].sum() > noise:
                scaling[here] = np.sqrt(self.count / (energy[here].sum() * len(self.blocks)))
                rounding += float(noise / (energy[here].sum() * len(self.blocks)))
        return scaling, rounding


def _stacked(sets: Sequence[Index]) -> Iterator[Index]:
    """The sets of more than one image, those of one size together, (sets, images): numpy then loops over them, and not Python."""
    by_size: dict[int, list[Index]] = {}
    for index in sets:
        by_size.setdefault(len(index), []).append(index)
    for size, group in by_size.items():
        at_once = max(1, ROWS // size)
        for first in range(0, len(group) if size > 1 else 0, at_once):
            yield np.stack(group[first : first + at_once])


def _eigen(gram: Array) -> tuple[Array, Array]:
    """The eigenvalues above rounding, and their vectors."""
    values, vectors = np.linalg.eigh(gram)
    # ascending, so that what is kept is a view and not a second copy
    first = int(np.sum(values <= values.max(initial=0.0) * len(values) * np.finfo(np.float64).eps))
    return values[first:], vectors[:, first:]
