"""Every network of the zoo against the published counts, and the laws of the chain at every cut."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from convatlas import catalogue, zoo
from convatlas.errors import ConvAtlasError

# our names for entries of facts/architectures.json
FACTS = {
    "lenet5": "lenet5",
    "lenet5_modern": "lenet5_modern",
    "resnet18": "resnet18",
    "resnet34": "resnet34",
    "resnet50": "resnet50_v1.5",
    "resnet101": "resnet101_v1.5",
    "resnet152": "resnet152_v1.5",
    **{f"resnet{depth}_cifar": f"resnet{depth}_cifar10" for depth in (20, 32, 44, 56, 110, 1202)},
    "mobilenet_v1_100": "mobilenet_v1_1_224",
    "mobilenet_v1_075": "mobilenet_v1_0.75_224",
    "mobilenet_v1_050": "mobilenet_v1_0.5_224",
    "mobilenet_v1_025": "mobilenet_v1_0.25_224",
}
VARIANTS = zoo.variants()
LIGHT = [name for name in VARIANTS if catalogue.find(name).parameters < 30e6 and name != "resnet1202_cifar"]


def small(name: str, **options: int) -> tuple[zoo.ConvNet, torch.Tensor]:
    """The network with random running statistics, in evaluation mode, and two images of the smallest size that suits."""
    torch.manual_seed(0)
    channels, height, _ = catalogue.find(name).input_size
    model = zoo.build(name, **{"num_classes": 7, "in_channels": channels, **options}).eval()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            assert module.running_mean is not None and module.running_var is not None
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 1.5)
    side = 64 if height == 224 else height
    return model, torch.randn(2, options.get("in_channels", channels), side, side)


def test_every_variant_has_facts() -> None:
    assert set(FACTS) == set(VARIANTS)


@pytest.mark.parametrize("name", VARIANTS)
def test_counts_equal_the_published_ones(name: str, shared: Path) -> None:
    entries = json.loads((shared / "facts" / "architectures.json").read_text())["entries"]
    fact = next(entry for entry in entries if entry["name"] == FACTS[name])
    network = catalogue.find(name)
    assert network.parameters == fact["params_exact"]
    assert network.mult_adds == fact["macs_exact"]
    assert list(network.input_size) == fact["input_size"]


@pytest.mark.slow
def test_the_catalogue_is_what_the_zoo_computes() -> None:
    assert catalogue.compute() == list(catalogue.networks().values())


@pytest.mark.parametrize("name", VARIANTS)
def test_the_catalogue_has_the_zoo_s_parameters(name: str) -> None:
    network = catalogue.find(name)
    with torch.device("meta"):
        model = zoo.build(name, num_classes=network.num_classes, in_channels=network.input_size[0])
    assert sum(p.numel() for p in model.parameters()) == network.parameters
    assert zoo.stage_names(model) == network.stages


def obeys_the_chain(name: str, every: int) -> None:
    model, images = small(name)
    cuts = list(zoo.iter_cuts(model))
    with torch.inference_mode():
        expected = model(images)
        tapped = zoo.taps(model, cuts)(images)
        assert list(tapped) == cuts
        for cut in {*cuts[::every], *zoo.stage_names(model)}:
            before = zoo.prefix(model, cut)(images)
            assert torch.equal(before, tapped[cut]), cut
            assert torch.equal(zoo.suffix(model, cut)(before), expected), cut


@pytest.mark.parametrize("name", LIGHT)
def test_suffix_after_prefix_is_the_network(name: str) -> None:
    obeys_the_chain(name, every=11)


@pytest.mark.slow
@pytest.mark.parametrize("name", LIGHT)
def test_suffix_after_prefix_is_the_network_at_every_cut(name: str) -> None:
    obeys_the_chain(name, every=1)


@pytest.mark.parametrize("name", LIGHT)
def test_prefix_shares_the_weights(name: str) -> None:
    model, _ = small(name)
    own = {id(p) for p in model.parameters()}
    cut = zoo.stage_names(model)[0]
    first = {id(p) for p in zoo.prefix(model, cut).parameters()}
    rest = {id(p) for p in zoo.suffix(model, cut).parameters()}
    assert first | rest == own
    assert not first & rest


@pytest.mark.parametrize("name", LIGHT)
def test_the_gradient_reaches_every_parameter(name: str) -> None:
    model, images = small(name)
    model.train()(images).square().sum().backward()
    assert [key for key, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []


@pytest.mark.parametrize("name", LIGHT)
@pytest.mark.parametrize("in_channels", [1, 4])
def test_other_channels_and_no_classifier(name: str, in_channels: int) -> None:
    model, images = small(name, num_classes=0, in_channels=in_channels)
    with torch.inference_mode():
        features = model(images)
    assert features.shape[0] == 2
    assert features.ndim == 2


@pytest.mark.parametrize("name", LIGHT)
def test_initialisation_repeats_with_the_seed(name: str) -> None:
    def weights(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return torch.cat([p.flatten() for p in zoo.build(name, num_classes=3).parameters()])

    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))


def test_no_module_of_the_zoo_works_in_place() -> None:
    for name in LIGHT:
        model, _ = small(name)
        assert not [m for m in model.modules() if getattr(m, "inplace", False)], name


def test_unknown_names_are_answered_with_the_nearest() -> None:
    with pytest.raises(ValueError, match="did you mean 'resnet50'"):
        zoo.build("resnet5o")
    with pytest.raises(ConvAtlasError, match="did you mean 'resnet50'"):
        catalogue.find("resnet5o")


def test_unknown_cuts_are_answered_with_the_nearest() -> None:
    model, _ = small("resnet20_cifar")
    with pytest.raises(ValueError, match=r"no cut 'stage3\.9'; did you mean 'stage3\.\d'"):
        zoo.prefix(model, "stage3.9")
    with pytest.raises(ValueError, match="the stages are stage1, stage2, stage3"):
        zoo.suffix(model, "xyz")


def test_lenet_1998_reads_the_table_of_the_paper() -> None:
    model, _ = small("lenet5")
    reads = [len(conv.weight[0]) for conv in model.get_submodule("stages.stage1.c3.maps").children()]  # type: ignore[arg-type]
    assert reads == [3] * 6 + [4] * 9 + [6]


def test_lenet_1998_prefers_the_nearest_code() -> None:
    codes = zoo.lenet.ClassCodes(84, 10)
    assert torch.equal(codes(codes.codes).argmax(1), torch.arange(10))
    assert torch.allclose(codes(codes.codes).diagonal(), torch.zeros(10), atol=1e-4)


@pytest.mark.parametrize("side", [31, 32, 33])
@pytest.mark.parametrize("stride", [1, 2])
def test_same_padding_is_tensorflow_s(side: int, stride: int) -> None:
    conv = zoo.mobilenet.SamePadConv2d(1, 1, 3, stride, bias=False)
    x = torch.randn(1, 1, side, side)
    out = -(-side // stride)
    total = max((out - 1) * stride + 3 - side, 0)
    padded = torch.nn.functional.pad(x, (total // 2, total - total // 2) * 2)
    assert conv(x).shape[-1] == out
    assert torch.equal(conv(x), torch.nn.functional.conv2d(padded, conv.weight, stride=stride))
