"""RandAugment: Cubuk, Zoph, Shlens, Le. RandAugment: Practical Automated Data Augmentation with a Reduced Search Space. 2020.
https://arxiv.org/abs/1909.13719 – two changes an image, drawn out of a list, all with one magnitude.

On batches of floats on the device, with the ranges of timm's `rand-m6-mstd0.5-inc1` (its increasing ones; the magnitude varies by
0.5, each change happens half of the time). What departs: equalising is not in the list, so fourteen changes instead of fifteen;
pixels are not rounded between changes; shifts, shears and rotations are sampled bilinearly, where timm draws between that and
bicubic; sharpness smooths the border too. One change of the batch is computed for those images alone that drew it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

CHANGES = 2
SPREAD = 0.5  # standard deviation of the magnitude
HAPPENS = 0.5  # probability of a change that was drawn


def randaugmented(
    images: Tensor, magnitude: float, generator: torch.Generator, *, colour: Sequence[float] = (0.0,)
) -> Tensor:
    """`images` (n, c, h, w), float in 0 … 1, each changed up to twice; `colour` stands where a shifted image leaves room."""
    n = len(images)
    around = torch.tensor(colour, device=images.device)[:, None, None]
    for _ in range(CHANGES):
        drawn = torch.randint(len(OPERATIONS), (n,), device=images.device, generator=generator)
        happens, side = torch.rand(2, n, device=images.device, generator=generator)
        spread = SPREAD * torch.randn(n, device=images.device, generator=generator)
        level = ((magnitude + spread).clamp(0, 10) / 10) * (1 if magnitude else 0)
        signed = torch.where(side < 0.5, -level, level)
        drawn = torch.where(happens < HAPPENS, drawn, -1)
        moved = images
        for number, operation in enumerate(OPERATIONS):
            chosen = (drawn == number).nonzero()[:, 0]
            if len(chosen):
                changed = operation(images[chosen], signed[chosen][:, None, None, None], around)
                moved = moved.index_copy(0, chosen, changed.clamp(0, 1))
        images = moved
    return images


# of images (m, c, h, w), levels (m, 1, 1, 1) in −1 … 1, and a colour (c, 1, 1)
Operation = Callable[[Tensor, Tensor, Tensor], Tensor]


def _affine(images: Tensor, around: Tensor, rows: list[list[Tensor | float]]) -> Tensor:
    """Through the maps whose six numbers are `rows`, each a number or one an image (m,)."""
    m, _, height, width = images.shape
    theta = torch.zeros(m, 2, 3, device=images.device)
    for i, row in enumerate(rows):
        for j, value in enumerate(row):
            theta[:, i, j] = value
    grid = F.affine_grid(theta, [m, 1, height, width], align_corners=False)
    return F.grid_sample(images - around, grid, mode="bilinear", padding_mode="zeros", align_corners=False) + around


def _rotate(images: Tensor, level: Tensor, around: Tensor) -> Tensor:
    angle = math.radians(30) * level.flatten()
    tall = images.shape[2] / images.shape[3]
    return _affine(images, around, [[angle.cos(), -angle.sin() * tall, 0.0], [angle.sin() / tall, angle.cos(), 0.0]])


def _shear_x(images: Tensor, level: Tensor, around: Tensor) -> Tensor:
    tall = images.shape[2] / images.shape[3]
    return _affine(images, around, [[1.0, 0.3 * level.flatten() * tall, 0.0], [0.0, 1.0, 0.0]])


def _shear_y(images: Tensor, level: Tensor, around: Tensor) -> Tensor:
    tall = images.shape[2] / images.shape[3]
    return _affine(images, around, [[1.0, 0.0, 0.0], [0.3 * level.flatten() / tall, 1.0, 0.0]])


def _shift_x(images: Tensor, level: Tensor, around: Tensor) -> Tensor:
    return _affine(images, around, [[1.0, 0.0, 0.9 * level.flatten()], [0.0, 1.0, 0.0]])  # of a width of 2: up to 45 %


def _shift_y(images: Tensor, level: Tensor, around: Tensor) -> Tensor:
    return _affine(images, around, [[1.0, 0.0, 0.0], [0.0, 1.0, 0.9 * level.flatten()]])


def _brightness(images: Tensor, level: Tensor, around: Tensor) -> Tensor:
    return images * (1 + 0.9 * level)


def _contrast(images: Tensor, level: Tensor, around: Tensor) -> Tensor:
    return torch.lerp(images.mean((1, 2, 3), keepdim=True), images, 1 + 0.9 * level)


def _saturation(images: Tensor, level: Tensor, around: Tensor) -> Tensor:
    return torch.lerp(images.mean(1, keepdim=True), images, 1 + 0.9 * level)


def _sharpness(images: Tensor, level: Tensor, around: Tensor) -> Tensor:
    smooth = torch.ones(images.shape[1], 1, 3, 3, device=images.device)
    smooth[:, :, 1, 1] = 5
    blurred = F.conv2d(F.pad(images, [1] * 4, mode="replicate"), smooth / 13, groups=images.shape[1])
    return torch.lerp(blurred, images, 1 + 0.9 * level)


def _posterize(images: Tensor, level: Tensor, around: Tensor) -> Tensor:
    steps = 2.0 ** (8 - (4 - (4 * level.abs()).floor()))  # four bits are left, or less
    return torch.where(level == 0, images, (images * 255 / steps).floor() * steps / 255)


def _solarize(images: Tensor, level: Tensor, around: Tensor) -> Tensor:
    return torch.where(images * 255 < 256 - (256 * level.abs()).floor(), images, 1 - images)


def _solarize_add(images: Tensor, level: Tensor, around: Tensor) -> Tensor:
    return torch.where(images * 255 < 128, images + (110 * level.abs()).floor() / 255, images)


def _invert(images: Tensor, level: Tensor, around: Tensor) -> Tensor:
    return torch.where(level == 0, images, 1 - images)


def _autocontrast(images: Tensor, level: Tensor, around: Tensor) -> Tensor:
    low, high = images.amin((2, 3), keepdim=True), images.amax((2, 3), keepdim=True)
    stretched = (images - low) / (high - low).clamp(min=1e-6)
    return torch.where((level == 0) | (high == low), images, stretched)


OPERATIONS: tuple[Operation, ...] = (
    *(_rotate, _shear_x, _shear_y, _shift_x, _shift_y),
    *(_brightness, _contrast, _saturation, _sharpness),
    *(_posterize, _solarize, _solarize_add, _invert, _autocontrast),
)
