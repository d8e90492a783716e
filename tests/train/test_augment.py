"""Augmentation on batches: what changes, what must not, and that the shares of mixed labels are the shares of pixels."""

from __future__ import annotations

from typing import Literal

import pytest
import torch
from torch import Tensor

from convatlas.train import Augment
from convatlas.train.augment import alternating, augmented, erased, mixed, turned

IMAGES = torch.rand(64, 3, 12, 12, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(64)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def constant(values: Tensor) -> Tensor:
    return values[:, None, None, None].expand(-1, 3, 12, 12).contiguous()


def test_the_defaults_change_nothing() -> None:
    torch.testing.assert_close(augmented(IMAGES, 12, Augment(), seeded()), IMAGES)
    assert erased(IMAGES, Augment(), seeded()) is IMAGES
    x, others, own = mixed(IMAGES, LABELS, Augment(), seeded())
    assert x is IMAGES and torch.equal(others, LABELS) and own.eq(1).all()


def test_flips_mirror_some_images() -> None:
    x = augmented(IMAGES, 12, Augment(flip=0.5), seeded())
    mirrored = (x - IMAGES.flip(3)).abs().amax((1, 2, 3)) < 1e-5
    kept = (x - IMAGES).abs().amax((1, 2, 3)) < 1e-5
    assert (mirrored ^ kept).all() and 16 < int(mirrored.sum()) < 48


@pytest.mark.parametrize("seed", [0, 1, 2**40])
def test_alternating_flips_mirror_each_image_every_second_epoch(seed: int) -> None:
    indices = torch.arange(10_000)
    epochs = torch.stack([alternating(indices, epoch, seed) for epoch in range(6)])
    assert (epochs[1:] != epochs[:-1]).all()
    shares = epochs[0].float().reshape(10, -1).mean(1)  # of a thousand neighbours
    assert float(shares.min()) > 0.44 and float(shares.max()) < 0.56
    again = (epochs[0, 1:] == epochs[0, :-1]).float().mean()  # neighbours have nothing in common
    assert 0.48 < float(again) < 0.52


def test_which_half_is_mirrored_first_is_the_seed_s_and_the_image_s_alone() -> None:
    indices = torch.randperm(10_000, generator=seeded())
    zero, one = (alternating(indices, 0, seed) for seed in (0, 1))
    assert 0.47 < float((zero == one).float().mean()) < 0.53
    assert torch.equal(alternating(indices[:100], 0, 1), one[:100])  # whatever else is in the batch


@pytest.mark.parametrize("scale", [(1.0, 1.0), (0.5, 1.0)])
def test_images_that_alternate_are_turned_once(scale: tuple[float, float]) -> None:
    """They are by `turned`, and then no flip is drawn."""
    augment = Augment(scale=scale, flip=0.5, flip_mode="alternate")
    indices = torch.arange(64)
    mirrored = alternating(indices, 3, 0)
    x = turned(IMAGES, indices, 3, augment, 0)
    assert torch.equal(x[mirrored], IMAGES[mirrored].flip(3)) and torch.equal(x[~mirrored], IMAGES[~mirrored])
    assert turned(IMAGES, indices, 3, Augment(flip=0.5), 0) is IMAGES
    ramp = (torch.arange(12) / 12).expand(64, 3, 12, 12)
    rising = augmented(ramp, 12, augment, seeded()).diff(dim=3) >= 0
    assert rising.all()


def test_crops_show_the_share_of_the_area_asked_for() -> None:
    ramp = (torch.arange(100) + 0.5) / 100
    across = torch.stack([ramp.expand(100, 100), ramp[:, None].expand(100, 100)]).expand(256, 2, 100, 100)
    x = augmented(across, 50, Augment(scale=(0.25, 0.25)), seeded())
    wide = (x[:, 0, 0, -1] - x[:, 0, 0, 0]) * 50 / 49
    high = (x[:, 1, -1, 0] - x[:, 1, 0, 0]) * 50 / 49
    torch.testing.assert_close(wide * high, torch.full((256,), 0.25), atol=5e-3, rtol=0)
    assert 0.74 < float((wide / high).min()) < 0.8 and 1.25 < float((wide / high).max()) < 1.35
    assert float(x.min()) < 0.02 and float(x.max()) > 0.98  # the corners are reached


def test_the_same_generator_state_gives_the_same_images() -> None:
    everything = Augment(scale=(0.2, 1.0), flip=0.5, colour=0.4, grey=0.2)
    first, again, other = (augmented(IMAGES, 16, everything, seeded(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert first.shape == (64, 3, 16, 16) and float(first.min()) >= 0 and float(first.max()) <= 1


def test_colour_keeps_grey_images_grey_and_grey_makes_them() -> None:
    x = augmented(constant(torch.rand(64, generator=seeded())), 12, Augment(colour=0.5), seeded())
    assert float((x - x[:, :1]).abs().max()) < 1e-6
    x = augmented(IMAGES, 12, Augment(grey=1.0), seeded())
    assert torch.equal(x[:, 0], x[:, 1]) and torch.equal(x[:, 0], x[:, 2])


def test_erasing_zeroes_one_rectangle_of_2_to_33_percent() -> None:
    x = erased(torch.ones(500, 3, 64, 64), Augment(erase=0.5), seeded())
    lost = (x == 0).float().mean((1, 2, 3))
    hit = lost[lost > 0]
    assert 200 < len(hit) < 300 and float(hit.min()) > 0.01 and float(hit.max()) < 0.36


@pytest.mark.parametrize("augment", [Augment(mixup=1.0), Augment(cutmix=1.0)])
def test_the_share_of_the_label_is_the_share_of_the_pixels(augment: Augment) -> None:
    x, others, own = mixed(constant(LABELS.float()), LABELS, augment, seeded())
    torch.testing.assert_close(x.mean((1, 2, 3)), own * LABELS + (1 - own) * others, atol=1e-3, rtol=1e-4)
    assert float(own.min()) < 0.2 and float(own.max()) > 0.8
    blended = (x != LABELS[:, None, None, None]) & (x != others[:, None, None, None])
    assert bool(blended.any()) == (augment.mixup > 0)


@pytest.mark.parametrize("padding", ["mean", "reflect"])
def test_padding_moves_images_and_shows_what_is_around(padding: Literal["mean", "reflect"]) -> None:
    colour = (0.25, 0.5, 0.75)
    x = augmented(IMAGES, 12, Augment(pad=3, padding=padding), seeded(), colour=colour)
    around = torch.tensor(colour)[:, None, None].expand(3, 18, 18)
    offsets = set()
    for moved, image in zip(x, IMAGES, strict=True):
        wide = around.clone()
        wide[:, 3:15, 3:15] = image
        if padding == "reflect":
            wide = torch.cat([image[:, 1:4].flip(1), image, image[:, -4:-1].flip(1)], 1)
            wide = torch.cat([wide[..., 1:4].flip(2), wide, wide[..., -4:-1].flip(2)], 2)
        found = [
            (i, j)
            for i in range(7)
            for j in range(7)
            if torch.allclose(moved, wide[:, i : i + 12, j : j + 12], atol=1e-6)
        ]
        assert len(found) == 1
        offsets.add(found[0])
    assert len(offsets) > 30 and {i for i, _ in offsets} == {j for _, j in offsets} == set(range(7))
