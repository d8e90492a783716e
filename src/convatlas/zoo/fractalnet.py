"""FractalNet: Larsson, Maire, Shakhnarovich. Ultra-Deep Neural Networks without Residuals. ICLR 2017. https://arxiv.org/abs/1605.07648

A block is grown by one rule, f(C+1) = f(C) applied twice, joined by mean with one convolution beside them: C columns, of 1, 2, 4 …
convolutions, which meet wherever they end together. Depth comes without residuals because a shallow path is always there to teach the
deep ones. Drop-path trains that: locally each input of a join is dropped with probability 0.15 (one always stays), or globally one
column alone carries the whole network. So a single column, taken out with `column`, is a good plain network by itself.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from convatlas.zoo.blocks import pooled_classifier, sequence
from convatlas.zoo.convnet import ConvNet

FAMILY, YEAR = "FractalNet", 2016


@dataclass(frozen=True, kw_only=True)
class FractalNetConfig:
    """What tells one FractalNet from another."""

    columns: int  # C: the longest path through a block has 2^(C-1) convolutions
    widths: tuple[int, ...] = (64, 128, 256, 512, 512)  # maps of each block
    imagenet: bool = False  # ResNet's stem, and blocks of 56, 28, 14 and 7 pixels
    dropout: tuple[float, ...] = (0.0, 0.1, 0.2, 0.3, 0.4)  # at the end of each block (section 4)
    drop_path: float = 0.15  # of each input to a join
    global_share: float = 0.5  # of mini-batches train one column alone instead of dropping locally


_THIN = (16, 32, 64, 128, 128)
VARIANTS = {
    "fractalnet20_cifar": FractalNetConfig(columns=3),
    "fractalnet40_cifar": FractalNetConfig(columns=4),
    **{
        f"fractalnet{5 * 2 ** (columns - 1)}_thin_cifar100": FractalNetConfig(columns=columns, widths=_THIN)
        for columns in range(1, 7)
    },
    "fractalnet34": FractalNetConfig(columns=4, widths=(128, 256, 512, 1024), imagenet=True, dropout=(0.0,) * 4),
}
ELSEWHERE: dict[str, tuple[str, dict[str, object]]] = {}


def keys(config: FractalNetConfig) -> dict[str, dict[str, str]]:
    """No published weights in another layout."""
    return {}


def native(config: FractalNetConfig) -> tuple[tuple[int, int, int], int]:
    """The paper's input (channels, height, width) and number of classes."""
    if config.imagenet:
        return (3, 224, 224), 1000
    return (3, 32, 32), 100 if config.widths == _THIN else 10  # the thin ones, of the paper's table 3, are CIFAR-100's


class Conv(nn.Module):
    """3×3 convolution, batch norm, rectifier."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(c_in, c_out, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(c_out)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.norm(self.conv(x)))


class Fractal(nn.Module):
    """One block: `rows[i]` holds the convolutions that end at depth i + 1, by column; those that end together are joined."""

    def __init__(self, c_in: int, width: int, config: FractalNetConfig) -> None:
        super().__init__()
        self.drop_path = config.drop_path
        self.only: int | None = None  # the one column that carries this mini-batch
        rows: list[nn.ModuleDict] = []
        for depth in range(1, 2 ** (config.columns - 1) + 1):
            spans = {c: 2 ** (config.columns - 1 - c) for c in range(config.columns)}  # column 0 is one convolution
            ending = [c for c, span in spans.items() if depth % span == 0]
            rows.append(nn.ModuleDict({str(c): Conv(c_in if depth == spans[c] else width, width) for c in ending}))
        self.rows = nn.ModuleList(rows)

    def forward(self, x: Tensor) -> Tensor:
        at: dict[str, Tensor] = {}  # what each column continues from: the join at which it last ended
        joined = x
        for row in self.rows:
            assert isinstance(row, nn.ModuleDict)
            ending = {c: conv for c, conv in row.items() if self.only is None or int(c) == self.only}
            if ending:
                joined = self._join([conv(at.get(c, x)) for c, conv in ending.items()])
                at |= dict.fromkeys(row, joined)
        return joined

    def _join(self, inputs: list[Tensor]) -> Tensor:
        """The mean (n, c, h, w) of the inputs; in training each is dropped with probability `drop_path`, but never all."""
        if self.training and self.only is None and len(inputs) > 1 and self.drop_path:
            kept = torch.rand(len(inputs), device="cpu") >= self.drop_path
            if not kept.any():
                kept[torch.randint(len(inputs), (), device="cpu")] = True
            inputs = [x for x, keep in zip(inputs, kept.tolist(), strict=True) if keep]
        return torch.stack(inputs).mean(0) if len(inputs) > 1 else inputs[0]


class FractalNet(ConvNet):
    """A fractal network. In training mode every forward pass draws whether paths are dropped locally or one column is used."""

    def __init__(self, config: FractalNetConfig, *, num_classes: int = 1000, in_channels: int = 3) -> None:
        self.config = config
        channels = in_channels
        stages: dict[str, nn.Module] = {}
        if config.imagenet:
            channels = 64
            conv = nn.Conv2d(in_channels, channels, 7, 2, 3, bias=False)
            stages["stem"] = sequence(conv=conv, norm=nn.BatchNorm2d(channels), relu=nn.ReLU())  # 1/2
        for s, (width, dropout) in enumerate(zip(config.widths, config.dropout, strict=True)):
            layers: OrderedDict[str, nn.Module] = OrderedDict()
            if s or config.imagenet:
                layers["pool"] = nn.MaxPool2d(3, 2, 1) if not s else nn.MaxPool2d(2)
            layers["fractal"] = Fractal(channels, width, config)
            if dropout:
                layers["dropout"] = nn.Dropout(dropout)
            channels = width
            stages[f"stage{s + 1}"] = nn.Sequential(layers)
        super().__init__(stages, pooled_classifier(channels, num_classes))
        if not config.imagenet:  # the paper's five poolings end at one pixel
            self.head.set_submodule("pool", nn.AdaptiveMaxPool2d(1))
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.xavier_uniform_(module.weight)  # section 4
            if isinstance(module, nn.Linear):
                nn.init.zeros_(module.bias)

    def forward(self, image: Tensor) -> Tensor:
        """Logits (n, num_classes); in training through the paths drawn for this mini-batch."""
        globally = self.training and torch.rand((), device="cpu") < self.config.global_share
        only = int(torch.randint(self.config.columns, (), device="cpu")) if globally else None
        blocks = [module for module in self.modules() if isinstance(module, Fractal)]
        for block in blocks:
            block.only = only
        try:
            return super().forward(image)
        finally:
            for block in blocks:
                block.only = None


def column(model: FractalNet, index: int) -> FractalNet:
    """One column of a fractal network as a plain network with copies of its weights; 0 is the shallowest, -1 the deepest."""
    columns = range(model.config.columns)
    if index not in (*columns, -1):
        raise ValueError(f"there is no column {index}; this network has {len(columns)}, from 0")
    chosen = columns[index]
    plain = copy.deepcopy(model)
    plain.config = replace(model.config, columns=1, drop_path=0.0, global_share=0.0)
    for block in [module for module in plain.modules() if isinstance(module, Fractal)]:
        rows = [row[str(chosen)] for row in block.rows if isinstance(row, nn.ModuleDict) and str(chosen) in row]
        block.rows = nn.ModuleList(nn.ModuleDict({"0": conv}) for conv in rows)
        block.drop_path = 0.0
    return plain


MODEL = FractalNet
