"""The network of airbench: its first layer whitens, its filters start as the identity, and what is frozen stays."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from convatlas import zoo
from convatlas.zoo.airbench import EPSILON, VARIANTS, Airbench, whiten, whitening_filters


def network(name: str = "cifar_fast_025", *, in_channels: int = 3) -> Airbench:
    torch.manual_seed(0)
    model = zoo.build(name, num_classes=10, in_channels=in_channels)
    assert isinstance(model, Airbench)
    return model


def photos(channels: int = 3) -> Tensor:
    """Noise (200, channels, 16, 16) of which neighbouring pixels and channels have much in common, as in photos."""
    noise = torch.randn(200, channels + 1, 18, 18, generator=torch.Generator().manual_seed(1))
    smooth = 3 * nn.functional.avg_pool2d(noise, 3, stride=1)
    return smooth[:, :-1] + smooth[:, -1:] + noise[:, :-1, 1:-1, 1:-1]


def second_moments(responses: Tensor) -> Tensor:
    """The mean products (k, k) of the maps (n, k, h, w)."""
    flat = responses.transpose(0, 1).flatten(1).double()
    return flat @ flat.T / flat.shape[1]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("side", [1, 2, 3])
def test_whitened_patches_are_uncorrelated_and_of_one_size(channels: int, side: int) -> None:
    images = photos(channels)
    before = second_moments(nn.functional.unfold(images, side).reshape(200, channels * side**2, -1, 1))
    if len(before) > 1:
        assert float((before - before.diag().diag()).abs().max()) > 0.3
    found = second_moments(nn.functional.conv2d(images, whitening_filters(images, side)))
    torch.testing.assert_close(found, torch.eye(channels * side**2).double(), atol=0.02, rtol=0)


def test_directions_in_which_images_do_not_vary_are_not_blown_up() -> None:
    grey = photos(1).expand(-1, 3, -1, -1)  # two thirds of the directions carry rounding errors
    filters = whitening_filters(grey, 2)
    assert float(filters.flatten(1).norm(dim=1).max()) <= EPSILON**-0.5 * 1.001
    strengths = second_moments(nn.functional.conv2d(grey, filters)).diag()
    assert float(strengths[:4].min()) > 0.97 and float(strengths[4:].max()) < 1e-3


@pytest.mark.parametrize("name", VARIANTS)
def test_every_filter_has_its_negative(name: str) -> None:
    model, images = network(name), photos()
    whiten(model, images)
    weight = model.get_parameter("stages.stem.whiten.weight")
    half = len(weight) // 2
    assert torch.equal(weight[:half], whitening_filters(images, 2)) and torch.equal(weight[half:], -weight[:half])
    assert not weight.requires_grad and not model.get_parameter("stages.stem.whiten.bias").any()


def test_images_of_other_channels_are_refused() -> None:
    with pytest.raises(ValueError, match="images with 1 channels cannot whiten a network of 3"):
        whiten(network(), photos(1))


@pytest.mark.parametrize("name", VARIANTS)
def test_filters_start_as_the_identity(name: str) -> None:
    model = network(name)
    layers = [m for m in model.stages.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3)]
    assert len(layers) == 6
    for layer in layers:
        x = torch.randn(1, layer.in_channels, 5, 5)
        passed = min(layer.in_channels, layer.out_channels)
        with torch.no_grad():
            torch.testing.assert_close(layer(x)[:, :passed], x[:, :passed])
        assert all(layer.weight[passed:].flatten(1).abs().sum(1) > 0)  # the others are drawn


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_an_optimiser_over_all_parameters_leaves_what_is_frozen(momentum: float) -> None:
    model = network()
    whiten(model, photos())
    frozen = {key: p.clone() for key, p in model.named_parameters() if not p.requires_grad}
    assert {key.rpartition(".")[2] for key in frozen} == {"weight"} and len(
        frozen
    ) == 1 + 6  # the first layer, the gains
    before = model.get_parameter("head.fc.weight").clone()
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1, momentum=momentum, weight_decay=0.1)
    for _ in range(2):
        optimiser.zero_grad()
        model(torch.randn(4, 3, 32, 32)).square().sum().backward()
        optimiser.step()
    assert not torch.equal(model.get_parameter("head.fc.weight"), before)
    assert all(torch.equal(model.get_parameter(key), p) for key, p in frozen.items())
    assert all(p.unique().tolist() == [1.0] for key, p in frozen.items() if "norm" in key)
