"""The effective field of networks whose gradients are known, what it leaves alone, and what it says of what it cannot look at."""

from __future__ import annotations

import pytest
import torch
from generated import Call
from torch import Tensor, nn

from convatlas.analysis.effective import EffectiveField, effective_field, effective_fields
from convatlas.analysis.receptive import Field, Unknown
from convatlas.errors import ConvAtlasError


def ones(count: int, side: int = 3) -> nn.Sequential:
    """Convolutions of ones: every path from a pixel to a unit adds one to its gradient."""
    layers = [nn.Conv2d(1, 1, side, padding=side // 2, bias=False) for _ in range(count)]
    for layer in layers:
        nn.init.ones_(layer.weight)
    return nn.Sequential(*layers)


def test_two_averages_make_a_tent() -> None:
    field = effective_field(ones(2), (1, 15, 15), "1", images=1)
    tent = torch.tensor([1.0, 2, 3, 2, 1], dtype=torch.float64) / 9
    assert torch.allclose(field.heat[5:10, 5:10], tent[:, None] * tent)
    assert float(field.heat.sum()) == pytest.approx(1)
    assert float(field.heat[5:10, 5:10].sum()) == pytest.approx(1)
    assert field.box() == ((5, 9), (5, 9))
    assert (field.middle, field.unit, field.extent) == ((7.0, 7.0), (7, 7), 5)
    assert field.within(float(field.heat[6:9, 6:9].sum()) - 1e-6) == 3


def test_the_share_of_the_field_that_matters_shrinks_with_depth() -> None:
    """As √n in n layers (Luo et al.), while what can be seen grows as n."""
    paths = ["3", "15", "35"]
    fields = effective_fields(ones(36), (1, 121, 121), paths, images=1)
    extents = [fields[path].extent for path in paths]
    assert [field.theoretical.size for field in fields.values() if isinstance(field.theoretical, Field)] == [
        (9, 9),
        (33, 33),
        (73, 73),
    ]
    assert extents[2] / extents[1] == pytest.approx((36 / 16) ** 0.5, rel=0.1)
    assert extents[1] / extents[0] == pytest.approx((16 / 4) ** 0.5, rel=0.2)


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, stride=2, padding=1), nn.BatchNorm2d(6), nn.ReLU(inplace=True), nn.Conv2d(6, 5, (3, 5))
    )


def test_the_map_is_the_mean_of_the_gradients_of_every_channel() -> None:
    model, x = network().eval(), torch.randn(3, 3, 17, 21)
    field = effective_field(model, (3, 17, 21), "3", images=x, channels=99)
    expected = torch.zeros(17, 21)
    for image in x:
        jacobian = torch.func.jacrev(lambda image: model(image[None])[0, :, 3, 3])(image)
        expected += jacobian.abs().sum((0, 1))
    assert torch.allclose(field.heat.float(), expected / expected.sum(), atol=1e-6)
    place = field.box()
    assert place is not None
    (top, bottom), (left, right) = place
    inside = torch.zeros_like(expected, dtype=torch.bool)
    inside[top : bottom + 1, left : right + 1] = True
    assert (field.heat > 0).equal(inside)


def test_drawn_channels_come_near_to_all_and_the_seed_decides_them() -> None:
    def heat(channels: int, seed: int) -> Tensor:
        return effective_field(network(), (3, 17, 17), "3", images=64, channels=channels, seed=seed).heat

    drawn = heat(2, 1)
    assert float((drawn - heat(5, 1)).abs().sum()) < 0.1
    assert drawn.equal(heat(2, 1))
    assert not drawn.equal(heat(2, 2))


def test_several_paths_share_one_forward_pass() -> None:
    model, calls = network(), []
    model[0].register_forward_hook(lambda *_: calls.append(1))
    both = effective_fields(model, (3, 17, 17), ["0", "3"], channels=99)
    shared = len(calls)
    alone = effective_field(model, (3, 17, 17), "3", channels=99)
    assert len(calls) == 2 * shared
    assert torch.allclose(both["3"].heat, alone.heat)
    assert float(both["0"].heat.count_nonzero()) == 9


