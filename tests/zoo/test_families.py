"""What is particular to a family: drop-path and columns, auxiliary classifiers, normalisation, initialisation."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from convatlas import catalogue, zoo
from convatlas.zoo import fractalnet, googlenet, nasnet, nin, resnet
from convatlas.zoo.fractalnet import Fractal, FractalNet


def fractal(**fields: float) -> FractalNet:
    torch.manual_seed(0)
    config = replace(zoo.config_of("fractalnet20_thin_cifar100"), **fields)
    return FractalNet(config, num_classes=4)


def rows_of(block: Fractal) -> list[nn.ModuleDict]:
    return [row for row in block.rows if isinstance(row, nn.ModuleDict)]


class TestFractalNet:
    @pytest.mark.parametrize("columns", range(1, 7))
    def test_a_block_follows_the_expansion_rule(self, columns: int) -> None:
        config = replace(zoo.config_of("fractalnet20_cifar"), columns=columns)
        rows = rows_of(Fractal(3, 8, config))
        assert len(rows) == 2 ** (columns - 1)  # the deepest column's convolutions
        assert sum(len(row) for row in rows) == 2**columns - 1
        assert len(rows[-1]) == columns  # all of them meet at the end

    @pytest.mark.parametrize("index", [0, 1, 2, -1])
    @torch.inference_mode()
    def test_a_column_alone_is_what_the_network_computes_through_it(self, index: int) -> None:
        model = fractal(global_share=1.0).eval()
        plain = fractalnet.column(model, index)
        images = torch.randn(2, 3, 32, 32)
        for block in (m for m in model.modules() if isinstance(m, Fractal)):
            block.only = range(3)[index]
        through = model.head(model.stages(images))  # not `forward`, which clears the choice
        assert torch.equal(plain(images), through)
        convolutions = sum(isinstance(m, nn.Conv2d) for m in plain.modules())
        assert convolutions == 5 * 2 ** range(3)[index]

    def test_there_is_no_column_beyond_the_last(self) -> None:
        with pytest.raises(ValueError, match="there is no column 3; this network has 3, from 0"):
            fractalnet.column(fractal(), 3)

    def test_local_drop_path_always_keeps_one(self) -> None:
        model = fractal(drop_path=1.0, global_share=0.0).train()
        model(torch.randn(2, 3, 32, 32)).sum().backward()
        joins = [module for module in model.modules() if isinstance(module, Fractal)]
        for block in joins:
            last = rows_of(block)[-1]
            assert sum(conv.get_parameter("conv.weight").grad is not None for conv in last.values()) == 1

    def test_global_drop_path_trains_one_column_of_the_whole_network(self) -> None:
        model = fractal(global_share=1.0).train()
        model(torch.randn(2, 3, 32, 32)).sum().backward()
        used = {name.split(".")[5] for name, p in model.named_parameters() if ".rows." in name and p.grad is not None}
        assert len(used) == 1
        assert all(block.only is None for block in model.modules() if isinstance(block, Fractal))

    @torch.inference_mode()
    def test_nothing_is_dropped_in_evaluation(self) -> None:
        model = fractal(drop_path=1.0, global_share=1.0).eval()
        images = torch.randn(2, 3, 32, 32)
        assert torch.equal(model(images), model(images))

    def test_the_share_of_dropped_inputs_is_the_rate(self) -> None:
        block = Fractal(3, 4, replace(zoo.config_of("fractalnet20_cifar"), drop_path=0.3)).train()
        torch.manual_seed(0)
        ones, kept = [torch.full((1, 1, 1, 1), 2.0**i) for i in range(3)], 0
        for _ in range(2000):
            joined = float(block._join(ones))
            kept += {1: 1, 2: 1, 4: 1, 1.5: 2, 2.5: 2, 3: 2, 7 / 3: 3}[
                min((1, 2, 4, 1.5, 2.5, 3, 7 / 3), key=lambda v: abs(v - joined))
            ]
        expected = 3 * 0.7 + 0.3**3  # one is kept where all three were to be dropped
        assert abs(kept / 2000 - expected) < 0.06


class TestNASNet:
    def test_paths_are_dropped_more_towards_the_end_of_network_and_training(self) -> None:
        model = nasnet.NASNet(zoo.config_of("nasnet_a_cifar"), num_classes=3)
        drops = [module for module in model.modules() if isinstance(module, nasnet.DropPath)]
        final = [drop.final_rate for drop in drops]
        assert final == sorted(final) and final[-1] == pytest.approx(0.4)
        nasnet.schedule_drop_path(model, 0.5)
        assert [drop.rate for drop in drops] == pytest.approx([rate / 2 for rate in final])
        nasnet.schedule_drop_path(model, 0)
        images = torch.randn(2, 3, 32, 32)
        model.train()
        torch.manual_seed(0)
        first = model(images)
        torch.manual_seed(1)
        assert torch.equal(first, model(images))

    def test_a_dropped_path_leaves_the_mean_as_it_was(self) -> None:
        torch.manual_seed(0)
        drop = nasnet.DropPath(0.3).train()
        dropped = drop(torch.ones(20_000, 1, 1, 1))
        assert dropped.unique().tolist() == pytest.approx([0, 1 / 0.7])
        assert float(dropped.mean()) == pytest.approx(1, abs=0.02)
        assert torch.equal(drop.eval()(torch.ones(3, 1, 1, 1)), torch.ones(3, 1, 1, 1))

    @pytest.mark.parametrize(
        ("name", "maps", "side", "means"),
        [("nasnet_a_cifar", 384, 16, 4), ("nasnet_a_mobile", 528, 14, 4), ("nasnet_a_large", 2016, 21, 6)],
    )
    def test_the_auxiliary_classifier_reads_the_maps_before_the_last_reduction(
        self, name: str, maps: int, side: int, means: int
    ) -> None:
        config = replace(zoo.config_of(name), auxiliary=True)
        with torch.device("meta"):
            model = zoo.build(name, num_classes=7, config=config).train()
            image = torch.empty(2, 3, *[zoo.native(name)[0][1]] * 2)
        seen: list[tuple[int, ...]] = []
        before = model.get_submodule("auxiliary.before")
        before.register_forward_pre_hook(lambda module, given: seen.append(tuple(given[0].shape)))
        assert [tuple(each.shape) for each in model.all_logits(image)] == [(2, 7), (2, 7)]
        assert seen == [(2, maps, side, side)]
        assert tuple(before.get_parameter("conv.weight").shape) == (768, 128, means, means)

    def test_the_auxiliary_classifier_changes_nothing_else(self) -> None:
        config = replace(zoo.config_of("nasnet_a_cifar"), cells=1)
        plain = nasnet.NASNet(config, num_classes=3).eval()
        with_it = nasnet.NASNet(replace(config, auxiliary=True), num_classes=3).eval()
        missing = with_it.load_state_dict(plain.state_dict(), strict=False)
        assert missing.unexpected_keys == [] and all(key.startswith("auxiliary.") for key in missing.missing_keys)
        for side in (32, 24):  # of other images the means are brought to four by four
            images = torch.randn(2, 3, side, side)
            with torch.inference_mode():
                first, second = with_it.all_logits(images)
                assert torch.equal(plain(images), with_it(images)) and torch.equal(plain(images), first)
                assert second.shape == (2, 3) and len(plain.all_logits(images)) == 1
        assert not nasnet.NASNet(replace(config, auxiliary=True), num_classes=0).auxiliary

    @torch.inference_mode()
    def test_cuts_hold_pairs_and_taps_give_maps(self) -> None:
        model = zoo.build("nasnet_a_cifar", num_classes=3).eval()
        images = torch.randn(1, 3, 32, 32)
        pair = zoo.prefix(model, "stage1")(images)
        assert isinstance(pair, tuple) and [tuple(x.shape) for x in pair] == [(1, 192, 32, 32)] * 2
        assert torch.equal(zoo.taps(model, ["stage1"])(images)["stage1"], pair[1])
        assert isinstance(zoo.prefix(model, "stage3")(images), torch.Tensor)


class TestGoogLeNet:
    @pytest.mark.parametrize(("name", "mult_adds"), [("googlenet_aux", 1_591_044_096), ("googlenet", 1_582_671_872)])
    def test_the_training_graph_costs_what_the_facts_say(self, name: str, mult_adds: int) -> None:
        with torch.device("meta"):
            model = zoo.build(name)
            assert isinstance(model, googlenet.GoogLeNet)
            with FlopCounterMode(display=False) as counter:
                logits = model.all_logits(torch.empty(1, 3, 224, 224))
        assert counter.get_total_flops() == 2 * mult_adds
        assert [tuple(each.shape) for each in logits] == [(1, 1000)] * (3 if "aux" in name else 1)

    def test_forward_is_the_main_classifier_in_training_too(self) -> None:
        torch.manual_seed(0)
        model = zoo.build("googlenet_bn_aux", num_classes=3).train()
        logits = model(torch.randn(2, 3, 64, 64))
        assert isinstance(logits, torch.Tensor) and logits.shape == (2, 3)

    def test_the_naive_module_grows_without_end(self) -> None:
        config = replace(zoo.config_of("googlenet"), reduced=False)
        with torch.device("meta"):
            widths = zoo.taps(googlenet.GoogLeNet(config), ["stage3", "stage4", "stage5"])(torch.empty(1, 3, 64, 64))
        reduced = {"stage3": 480, "stage4": 832, "stage5": 1024}
        assert all(maps.shape[1] > 1.3 * reduced[stage] for stage, maps in widths.items())

    def test_the_lecture_s_naive_example(self) -> None:
        """28×28×256 in, 128 1×1, 192 3×3, 96 5×5 and pooling: 672 maps out, 854 M multiplications."""
        config = replace(zoo.config_of("googlenet"), reduced=False)
        with torch.device("meta"), FlopCounterMode(display=False) as counter:
            out = googlenet.Inception(256, (128, 0, 192, 0, 96, 0), config)(torch.empty(1, 256, 28, 28))
        assert out.shape == (1, 672, 28, 28)
        assert counter.get_total_flops() // 2 == 854_196_224


def test_local_response_normalisation_is_the_paper_s_formula() -> None:
    torch.manual_seed(0)
    maps = torch.rand(1, 9, 2, 2) * 30
    found = zoo.build("alexnet").get_submodule("stages.stage1.norm1")(maps)
    expected = torch.empty_like(maps)
    for i in range(9):
        around = maps[:, max(0, i - 2) : i + 3].square().sum(1)
        expected[:, i] = maps[:, i] / (2 + 1e-4 * around) ** 0.75
    assert torch.allclose(found, expected, rtol=1e-5)


def test_the_order_of_pooling_and_normalisation() -> None:
    def names(network: str, stage: int) -> list[str]:
        return list(dict(zoo.build(network, num_classes=0).get_submodule(f"stages.stage{stage}").named_children()))

    assert names("alexnet", 1) == ["conv1", "relu1", "norm1"]
    assert names("alexnet", 2) == ["pool1", "conv2", "relu2", "norm2"]
    assert names("caffenet", 2) == names("zfnet", 2) == ["pool1", "norm1", "conv2", "relu2"]
    assert names("alexnet_owt", 2) == ["pool1", "conv2", "relu2"]


def test_the_two_halves_of_alexnet_meet_where_the_paper_says() -> None:
    groups = {
        name.split(".")[-1]: module.groups
        for name, module in zoo.build("alexnet", num_classes=0).named_modules()
        if isinstance(module, nn.Conv2d)
    }
    assert groups == {"conv1": 1, "conv2": 2, "conv3": 1, "conv4": 2, "conv5": 2}


SPREADS = {  # the standard deviation each family's rule gives the weights of one layer
    ("alexnet", "stages.stage2.conv2"): 0.01,
    ("alexnet", "head.fc6.fc"): 0.01,
    ("vgg11", "stages.stage3.conv1"): (2 / (9 * (128 + 256))) ** 0.5,
    ("googlenet", "stages.stage2.conv2.conv"): (2 / (9 * (64 + 192))) ** 0.5,
    ("nin_cifar", "stages.stage2.conv"): 0.05,
    ("resnet18", "stages.stage2.0.conv1"): (2 / (9 * 128)) ** 0.5,
    ("preresnet50", "stages.stage2.0.conv2"): (2 / (9 * 128)) ** 0.5,
    ("densenet121", "stages.stage2.0.conv2"): (2 / (9 * 128)) ** 0.5,
    ("se_resnet50", "stages.stage2.0.conv2"): (2 / (9 * 128)) ** 0.5,
    ("fractalnet20_cifar", "stages.stage2.fractal.rows.0.2.conv"): (2 / (9 * (64 + 128))) ** 0.5,
    ("mobilenet_v2", "head.fc"): 0.01,
}


@pytest.mark.parametrize(("name", "path"), SPREADS)
def test_weights_start_as_the_paper_says(name: str, path: str) -> None:
    torch.manual_seed(0)
    layer = zoo.build(name).get_submodule(path)
    assert isinstance(layer, nn.Conv2d | nn.Linear)
    weight = layer.weight.detach()
    assert float(weight.std()) == pytest.approx(SPREADS[name, path], rel=0.03)
    assert abs(float(weight.mean())) < 4 * SPREADS[name, path] / weight.numel() ** 0.5


def test_alexnet_s_biases_start_where_rectifiers_are_alive() -> None:
    model = zoo.build("alexnet", num_classes=5)
    biases = {
        name.removesuffix(".bias"): set(p.tolist()) for name, p in model.named_parameters() if name.endswith("bias")
    }
    ones = {"stages.stage2.conv2", "stages.stage3.conv4", "stages.stage3.conv5", "head.fc6.fc", "head.fc7.fc"}
    assert {name for name, values in biases.items() if values == {1.0}} == ones
    assert {name for name, values in biases.items() if values == {0.0}} == biases.keys() - ones


def test_a_plain_net_is_a_residual_net_without_the_sum() -> None:
    plain, residual = zoo.build("plain20_cifar"), zoo.build("resnet20_cifar")
    plain.load_state_dict(residual.state_dict())  # same layers, same names
    block, other = plain.get_submodule("stages.stage1.0"), residual.get_submodule("stages.stage1.0")
    x = torch.randn(1, 16, 8, 8)
    sum_ = block.eval()(x) - other.eval()(x)
    assert not torch.allclose(sum_, torch.zeros(()))


@pytest.mark.parametrize(("stride_at", "strided"), [("1x1", "conv1"), ("3x3", "conv2")])
def test_the_stride_of_a_bottleneck(stride_at: str, strided: str) -> None:
    name = "resnet50_v1" if stride_at == "1x1" else "resnet50"
    block = zoo.build(name, num_classes=0).get_submodule("stages.stage2.0")
    assert isinstance(block, resnet.Residual)
    convolutions = {
        n: m.stride[0] for n, m in block.named_modules() if isinstance(m, nn.Conv2d) and n.startswith("conv")
    }
    assert [n for n, stride in convolutions.items() if stride == 2] == [strided]


def test_network_in_network_has_no_fully_connected_layer() -> None:
    for name in nin.VARIANTS:
        assert not [m for m in zoo.build(name).modules() if isinstance(m, nn.Linear)]
        assert catalogue.find(name).hidden == ()
