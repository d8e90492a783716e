"""Augmentation of whole batches on the device that trains: each image draws its own crop, flip, colours and rectangle.

A random resized crop (Szegedy et al. Going Deeper with Convolutions. 2015. https://arxiv.org/abs/1409.4842) is one bilinear sampling of
the batch through per-image affine maps; mixup (https://arxiv.org/abs/1710.09412), cutmix (https://arxiv.org/abs/1905.04899) and random
erasing (https://arxiv.org/abs/1708.04896) are blends and masks. Every draw comes from the generator given, so a seed fixes them all.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from convatlas.train.config import Augment


def augmented(
    images: Tensor, size: int, augment: Augment, generator: torch.Generator, *, colour: Sequence[float] = (0.0,)
) -> Tensor:
    """`images` (n, c, h, w), float in 0 … 1, each randomly changed and brought to (n, c, size, size), still in 0 … 1.

    `colour` is what stands around an image that is padded, a number a channel. Flips that alternate are not drawn here: see `turned`.
    """
    x = _shifted(images, augment, colour, generator) if augment.pad else images
    flip = augment.flip if augment.flip_mode == "random" else 0.0
    if augment.scale == (1.0, 1.0) and x.shape[2:] == (size, size):  # no pixel is computed anew
        mirrored = torch.rand(len(x), 1, 1, 1, device=x.device, generator=generator) < flip
        x = torch.where(mirrored, x.flip(3), x) if flip else x
    else:
        x = _crop(x, size, augment, flip, generator)
    if augment.colour:
        x = _colour(x, augment.colour, generator)
    if augment.grey:
        lost = torch.rand(len(x), 1, 1, 1, device=x.device, generator=generator) < augment.grey
        x = torch.where(lost, x.mean(1, keepdim=True), x)
    return x


def turned(images: Tensor, indices: Tensor, epoch: int, augment: Augment, seed: int) -> Tensor:
    """`images` (n, c, h, w) of any kind, which have these `indices` (n,), as they stand in `epoch` where flips alternate."""
    if augment.flip_mode == "random":
        return images
    mirrored = alternating(indices, epoch, seed).to(images.device)
    return torch.where(mirrored[:, None, None, None], images.flip(3), images)


def alternating(indices: Tensor, epoch: int, seed: int) -> Tensor:
    """Which of the images `indices` (n,), int64, are mirrored in `epoch`, (n,), bool: about a half, and in the next epoch the others.

    Two epochs then show both sides of every image, where draws show a half of them the same side twice (Jordan. 2024.
    https://arxiv.org/abs/2404.00498, section 3.6). Which half begins is a bit of a hash of the image's index and the seed.
    """
    x = (indices + 1 + seed * 0x9E3779B1 % 2**32) & 0xFFFFFFFF
    for _ in range(2):
        x = ((x ^ (x >> 16)) * 0x45D9F3B) & 0xFFFFFFFF  # a multiply-xor hash of 32 bits, whose products int64 holds
    return ((x ^ (x >> 16)) + epoch) % 2 == 1


def erased(images: Tensor, augment: Augment, generator: torch.Generator) -> Tensor:
    """Standardised `images` in which some lost a rectangle to zeros, which is the mean colour."""
    if not augment.erase:
        return images
    area = _uniform(len(images), (0.02, 0.33), images, generator)
    hit = torch.rand(len(images), device=images.device, generator=generator) < augment.erase
    return images.masked_fill(_rectangles(images, area * hit, generator), 0.0)


def mixed(
    images: Tensor, labels: Tensor, augment: Augment, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Mixup or cutmix of a batch with itself in another order, or neither, as one draw decides.

    Returns the images, the other label (n,) of each, and the share (n,) of each image that is still its own.
    """
    own = torch.ones(len(images), device=images.device)
    if not (augment.mixup or augment.cutmix):
        return images, labels, own
    draw = float(torch.rand((), device=images.device, generator=generator))
    order = torch.randperm(len(images), device=images.device, generator=generator)
    if draw < augment.mixup:
        own = _uniform(len(images), (0.0, 1.0), images, generator)
        images = torch.lerp(images[order], images, own[:, None, None, None])
    elif draw < augment.mixup + augment.cutmix:
        mask = _rectangles(images, _uniform(len(images), (0.0, 1.0), images, generator), generator)
        images = torch.where(mask, images[order], images)
        own = 1 - mask.flatten(1).float().mean(1)
    return images, labels[order], own


def _uniform(n: int, bounds: tuple[float, float], like: Tensor, generator: torch.Generator) -> Tensor:
    low, high = bounds
    return low + (high - low) * torch.rand(n, device=like.device, generator=generator)


def _shifted(images: Tensor, augment: Augment, colour: Sequence[float], generator: torch.Generator) -> Tensor:
    """Each image moved by up to `augment.pad` pixels either way, with `colour`, or its own reflection, where it leaves room."""
    n, _, height, width = images.shape
    pad = augment.pad
    if augment.padding == "reflect":
        padded = F.pad(images, [pad] * 4, mode="reflect")
    else:
        around = torch.tensor(colour, device=images.device)[:, None, None]
        padded = F.pad(images - around, [pad] * 4) + around
    top, left = (
        torch.randint(2 * pad + 1, (n, 1), device=images.device, generator=generator)
        + torch.arange(side, device=images.device)
        for side in (height, width)
    )
    each = torch.arange(n, device=images.device)[:, None, None]
    return padded.permute(0, 2, 3, 1)[each, top[:, :, None], left[:, None, :]].permute(0, 3, 1, 2)


def _crop(images: Tensor, size: int, augment: Augment, flip: float, generator: torch.Generator) -> Tensor:
    n, _, height, width = images.shape
    area = _uniform(n, augment.scale, images, generator)
    if augment.scale == (1.0, 1.0):
        wide = high = torch.ones_like(area)  # the whole image, whatever the ratio
    else:
        # `ratio` is of pixels, the affine map wants shares of the width and the height
        low, top = (math.log(bound * height / width) / 2 for bound in augment.ratio)
        skew = _uniform(n, (low, top), images, generator).exp()
        wide, high = (area.sqrt() * skew).clamp(max=1), (area.sqrt() / skew).clamp(max=1)
    theta = torch.zeros(n, 2, 3, device=images.device)
    theta[:, 0, 0], theta[:, 1, 1] = wide, high
    theta[:, 0, 2] = (1 - wide) * _uniform(n, (-1.0, 1.0), images, generator)
    theta[:, 1, 2] = (1 - high) * _uniform(n, (-1.0, 1.0), images, generator)
    theta[:, 0, 0] *= torch.where(torch.rand(n, device=images.device, generator=generator) < flip, -1.0, 1.0)
    grid = F.affine_grid(theta, [n, 1, size, size], align_corners=False)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)


def _colour(images: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    brightness, contrast, saturation = (
        _uniform(len(images), (1 - strength, 1 + strength), images, generator)[:, None, None, None] for _ in range(3)
    )
    x = (images * brightness).clamp(0, 1)
    x = torch.lerp(x.mean((1, 2, 3), keepdim=True), x, contrast).clamp(0, 1)
    return torch.lerp(x.mean(1, keepdim=True), x, saturation).clamp(0, 1)


def _rectangles(images: Tensor, area: Tensor, generator: torch.Generator) -> Tensor:
    """A mask (n, 1, h, w), true inside one rectangle an image that covers `area` (n,) of it and has the image's own shape."""
    n, _, height, width = images.shape
    side = area.sqrt()
    sides: list[Tensor] = []
    for length in (height, width):
        start = (1 - side) * torch.rand(n, device=images.device, generator=generator)
        at = (torch.arange(length, device=images.device) + 0.5) / length
        sides.append((at >= start[:, None]) & (at < (start + side)[:, None]))
    return (sides[0][:, :, None] & sides[1][:, None, :])[:, None]
