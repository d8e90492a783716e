"""Receptive fields against how far one NaN in the image reaches, and against the literature."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from convatlas import zoo
from convatlas.analysis.receptive import Field, receptive_fields
from convatlas.analysis.tape import record

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
}


def fields_at(model: zoo.ConvNet, cuts: tuple[str, ...], side: int, channels: int) -> dict[str, Field]:
    tape = record(model.stages, torch.empty(1, channels, side, side, device="meta"))
    fields = receptive_fields(tape)
    last = {call.path: call.outputs[-1].number for call in tape.calls}
    return {cut: fields[last[cut]] for cut in cuts}


def reaches(model: zoo.ConvNet, cut: str, images: Tensor) -> list[bool]:
    """Of each image, whether a NaN in it gets to the middle of the map at the cut."""
    with torch.inference_mode():
        maps = zoo.feature(zoo.prefix(model, cut)(images))
    return maps[:, :, maps.shape[2] // 2, maps.shape[3] // 2].isnan().any(1).tolist()


@pytest.mark.parametrize("name", FAMILIES)
def test_fields_are_how_far_a_nan_reaches(name: str) -> None:
    """A row or column of NaN at the field's border gets to the unit; one pixel further out does not."""
    cuts, side = FAMILIES[name]
    channels = zoo.native(name)[0][0]
    torch.manual_seed(0)
    model = zoo.build(name, num_classes=0, in_channels=channels).eval()
    for cut, field in fields_at(model, cuts, side, channels).items():
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
    assert receptive_fields(tape)[number].size == (size, size)


def test_a_gate_sees_everything_and_can_be_ignored() -> None:
    with torch.device("meta"):
        model = zoo.build("se_resnet50")
    tape = record(model, torch.empty(1, 3, 224, 224, device="meta"))
    last = next(call.outputs[0].number for call in tape.calls if call.path == "stages.stage1.0")
    assert not receptive_fields(tape)[last].largest[0].jump  # the same part of the image from every place: all of it
    assert receptive_fields(tape, gates=False)[last].size == (19, 19)


class Branches(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.wide = nn.Conv2d(3, 4, (7, 3), padding=(3, 1))
        self.narrow = nn.Conv2d(3, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.wide(x), self.narrow(x)], dim=1)


def test_the_longest_and_the_shortest_path_and_both_axes() -> None:
    tape = record(Branches(), torch.empty(1, 3, 16, 16))
    field = receptive_fields(tape)[tape.outputs[0].number]
    assert [interval.size for interval in field.largest] == [7, 3]
    assert [interval.size for interval in field.smallest] == [1, 1]


class Turned(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.transpose(2, 3) + 1


def test_what_no_rule_covers_is_said() -> None:
    with pytest.raises(NotImplementedError, match="after transpose, which moves pixels, is not known"):
        receptive_fields(record(Turned(), torch.empty(1, 3, 8, 8)))
    with pytest.raises(NotImplementedError, match="transposed convolution"):
        receptive_fields(record(nn.ConvTranspose2d(3, 3, 2), torch.empty(1, 3, 8, 8)))
