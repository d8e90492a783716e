"""A probe is one linear layer on the pooled maps of its network, in a fixed order, and no more of the network than that needs."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch

from convatlas import zoo
from convatlas.zoo.heads.probe import ProbeConfig, ProbeNet, pooled

WIDTHS = {"stage1": 16, "stage2": 32, "stage3": 64}


def probe(means: Sequence[str], deviations: Sequence[str] = ()) -> tuple[zoo.ConvNet, ProbeNet]:
    torch.manual_seed(0)
    network = zoo.build("resnet20_cifar", num_classes=0).eval()
    features = sum(WIDTHS[cut] for cut in (*means, *deviations))
    config = ProbeConfig(means=tuple(means), deviations=tuple(deviations), features=features)
    return network, ProbeNet(network, config, num_classes=5).eval()


@pytest.mark.parametrize(
    ("means", "deviations"),
    [
        ((), ("stage2",)),
        (("stage3",), ("stage1",)),
        (("stage3", "stage1"), ("stage2", "stage1")),  # in the order given, not the network's
        (("stage2",), ()),
        (("stage2",), ("stage2",)),
        (("stage1", "stage3"), ()),
        (("stage1", "stage2", "stage3"), ("stage1", "stage2")),
        (("stage1", "stage2", "stage3"), ("stage1", "stage2", "stage3")),
    ],
)
@torch.inference_mode()
def test_a_probe_is_a_linear_layer_on_means_then_deviations(
    means: tuple[str, ...], deviations: tuple[str, ...]
) -> None:
    network, model = probe(means, deviations)
    images = torch.randn(3, 3, 32, 32)
    maps = {cut: zoo.prefix(network, cut)(images) for cut in WIDTHS}
    parts = [maps[cut].mean((2, 3)) for cut in means]
    parts += [maps[cut].std((2, 3), correction=0) for cut in deviations]
    expected = torch.cat(parts, dim=1) @ model.fc.weight.T + model.fc.bias
    assert torch.allclose(model(images), expected, rtol=1e-4, atol=1e-4)
    assert model(images).shape == (3, 5)


@pytest.mark.parametrize("cut", WIDTHS)
def test_no_more_of_the_network_is_kept_than_is_needed(cut: str) -> None:
    network, model = probe([cut])
    kept = {id(p) for p in model.parameters()} - {id(p) for p in model.fc.parameters()}
    assert kept == {id(p) for p in zoo.prefix(network, cut).parameters()}


def test_a_probe_of_another_width_does_not_run() -> None:
    _, model = probe(["stage1"])
    model.fc = torch.nn.Linear(17, 5)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        model(torch.randn(1, 3, 32, 32))


@pytest.mark.parametrize("side", [1, 2, 7])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_pooling_is_mean_and_population_deviation(side: int, memory_format: torch.memory_format) -> None:
    torch.manual_seed(side)
    maps = (torch.randn(4, 6, side, side) + 1).contiguous(memory_format=memory_format)
    mean, deviation = pooled(maps)
    assert torch.allclose(mean, maps.double().mean((2, 3)).float(), rtol=1e-5, atol=1e-6)
    assert torch.allclose(deviation, maps.double().std((2, 3), correction=0).float(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("value", [0.0, 0.1, 3.0, 1e4])
@pytest.mark.parametrize("side", [1, 7])
def test_a_constant_map_has_almost_no_deviation(value: float, side: int) -> None:
    mean, deviation = pooled(torch.full((2, 3, side, side), value))
    assert torch.allclose(mean, torch.full((2, 3), value))
    assert torch.isfinite(deviation).all()
    assert (deviation <= 1e-6 * value).all()


@pytest.mark.parametrize("side", [2, 7, 56])
def test_a_map_that_hardly_varies_keeps_the_digits_of_its_deviation(side: int) -> None:
    torch.manual_seed(side)
    maps = 100 + 0.01 * torch.randn(4, 6, side, side)
    _, deviation = pooled(maps)
    assert torch.allclose(deviation.double(), maps.double().std((2, 3), correction=0), rtol=1e-3, atol=0)
