"""Fully connected layers as convolutions: the network slides over images larger than its own (Sermanet et al. OverFeat. 2013,
https://arxiv.org/abs/1312.6229; VGG's "dense evaluation")."""

from __future__ import annotations

import copy
import math

from torch import nn

from convatlas.zoo.blocks import sequence
from convatlas.zoo.convnet import ConvNet


def dense(model: ConvNet) -> nn.Sequential:
    """Class scores by place, (n, num_classes, h, w), from images of any larger size: a copy of the network, in evaluation mode.

    At its own input size AlexNet, VGG and their kind give 1×1: the logits. Networks with global pooling give scores whose mean
    over the places is the logits (where the classifier is one linear layer). `ValueError` for a classifier that has no such form.
    """
    copied = copy.deepcopy(model).eval()
    maps = [module.out_channels for module in copied.stages.modules() if isinstance(module, nn.Conv2d)][-1]
    side: int | None = None  # of the maps that the first fully connected layer reads
    blocks: dict[str, nn.Module] = {}
    for name, block in copied.head.named_children():
        if isinstance(block, nn.AdaptiveAvgPool2d | nn.AdaptiveMaxPool2d):
            size = block.output_size
            side = size if isinstance(size, int) else None
        elif isinstance(block, nn.Linear):
            blocks[name] = _convolution(block, side or math.isqrt(block.in_features // maps))
            side = 1
        elif not isinstance(block, nn.Flatten):
            inner = block.get_submodule("fc") if "fc" in dict(block.named_children()) else None
            if isinstance(inner, nn.Linear):
                block.set_submodule("fc", _convolution(inner, side or math.isqrt(inner.in_features // maps)))
                side = 1
            elif any(True for _ in block.buffers()):
                raise ValueError(f"{type(model).__name__}'s head.{name} has no form as a convolution")
            blocks[name] = block
    return sequence(stages=copied.stages, head=sequence(**blocks))


def _convolution(layer: nn.Linear, side: int) -> nn.Conv2d:
    """The layer over a window of `side` × `side` pixels, sharing its weights' memory."""
    conv = nn.Conv2d(layer.in_features // side**2, layer.out_features, side)
    conv.weight = nn.Parameter(layer.weight.detach().view_as(conv.weight))
    conv.bias = layer.bias
    return conv
