"""Augmentation on batches: what changes, what must not, and that the shares of mixed labels are the shares of pixels."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from convatlas.train import Augment
from convatlas.train.augment import alternating, augmented, colour_axes, erased, mixed
from convatlas.train.randaugment import OPERATIONS, Operation, randaugmented

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


def test_padding_moves_images_and_shows_the_colour_around() -> None:
    colour = (0.25, 0.5, 0.75)
    x = augmented(IMAGES, 12, Augment(pad=3), seeded(), colour=colour)
    around = torch.tensor(colour)[:, None, None].expand(3, 18, 18)
    offsets = set()
    for moved, image in zip(x, IMAGES, strict=True):
        wide = around.clone()
        wide[:, 3:15, 3:15] = image
        found = [
            (i, j)
            for i in range(7)
            for j in range(7)
            if torch.allclose(moved, wide[:, i : i + 12, j : j + 12], atol=1e-6)
        ]
        assert len(found) == 1
        offsets.add(found[0])
    assert len(offsets) > 30 and {i for i, _ in offsets} == {j for _, j in offsets} == set(range(7))


NEW = {
    "sides": Augment(sides=(14, 24)),
    "reflect": Augment(pad=3, padding="reflect"),
    "rotate": Augment(rotate=10),
    "pca": Augment(pca=0.5),
    "randaugment": Augment(randaugment=6),
}


def changed(augment: Augment, images: Tensor = IMAGES, seed: int = 0) -> Tensor:
    axes = colour_axes((images * 255).to(torch.uint8)) if augment.pca else None
    return augmented(images, 12, augment, seeded(seed), axes=axes, colour=(0.5, 0.5, 0.5))


@pytest.mark.parametrize("augment", NEW.values(), ids=NEW)
def test_what_is_drawn_is_of_the_generator_and_of_each_image(augment: Augment) -> None:
    first, again, other = changed(augment), changed(augment), changed(augment, seed=1)
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert first.shape == IMAGES.shape and float(first.min()) >= 0 and float(first.max()) <= 1 + 1e-6
    same = changed(augment, IMAGES[:1].expand(64, -1, -1, -1).contiguous())
    assert len({tuple(x.flatten()[:40].tolist()) for x in same}) > 5  # one image, drawn for 64 times


@pytest.mark.parametrize(
    "augment", [Augment(sides=(12, 12)), Augment(rotate=1e-9), Augment(pca=1e-12)], ids=["sides", "rotate", "pca"]
)
def test_the_least_of_each_is_nothing(augment: Augment) -> None:
    torch.testing.assert_close(changed(augment), IMAGES, atol=1e-5, rtol=0)


def test_a_crop_shows_its_share_of_the_side_at_the_scale_drawn() -> None:
    ramp = ((torch.arange(100) + 0.5) / 100).expand(400, 1, 100, 100)
    x = augmented(ramp, 50, Augment(sides=(56, 120)), seeded())
    shown = (x[:, 0, 0, -1] - x[:, 0, 0, 0]) * 50 / 49
    assert float(shown.min()) == pytest.approx(50 / 120, abs=0.02)
    assert float(shown.max()) == pytest.approx(50 / 56, abs=0.02)


def test_reflected_padding_shows_the_image_itself() -> None:
    x = augmented(IMAGES, 12, Augment(pad=3, padding="reflect"), seeded())
    wide = torch.nn.functional.pad(IMAGES, [3] * 4, mode="reflect")
    for moved, image in zip(x, wide, strict=True):
        assert sum(torch.equal(moved, image[:, i : i + 12, j : j + 12]) for i in range(7) for j in range(7)) == 1


def test_rotations_turn_by_up_to_the_angle_about_the_middle() -> None:
    rows = ((torch.arange(80) + 0.5) / 80 - 0.5)[:, None].expand(200, 1, 80, 80) + 0.5
    x = augmented(rows, 80, Augment(rotate=10), seeded())
    slope = (x[:, 0, 40, 60] - x[:, 0, 40, 20]) / 0.5  # sin of the angle
    assert float(slope.abs().max()) == pytest.approx(0.1736, abs=0.01) and float(slope.min()) < 0 < float(slope.max())
    torch.testing.assert_close(x[:, 0, 39:41, 39:41].mean((1, 2)), torch.full((200,), 0.5), atol=1e-3, rtol=0)
    wide = rows[:1, :, 20:60].expand(200, -1, -1, -1)  # twice as wide as high: still no shear
    y = augmented(wide, 40, Augment(rotate=10), seeded())
    along, down = y[:, 0, 20, 24] - y[:, 0, 20, 16], y[:, 0, 24, 20] - y[:, 0, 16, 20]
    length = torch.hypot(along / 2, down)  # eight columns of the square are sixteen of the image's
    torch.testing.assert_close(length, torch.full((200,), 0.1), atol=2e-3, rtol=0)


def test_colour_noise_lies_along_the_axes_of_the_images_colours() -> None:
    line = torch.tensor([1.0, 0.5, -0.5])
    images = (0.5 + 0.3 * torch.randn(500, 1, 8, 8, generator=seeded()).clamp(-1, 1) * line[:, None, None]) * 255
    axes = colour_axes(images.round().to(torch.uint8))
    lengths = axes.norm(dim=0)
    assert float(lengths[-1]) > 100 * float(lengths[:-1].max())
    direction = axes[:, -1] / lengths[-1]
    torch.testing.assert_close(direction, line / line.norm(), atol=1e-2, rtol=0)
    variance = float((images / 255).movedim(1, 0).flatten(1).var(1).sum())
    assert float(lengths.sum()) == pytest.approx(variance, rel=0.02)
    x = augmented(torch.full((2000, 3, 2, 2), 0.5), 2, Augment(pca=0.1), seeded(), axes=axes)
    noise = x[:, :, 0, 0] - 0.5
    assert torch.equal(x[:, :, 0, 0], x[:, :, 1, 1])  # all pixels of an image alike
    assert float((noise @ direction).std()) == pytest.approx(0.1 * float(lengths[-1]), rel=0.06)
    with pytest.raises(ValueError, match="colour_axes"):
        augmented(IMAGES, 12, Augment(pca=0.1), seeded())


def test_cutout_takes_a_square_of_that_side_anywhere() -> None:
    x = erased(torch.ones(500, 3, 32, 32), Augment(cutout=8), seeded())
    lost = (x == 0).sum((1, 2, 3)) / 3
    assert float(lost.max()) == 64 and float(lost.min()) >= 16  # a corner of it at the least
    assert 0.2 < float((lost < 64).float().mean()) < 0.6
    assert torch.equal(x[:, 0], x[:, 2]) and (x == 0).any(0).all()


def test_flips_alternate_from_epoch_to_epoch() -> None:
    indices = torch.arange(5000)
    zeroth, first, second, other = (
        alternating(indices, epoch, seed) for epoch, seed in ((0, 0), (1, 0), (2, 0), (0, 1))
    )
    assert torch.equal(zeroth, ~first) and torch.equal(zeroth, second)
    assert 0.45 < float(zeroth.float().mean()) < 0.55 and 0.4 < float((zeroth == other).float().mean()) < 0.6
    assert 0.45 < float((zeroth[1:] == zeroth[:-1]).float().mean()) < 0.55  # neighbours have nothing in common
    order = torch.randperm(64, generator=seeded())
    augment = Augment(flip=0.5, flip_mode="alternate")
    for size in (12, 10):  # with pixels computed anew, and without
        shuffled = augmented(IMAGES[order], size, augment, seeded(), mirrored=alternating(order, 3))
        straight = augmented(IMAGES, size, augment, seeded(), mirrored=alternating(torch.arange(64), 3))
        assert torch.equal(shuffled, straight[order])
    with pytest.raises(ValueError, match="see alternating"):
        augmented(IMAGES, 12, augment, seeded())


def test_mixup_of_a_small_alpha_mostly_leaves_one_image() -> None:
    images, labels = constant(torch.rand(64, generator=seeded())).repeat(40, 1, 1, 1), torch.arange(64).repeat(40)
    shares = {
        alpha: mixed(images, labels, Augment(mixup=1.0, mixup_alpha=alpha), seeded())[2] for alpha in (0.1, 0.5, 1.0)
    }
    for alpha, own in shares.items():
        assert float(own.min()) >= 0 and float(own.max()) <= 1 and float(own.mean()) == pytest.approx(0.5, abs=0.03)
        assert float(own.var()) == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.06)  # Beta's


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.__name__.strip("_"))
def test_a_change_of_randaugment_is_nothing_at_zero_and_something_at_ten(operation: Operation) -> None:
    images = 0.1 + 0.7 * IMAGES
    around = torch.full((3, 1, 1), 0.5)
    none, level = torch.zeros(64, 1, 1, 1), torch.ones(64, 1, 1, 1)
    torch.testing.assert_close(operation(images, none, around), images, atol=1e-5, rtol=0)
    for signed in (level, -level):
        moved = operation(images, signed, around)
        assert moved.shape == images.shape and moved.isfinite().all()
        assert float((moved - images).abs().mean()) > 0.02


def test_randaugment_changes_some_images_and_none_without_a_magnitude() -> None:
    x = randaugmented(IMAGES, 6.0, seeded())
    kept = (x == IMAGES).flatten(1).all(1).float().mean()
    assert 0.1 < float(kept) < 0.45  # a quarter draws twice nothing
    torch.testing.assert_close(randaugmented(IMAGES, 0.0, seeded()), IMAGES, atol=1e-5, rtol=0)
