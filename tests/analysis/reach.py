"""How far a NaN reaches: what the units of a map see of an image, found by experiment."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from convatlas.analysis.receptive import Field, Interval

Seen = tuple[int, int] | None  # the outermost pixels


def reached(forward: Callable[[Tensor], Tensor], shape: tuple[int, ...], axis: int) -> Tensor:
    """For each pixel along an axis of the image, which units of the map a row of NaN there gets to: (pixels, *shape of the map)."""
    side = shape[2 + axis]
    images = torch.zeros(side, *shape[1:], dtype=torch.float64)
    for pixel in range(side):
        images[pixel].select(1 + axis, pixel).fill_(torch.nan)
    with torch.inference_mode():
        return torch.stack([forward(image[None]).isnan() for image in images])


def extent(rows: Tensor) -> Seen:
    """Of which pixels see: the first and the last."""
    seen = rows.nonzero()
    return (int(seen[0]), int(seen[-1])) if len(seen) else None


def differences(field: Field, axis: int, rows: Tensor) -> list[str]:
    """What is wrong with a field along an axis, given what `reached` found."""
    interval, dim = field.largest[axis], field.dims[axis]
    side = len(rows)
    everything = rows.flatten(1).any(1)
    if not everything.any():  # along another axis, the map is so small that all taps miss it
        return []
    wrong = _compare(interval, "all units", (interval.first, interval.last), extent(everything), interval.sure)
    if interval.fixed or dim is None:
        return wrong
    units = rows.movedim(1 + dim, 1).flatten(2).any(2)
    count = units.shape[1]
    for unit in range(count):
        low, high = interval.at(unit)
        found = extent(units[:, unit])
        central = abs(unit - (count - 1) / 2) <= min(interval.period, count / 5)
        if central and (low > high or (low > 0 and high < side - 1)):
            wrong += _compare(interval, f"unit {unit}", (low, high), found, True)
        elif interval.clips:
            wrong += _compare(
                interval, f"unit {unit}", (max(low, interval.first), min(high, interval.last)), found, interval.sure
            )
    return wrong


def is_seen(field: Field, axis: int, rows: Tensor) -> bool:
    """Whether the middle unit's field ends within the image, so that it is really put to the test."""
    interval, dim = field.largest[axis], field.dims[axis]
    if interval.fixed or dim is None:
        return False
    low, high = interval.at(rows.shape[1 + dim] // 2)
    return 0 < low <= high < len(rows) - 1


def _compare(interval: Interval, what: str, claimed: tuple[int, int], found: Seen, sure: bool) -> list[str]:
    claim = claimed if claimed[0] <= claimed[1] else None
    inside = found is None or (claim is not None and claim[0] <= found[0] and found[1] <= claim[1])
    if not inside:
        return [f"{what}: sees {found}, more than the {claim} of {interval}"]
    if interval.exact and sure and found != claim:
        return [f"{what}: sees {found}, not {claim} as in {interval}"]
    return []
