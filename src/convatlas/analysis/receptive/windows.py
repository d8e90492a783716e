"""Operations that move windows over a map: convolutions, poolings, interpolation, and the exchange of channels for places."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from convatlas.analysis.receptive.field import Field, Unknown, along, unite, whole
from convatlas.analysis.receptive.interval import Interval, transposed, window
from convatlas.analysis.receptive.places import ALIKE, MIXED, axes, is_mixed, retagged
from convatlas.analysis.receptive.resample import adaptive, fused, interpolated, repeated, smoothed
from convatlas.analysis.receptive.rule import Gates, Result, Rule, Seen, argument, each
from convatlas.analysis.tape import Op, Value

Change = Callable[[Interval], Interval]
Move = Callable[
    [int, int, int], Change | None
]  # what the i-th axis of a window does, with so many units in and out; None: nothing


def _moved(field: Field, value: Value, made: Value, count: int, move: Move) -> Field | Unknown:
    """With a window moved over the last `count` dimensions."""
    rank = len(value.shape)
    for i in range(count):
        dim = rank - count + i
        change = move(i, value.shape[dim], made.shape[dim])
        if change is None:
            continue
        field = fused(field, dim)
        if isinstance(field.places[dim], tuple):
            return Unknown("a window is moved over several axes merged into one")
        field = along(field, dim, change)
    return field


def _window(
    kernel: int, stride: int, padding: int, dilation: int, units: int, out: int, rule: Any = window
) -> Change | None:
    if kernel == stride == 1 and not padding and units == out:
        return None
    return lambda interval: rule(interval, kernel, stride, padding, dilation, units, out)


def _of(given: Any, i: int, default: int) -> int:
    """The i-th of a list, which may be one number for all axes, or left out."""
    if given is None or given == []:
        return default
    return given[i if len(given) > 1 else 0] if isinstance(given, list | tuple) else given


def convolved(op: Op, seen: Seen, gates: Gates) -> Result:
    value, weight, _, stride, padding, dilation, turned, _, groups = op.args
    if seen[0][0].number != value.number:
        return Unknown("the image makes the weights of a convolution over something else")
    field, made = seen[0][1], op.makes[0]
    kernel = weight.shape[2:]

    def move(i: int, units: int, out: int) -> Change | None:
        sizes = kernel[i], _of(stride, i, 1), _of(padding, i, 0), _of(dilation, i, 1)
        return _window(*sizes, units, out, transposed if turned else window)

    channels = field.places[1]
    if groups == 1:
        field = whole(field, [1]) if channels != ALIKE else field
    elif axes(channels):
        return Unknown("a convolution in groups takes an axis of the image for channels")
    result = _moved(field, value, made, len(kernel), move)
    if len(seen) == 1 or isinstance(result, Unknown):
        return result
    # Weights made from the image: every unit sees what they see, which is a gate if that does not depend on the place.
    rank = len(made.shape)
    weights = [whole(other, range(len(number.shape)))._replace(places=(ALIKE,) * rank) for number, other in seen[1:]]
    gates.met = True
    return unite([result, *weights]) if gates.count else result


def pooled(op: Op, seen: Seen, gates: Gates) -> Result:
    value, field = seen[0]
    kind = op.kind
    kernel, stride, padding = (op.args[i] if i < len(op.args) else None for i in (1, 2, 3))
    dilation = op.args[4] if "max" in kind and len(op.args) > 4 else None

    def move(i: int, units: int, out: int) -> Change | None:
        side = _of(kernel, i, 1)
        return _window(side, _of(stride, i, side), _of(padding, i, 0), _of(dilation, i, 1), units, out)

    return _moved(field, value, op.makes[0], _axes_of(kind), move)


def adapted(op: Op, seen: Seen, gates: Gates) -> Result:
    value, field = seen[0]
    return _moved(field, value, op.makes[0], _axes_of(op.kind), lambda i, n, out: partial(adaptive, units=n, out=out))


def _axes_of(kind: str) -> int:
    """`aten.avg_pool2d` has two."""
    return int(kind[kind.index("pool") + 4])


def enlarged(op: Op, seen: Seen, gates: Gates) -> Result:
    """Interpolation, which may also make smaller."""
    value, field = seen[0]
    name = op.kind.removeprefix("aten.").lstrip("_").removeprefix("upsample_")
    smooth = name.endswith("_aa")
    mode = name.removesuffix("_aa")[:-2]
    count = len(value.shape) - 2
    corners = bool(argument(op, "align_corners", False))
    named = [
        argument(op, name) for name in (("scales",) if count == 1 else ("scales_d", "scales_h", "scales_w")[-count:])
    ]
    scales: Sequence[float | None] = argument(op, "scale_factors") or named

    def move(i: int, units: int, out: int) -> Change:
        if smooth:
            return partial(smoothed, mode=mode, units=units, out=out, align_corners=corners)
        return partial(interpolated, mode=mode, units=units, out=out, scale=scales[i], align_corners=corners)

    return _moved(field, value, op.makes[0], count, move)


def shuffled(op: Op, seen: Seen, gates: Gates) -> Result:
    """`pixel_shuffle(value, r)`: r² channels become r × r places."""
    value, field = seen[0]
    if axes(field.places[-3]):
        return Unknown("an axis of the image is taken for channels and shuffled")
    made = _moved(field, value, op.makes[0], 2, lambda i, units, out: partial(repeated, times=op.args[1], units=units))
    return made.bound() if isinstance(made, Field) and is_mixed(field.places[-3]) else made


def unshuffled(op: Op, seen: Seen, gates: Gates) -> Result:
    """`pixel_unshuffle(value, r)`: r × r places become r² channels, each of which sees one of them."""
    value, field = seen[0]
    r, dim = op.args[1], len(value.shape) - 3
    if axes(field.places[dim]):
        return Unknown("an axis of the image is taken for channels and shuffled")
    made = _moved(field, value, op.makes[0], 2, lambda i, n, out: lambda interval: window(interval, r, r, 0, 1, n, out))
    return made._replace(places=retagged(made.places, dim, MIXED)) if isinstance(made, Field) else made


def channels_shuffled(op: Op, seen: Seen, gates: Gates) -> Result:
    field = seen[0][1]
    return Unknown("an axis of the image is taken for channels and shuffled") if axes(field.places[1]) else field


def unrolled(op: Op, seen: Seen, gates: Gates) -> Result:
    """`im2col(value, kernel, dilation, padding, stride)`: windows become channels, places one dimension."""
    value, field = seen[0]
    kernel, dilation, padding, stride = op.args[1:5]
    if len(value.shape) != 4 or axes(field.places[1]) or any(isinstance(tag, tuple) for tag in field.places):
        return Unknown("windows are taken of several axes merged into one")
    parts: list[tuple[int, int]] = []
    for i, dim in enumerate((2, 3)):
        units = value.shape[dim]
        out = (units + 2 * padding[i] - dilation[i] * (kernel[i] - 1) - 1) // stride[i] + 1
        sizes = (kernel[i], stride[i], padding[i], dilation[i], units, out)
        field = along(field, dim, lambda interval, sizes=sizes: window(interval, *sizes))
        parts.append((out, field.places[dim]))  # pyright: ignore[reportArgumentType] - no tuples: see above
    if any(size == 1 for size, _ in parts):
        return Unknown("a single window is taken of a map")
    return field._replace(places=(field.places[0], MIXED, tuple(parts)))


def unfolded(op: Op, seen: Seen, gates: Gates) -> Result:
    """`unfold(value, dim, size, step)`: windows along one dimension, laid out along a new one."""
    value, field = seen[0]
    dim, size, step = op.args[1:4]
    dim %= len(value.shape)
    tag, units, out = field.places[dim], value.shape[dim], op.makes[0].shape[dim]
    if isinstance(tag, tuple):
        return Unknown("windows are taken of several axes merged into one")
    field = along(field, dim, lambda interval: window(interval, size, step, 0, 1, units, out))
    return field._replace(places=(*field.places, ALIKE if tag == ALIKE else MIXED))


RULES: dict[str, Rule] = {
    "convolution": convolved,
    **each("max_pool2d_with_indices max_pool3d_with_indices avg_pool1d avg_pool2d avg_pool3d", pooled),
    **each("max_pool1d max_pool2d max_pool3d max_pool1d_with_indices", pooled),
    **each("_adaptive_avg_pool2d _adaptive_avg_pool3d adaptive_max_pool2d adaptive_max_pool3d", adapted),
    **each("adaptive_avg_pool1d adaptive_max_pool1d adaptive_avg_pool2d adaptive_avg_pool3d", adapted),
    **each("upsample_nearest1d upsample_nearest2d upsample_nearest3d upsample_linear1d upsample_bilinear2d", enlarged),
    **each("upsample_trilinear3d upsample_bicubic2d _upsample_bilinear2d_aa _upsample_bicubic2d_aa", enlarged),
    **each("_upsample_nearest_exact1d _upsample_nearest_exact2d _upsample_nearest_exact3d", enlarged),
    "pixel_shuffle": shuffled,
    "pixel_unshuffle": unshuffled,
    "channel_shuffle": channels_shuffled,
    "native_channel_shuffle": channels_shuffled,
    "im2col": unrolled,
    "unfold": unfolded,
}