class Counting(nn.Module):
    """Draws numbers and counts its calls, in evaluation mode too."""

    calls: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return x + torch.rand_like(x)


def test_the_model_is_left_as_it_was() -> None:
    model = nn.Sequential(network(), Counting(), nn.BatchNorm2d(5, track_running_stats=False))
    first, last = model.get_parameter("0.0.weight"), model.get_parameter("0.3.weight")
    first.requires_grad_(False)
    model[1].eval()
    last.grad = torch.ones_like(last)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    generator = torch.get_rng_state()
    effective_field(model, (3, 17, 17), "0.3")
    assert torch.get_rng_state().equal(generator)
    assert [module.training for module in model.modules()] == modes
    assert [p.requires_grad for p in model.parameters()] == [False] + [True] * 7
    assert [p.grad is not None for p in model.parameters()] == [False] * 4 + [True] + [False] * 3
    assert torch.equal(last.grad, torch.ones_like(last))
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())


def test_maps_of_one_axis_of_three_and_with_channels_last() -> None:
    last = nn.Sequential(nn.Conv2d(3, 4, (3, 5)), Call(lambda x: x.permute(0, 2, 3, 1)))
    assert effective_field(last, (3, 12, 16), "1").heat.count_nonzero() == 15
    assert effective_field(nn.Conv1d(2, 4, 5), (2, 30), "").heat.count_nonzero() == 5
    assert effective_field(nn.Conv3d(2, 4, 3), (2, 8, 8, 8), "").heat.count_nonzero() == 27


class Gated(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        return y * y.mean((2, 3), keepdim=True).sigmoid()


def test_gates_move_little_and_what_is_unknown_is_still_looked_at() -> None:
    gated = effective_field(Gated(), (3, 32, 32), "")
    assert gated.box() == ((15, 17), (15, 17))
    assert gated.heat.count_nonzero() == 32 * 32
    rolled = effective_field(Call(lambda x: x.roll(3, 3)), (3, 16, 16), "")
    assert isinstance(rolled.theoretical, Unknown)
    assert rolled.box() is None
    assert rolled.heat.nonzero().tolist() == [[8, 5]]


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("stem.convolution", r"there is no module 'stem.convolution'; did you mean 'stem.conv'\?"),
        ("head", r"the output of 'head', \(8, 2\), has no places. Name a module that makes maps."),
        ("spare", "the module 'spare' does not run, or makes no tensor that depends on the image"),
        ("dead", "the gradient at 'dead' is zero or not a number on all images"),
    ],
)
def test_what_cannot_be_looked_at_is_said(path: str, said: str) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Sequential()
            self.stem.add_module("conv", nn.Conv2d(3, 4, 3))
            self.dead, self.head, self.spare = nn.ReLU(), nn.Linear(4, 2), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            y = self.stem(x)
            self.dead(y - 1000)
            return self.head(y.mean((2, 3)))

    with pytest.raises(ConvAtlasError, match=said):
        effective_field(Net(), (3, 8, 8), path)


def test_unsound_weights_and_images_are_refused() -> None:
    model = network()
    with pytest.raises(ConvAtlasError, match=r"images are \(3, 8, 8\), not \(3, 9, 9\) as the input size says"):
        effective_field(model, (3, 9, 9), "0", images=torch.zeros(1, 3, 8, 8))
    with pytest.raises(ConvAtlasError, match="0 images leave nothing to look at"):
        effective_field(model, (3, 9, 9), "0", images=0)
    with torch.no_grad():
        model.get_parameter("3.bias")[0] = torch.nan
    with pytest.raises(ConvAtlasError, match=r"^3\.bias holds values that are infinite or not numbers"):
        effective_field(model, (3, 9, 9), "0")
    with pytest.raises(ConvAtlasError, match="weight has no values"):
        effective_field(nn.Conv2d(3, 3, 3, device="meta"), (3, 9, 9), "")


def test_equal_shares_of_a_field_without_centre() -> None:
    heat = torch.zeros(6, 6, dtype=torch.float64)
    heat[2:4, 2:4] = 0.25
    field = EffectiveField("", heat, (2.5, 2.5), (0, 0), Unknown("none"))
    assert field.extent == 2
