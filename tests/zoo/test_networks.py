"""Every network of the zoo against the published counts, and the laws of the chain at every cut."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from convatlas import catalogue, zoo
from convatlas.errors import ConvAtlasError
from convatlas.zoo.blocks import SamePadConv2d

# our names for entries of facts/architectures.json, where they differ
_NAMES = {
    "alexnet": "alexnet_original",
    "nin_cifar": "nin_cifar10",
    "googlenet_aux": "googlenet_with_aux",
    "googlenet_bn": "googlenet_torchvision",
    **{f"resnet{depth}": f"resnet{depth}_v1.5" for depth in (50, 101, 152)},
    **{f"resnet{depth}_v1": f"resnet{depth}_optA" for depth in (18, 34)},
    **{f"fractalnet{depth}_thin_cifar100": f"fractalnet_thin_{depth}" for depth in (5, 10, 20, 40, 80, 160)},
    **{name: name for name in ("fractalnet20_cifar", "fractalnet40_cifar", "nasnet_a_cifar")},
}
_WIDTHS = {"100": "1", "075": "0.75", "050": "0.5", "025": "0.25"}
# Networks without an entry, counted by hand from their neighbours'.
BY_HAND = {
    # D with 1×1 instead of 3×3 in the third convolution of stages 3 to 5: 8/9 of 256², 512² and 512² nine-weight kernels less
    "vgg16_c": (
        138_357_544 - 8 * (256**2 + 2 * 512**2),
        15_470_264_320 - 8 * (256**2 * 56**2 + 512**2 * (28**2 + 14**2)),
    ),
    # 6,624,904 and two auxiliary classifiers of 512 or 528 × 128 + 2 × 128 (norm), 2048 × 1024 + 1024, 1024 × 1000 + 1000
    "googlenet_bn_aux": (
        6_624_904 + (512 + 528) * 128 + 4 * 128 + 2 * (2048 * 1024 + 1024 + 1024 * 1000 + 1000),
        1_498_376_192,
    ),
    # 24 whitening filters of 12 weights with biases; two 3×3 a stage; norms of as many maps; 10 classes without biases
    **{
        name: (
            24 * 13 + 9 * (24 * a + a**2 + a * b + 2 * b**2 + b**2) + 4 * (a + 2 * b) + 10 * b,
            288 * 31**2 + 9 * (24 * a * 31**2 + (a**2 + a * b) * 15**2 + (b**2 + b**2) * 7**2 + b**2 * 3**2) + 10 * b,
        )
        for name, a, b in (("cifar_fast", 64, 256), ("cifar_fast_050", 32, 128), ("cifar_fast_025", 16, 64))
    },
    # option B adds 1×1 projections 16 → 32 and 32 → 64 with their norms
    **{
        f"resnet{depth}_b_cifar": (a + 16 * 32 + 2 * 32 + 32 * 64 + 2 * 64, m + 16 * 32 * 16**2 + 32 * 64 * 8**2)
        for depth, a, m in (
            (20, 269_722, 40_551_040),
            (32, 464_154, 68_862_592),
            (44, 658_586, 97_174_144),
            (56, 853_018, 125_485_696),
            (110, 1_727_962, 252_887_680),
            (1202, 19_421_274, 2_829_238_912),
        )
    },
}
# Where the facts count something else, and what.
DISAGREEMENTS = {
    "googlenet_aux": ("mult_adds", 1_582_671_872, "the facts add the auxiliary classifiers, which only training runs"),
    "preresnet200": ("parameters", 64_666_280 - 128, "the facts' source keeps a norm of 64 maps in the stem besides"),
}
VARIANTS = zoo.variants()
QUICK = (  # one of each family and kind of block; the slow suite has all
    *("lenet5", "lenet5_modern", "alexnet", "nin_cifar", "vgg11", "googlenet", "googlenet_bn", "resnet18_v1"),
    *("resnet20_cifar", "plain20_cifar", "resnet50", "preresnet110_cifar", "wrn_16_8_cifar", "se_resnet18"),
    *("densenet121", "densenet_40_12_cifar", "fractalnet20_cifar", "mobilenet_v1_025", "mobilenet_v2"),
    *("mobilenet_v3_small", "nasnet_a_mobile", "cifar_fast_025"),
)
ALL = [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in VARIANTS]


def fact_name(name: str) -> str:
    """The name in the facts: ours, with `cifar` at the end and the widths of MobileNet spelled otherwise."""
    if name in _NAMES:
        return _NAMES[name]
    if name.startswith("mobilenet_v1_"):
        width, _, side = name.removeprefix("mobilenet_v1_").partition("_")
        return f"mobilenet_v1_{_WIDTHS[width]}_{side or 224}"
    base = name.removesuffix("_cifar")
    return f"{base}_cifar10" if base != name and base.startswith(("resnet", "plain", "preresnet")) else base


def small(name: str, **options: int) -> tuple[zoo.ConvNet, torch.Tensor]:
    """The network with random running statistics, in evaluation mode, and two images of a size that suits it and the test."""
    torch.manual_seed(0)
    channels, height, _ = catalogue.find(name).input_size
    model = zoo.build(name, **{"num_classes": 7, "in_channels": channels, **options}).eval()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            assert module.running_mean is not None and module.running_var is not None
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 1.5)
            if "1202" in name or "1001" in name:  # else their sums overflow
                torch.nn.init.constant_(module.weight, 0.1)
    least, most = zoo.side_range(model)
    side = height if most or height < 64 or name == "googlenet_aux" else max(64, least)
    return model, torch.randn(2, options.get("in_channels", channels), side, side)


@pytest.fixture(scope="module")
def facts(shared: Path) -> dict[str, dict[str, Any]]:
    entries = json.loads((shared / "facts" / "architectures.json").read_text())["entries"]
    return {entry["name"]: entry for entry in entries}


def test_every_variant_has_facts_and_every_fact_a_variant(facts: dict[str, dict[str, Any]]) -> None:
    named = {fact_name(name) for name in VARIANTS if name not in BY_HAND or fact_name(name) in facts}
    assert named == facts.keys() - {"resnet_ensemble_ilsvrc2015"}  # six networks, not one
    assert set(VARIANTS) == {name for name in VARIANTS if fact_name(name) in facts} | BY_HAND.keys()


@pytest.mark.parametrize("name", VARIANTS)
def test_counts_equal_the_published_ones(name: str, facts: dict[str, dict[str, Any]]) -> None:
    network = catalogue.find(name)
    if name in BY_HAND:
        expected = {"parameters": BY_HAND[name][0], "mult_adds": BY_HAND[name][1]}
    else:
        fact = facts[fact_name(name)]
        expected = {"parameters": fact["params_exact"], "mult_adds": fact["macs_exact"]}
        assert list(network.input_size) == fact["input_size"]
    if name in DISAGREEMENTS:
        field, value, _ = DISAGREEMENTS[name]
        assert expected[field] != value, "the disagreement is gone"
        expected[field] = value
    for field, value in expected.items():
        if value is not None:
            assert getattr(network, field) == value, field


@pytest.mark.slow
@pytest.mark.parametrize("name", zoo.variants())
def test_a_skeleton_has_the_network_s_shapes_and_no_memory(name: str) -> None:
    with torch.device("meta"):
        whole = zoo.build(name)
    bare = zoo.skeleton(name)
    assert {key: tensor.shape for key, tensor in bare.state_dict().items()} == {
        key: tensor.shape for key, tensor in whole.state_dict().items()
    }
    assert all(tensor.is_meta for tensor in (*bare.parameters(), *bare.buffers()))


def test_the_catalogue_lists_the_zoo() -> None:
    assert tuple(catalogue.networks()) == VARIANTS


@pytest.mark.parametrize("name", ALL)
def test_the_catalogue_is_what_the_zoo_computes(name: str) -> None:
    assert catalogue.computed(name) == catalogue.find(name)


@pytest.mark.parametrize("name", VARIANTS)
def test_the_catalogue_has_the_zoo_s_parameters(name: str) -> None:
    network = catalogue.find(name)
    with torch.device("meta"):
        model = zoo.build(name, num_classes=network.num_classes, in_channels=network.input_size[0])
    assert sum(p.numel() for p in model.parameters()) == network.parameters
    assert zoo.stage_names(model) == network.stages
    assert zoo.hidden_names(model) == network.hidden


def obeys_the_chain(name: str, every: int) -> None:
    model, images = small(name)
    cuts = list(zoo.iter_cuts(model))
    with torch.inference_mode():
        expected = model(images)
        tapped = zoo.taps(model, cuts)(images)
        assert list(tapped) == cuts
        for cut in {*cuts[::every], *zoo.stage_names(model), *zoo.hidden_names(model)}:
            before = zoo.prefix(model, cut)(images)
            assert torch.equal(zoo.feature(before), tapped[cut]), cut
            assert torch.equal(zoo.suffix(model, cut)(before), expected), cut


@pytest.mark.parametrize("name", QUICK)
def test_suffix_after_prefix_is_the_network(name: str) -> None:
    obeys_the_chain(name, every=40)


@pytest.mark.slow
@pytest.mark.parametrize("name", VARIANTS)
def test_suffix_after_prefix_is_the_network_at_every_cut(name: str) -> None:
    obeys_the_chain(name, every=1)


@pytest.mark.parametrize("name", ALL)
def test_forward_and_backward_at_three_sizes(name: str) -> None:
    """Forward and backward at its own size and two others; where only one size fits, the error says which."""
    network = catalogue.find(name)
    channels, height, _ = network.input_size
    model = zoo.build(name, num_classes=3, in_channels=channels).eval()
    least, most = zoo.side_range(model)
    assert least <= height <= (most or height)
    for side in {height, least, most or height + 9}:
        logits = model(torch.randn(1, channels, side, side))
        logits.sum().backward()
        assert logits.shape == (1, 3)
    if least > 1:
        with pytest.raises(
            ValueError, match=rf"takes images with sides (of at least|from) {least}\b.* not {least - 1}×"
        ):
            model(torch.randn(1, channels, least - 1, least - 1))
    if most:
        with pytest.raises(ValueError, match=rf"from {least} to {most} pixels, not {most + 1}×{most + 1}"):
            model(torch.randn(1, channels, most + 1, most + 1))
    with pytest.raises(ValueError, match=rf"takes images of shape \(n, {channels}, height, width\), not"):
        model(torch.randn(1, channels + 1, height, height))


@pytest.mark.parametrize("name", ALL)
def test_prefix_shares_the_weights(name: str) -> None:
    model, _ = small(name)
    own = {id(p) for key, p in model.named_parameters() if not key.startswith(model.optional or "-")}
    cut = zoo.stage_names(model)[0]
    first = {id(p) for p in zoo.prefix(model, cut).parameters()}
    rest = {id(p) for p in zoo.suffix(model, cut).parameters()}
    assert first | rest == own
    assert not first & rest


@pytest.mark.parametrize("name", ALL)
def test_the_gradient_reaches_every_parameter(name: str) -> None:
    model, images = small(name)  # in evaluation mode, as drop-path cuts parameters off
    outputs = model.all_logits(images) if isinstance(model, zoo.googlenet.GoogLeNet) else (model(images),)
    torch.cat(outputs).square().sum().backward()
    trained = {key: p for key, p in model.named_parameters() if p.requires_grad}
    assert [key for key, p in trained.items() if p.grad is None or not p.grad.any()] == []
    frozen = model.state_dict().keys() - trained.keys() - dict(model.named_buffers()).keys()
    assert not frozen or name.startswith("cifar_fast")  # whose first layer and gains stay what they are


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("in_channels", [1, 4])
def test_other_channels_and_no_classifier(name: str, in_channels: int) -> None:
    model, images = small(name, num_classes=0, in_channels=in_channels)
    with torch.inference_mode():
        features = model(images)
    assert features.shape[0] == 2
    assert features.ndim == 2


@pytest.mark.parametrize("name", ALL)
def test_initialisation_repeats_with_the_seed(name: str) -> None:
    def weights(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return torch.cat([p.flatten() for p in zoo.build(name, num_classes=3).parameters()])

    first = weights(1)
    assert torch.equal(first, weights(1))
    assert not torch.equal(first, weights(2))


@pytest.mark.parametrize("name", ALL)
def test_no_module_works_in_place(name: str) -> None:
    with torch.device("meta"):
        model = zoo.build(name)
    assert not [m for m in model.modules() if getattr(m, "inplace", False)]


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
    maps = model.get_submodule("stages.stage1.c3.maps").children()
    reads = [conv.in_channels for conv in maps if isinstance(conv, torch.nn.Conv2d)]
    assert reads == [3] * 6 + [4] * 9 + [6]


def test_lenet_1998_prefers_the_nearest_code() -> None:
    codes = zoo.lenet.ClassCodes(84, 10)
    assert torch.equal(codes(codes.codes).argmax(1), torch.arange(10))
    assert torch.allclose(codes(codes.codes).diagonal(), torch.zeros(10), atol=1e-4)


@pytest.mark.parametrize("side", [31, 32, 33])
@pytest.mark.parametrize("stride", [1, 2])
def test_same_padding_is_tensorflow_s(side: int, stride: int) -> None:
    conv = SamePadConv2d(1, 1, 3, stride, bias=False)
    x = torch.randn(1, 1, side, side)
    out = -(-side // stride)
    total = max((out - 1) * stride + 3 - side, 0)
    padded = torch.nn.functional.pad(x, (total // 2, total - total // 2) * 2)
    assert conv(x).shape[-1] == out
    assert torch.equal(conv(x), torch.nn.functional.conv2d(padded, conv.weight, stride=stride))
