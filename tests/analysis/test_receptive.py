"""Receptive fields against how far one NaN in the image reaches, and against the literature."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

import pytest
import torch
from generated import Call
from reach import differences, is_seen, reached
from torch import Tensor, nn
from torch.nn import functional as F

from convatlas import zoo
from convatlas.analysis.receptive import Field, Unknown, receptive_fields, with_and_without_gates
from convatlas.analysis.receptive.interval import pixels
from convatlas.analysis.record import record

FAMILIES = {  # a network of each family, the cuts to look at, and a side large enough that borders do not hide the field
    "lenet5_modern": (("stem", "stage1", "stage2"), 48),
    "alexnet_owt": (("stage1", "stage2", "stage3"), 224),
    "zfnet": (("stage1", "stage2", "stage3"), 224),
    "nin_cifar": (("stage1", "stage2", "stage3"), 64),
    "vgg11": (("stage1", "stage2", "stage3"), 96),
    "googlenet_bn": (("stage1", "stage2", "stage3"), 160),
    "resnet18": (("stem", "stage1", "stage2"), 160),
    "plain20_cifar": (("stage1", "stage2", "stage3"), 128),
    "wide_resnet50_2": (("stem", "stage1"), 96),
    "resnext50_32x4d": (("stem", "stage1", "stage2"), 128),
    "preresnet110_cifar": (("stem", "stage1.2", "stage1.8"), 64),
    "wrn_16_8_cifar": (("stem", "stage1", "stage2"), 64),
    "densenet_40_12_cifar": (("stem", "stage1", "stage2"), 96),
    "fractalnet20_thin_cifar100": (("stage1", "stage2", "stage3"), 128),
    "mobilenet_v1_025": (("stem", "stage2", "stage3"), 96),
    "mobilenet_v2": (("stem", "stage2", "stage3"), 96),
    "nasnet_a_cifar": (("stem", "stage1.0", "stage1.1"), 64),
    "se_resnet18": (("stem", "stage1", "stage2"), 160),  # without their gates
    "mobilenet_v3_small": (("stem", "stage1", "stage2"), 96),
    "cifar_fast_025": (("stem", "stage1", "stage2"), 48),
}


def known(field: Field | Unknown | None) -> Field:
    assert isinstance(field, Field), field
    return field


def output(module: nn.Module, *shape: int, gates: bool = True) -> Field:
    """The field of what a module makes of an image."""
    tape = record(module, torch.empty(1, *shape))
    return known(receptive_fields(tape, gates=gates)[tape.outputs[-1].number])


def reason(module: nn.Module, *shape: int) -> str:
    tape = record(module, torch.empty(1, *shape))
    field = receptive_fields(tape)[tape.outputs[-1].number]
    assert isinstance(field, Unknown)
    return field.reason


def fields_at(model: zoo.ConvNet, cuts: tuple[str, ...], side: int, channels: int) -> dict[str, Field]:
    tape = record(model.stages, torch.empty(1, channels, side, side, device="meta"))
    fields = receptive_fields(tape, gates=False)
    last = {call.path: call.outputs[-1].number for call in tape.calls}
    return {cut: known(fields[last[cut]]) for cut in cuts}


def reaches(model: zoo.ConvNet, cut: str, images: Tensor) -> list[bool]:
    """Of each image, whether a NaN in it gets to the middle of the map at the cut."""
    with torch.inference_mode():
        maps = zoo.feature(zoo.prefix(model, cut)(images))
    return maps[:, :, maps.shape[2] // 2, maps.shape[3] // 2].isnan().any(1).tolist()


@pytest.mark.parametrize("name", FAMILIES)
def test_fields_are_how_far_a_nan_reaches(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row or column of NaN at the field's border gets to the unit; one pixel further out does not."""
    cuts, side = FAMILIES[name]
    channels = zoo.native(name)[0][0]
    torch.manual_seed(0)
    model = zoo.build(name, num_classes=0, in_channels=channels).eval()
    fields = fields_at(model, cuts, side, channels)
    for gate in [module for module in model.modules() if type(module).__name__ == "Gate"]:
        monkeypatch.setattr(gate, "forward", lambda x: x)
    for cut, field in fields.items():
        assert field.exact, cut
        maps = zoo.feature(zoo.prefix(model, cut)(torch.zeros(1, channels, side, side)))
        images, expected = [], []
        for axis, (interval, length) in enumerate(zip(field.largest, maps.shape[2:], strict=True)):
            low, high = (int(interval.jump * (length // 2) + end) for end in (interval.low, interval.high))
            for pixel, seen in ((low - 1, False), (low, True), (high, True), (high + 1, False)):
                if 0 <= pixel < side:
                    image = torch.zeros(channels, side, side)
                    image.select(1 + axis, pixel).fill_(torch.nan)
                    images.append(image)
                    expected.append(seen)
        assert expected.count(False) >= 2, f"{cut}: the image is too small to see the field's end"
        assert reaches(model, cut, torch.stack(images)) == expected, cut


@pytest.mark.parametrize(
    ("name", "cut", "size"),
    [
        ("alexnet", "head.pool5", 195),
        ("vgg16", "head.pool5", 212),
        ("resnet18", "stages.stage4", 435),
        ("resnet50", "stages.stage4", 427),  # 483 with the strides of v1
        ("resnet50_v1", "stages.stage4", 483),
        ("mobilenet_v2", "stages.stage5", 491),
        ("densenet121", "stages.stage4", 2071),
    ],
)
def test_the_sizes_of_the_literature(name: str, cut: str, size: int) -> None:
    shape, classes = zoo.native(name)
    with torch.device("meta"):
        model = zoo.build(name, num_classes=classes)
    tape = record(model, torch.empty(1, *shape, device="meta"))
    number = next(call.outputs[0].number for call in tape.calls if call.path == cut)
    assert known(receptive_fields(tape)[number]).size == (size, size)


def test_a_gate_sees_everything_and_can_be_ignored() -> None:
    with torch.device("meta"):
        model = zoo.build("se_resnet50")
    tape = record(model, torch.empty(1, 3, 224, 224, device="meta"))
    last = next(call.outputs[0].number for call in tape.calls if call.path == "stages.stage1.0")
    gated, ungated = (known(fields[last]) for fields in with_and_without_gates(tape))
    assert gated.whole
    assert gated.exact
    assert (gated.size, gated.dims) == ((224, 224), (2, 3))
    assert [interval.size for interval in gated.smallest] == [11, 11]  # the stem and its pooling; past all others
    assert (ungated.size, ungated.stride, ungated.offset) == ((19, 19), (4, 4), (2.0, 2.0))


class Branches(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.wide = nn.Conv2d(3, 4, (7, 3), padding=(3, 1))
        self.narrow = nn.Conv2d(3, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.wide(x), self.narrow(x)], dim=1)


def test_the_longest_and_the_shortest_path_and_both_axes() -> None:
    field = output(Branches(), 3, 16, 16)
    assert [interval.size for interval in field.largest] == [7, 3]
    assert [interval.size for interval in field.smallest] == [1, 1]


def test_without_gates_there_is_one_pass() -> None:
    tape = record(nn.Conv2d(3, 3, 3), torch.empty(1, 3, 8, 8))
    with_gates, without = with_and_without_gates(tape)
    assert with_gates is without


@pytest.mark.parametrize(
    "norm", [nn.InstanceNorm2d(4), nn.GroupNorm(2, 4), nn.LayerNorm([4, 16, 16]), nn.LayerNorm(16)], ids=str
)
def test_a_norm_with_statistics_over_places_is_a_gate(norm: nn.Module) -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), norm)
    rows = output(net, 3, 16, 16).largest
    assert rows[1] == rows[1].everything()
    assert rows[1].size == 16
    assert output(net, 3, 16, 16, gates=False).size == (3, 3)


def test_maps_with_their_channels_last_say_where_their_axes_are() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, (3, 5), stride=(2, 1)), Call(lambda x: x.permute(0, 3, 2, 1)), nn.Linear(4, 2))
    field = output(net, 3, 16, 16)
    assert field.dims == (2, 1)
    assert (field.size, field.stride, field.offset) == ((3, 5), (2, 1), (1.0, 2.0))


