"""Fully connected layers as convolutions give the same numbers, and cuts inside the classifier are torchvision's activations."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from convatlas import catalogue, zoo
from peers import peer

SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("vgg11", "vgg16_c")]
FIXED = ("lenet5_modern", "alexnet", "caffenet", "zfnet", "alexnet_owt", "cifar_fast_025", *SLOW)
POOLED = (
    "resnet20_cifar",
    "densenet_40_12_cifar",
    "googlenet",
    "mobilenet_v2",
    "se_resnet18",
    "nasnet_a_cifar",
    "nin_cifar",
)


def network(name: str) -> tuple[zoo.ConvNet, tuple[int, int, int]]:
    torch.manual_seed(0)
    size = catalogue.find(name).input_size
    model = zoo.build(name, num_classes=5, in_channels=size[0]).eval()
    for module in model.modules():  # outputs of the size of one, so that a relative error means something
        if isinstance(module, nn.Linear | nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
    return model, size


@pytest.mark.parametrize("name", FIXED)
@torch.inference_mode()
def test_at_its_own_size_a_dense_network_gives_the_logits_in_one_place(name: str) -> None:
    model, size = network(name)
    images = torch.randn(2, *size)
    scores = zoo.dense(model)(images)
    assert scores.shape == (2, 5, 1, 1)
    expected = model(images)
    assert (scores[..., 0, 0] - expected).abs().max() <= 1e-5 * expected.abs().max()


@pytest.mark.parametrize("name", ["alexnet", pytest.param("vgg11", marks=pytest.mark.slow)])
@torch.inference_mode()
def test_a_dense_network_slides(name: str) -> None:
    """Each place of the scores is what the network says of the window there, where no padding sees the window's border."""
    model, (_, side, _) = network(name)
    scores = zoo.dense(model)(torch.randn(1, 3, side + 64, side + 64))
    assert scores.shape == (1, 5, 3, 3)  # 32 pixels apart


@pytest.mark.parametrize("name", POOLED)
@torch.inference_mode()
def test_the_mean_over_places_of_a_pooled_network_is_its_logits(name: str) -> None:
    model, size = network(name)
    images = torch.randn(2, *size)
    scores = zoo.dense(model)(images)
    assert scores.ndim == 4 and scores.shape[2] > 1
    expected = model(images)
    assert (scores.mean((2, 3)) - expected).abs().max() <= 2e-5 * expected.abs().max()


def test_the_original_keeps_its_form_and_its_weights_are_not_copied_twice() -> None:
    model, size = network("alexnet_owt")
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    zoo.dense(model)(torch.randn(1, *size))
    assert all(torch.equal(tensor, before[key]) for key, tensor in model.state_dict().items())


def test_an_output_that_is_no_linear_layer_has_no_dense_form() -> None:
    model, _ = network("lenet5")
    with pytest.raises(ValueError, match=r"LeNet's head\.fc has no form as a convolution"):
        zoo.dense(model)


@pytest.mark.parametrize(
    ("name", "theirs"),
    [
        ("alexnet_owt", "alexnet"),
        ("vgg11_bn", "vgg11_bn"),
        pytest.param("vgg11", "vgg11", marks=pytest.mark.slow),
    ],
)
def test_the_classifier_s_cuts_are_torchvision_s_activations(name: str, theirs: str) -> None:
    from convatlas.weights.load import in_layout

    torch.manual_seed(0)
    model = zoo.build(name).double().eval()
    reference: Any = peer(f"torchvision/{theirs}").double()
    reference.load_state_dict(in_layout(model, name, "torchvision"))
    ends = [i for i, layer in enumerate(reference.classifier) if isinstance(layer, nn.ReLU)]
    images = torch.randn(1, 3, 96, 96, dtype=torch.float64)
    with torch.inference_mode():
        found = zoo.taps(model, ["head.pool5", "head.fc6", "head.fc7"])(images)
        maps = reference.features(images)
        assert (found["head.pool5"] - maps).abs().max() <= 1e-10 * maps.abs().max()
        flat = torch.flatten(reference.avgpool(maps), 1)
        for cut, end in zip(("head.fc6", "head.fc7"), ends, strict=True):
            expected = reference.classifier[: end + 1](flat)
            assert found[cut].shape == (1, 4096)
            assert (found[cut] - expected).abs().max() <= 1e-10 * expected.abs().max()


@pytest.mark.parametrize(("name", "values"), [("alexnet", {0.0, 2.0}), ("zfnet", {0.0, 2.0}), ("alexnet_owt", {1.0})])
def test_dropout_stands_where_the_sources_have_it(name: str, values: set[float]) -> None:
    layer = zoo.build(name, num_classes=2).get_submodule("head.fc7").train()
    for key, parameter in layer.named_parameters():
        nn.init.constant_(parameter, float(key == "fc.bias"))
    assert set(layer(torch.ones(1, 4096)).unique().tolist()) == values  # at the output, or at the input


@pytest.mark.parametrize(
    ("name", "cut"),
    [("alexnet_owt", "head.fc6"), pytest.param("vgg11", "head.fc7", marks=pytest.mark.slow), ("zfnet", "head.fc6")],
)
def test_tuning_from_a_cut_in_the_classifier_is_tuning_with_the_rest_frozen(name: str, cut: str) -> None:
    """Three steps on activations kept from the cut give the weights that three steps of the whole network give, and nothing else moves."""
    images, labels = torch.randn(4, *catalogue.find(name).input_size), torch.tensor([0, 1, 2, 0])
    results: list[dict[str, torch.Tensor]] = []
    for kept in (True, False):
        model, _ = network(name)
        first, rest = zoo.prefix(model, cut), zoo.suffix(model, cut)
        for parameter in first.parameters():
            parameter.requires_grad_(False)
        hidden = first(images)
        for _ in range(3):
            loss = nn.functional.cross_entropy(rest(hidden) if kept else model(images), labels)
            gradients = torch.autograd.grad(loss, list(rest.parameters()))
            with torch.no_grad():
                for parameter, gradient in zip(rest.parameters(), gradients, strict=True):
                    parameter -= 0.01 * gradient
        results.append(model.state_dict())
    untouched, _ = network(name)
    moved = {key for key, tensor in untouched.state_dict().items() if not torch.equal(tensor, results[0][key])}
    after = ("head.fc8",) if cut == "head.fc7" else ("head.fc7", "head.fc8")
    assert moved == {key for key in results[0] if key.startswith(after)}
    assert all(torch.equal(tensor, results[1][key]) for key, tensor in results[0].items())
