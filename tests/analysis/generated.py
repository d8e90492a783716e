"""Random networks for property tests: a hypothesis strategy that draws a module and the shape of an image it takes.

`modules()` draws from everything that convolutional networks are made of: convolutions and transposed ones in one to three dimensions,
poolings, paddings, norms, activations, interpolation, layers over the last dimension, branches that are added, joined or multiplied,
modules that are called twice, and calls of functions. Every step is an ordinary `nn.Module`, so that what is drawn prints readably when a
test fails. Steps that the maps have become too small for are left out; the weights are random and the same for the same example.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

Draw = Callable[..., Any]
SIDES = {1: (80,), 2: (44, 14), 3: (28, 8, 8)}  # of the image: one axis long enough for fields to end within it
PLAIN = ("convolution", "pooling", "activation", "norm", "padding", "branches", "shared")
TURNED = ("transposed", "resize", "last", "flat", "flip", "turn", "part", "rejoin", "shuffle")
WHOLE = ("gate", "statistics", "softmax", "pooled")


def many(examples: int) -> settings:
    """The same `examples` in every run, or as many as CONVATLAS_EXAMPLES says; recording and running them takes its time."""
    return settings(
        max_examples=int(os.environ.get("CONVATLAS_EXAMPLES", examples)),
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )


class Call(nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


@dataclass(frozen=True)
class Example:
    """A network in evaluation mode and the shape of its input, a batch of one."""

    module: nn.Module
    input_shape: tuple[int, ...]


@st.composite
def modules(
    draw: Draw,
    *,
    kinds: tuple[str, ...] = PLAIN + TURNED + WHOLE,
    dimensions: tuple[int, ...] = (1, 2, 3),
    steps: int = 5,
) -> Example:
    """Chains of at most `steps` steps of these kinds on images of so many dimensions."""
    count = draw(st.sampled_from(dimensions))
    sides = draw(st.permutations(SIDES[count]))
    channels = draw(st.sampled_from((2, 3, 4)))
    torch.manual_seed(0)
    x = torch.zeros(1, channels, *sides)
    chain: list[nn.Module] = []
    for kind in draw(st.lists(st.sampled_from(kinds), min_size=1, max_size=steps)):
        step = STEPS[kind](draw, x)
        if step is not None and (made := _fits(step, x)) is not None:
            chain.append(step)
            x = made
    return Example(nn.Sequential(*chain).eval(), (1, channels, *sides))


def _fits(step: nn.Module, x: Tensor) -> Tensor | None:
    """What a step makes of a map; None if it cannot, or makes one that is empty or too large to compute with."""
    try:
        with torch.no_grad():
            made = step.eval()(x)
    except (RuntimeError, ValueError, ZeroDivisionError):
        return None
    return made if made.dim() == x.dim() and 0 < made.numel() <= 40_000 else None


def _layer(name: str, count: int) -> Any:
    """`_layer("Conv", 2)` is `nn.Conv2d`."""
    return getattr(nn, f"{name}{count}d")


def _each(draw: Draw, count: int, values: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(draw(st.lists(st.sampled_from(values), min_size=count, max_size=count)))


def convolution(draw: Draw, x: Tensor) -> nn.Module:
    count, channels = x.dim() - 2, x.shape[1]
    groups = draw(st.sampled_from([n for n in (1, 1, 2, channels) if channels % n == 0]))
    return _layer("Conv", count)(
        channels,
        groups * draw(st.sampled_from((1, 2))),
        _each(draw, count, (1, 2, 3, 3, 4, 5)),
        stride=_each(draw, count, (1, 1, 2, 3)),
        padding=_each(draw, count, (0, 1, 1, 2, 3)),
        dilation=_each(draw, count, (1, 1, 2, 3)),
        groups=groups,
        bias=draw(st.booleans()),
    )


def transposed(draw: Draw, x: Tensor) -> nn.Module:
    count = x.dim() - 2
    stride = _each(draw, count, (1, 2, 2, 3))
    dilation = _each(draw, count, (1, 1, 2))
    return _layer("ConvTranspose", count)(
        x.shape[1],
        draw(st.sampled_from((1, 2))),
        _each(draw, count, (1, 2, 3, 4, 5)),
        stride=stride,
        padding=_each(draw, count, (0, 1, 2)),
        output_padding=tuple(draw(st.integers(0, max(pair) - 1)) for pair in zip(stride, dilation, strict=True)),
        dilation=dilation,
    )


def pooling(draw: Draw, x: Tensor) -> nn.Module:
    count = x.dim() - 2
    kernel = _each(draw, count, (1, 2, 3, 4))
    stride = _each(draw, count, (1, 2, 3))
    padding = tuple(draw(st.integers(0, side // 2)) for side in kernel)
    ceil_mode = draw(st.booleans())
    match draw(st.sampled_from(("max", "average", "power", "adaptive average", "adaptive max"))):
        case "max":
            dilation = draw(st.sampled_from((1, 1, 2)))
            return _layer("MaxPool", count)(kernel, stride, padding, dilation, ceil_mode=ceil_mode)
        case "average":
            own = draw(st.booleans())
            return _layer("AvgPool", count)(kernel, stride, padding, ceil_mode=ceil_mode, count_include_pad=own)
        case "power":
            own = (kernel[0], stride[0]) if count == 1 else (kernel, stride)
            return _layer("LPPool", count)(2.0, *own, ceil_mode=ceil_mode)
        case adaptive:
            sides = tuple(draw(st.integers(2, max(2, side))) for side in x.shape[2:])
            return _layer("AdaptiveAvgPool" if "average" in adaptive else "AdaptiveMaxPool", count)(sides)


def activation(draw: Draw, x: Tensor) -> nn.Module:
    kinds = (nn.ReLU, nn.GELU, nn.SiLU, nn.Sigmoid, nn.PReLU, nn.ELU, nn.Softplus, nn.LeakyReLU, nn.Identity)
    kind = draw(st.sampled_from(kinds))
    return kind(inplace=draw(st.booleans())) if kind is nn.ReLU else kind()


def norm(draw: Draw, x: Tensor) -> nn.Module:
    """Norms without statistics over places."""
    count, channels = x.dim() - 2, x.shape[1]
    match draw(st.sampled_from(("batch", "response", "instance", "channels"))):
        case "batch":
            return _layer("BatchNorm", count)(channels)
        case "response":
            return nn.LocalResponseNorm(draw(st.sampled_from((2, 3))))
        case "instance":
            return _layer("InstanceNorm", count)(channels, track_running_stats=True)
        case _:
            return nn.Sequential(ChannelsLast(), nn.LayerNorm(channels), ChannelsFirst())


def statistics(draw: Draw, x: Tensor) -> nn.Module:
    """Norms with statistics over places."""
    match draw(st.sampled_from(("group", "instance", "layer"))):
        case "group":
            return nn.GroupNorm(draw(st.sampled_from((1, x.shape[1]))), x.shape[1])
        case "instance":
            return _layer("InstanceNorm", x.dim() - 2)(x.shape[1])
        case _:
            return nn.LayerNorm(x.shape[draw(st.integers(1, x.dim() - 1)) :])


def padding(draw: Draw, x: Tensor) -> nn.Module:
    count = x.dim() - 2
    kind = draw(st.sampled_from(("ConstantPad", "ZeroPad", "ReflectionPad", "ReplicationPad")))
    sides = (0, 1, 2, 3, -1) if "ZeroPad" in kind else (0, 1, 2)
    pads = _each(draw, 2 * count, sides)
    return _layer(kind, count)(pads, 0.5) if kind == "ConstantPad" else _layer(kind, count)(pads)


def branches(draw: Draw, x: Tensor) -> nn.Module:
    """Maps of one size from windows of different sizes: added, joined, multiplied, or beside the input itself."""
    count, channels = x.dim() - 2, x.shape[1]
    stride = _each(draw, count, (1, 1, 2))
    made = draw(st.sampled_from((channels, 2)))

    def window(side: int, dilation: int) -> nn.Module:
        around = (side - 1) * dilation // 2
        return _layer("Conv", count)(channels, made, side, stride, around, dilation)

    ways = [window(*draw(st.sampled_from(((1, 1), (3, 1), (5, 1), (3, 2))))) for _ in range(draw(st.integers(1, 3)))]
    if made == channels and set(stride) == {1} and draw(st.booleans()):
        ways.append(nn.Identity())
    if draw(st.booleans()):
        ways.append(_layer("AvgPool", count)(3, stride, 1) if made == channels else window(1, 1))
    return Branches(ways, draw(st.sampled_from(("sum", "cat", "product", "in place"))))


def shared(draw: Draw, x: Tensor) -> nn.Module:
    """One module called two or three times."""
    count, side = x.dim() - 2, draw(st.sampled_from((1, 3, 3, 5)))
    return Repeated(_layer("Conv", count)(x.shape[1], x.shape[1], side, padding=side // 2), draw(st.integers(2, 3)))


def resize(draw: Draw, x: Tensor) -> nn.Module | None:
    count = x.dim() - 2
    smooth = {1: "linear", 2: "bilinear", 3: "trilinear"}[count]
    mode = draw(st.sampled_from(("nearest", "nearest-exact", smooth, *(("bicubic",) if count == 2 else ()), "area")))
    corners = draw(st.booleans()) if mode in (smooth, "bicubic") else None
    if draw(st.booleans()):
        scale = draw(st.sampled_from((2.0, 0.5, 1.5, 3.0)))
        return nn.Upsample(scale_factor=scale, mode=mode, align_corners=corners) if mode != "area" else None
    size = tuple(draw(st.integers(max(1, side // 2), 2 * side)) for side in x.shape[2:])
    return nn.Upsample(size=size, mode=mode, align_corners=corners)


def last(draw: Draw, x: Tensor) -> nn.Module:
    """A layer over channels that are last."""
    layer = nn.Linear(x.shape[1], draw(st.sampled_from((2, 3, 4))))
    return nn.Sequential(ChannelsLast(), layer, ChannelsFirst())


def flat(draw: Draw, x: Tensor) -> nn.Module:
    """Places in one dimension, a product with a matrix over channels, and back."""
    return Flat(x.shape[1], draw(st.sampled_from(("matmul", "einsum", "convolution", "tokens"))))


def flip(draw: Draw, x: Tensor) -> nn.Module:
    return Flip(draw(st.integers(1, x.dim() - 1)))


def turn(draw: Draw, x: Tensor) -> nn.Module:
    """Two axes of the image change places."""
    one = draw(st.integers(2, x.dim() - 1))
    return Turn(one, draw(st.integers(2, x.dim() - 1)))


def part(draw: Draw, x: Tensor) -> nn.Module:
    """Some channels, or some places."""
    dim = draw(st.integers(1, x.dim() - 1))
    start = draw(st.integers(0, 2))
    return Part(dim, start, x.shape[dim] - draw(st.integers(0, 2)), draw(st.sampled_from((1, 1, 2))))


def rejoin(draw: Draw, x: Tensor) -> nn.Module:
    """Cut along a dimension and joined, with zeros at the ends or without."""
    dim = draw(st.integers(1, x.dim() - 1))
    return Rejoin(dim, draw(st.integers(1, max(1, x.shape[dim] - 1))), draw(st.booleans()))


def shuffle(draw: Draw, x: Tensor) -> nn.Module:
    """Channels shuffled among groups, or exchanged for places."""
    kinds: list[nn.Module] = [Shuffle(2)]
    if x.dim() == 4:
        kinds += [nn.PixelShuffle(2), nn.PixelUnshuffle(2), Spread(2)]
    return draw(st.sampled_from(kinds))


def gate(draw: Draw, x: Tensor) -> nn.Module:
    return Gate(x.shape[1], x.dim() - 2)


def softmax(draw: Draw, x: Tensor) -> nn.Module:
    return nn.Softmax(draw(st.integers(1, x.dim() - 1)))


def pooled(draw: Draw, x: Tensor) -> nn.Module:
    """Means over one axis of the image, or running sums."""
    dim = draw(st.integers(2, x.dim() - 1))
    return Mean(dim) if draw(st.booleans()) else Running(dim)


class ChannelsLast(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.movedim(1, -1)


class ChannelsFirst(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.movedim(-1, 1)


class Branches(nn.Module):
    def __init__(self, ways: list[nn.Module], join: str) -> None:
        super().__init__()
        self.ways = nn.ModuleList(ways)
        self.join = join

    def forward(self, x: Tensor) -> Tensor:
        first, *rest = [way(x) for way in self.ways]
        if self.join == "cat":
            return torch.cat([first, *rest], dim=1)
        first = first + 0 if self.join == "in place" else first
        for other in rest:
            if self.join == "in place":
                first += other
            else:
                first = first * other if self.join == "product" else first + other
        return first

    def extra_repr(self) -> str:
        return self.join


class Repeated(nn.Module):
    def __init__(self, layer: nn.Module, times: int) -> None:
        super().__init__()
        self.layer = layer
        self.times = times

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(self.times):
            x = F.relu(self.layer(x))
        return x

    def extra_repr(self) -> str:
        return f"times={self.times}"


class Flat(nn.Module):
    def __init__(self, channels: int, how: str) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(channels, channels))
        self.how = how

    def forward(self, x: Tensor) -> Tensor:
        n, c, *sides = x.shape
        match self.how:
            case "matmul":
                y = (self.weight @ x.flatten(2)).reshape(n, c, *sides)
            case "einsum":
                y = torch.einsum("nc...,cd->nd...", x, self.weight)
            case "convolution":
                y = F.conv1d(x.flatten(2), self.weight[:, :, None]).view(n, c, *sides)
            case _:
                y = (x.flatten(2).transpose(1, 2) @ self.weight).transpose(1, 2).reshape(n, c, *sides)
        return y

    def extra_repr(self) -> str:
        return self.how


class Flip(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, x: Tensor) -> Tensor:
        return x.flip(self.dim)

    def extra_repr(self) -> str:
        return str(self.dim)


class Turn(nn.Module):
    def __init__(self, one: int, two: int) -> None:
        super().__init__()
        self.dims = one, two

    def forward(self, x: Tensor) -> Tensor:
        return x.transpose(*self.dims)

    def extra_repr(self) -> str:
        return str(self.dims)


class Part(nn.Module):
    def __init__(self, dim: int, start: int, stop: int, step: int) -> None:
        super().__init__()
        self.dim = dim
        self.slice = slice(start, stop, step)

    def forward(self, x: Tensor) -> Tensor:
        return x[(*(slice(None),) * self.dim, self.slice)]

    def extra_repr(self) -> str:
        return f"{self.dim}, {self.slice}"


class Rejoin(nn.Module):
    def __init__(self, dim: int, at: int, padded: bool) -> None:
        super().__init__()
        self.dim, self.at, self.padded = dim, at, padded

    def forward(self, x: Tensor) -> Tensor:
        pieces = list(x.split([self.at, x.shape[self.dim] - self.at], dim=self.dim))
        zeros = [torch.zeros_like(x.narrow(self.dim, 0, 1))] if self.padded else []
        return torch.cat([*zeros, *pieces, *zeros], dim=self.dim)

    def extra_repr(self) -> str:
        return f"{self.dim}, at={self.at}, padded={self.padded}"


class Shuffle(nn.Module):
    """As in ShuffleNet."""

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.groups = groups

    def forward(self, x: Tensor) -> Tensor:
        n, c, *sides = x.shape
        return x.view(n, self.groups, c // self.groups, *sides).transpose(1, 2).reshape(n, c, *sides)


class Spread(nn.Module):
    """Every place r × r times, by views alone."""

    def __init__(self, r: int) -> None:
        super().__init__()
        self.r = r

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        y = x[:, :, :, None, :, None].expand(n, c, h, self.r, w, self.r)
        return y.reshape(n, c, h * self.r, w * self.r)


class Gate(nn.Module):
    """Squeeze and excitation."""

    def __init__(self, channels: int, count: int) -> None:
        super().__init__()
        self.excite = _layer("Conv", count)(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.excite(x.mean(tuple(range(2, x.dim())), keepdim=True)))


class Mean(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(self.dim, keepdim=True)

    def extra_repr(self) -> str:
        return str(self.dim)


class Running(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, x: Tensor) -> Tensor:
        return x.cumsum(self.dim)

    def extra_repr(self) -> str:
        return str(self.dim)


STEPS: dict[str, Callable[[Draw, Tensor], nn.Module | None]] = {
    step.__name__: step
    for step in (
        *(convolution, pooling, activation, norm, padding, branches, shared),
        *(transposed, resize, last, flat, flip, turn, part, rejoin, shuffle),
        *(gate, statistics, softmax, pooled),
    )
}
