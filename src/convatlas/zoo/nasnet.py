"""NASNet: Zoph, Vasudevan, Shlens, Le. Learning Transferable Architectures for Scalable Image Recognition. CVPR 2018.
https://arxiv.org/abs/1707.07012

A search on CIFAR-10 chose two cells, one that keeps the side of its maps and one that halves it; networks for any data are stacks of
them. A cell reads the outputs of the two cells before it and makes five sums of two operations each, every one a separable convolution
(applied twice), a pooling or nothing. What flows through the stages is a pair (previous, current), and a cut's activation is its current.

NASNet-A (N @ P): N normal cells between reductions, P maps at the end. In training an auxiliary classifier may read the maps before the
last reduction; its loss counts 0.4 there. As the authors' code, with average pooling at the border as in
the released PyTorch weights (padding counts there when it strides).
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from convatlas.zoo.blocks import SamePadConv2d, pooled_classifier, same_padded, sequence
from convatlas.zoo.convnet import ConvNet, taps

FAMILY, YEAR = "NASNet", 2017
State = Tensor | tuple[Tensor, Tensor]  # an image or the stem's maps; else the maps of the two cells before


@dataclass(frozen=True, kw_only=True)
class NASNetConfig:
    """What tells one NASNet-A from another."""

    cells: int  # N, normal cells in each of the three stacks
    width: int  # F, maps of an operation in the first stack; every reduction doubles it
    stem: int  # maps of the first convolution
    cifar: bool = False  # no reduction in the stem
    skip_reduction: bool = False  # the cell after a reduction reads past it, to the cell before its input
    drop_path: float = 0.0  # of each operation, in the last cell at the end of training; less before both
    dropout: float = 0.5  # before the classifier
    auxiliary: bool = False  # the classifier before the last reduction, used by `all_logits`


VARIANTS = {
    "nasnet_a_mobile": NASNetConfig(cells=4, width=44, stem=32),
    "nasnet_a_large": NASNetConfig(cells=6, width=168, stem=96, skip_reduction=True, drop_path=0.3),
    "nasnet_a_cifar": NASNetConfig(cells=6, width=32, stem=96, cifar=True, drop_path=0.4, dropout=0.0),
}
ELSEWHERE = {"timm/nasnetalarge": ("nasnet_a_large", {})}

# Figure 4: the sums of a cell, each of two operations on numbered maps. 0 is the current cell, 1 the previous, 2 the first sum, and so on.
NORMAL_OUT, REDUCTION_OUT = (1, 2, 3, 4, 5, 6), (3, 4, 5, 6)  # the maps that stand side by side in a cell's output
NORMAL = (
    (("separable5", 0), ("separable3", 1)),
    (("separable5", 1), ("separable3", 1)),
    (("average", 0), ("identity", 1)),
    (("average", 1), ("average", 1)),
    (("separable3", 0), ("identity", 0)),
)
REDUCTION = (
    (("separable5", 0), ("separable7", 1)),
    (("max", 0), ("separable7", 1)),
    (("average", 0), ("separable5", 1)),
    (("average", 2), ("identity", 3)),
    (("separable3", 2), ("max", 0)),
)


def native(config: NASNetConfig) -> tuple[tuple[int, int, int], int]:
    """The paper's input (channels, height, width) and number of classes."""
    side = 32 if config.cifar else 331 if config.width == 168 else 224
    return (3, side, side), 10 if config.cifar else 1000


class DropPath(nn.Module):
    """Drops x (n, c, h, w) for some images of a batch and scales up what is left; `rate` is set as training goes on."""

    def __init__(self, final_rate: float) -> None:
        super().__init__()
        self.final_rate = self.rate = final_rate

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or not self.rate:
            return x
        kept = (torch.rand(len(x), 1, 1, 1, device=x.device) >= self.rate).to(x.dtype)
        return x * kept / (1 - self.rate)


