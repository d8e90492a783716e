"""The network arranged for speed is the same network, to infer and to train, and the one it was made from is left alone."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from convatlas import catalogue, zoo
from convatlas.zoo.inference import for_inference, normalised
from convatlas.zoo.joined import Pairs, followed, joined
from peers import largest_difference

UNFOLDED = (
    "preresnet",
    "wrn",
    "densenet",
    "nasnet",
    "cifar_fast",
)  # some or all of their norms follow sums, stacks and pools
IDLE = {"googlenet_bn_aux": 2}  # norms of auxiliary classifiers, which only training runs
QUICK = (  # one of each kind of block
    *("lenet5", "lenet5_modern", "resnet18", "resnet20_cifar", "mobilenet_v1_025", "preresnet110_cifar"),
    *("densenet_40_12_cifar", "se_resnet18", "nasnet_a_cifar", "googlenet_bn", "cifar_fast_025"),
)
VARIANTS = [
    name if name in QUICK else pytest.param(name, marks=pytest.mark.slow)
    for name in zoo.variants()
    if "1202" not in name and "1001" not in name  # with random norms its activations exceed what float32 can hold
]


def scrambled(model: nn.Module) -> nn.Module:
    """The module with batch norms that do something and keep deep networks within range, in evaluation mode."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None and module.running_var is not None
            module.running_mean.normal_(std=0.3)
            module.running_var.uniform_(0.8, 1.2)
            nn.init.uniform_(module.weight, 0.5, 1.0)
            nn.init.normal_(module.bias, std=0.3)
    return model.eval()


def network(name: str, dtype: torch.dtype = torch.float32) -> tuple[nn.Module, Tensor]:
    """The scrambled network, and two images of a size that suits it."""
    torch.manual_seed(0)
    known = catalogue.find(name)
    channels, height, _ = known.input_size
    side = height if known.sides[1] or height < 64 else max(64, known.sides[0])
    model = scrambled(zoo.build(name, num_classes=7, in_channels=channels)).to(dtype)
    return model, torch.randn(2, channels, side, side, dtype=dtype)


@pytest.mark.parametrize("name", VARIANTS)
@torch.inference_mode()
def test_a_folded_network_gives_the_same(name: str) -> None:
    model, images = network(name)
    expected = model(images)
    fast = for_inference(model, images[:1].shape)
    assert largest_difference(fast(images), expected) < 5e-5
    before, after = (sum(isinstance(module, nn.BatchNorm2d) for module in m.modules()) for m in (model, fast))
    if name.startswith(UNFOLDED):
        assert after <= before
    else:
        assert after == IDLE.get(name, 0)
    assert torch.equal(model(images), expected)


@torch.inference_mode()
def test_taps_are_folded_too() -> None:
    torch.manual_seed(0)
    model = zoo.build("resnet20_cifar", num_classes=3)
    scrambled(model)
    images = torch.randn(2, 3, 32, 32)
    expected = zoo.taps(model, ["stage1", "stage3"])(images)
    found = for_inference(zoo.taps(model, ["stage1", "stage3"]), images[:1].shape)(images)
    assert list(found) == list(expected)
    for cut, activation in expected.items():
        assert largest_difference(found[cut], activation) < 5e-5


def test_the_original_keeps_its_weights_mode_and_hooks() -> None:
    model = zoo.build("resnet20_cifar", num_classes=3)
    model.train()
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    fast = for_inference(model, (2, 3, 32, 32))
    assert model.training
    assert not any(module.training for module in fast.modules() if not isinstance(module, nn.Identity))
    assert model.state_dict().keys() == before.keys()
    assert all(torch.equal(tensor, before[key]) for key, tensor in model.state_dict().items())
    assert not [m for each in (model, fast) for m in each.modules() if m._forward_hooks]
    shared = {p.data_ptr() for p in model.parameters()} & {p.data_ptr() for p in fast.parameters()}
    assert not shared


class Wired(nn.Module):
    """A convolution, a batch norm and a wiring between them."""

    def __init__(self, wiring: Callable[[nn.Conv2d, nn.BatchNorm2d, Tensor], Tensor], *, bias: bool = False) -> None:
        super().__init__()
        self.conv, self.norm, self.wiring = nn.Conv2d(3, 3, 3, padding=1, bias=bias), nn.BatchNorm2d(3), wiring

    def forward(self, x: Tensor) -> Tensor:
        return self.wiring(self.conv, self.norm, x)