def test_units_of_a_transposed_convolution_see_unequally_much() -> None:
    (axis,) = output(nn.ConvTranspose1d(2, 2, 3, stride=2), 2, 16).largest
    assert axis.period == 2
    assert [axis.at(unit) for unit in (2, 3, 4)] == [(0, 1), (1, 1), (1, 2)]
    assert (axis.size, float(axis.jump), axis.exact) == (2, 0.5, True)
    down = nn.Sequential(nn.ConvTranspose1d(2, 2, 2, stride=2), nn.MaxPool1d(2))
    assert output(down, 2, 16).largest[0] == pixels(16)


def test_a_turned_map_runs_backwards() -> None:
    assert output(Call(lambda x: x.flip(2)), 3, 16).stride == (-1,)
    assert output(Call(lambda x: x.flip(2).flip(2)), 3, 16).largest[0] == pixels(16)


def test_a_part_of_unlike_channels_is_bounded() -> None:
    both = output(Branches(), 3, 16, 16)
    part = output(nn.Sequential(Branches(), Call(lambda x: x[:, 4:])), 3, 16, 16)
    assert both.exact
    assert not part.exact
    assert part.size == both.size
    assert output(nn.Sequential(Branches(), nn.Conv2d(8, 8, 1), Call(lambda x: x[:, 4:])), 3, 16, 16).exact


