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

from convatlas.train.config import Augment, TrainConfig
from convatlas.train.randaugment import randaugmented


def augmented(
    images: Tensor,
    size: int,
    augment: Augment,
    generator: torch.Generator,
    *,
    colour: Sequence[float] = (0.0,),
    mirrored: Tensor | None = None,
    axes: Tensor | None = None,
) -> Tensor:
    """`images` (n, c, h, w), float in 0 … 1, each randomly changed and brought to (n, c, size, size), still in 0 … 1.

    `colour` is what stands around an image that is padded, a number a channel. `mirrored` (n,), bool, says which images are
    flipped, where that is not drawn: see `alternating`. `axes` are those of `colour_axes`, which the colour noise needs.
    """
    x = _shifted(images, augment, colour, generator) if augment.pad else images
    whole = augment.scale == (1.0, 1.0) and not augment.sides[1] and not augment.rotate
    if whole and x.shape[2:] == (size, size):  # no pixel is computed anew
        if augment.flip:
            flipped = _flipped(x, augment, generator, mirrored)
            x = torch.where(flipped[:, None, None, None], x.flip(3), x)
    else:
        x = _crop(x, size, augment, generator, mirrored)
    if augment.randaugment:
        x = randaugmented(x, augment.randaugment, generator, colour=colour)
    if augment.colour:
        x = _colour(x, augment.colour, generator)
    if augment.pca:
        if axes is None:
            raise ValueError("augment.pca needs the axes of the images' colours: see colour_axes")
        noise = torch.randn(len(x), axes.shape[1], device=x.device, generator=generator) * augment.pca
        x = (x + (noise @ axes.to(x.device).T)[:, :, None, None]).clamp(0, 1)
    if augment.grey:
        lost = torch.rand(len(x), 1, 1, 1, device=x.device, generator=generator) < augment.grey
        x = torch.where(lost, x.mean(1, keepdim=True), x)
    return x


