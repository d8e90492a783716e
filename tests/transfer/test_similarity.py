"""The distance to the source: nothing for the source's own images, the same with norms folded, and silent where there is no record."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from convatlas import zoo
from convatlas.transfer.similarity import likeness

NETWORKS = ("mobilenet_v1_025", "resnet20_cifar", "preresnet110_cifar")


def photos(count: int, seed: int = 0) -> torch.Tensor:
    """Blurred noise: neighbouring pixels are alike, as in photos."""
    noise = torch.randn(count, 3, 64, 64, generator=torch.Generator().manual_seed(seed))
    return nn.functional.avg_pool2d(noise, 5, stride=1, padding=2) * 4


def trained(name: str, images: torch.Tensor) -> zoo.ConvNet:
    """A network whose norms have seen exactly these images."""
    torch.manual_seed(3)
    model = zoo.build(name, num_classes=4)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.3)
    with torch.no_grad():
        model.train()(images)
    return model.eval()


@pytest.mark.parametrize("name", NETWORKS)
def test_the_sources_own_images_are_at_no_distance_and_others_are(name: str) -> None:
    own = photos(24)
    model = trained(name, own)
    same, alike = likeness(model, own), likeness(model, photos(24, seed=1))
    other = likeness(model, 2.5 * own + 1)
    assert [row.stage for row in same] == list(zoo.stage_names(model))
    for mine, near, far in zip(same, alike, other, strict=True):
        assert mine.distance < 0.1
        assert near.distance < 0.4
        assert far.distance > 2 * near.distance
        assert mine.spread == pytest.approx(1, abs=0.05)
        assert far.shift <= far.distance
    assert {row.words for row in same} == {"near to"}


@pytest.mark.parametrize("name", NETWORKS)
def test_it_is_what_its_definition_says(name: str) -> None:
    """The first stage against the network run as it is, norms not folded."""
    model, images = trained(name, photos(24)), photos(24, seed=2) + 0.5
    norm = next(module for module in model.modules() if isinstance(module, nn.BatchNorm2d))
    seen: list[torch.Tensor] = []
    hook = norm.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        model(images)
    hook.remove()
    values = seen[0].double().transpose(0, 1).flatten(1)
    assert norm.running_mean is not None and norm.running_var is not None
    scale = (norm.running_var.double() + norm.eps).sqrt()
    shift = (values.mean(1) - norm.running_mean) / scale
    spread = (values.var(1, correction=0) + norm.eps).sqrt() / scale
    found = likeness(model, images)[0]
    assert found.distance == pytest.approx(float((shift**2 + (spread - 1) ** 2).mean().sqrt()), rel=1e-3)
    assert found.spread == pytest.approx(float(spread.median()), rel=1e-3)


@pytest.mark.parametrize(("name", "channels"), [("lenet5", 1), ("mobilenet_v1_025", 3)])
def test_without_a_record_nothing_is_said(name: str, channels: int) -> None:
    """No norms, or norms as they were made."""
    model = zoo.build(name, num_classes=4, in_channels=channels).eval()
    assert likeness(model, torch.rand(4, channels, 32, 32)) == ()
