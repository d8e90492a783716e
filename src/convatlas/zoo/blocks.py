"""What three families or more share. A block that only two of them have stays with each."""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn
from torch.nn import functional as F


def sequence(**modules: nn.Module) -> nn.Sequential:
    """A sequence of modules by name, in the order given."""
    return nn.Sequential(OrderedDict(modules))


def pooled_classifier(channels: int, num_classes: int, *, dropout: float = 0.0) -> dict[str, nn.Module]:
    """The head of networks since NiN: the mean of each map, then one fully connected layer (none where `num_classes` is 0)."""
    head: dict[str, nn.Module] = {"pool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten()}
    if dropout:
        head["dropout"] = nn.Dropout(dropout)
    if num_classes:
        head["fc"] = nn.Linear(channels, num_classes)
    return head


class Hidden(nn.Module):
    """A hidden layer of a classifier: (n, c_in) to (n, c_out), with dropout in training at its output or, as some have it, its input."""

    def __init__(
        self, c_in: int, c_out: int, *, dropout: float, activation: nn.Module | None = None, dropout_first: bool = False
    ) -> None:
        super().__init__()
        self.fc = nn.Linear(c_in, c_out)
        self.activation = activation or nn.ReLU()
        self.dropout = nn.Dropout(dropout)
        self.dropout_first = dropout_first

    def forward(self, x: Tensor) -> Tensor:
        if self.dropout_first:
            return self.activation(self.fc(self.dropout(x)))
        return self.dropout(self.activation(self.fc(x)))


class SamePadConv2d(nn.Conv2d):
    """A convolution padded as TensorFlow's "same": the output has ceil(side / stride) pixels, the odd pixel of padding comes last."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(same_padded(input, self.kernel_size[0], self.stride[0]))


def same_padded(x: Tensor, kernel: int, stride: int, value: float = 0.0) -> Tensor:
    """`x` (n, c, h, w) padded for a square kernel as TensorFlow's "same" has it."""
    pads: list[int] = []
    for side in (x.shape[3], x.shape[2]):  # width first, as F.pad wants it
        total = max((-(-side // stride) - 1) * stride + kernel - side, 0)
        pads += [total // 2, total - total // 2]
    return F.pad(x, pads, value=value) if any(pads) else x
