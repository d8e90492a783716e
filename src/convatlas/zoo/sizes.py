"""Which image sizes a network takes, measured: a twin of it on the `meta` device (no memory, no arithmetic) runs on candidates."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from convatlas.zoo.convnet import ConvNet

LARGEST = 512  # the largest side that is tried


def side_range(model: ConvNet) -> tuple[int, int | None]:
    """The least and the largest side in pixels of the square images that the network takes; None where there is no largest."""
    twin, channels = _twin(model)

    def takes(side: int) -> bool:
        return _runs(twin, channels, side, side)

    if takes(LARGEST):
        # what is too small fails in the first layers, so that doubling costs little more than the one pass that succeeds
        enough = next((1 << power for power in range(LARGEST.bit_length()) if takes(1 << power)), LARGEST)
        return _border(enough // 2, enough, takes), None
    one = next(side for side in range(0, LARGEST, 4) if takes(side))  # a classifier for maps of one size only
    return _border(0, one, takes), _border(LARGEST, one, takes)


def misfit(model: ConvNet, image: Tensor) -> str:
    """Why the network cannot take `image`, in words with the sizes that it does; empty where the image is not at fault."""
    twin, channels = _twin(model)
    kind = type(model).__name__
    if image.ndim != 4 or image.shape[1] != channels:
        return f"{kind} takes images of shape (n, {channels}, height, width), not {tuple(image.shape)}"
    height, width = image.shape[2:]
    if _runs(twin, channels, height, width):
        return ""
    least, most = side_range(model)
    sides = f"from {least} to {most}" if most else f"of at least {least}"
    return f"{kind} takes images with sides {sides} pixels, not {height}×{width}"


def _border(outside: int, inside: int, takes: Callable[[int], bool]) -> int:
    """The last side that still fits on the way from one that does to one that does not, by halving."""
    while abs(inside - outside) > 1:
        middle = (inside + outside) // 2
        inside, outside = (middle, outside) if takes(middle) else (inside, middle)
    return inside


def _twin(model: ConvNet) -> tuple[nn.Module, int]:
    """The same network without weights, and its number of input channels."""
    channels = next(module.in_channels for module in model.modules() if isinstance(module, nn.Conv2d))
    family: Any = type(model)
    with torch.device("meta"):
        twin = family(model.config, num_classes=2, in_channels=channels).eval()
    return nn.Sequential(twin.stages, twin.head), channels


def _runs(module: nn.Module, channels: int, height: int, width: int) -> bool:
    try:
        module(torch.empty(1, channels, height, width, device="meta"))
    except RuntimeError:
        return False
    return True