def written(x: Tensor) -> Tensor:
    y = torch.zeros_like(x)
    y[:, :, 1:] = x[:, :, :-1]
    return y


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (lambda x: x.roll(1, 2), "a map is rolled along an axis of the image"),
        (lambda x: F.grid_sample(x, x[..., :2], align_corners=False), "no rule covers aten.grid_sampler_2d"),
        (lambda x: x.as_strided((1, 3, 8, 8), (1, 1, 1, 1)), "memory is given other strides"),
        (
            lambda x: x.view(1, 3, 2, 4, 8).sum(3),
            r"a view of \(1, 3, 8, 8\) as .* takes an axis of the image to pieces",
        ),
        (lambda x: torch.cat([x, x], 2), "unlike maps are laid side by side"),
        (lambda x: x.repeat(1, 1, 2, 1), "laid side by side with itself"),
        (
            lambda x: x + x[:, :, ::2, ::2].repeat_interleave(2, 2).repeat_interleave(2, 3).flip(2),
            "different resolution",
        ),
        (lambda x: F.conv1d(x.flatten(2), x.new_zeros(3, 3, 3)), "a window is moved over several axes merged into one"),
        (lambda x: x[:, :, x[0, 0, 0].long()], "places are chosen by what is in the image"),
        (lambda x: x[:, :, torch.tensor([1, 0])], "places of the map are chosen by a list"),
        (written, "written through another view"),
        (lambda x: F.pad(x, (1, 1, 1, 1), mode="circular"), "written through another view"),
    ],
)
def test_what_no_rule_covers_is_unknown_and_why_and_so_is_what_follows(
    function: Callable[[Tensor], Tensor], said: str
) -> None:
    net = nn.Sequential(nn.ReLU(), Call(function), nn.Sigmoid())
    assert re.search(rf"^[12] \((Call|Sigmoid)\): .*{said}", reason(net, 3, 8, 8))


def test_memory_written_through_a_view_is_unknown_even_where_nothing_reads_it() -> None:
    tape = record(Call(written), torch.empty(1, 3, 8, 8))
    assert isinstance(receptive_fields(tape)[tape.outputs[0].number], Unknown)