class Squash(nn.Module):
    """Rectifier, 1×1 convolution, batch norm: to another number of maps."""

    def __init__(self, c_in: int, c_out: int, *, rectify: bool = True) -> None:
        super().__init__()
        self.rectify = rectify
        self.conv = nn.Conv2d(c_in, c_out, 1, bias=False)
        self.norm = nn.BatchNorm2d(c_out, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(F.relu(x) if self.rectify else x))


class FactorizedReduction(nn.Module):
    """To half the side without losing pixels: two 1×1 convolutions, on the even pixels and on those one step down and right."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.even = nn.Conv2d(c_in, c_out // 2, 1, bias=False)
        self.odd = nn.Conv2d(c_in, c_out - c_out // 2, 1, bias=False)
        self.norm = nn.BatchNorm2d(c_out, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(x)
        shifted = F.pad(x, (-1, 1, -1, 1))
        return self.norm(torch.cat([self.even(x[:, :, ::2, ::2]), self.odd(shifted[:, :, ::2, ::2])], dim=1))


class Separable(nn.Module):
    """Rectifier, depthwise, pointwise, batch norm: twice; only the first strides."""

    def __init__(self, c_in: int, c_out: int, kernel: int, stride: int) -> None:
        super().__init__()
        for i, (maps, step) in enumerate(((c_in, stride), (c_out, 1)), start=1):
            conv = SamePadConv2d if step > 1 else nn.Conv2d
            padding = 0 if step > 1 else kernel // 2
            self.add_module(f"depthwise{i}", conv(maps, maps, kernel, step, padding, groups=maps, bias=False))
            self.add_module(f"pointwise{i}", nn.Conv2d(maps, c_out, 1, bias=False))
            self.add_module(f"norm{i}", nn.BatchNorm2d(c_out, eps=0.001))

    def forward(self, x: Tensor) -> Tensor:
        for i in (1, 2):
            x = self.get_submodule(f"pointwise{i}")(self.get_submodule(f"depthwise{i}")(F.relu(x)))
            x = self.get_submodule(f"norm{i}")(x)
        return x


class Pool(nn.Module):
    """3×3 pooling, padded as "same"; averages leave the padding out where nothing strides, as the released weights expect."""

    def __init__(self, kind: str, stride: int) -> None:
        super().__init__()
        self.kind, self.stride = kind, stride

    def forward(self, x: Tensor) -> Tensor:
        if self.kind == "max":
            return F.max_pool2d(same_padded(x, 3, self.stride, value=-torch.inf), 3, self.stride)
        if self.stride == 1:
            return F.avg_pool2d(x, 3, 1, padding=1, count_include_pad=False)
        return F.avg_pool2d(same_padded(x, 3, self.stride), 3, self.stride)


def _operation(kind: str, c_in: int, c_out: int, stride: int) -> nn.Module:
    """One operation of a cell; where maps do not fit (the CIFAR net's first cell) poolings and identities get a 1×1 convolution."""
    if kind.startswith("separable"):
        return Separable(c_in, c_out, int(kind[-1]), stride)
    fit = c_in == c_out
    if kind == "identity":
        return nn.Identity() if fit else Squash(c_in, c_out)
    pool = Pool(kind, stride)
    return pool if fit else sequence(pool=pool, squash=Squash(c_in, c_out, rectify=False))


class Cell(nn.Module):
    """(previous, current) to (current, new): both inputs made alike, five sums of two operations, and what nobody read side by side."""

    def __init__(
        self,
        previous: int | None,  # maps of the cell before the last; None where only one map is there yet
        current: int,  # maps of the last cell
        width: int,
        *,
        reduces: bool,
        halves: bool,  # the previous map has twice the side of the current
        keeps: bool,  # the next cell's previous is this cell's previous, not its current
        drop_path: float,
    ) -> None:
        super().__init__()
        self.sums = REDUCTION if reduces else NORMAL
        self.keeps = keeps
        self.current = Squash(current, width)
        self.previous: nn.Module = nn.Identity()
        first = width if previous else current
        if previous and halves:
            self.previous = FactorizedReduction(previous, width)
        elif previous and previous != width:
            self.previous = Squash(previous, width)
        maps = (width, first) + (width,) * len(self.sums)
        for i, pair in enumerate(self.sums):
            for side, (kind, source) in zip(_SIDES, pair, strict=True):
                stride = 2 if reduces and source < 2 else 1
                self.add_module(f"{side}{i}", _operation(kind, maps[source], width, stride))
        self.drop = DropPath(drop_path)
        self.out = REDUCTION_OUT if reduces else NORMAL_OUT
        self.fit = Squash(first, width, rectify=False) if 1 in self.out and first != width else nn.Identity()

    def forward(self, state: State) -> tuple[Tensor, Tensor]:
        before, now = state if isinstance(state, tuple) else (state, state)
        maps = [self.current(now), self.previous(before)]
        for i, pair in enumerate(self.sums):
            terms: list[Tensor] = []
            for side, (kind, source) in zip(_SIDES, pair, strict=True):
                term = self.get_submodule(f"{side}{i}")(maps[source])
                terms.append(term if kind == "identity" else self.drop(term))
            maps.append(terms[0] + terms[1])
        maps[1] = self.fit(maps[1])
        return before if self.keeps else now, torch.cat([maps[i] for i in self.out], dim=1)


class Last(nn.Module):
    """The rectifier after the last cell; from here on only the current maps go on."""

    def forward(self, state: tuple[Tensor, Tensor]) -> Tensor:
        return F.relu(state[1])


class Auxiliary(nn.Module):
    """A small classifier on maps (n, c, h, w): 5×5 means, 128 maps, then 768 features of everywhere at once, as the authors' code has it.

    `side` is of the means of the paper's own images; those of others are brought to it.
    """

    def __init__(self, c_in: int, side: int, num_classes: int) -> None:
        super().__init__()
        self.side = side
        self.project = nn.Conv2d(c_in, 128, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(128, eps=0.001)
        self.conv = nn.Conv2d(128, 768, side, bias=False)
        self.norm2 = nn.BatchNorm2d(768, eps=0.001)
        self.fc = nn.Linear(768, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        means = F.avg_pool2d(F.relu(x), 5, 3) if min(x.shape[2:]) >= 5 else F.relu(x)
        means = F.adaptive_avg_pool2d(means, self.side)
        y = F.relu(self.norm1(self.project(means)))
        return self.fc(F.relu(self.norm2(self.conv(y))).flatten(1))


class NASNet(ConvNet):
    """NASNet-A. A cut inside or after a stage holds the pair (previous, current); `feature` gives its maps."""

    classifiers = ("head.fc", "auxiliary.before.fc")
    optional = ("auxiliary.",)

    def __init__(self, config: NASNetConfig, *, num_classes: int = 1000, in_channels: int = 3) -> None:
        self.config = config
        stride, padding = (1, 1) if config.cifar else (2, 0)
        stem = nn.Conv2d(in_channels, config.stem, 3, stride, padding, bias=False)
        stages: dict[str, nn.Module] = {"stem": sequence(conv=stem, norm=nn.BatchNorm2d(config.stem, eps=0.001))}
        plan = _plan(config)
        total = sum(len(cells) for cells in plan)
        previous, current, halves, number = None, config.stem, False, 0
        before_last = 0  # maps before the last reduction
        for s, cells in enumerate(plan, start=1):
            layers: OrderedDict[str, nn.Module] = OrderedDict()
            for name, width in cells:
                number += 1
                reduces = name == "reduction"
                keeps = config.skip_reduction and reduces and s > 2
                layers[name] = Cell(
                    previous,
                    current,
                    width,
                    reduces=reduces,
                    halves=halves,
                    keeps=keeps,
                    drop_path=config.drop_path * number / total,
                )
                previous, current = (previous if keeps else current), width * (4 if reduces else 6)
                halves = reduces
            if s == len(plan):
                layers["relu"] = Last()
            else:
                before_last = current
            stages[f"stage{s}"] = nn.Sequential(layers)
        super().__init__(stages, pooled_classifier(current, num_classes, dropout=config.dropout))
        self.auxiliary = nn.ModuleDict()
        if config.auxiliary and num_classes:
            side = -(-native(config)[0][1] // (2 if config.cifar else 16))  # of the maps before the last reduction
            self.auxiliary["before"] = Auxiliary(before_last, (side - 5) // 3 + 1, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(
                    module.weight, mode="fan_in", nonlinearity="relu"
                )  # TensorFlow's variance scaling
            elif isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)

    def all_logits(self, image: Tensor) -> tuple[Tensor, ...]:
        """The main logits (n, num_classes) and, for a network with the auxiliary classifier, its own."""
        names = [name for name, _ in self.stages.named_children()]
        found = taps(self, names[-2:])(image)
        auxiliary = (head(found[names[-2]]) for head in self.auxiliary.values())
        return (self.head(found[names[-1]]), *auxiliary)


def _plan(config: NASNetConfig) -> list[list[tuple[str, int]]]:
    """The cells of each stage as (name, width): the ImageNet nets start with two reductions at a quarter and half of F."""
    normal = [[(str(i), config.width * 2**stack) for i in range(config.cells)] for stack in range(3)]
    for stack in (1, 2):
        normal[stack].insert(0, ("reduction", config.width * 2**stack))
    if config.cifar:
        return normal
    normal[0].insert(0, ("reduction", config.width // 2))
    return [[("reduction", config.width // 4)], *normal]


def schedule_drop_path(model: NASNet, progress: float) -> None:
    """Sets how often paths are dropped at a fraction `progress` (0 to 1) of the training: linearly more, up to each cell's own rate."""
    for module in model.modules():
        if isinstance(module, DropPath):
            module.rate = module.final_rate * progress


def keys(config: NASNetConfig) -> dict[str, dict[str, str]]:
    """How timm names these parameters."""
    if config.cifar:
        return {}
    table = {"conv0.conv": "stages.stem.conv", "conv0.bn": "stages.stem.norm", "last_linear": "head.fc"}
    separable = {
        **{f"separable_{i}.{kind}_conv2d": f"{kind}{i}" for i in (1, 2) for kind in ("depthwise", "pointwise")},
        **{f"bn_sep_{i}": f"norm{i}" for i in (1, 2)},
    }
    count, before = 0, ""
    for s, cells in enumerate(_plan(config), start=1):
        for name, _ in cells:
            ours = f"stages.stage{s}.{name}"
            if name == "reduction":
                theirs = f"cell_stem_{s - 1}" if s <= 2 else f"reduction_cell_{s - 3}"
            else:
                theirs, count = f"cell_{count}", count + 1
            table |= {
                f"{theirs}.conv_1x1.conv": f"{ours}.current.conv",
                f"{theirs}.conv_1x1.bn": f"{ours}.current.norm",
            }
            if before == "reduction":
                table |= {
                    f"{theirs}.path_1.conv": f"{ours}.previous.even",
                    f"{theirs}.path_2.conv": f"{ours}.previous.odd",
                }
                table[f"{theirs}.final_path_bn"] = f"{ours}.previous.norm"
            elif before:
                table[f"{theirs}.conv_prev_1x1.conv"] = f"{ours}.previous.conv"
                table[f"{theirs}.conv_prev_1x1.bn"] = f"{ours}.previous.norm"
            before = name
            for i in range(5):
                for side in _SIDES:
                    for leaf, own in separable.items():
                        table[f"{theirs}.comb_iter_{i}_{side}.{leaf}"] = f"{ours}.{side}{i}.{own}"
    return {"timm": table}


_SIDES = ("left", "right")
MODEL = NASNet
