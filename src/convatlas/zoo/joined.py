"""A convolution and the batch norm that follows it as one, where the norm is frozen: (w ∗ x − μ) γ / σ + β = (w γ / σ) ∗ x + (β − μ γ / σ).

The norm then costs one product of the size of the weights instead of three passes over the maps, forward and backward. What is computed
changes by rounding only (about 1e-6 relative), and so do the gradients.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn

Pairs = Sequence[tuple[nn.Conv2d, nn.BatchNorm2d]]
Outputs = Tensor | tuple[Tensor, ...] | dict[str, Tensor]


def followed(module: nn.Module, example: Outputs) -> Pairs:
    """Each convolution with the batch norm that directly follows it, as seen while `example` runs through `module`, in evaluation mode.

    It works for any module that takes what `example` is. None are found where they as one give another output than one by one, because
    something else reads a convolution too; on the `meta` device, where there are no numbers, that is not looked at.
    """
    with torch.no_grad():
        pairs, before = _watched(module, example)
        with joined(pairs):
            outputs = zip(_tensors(module(example)), _tensors(before), strict=True)
        same = all(
            other.is_meta or bool(((one - other).abs() <= 1e-3 * other.abs().max()).all()) for one, other in outputs
        )
    return pairs if same else ()


@contextmanager
def joined(pairs: Pairs) -> Iterator[None]:
    """Within, each convolution does what its norm, in evaluation mode, does to its output, and the norm nothing. Weights stay where and
    what they are, under their names, and train as if the norm were there."""
    try:
        for conv, norm in pairs:
            vars(conv)["_conv_forward"] = partial(
                _both, conv, norm
            )  # what `Conv2d.forward` and those that pad otherwise call
            vars(norm)["forward"] = _unchanged
        yield
    finally:
        for conv, norm in pairs:
            vars(conv).pop("_conv_forward", None)
            vars(norm).pop("forward", None)


def _both(conv: nn.Conv2d, norm: nn.BatchNorm2d, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    assert norm.running_mean is not None and norm.running_var is not None
    scale = (norm.running_var + norm.eps).rsqrt()
    if norm.affine:
        scale = scale * norm.weight
    shift = (norm.bias if norm.affine else 0) - (
        norm.running_mean if bias is None else norm.running_mean - bias
    ) * scale
    return type(conv)._conv_forward(conv, x, weight * scale[:, None, None, None], shift)


def _unchanged(x: Tensor) -> Tensor:
    return x


def _watched(module: nn.Module, example: Outputs) -> tuple[list[tuple[nn.Conv2d, nn.BatchNorm2d]], Outputs]:
    """Each batch norm with the convolution whose output it reads, if both are called once; and what came out."""
    calls: Counter[nn.Module] = Counter()
    convolutions: list[tuple[Tensor, nn.Conv2d]] = []  # each with its output, by whose identity a batch norm finds it
    pairs: list[tuple[nn.Conv2d, nn.BatchNorm2d]] = []

    def after(child: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        calls[child] += 1
        if isinstance(child, nn.Conv2d):
            convolutions.append((output, child))
        elif isinstance(child, nn.BatchNorm2d) and child.running_mean is not None:
            pairs.extend((conv, child) for made, conv in convolutions[-1:] if made is inputs[0])

    hooks = [child.register_forward_hook(after) for child in module.modules()]
    output = module(example)
    for hook in hooks:
        hook.remove()
    return [(conv, norm) for conv, norm in pairs if calls[conv] == calls[norm] == 1], output


def _tensors(output: Outputs) -> list[Tensor]:
    if isinstance(output, Tensor):
        return [output]
    return list(output.values() if isinstance(output, dict) else output)