def test_an_activation_in_place_forgets_nothing() -> None:
    def halves(x: Tensor) -> Tensor:
        one, two = (x * 2).chunk(2, 1)
        F.relu_(one)
        return torch.cat([one, two], 1)

    assert output(Call(halves), 4, 8).largest[0] == pixels(8)


def test_what_does_not_depend_on_the_image_has_no_field() -> None:
    tape = record(Call(lambda x: torch.zeros_like(x) + 1), torch.empty(1, 3, 8, 8))
    assert set(receptive_fields(tape)) == {tape.inputs[0].number}


def test_a_place_seen_by_all_and_a_place_of_ones_own_are_bounded_by_all() -> None:
    field = output(Call(lambda x: x + x[:, :, :1, :1]), 3, 8, 8)
    assert field.whole
    assert not field.exact
    assert output(Call(lambda x: x[:, :, :3].mean((2, 3))), 3, 8, 8).size == (3, 8)


def outputs_of(model: nn.Module, layers: Iterable[str], height: int, width: int) -> dict[str, Field | Unknown]:
    tape = record(model, torch.empty(1, 3, height, width, dtype=next(model.parameters()).dtype))
    fields = receptive_fields(tape)
    return {path: fields[call.outputs[-1].number] for path in layers for call in tape.calls if call.path == path}


def wrong_at(model: nn.Module, layers: tuple[str, ...], height: int, width: int) -> list[str]:
    """Layer by layer, what of its field along the height is not as far as a NaN reaches."""
    model = model.double().eval()
    wrong: list[str] = []
    for path, field in outputs_of(model, layers, height, width).items():
        caught: list[Tensor] = []
        hook = model.get_submodule(path).register_forward_hook(lambda *found, caught=caught: caught.append(found[2]))

        def forward(x: Tensor, caught: list[Tensor] = caught) -> Tensor:
            model(x)
            return caught.pop()

        rows = reached(forward, (1, 3, height, width), 0)
        hook.remove()
        wrong += [f"{path}: {line}" for line in differences(known(field), 0, rows)]
        assert is_seen(known(field), 0, rows), f"{path}: the image is too small to see the field's end"
    return wrong


def test_convnext_whose_norms_and_layers_have_channels_last() -> None:
    from torchvision.models import convnext_tiny

    model = convnext_tiny(weights=None).features[:3]
    layers = ("0", "1.0", "1", "2")
    fields = outputs_of(model, layers, 128, 8)
    assert [known(field).size for field in fields.values()] == [(4, 4), (28, 28), (76, 76), (80, 80)]
    assert all(known(field).exact for field in fields.values())
    assert not wrong_at(model, layers, 128, 8)


def test_shufflenet_which_shuffles_channels_is_at_least_bounded() -> None:
    from torchvision.models import shufflenet_v2_x0_5

    model = nn.Sequential(*list(shufflenet_v2_x0_5(weights=None).children())[:3])
    assert not wrong_at(model, ("1", "2.0", "2.1", "2.3"), 144, 16)


def test_swin_is_known_as_far_as_its_patches_and_unknown_behind_its_windows() -> None:
    from torchvision.models import swin_t

    model = swin_t(weights=None)
    assert not wrong_at(model.features[:1], ("0",), 32, 8)
    (behind,) = outputs_of(model, ["features.1"], 64, 64).values()
    assert isinstance(behind, Unknown)
    assert behind.reason.startswith("features.1.0.attn (ShiftedWindowAttention): a view of")


def test_a_vision_transformer_sees_the_whole_image() -> None:
    from torchvision.models import vit_b_16

    with torch.device("meta"):
        model = vit_b_16(weights=None, image_size=64)
    fields = outputs_of(model, ["conv_proj", "encoder.layers.encoder_layer_0", "heads"], 64, 64)
    patches, first, scores = map(known, fields.values())
    assert patches.size == (16, 16)
    assert first.whole
    assert scores.size == (64, 64)