def changed(
    images: Tensor,
    labels: Tensor,
    config: TrainConfig,
    seed: int,
    *,
    mirrored: Tensor | None = None,
    axes: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """A batch `images` (n, c, h, w), uint8, as `config` changes it by the draws of `seed`: the images, standardised; their labels; and the
    other label and the share of the first, as `mixed` gives them. `mirrored` and `axes` are those of `augmented`."""
    draws = torch.Generator(images.device).manual_seed(seed)
    x = images.float() / 255
    x = augmented(x, config.image_size, config.augment, draws, colour=config.mean, mirrored=mirrored, axes=axes)
    x, others, own = mixed(erased(standardised(x, config), config.augment, draws), labels, config.augment, draws)
    return x, labels, others, own


def alternating(indices: Tensor, epoch: int, seed: int = 0) -> Tensor:
    """Which of the images with these `indices` (n,) are mirrored in `epoch`, (n,), bool: about half, and in the next epoch the others.

    Jordan. 94 % on CIFAR-10 in 3.29 Seconds on a Single GPU. 2024. https://arxiv.org/abs/2404.00498, section 3.6: two epochs then
    show both sides of every image, which draws do only for half of them.
    """
    x = (indices + 1 + seed * 0x9E3779B1 % 2**32) & 0xFFFFFFFF
    for _ in range(2):
        x = ((x ^ (x >> 16)) * 0x45D9F3B) & 0xFFFFFFFF  # a multiply-xor hash of 32 bits, whose products int64 holds
    return ((x ^ (x >> 16)) + epoch) % 2 == 1


def colour_axes(images: Tensor) -> Tensor:
    """The principal axes of the colours of `images` (n, c, h, w), uint8, as columns (c, c), each times its eigenvalue, of pixels in
    0 … 1.

    Krizhevsky, Sutskever, Hinton. 2012. section 4.1, computed like there from the training images: of a thousand of them, spread
    evenly. The paper's formula with pixels to 255 would be noise of hundreds; its values are those of pixels to 1, as everyone has
    them.
    """
    chosen = images[:: max(1, len(images) // 1000)].float() / 255
    pixels = chosen.movedim(1, 0).flatten(1).double()
    centred = pixels - pixels.mean(1, keepdim=True)
    values, vectors = torch.linalg.eigh((centred @ centred.T / centred.shape[1]).cpu())
    largest = vectors.gather(0, vectors.abs().argmax(0, keepdim=True))
    return (vectors * largest.sign() * values).float().to(images.device)  # a sign of its own, not the library's


def standardised(images: Tensor, config: TrainConfig) -> Tensor:
    """`images` (n, c, h, w) in 0 … 1 less the mean and over the standard deviation of each channel."""
    mean, std = (torch.tensor(values, device=images.device)[:, None, None] for values in (config.mean, config.std))
    return (images - mean) / std


def erased(images: Tensor, augment: Augment, generator: torch.Generator) -> Tensor:
    """Standardised `images` in which some lost a rectangle, or all a square, to zeros, which is the mean colour."""
    if augment.erase:
        area = _uniform(len(images), (0.02, 0.33), images, generator)
        hit = torch.rand(len(images), device=images.device, generator=generator) < augment.erase
        images = images.masked_fill(_rectangles(images, area * hit, generator), 0.0)
    return images.masked_fill(_squares(images, augment.cutout, generator), 0.0) if augment.cutout else images


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
        own = _beta(augment.mixup_alpha, images, generator)
        images = torch.lerp(images[order], images, own[:, None, None, None])
    elif draw < augment.mixup + augment.cutmix:
        mask = _rectangles(images, _uniform(len(images), (0.0, 1.0), images, generator), generator)
        images = torch.where(mask, images[order], images)
        own = 1 - mask.flatten(1).float().mean(1)
    return images, labels[order], own


def _uniform(n: int, bounds: tuple[float, float], like: Tensor, generator: torch.Generator) -> Tensor:
    low, high = bounds
    return low + (high - low) * torch.rand(n, device=like.device, generator=generator)


def _beta(alpha: float, like: Tensor, generator: torch.Generator) -> Tensor:
    """Numbers (n,) of Beta(alpha, alpha), alpha up to 1: Jöhnk's rule, the first of 32 pairs that it takes (all but never none)."""
    if alpha == 1:
        return _uniform(len(like), (0.0, 1.0), like, generator)
    u, v = torch.rand(2, len(like), 32, device=like.device, generator=generator).clamp(min=1e-7).log() / alpha
    first = (torch.logaddexp(u, v) <= 0).float().argmax(1, keepdim=True)
    return torch.sigmoid(u - v).gather(1, first)[:, 0]


def _flipped(images: Tensor, augment: Augment, generator: torch.Generator, mirrored: Tensor | None) -> Tensor:
    """Which images are mirrored, (n,), bool."""
    if augment.flip_mode == "alternate":
        if mirrored is None:
            raise ValueError("augment.flip_mode=alternate needs to be told which images are mirrored: see alternating")
        return mirrored
    return torch.rand(len(images), device=images.device, generator=generator) < augment.flip


def _shifted(images: Tensor, augment: Augment, colour: Sequence[float], generator: torch.Generator) -> Tensor:
    """Each image moved by up to `augment.pad` pixels either way, with `colour`, or itself mirrored, where it leaves room."""
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


def _crop(images: Tensor, size: int, augment: Augment, generator: torch.Generator, mirrored: Tensor | None) -> Tensor:
    n, _, height, width = images.shape
    if augment.sides[1]:  # of an image scaled to a side in between, a crop of `size` shows this share either way
        wide = high = (size / _uniform(n, augment.sides, images, generator)).clamp(max=1)
    elif augment.scale == (1.0, 1.0):
        wide = high = torch.ones(n, device=images.device)  # the whole image, whatever the ratio
    else:
        area = _uniform(n, augment.scale, images, generator)
        # `ratio` is of pixels, the affine map wants shares of the width and the height
        low, top = (math.log(bound * height / width) / 2 for bound in augment.ratio)
        skew = _uniform(n, (low, top), images, generator).exp()
        wide, high = (area.sqrt() * skew).clamp(max=1), (area.sqrt() / skew).clamp(max=1)
    theta = torch.zeros(n, 2, 3, device=images.device)
    theta[:, 0, 0], theta[:, 1, 1] = wide, high
    theta[:, 0, 2] = (1 - wide) * _uniform(n, (-1.0, 1.0), images, generator)
    theta[:, 1, 2] = (1 - high) * _uniform(n, (-1.0, 1.0), images, generator)
    if augment.rotate:  # about the middle of the crop, in pixels, so that a wide image is not sheared
        angle = math.radians(augment.rotate) * _uniform(n, (-1.0, 1.0), images, generator)
        theta[:, 0, 1], theta[:, 1, 0] = -high * angle.sin() * height / width, wide * angle.sin() * width / height
        theta[:, 0, 0], theta[:, 1, 1] = wide * angle.cos(), high * angle.cos()
    if augment.flip:
        flipped = _flipped(images, augment, generator, mirrored)[:, None]
        theta[:, :, 0] *= torch.where(flipped, -1.0, 1.0)
    return sampled(images, theta, size)


def sampled(images: Tensor, theta: Tensor, size: int) -> Tensor:
    """`images` through affine maps (n, 2, 3), bilinearly, to (n, c, size, size); beyond their border its pixels go on."""
    grid = F.affine_grid(theta, [len(images), 1, size, size], align_corners=False)
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


def _squares(images: Tensor, side: int, generator: torch.Generator) -> Tensor:
    """A mask (n, 1, h, w), true inside one square of `side` pixels an image, whose middle is any pixel: it may be cut off by the border.

    DeVries, Taylor. Improved Regularization of Convolutional Neural Networks with Cutout. 2017. https://arxiv.org/abs/1708.04552
    """
    n, _, height, width = images.shape
    inside: list[Tensor] = []
    for length in (height, width):
        start = torch.randint(length, (n, 1), device=images.device, generator=generator) - side // 2
        at = torch.arange(length, device=images.device)
        inside.append((at >= start) & (at < start + side))
    return (inside[0][:, :, None] & inside[1][:, None, :])[:, None]