WIRINGS: dict[str, Callable[[nn.Conv2d, nn.BatchNorm2d, Tensor], Tensor]] = {
    "straight": lambda conv, norm, x: norm(conv(x)),
    "norm first": lambda conv, norm, x: conv(norm(x)),
    "something between": lambda conv, norm, x: norm(conv(x).relu()),
    "sum between": lambda conv, norm, x: norm(conv(x) + x),
    "twice in turn": lambda conv, norm, x: norm(conv(norm(conv(x)))),
}


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("wiring", WIRINGS)
@torch.inference_mode()
def test_only_what_follows_directly_is_folded(wiring: str, bias: bool) -> None:
    torch.manual_seed(0)
    module = scrambled(Wired(WIRINGS[wiring], bias=bias))
    images = torch.randn(2, 3, 8, 8)
    assert largest_difference(for_inference(module, images[:1].shape)(images), module(images)) < 1e-5


@pytest.mark.parametrize(
    "wiring",
    [
        lambda conv, norm, x: norm(conv(x)) + conv(x),  # also called without the norm
        lambda conv, norm, x: (lambda y: norm(y) + y)(conv(x)),  # the stem of a pre-activation network
    ],
)
@torch.inference_mode()
def test_what_something_else_reads_is_not_folded(wiring: Callable[[nn.Conv2d, nn.BatchNorm2d, Tensor], Tensor]) -> None:
    torch.manual_seed(0)
    module = scrambled(Wired(wiring))
    images = torch.randn(2, 3, 8, 8)
    assert largest_difference(for_inference(module, images[:1].shape)(images), module(images)) < 1e-5


def gradients(model: nn.Module, images: Tensor, pairs: Pairs) -> dict[str, Tensor]:
    """The logits and, of their weighted sum, the gradients by the images and by what trains beside frozen norms."""
    frozen = {id(p) for _, norm in pairs for p in norm.parameters()}
    named = {key: p for key, p in model.named_parameters() if p.requires_grad and id(p) not in frozen}
    images = images.clone().requires_grad_()
    with joined(pairs):
        logits = model(images)
    weights = torch.linspace(-1, 1, logits.numel(), dtype=logits.dtype).reshape(logits.shape)
    found = torch.autograd.grad((logits * weights).sum(), [images, *named.values()], materialize_grads=True)
    return {"logits": logits.detach()} | dict(zip(["images", *named], found, strict=True))


def nothing_stays(module: nn.Module) -> bool:
    return not [m for m in module.modules() if {"forward", "_conv_forward"} & vars(m).keys()]


@pytest.mark.parametrize("name", VARIANTS)
def test_convolutions_and_frozen_norms_train_as_one_as_they_do_one_by_one(name: str) -> None:
    model, images = network(name, torch.float64)
    before = {key: x.clone() for key, x in model.state_dict().items()}
    pairs = followed(model, images[:1])
    norms = sum(isinstance(module, nn.BatchNorm2d) for module in model.modules())
    assert name.startswith(UNFOLDED) or len(pairs) == norms - IDLE.get(name, 0)
    one_by_one = gradients(model, images, ())
    for key, gradient in gradients(model, images, pairs).items():
        assert (gradient - one_by_one[key]).abs().max() <= 1e-9 * one_by_one[key].abs().max(), key
    assert nothing_stays(model)
    assert model.state_dict().keys() == before.keys()
    assert all(torch.equal(x, before[key]) for key, x in model.state_dict().items())


def test_after_a_failure_they_are_two_again() -> None:
    model, images = network("resnet20_cifar")
    with pytest.raises(RuntimeError), joined(followed(model, images)):
        raise RuntimeError
    assert nothing_stays(model)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("affine", [True, False])
@torch.no_grad()
def test_biases_and_norms_that_only_standardise(bias: bool, affine: bool) -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3, bias=bias), nn.BatchNorm2d(4, affine=affine)).double()
    images = torch.randn(5, 3, 9, 9, dtype=torch.float64)
    module(images)  # so that it has seen some statistics
    pairs = followed(module.eval(), images)
    assert len(pairs) == 1
    with joined(pairs):
        found = module(images)
    assert largest_difference(found, module(images)) <= 1e-12


def test_norms_without_running_statistics_are_left_alone() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, track_running_stats=False)).eval()
    assert not followed(module, torch.randn(2, 3, 9, 9))


@pytest.mark.parametrize(("mean", "std"), [((0.5,), (0.25,)), ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))])
def test_normalised_is_the_formula(mean: tuple[float, ...], std: tuple[float, ...]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 5, 7, len(mean)), dtype=np.uint8)
    found = normalised(torch.from_numpy(pixels), mean, std)
    expected = ((pixels / 255 - np.array(mean)) / np.array(std)).transpose(0, 3, 1, 2)
    assert found.dtype == torch.float32
    assert found.shape == (2, len(mean), 5, 7)
    assert found.is_contiguous(memory_format=torch.channels_last)
    assert np.abs(found.numpy() - expected).max() < 2e-6


def test_black_and_white_are_the_ends_of_the_range() -> None:
    black, white = (
        normalised(torch.full((1, 1, 1, 1), value, dtype=torch.uint8), (0.0,), (1.0,)) for value in (0, 255)
    )
    assert (black.item(), white.item()) == (0.0, 1.0)
