"""What the commonest operations make on `meta` tensors, worked out here because torch's own way there is slow.

torch infers shapes of `meta` tensors in Python, for some operations in half a millisecond, and imports its compiler on the way, which
takes seconds. Each rule here answers for the plain case alone (contiguous tensors of one floating-point type) and declines anything
else with None: then, and wherever shapes do not fit, torch's own kernel runs and says what is wrong. A test compares both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

aten = torch.ops.aten
Shape = Sequence[int]
Rule = Callable[..., "Sequence[Shape] | None"]


def outputs(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor | tuple[Tensor, ...] | None:
    """New `meta` tensors as `func(*args, **kwargs)` would make, or None where no rule answers."""
    rule = RULES.get(func)
    if rule is None or kwargs:
        return None
    tensors = [x for arg in args for x in (arg if isinstance(arg, list | tuple) else (arg,)) if isinstance(x, Tensor)]
    dtype = tensors[0].dtype
    if func is aten.add_.Tensor and _counts(*args):
        return args[0]
    if not dtype.is_floating_point or any(x.dtype != dtype or not x.is_meta for x in tensors):
        return None  # what a network makes on the CPU holds numbers that it may ask for
    if rule not in (_matrices, _in_place) and not all(
        _is_in_order(x) if rule is _convolution else x.is_contiguous() for x in tensors
    ):
        return None
    shapes = rule(*args)
    if shapes is None:
        return None
    if rule is _in_place:
        return args[0]
    dtypes = (dtype,) * len(shapes)
    if rule in (_max_pool, _adaptive_max_pool):
        dtypes = (dtype, torch.int64)
    elif rule is _batch_norm and dtype.itemsize < 4:
        dtypes = (dtype, torch.float32, torch.float32)  # statistics are kept in the type in which sums are made
    made = tuple(torch.empty(tuple(s), dtype=d, device="meta") for s, d in zip(shapes, dtypes, strict=True))
    return made[0] if len(made) == 1 else made


def _counts(counter: Tensor, more: Any) -> bool:
    """Whether a whole number is added to a counter, as batch norm keeps one of its batches."""
    return counter.is_meta and counter.dtype == torch.int64 and not counter.dim() and type(more) is int


def _is_in_order(x: Tensor) -> bool:
    """Contiguous, or a part of what is: earlier axes have longer steps."""
    steps = x.stride()
    return all(a >= b for a, b in pairwise(steps))


def _same(x: Tensor, *_: Any) -> Sequence[Shape]:
    return (x.shape,)


def _broadcast(a: Tensor, b: Any, *_: Any) -> Sequence[Shape] | None:
    if not isinstance(b, Tensor):
        return None if isinstance(b, complex) else (a.shape,)
    if a.shape == b.shape:
        return (a.shape,)
    axes = max(a.dim(), b.dim())
    one, other = ((*(1,) * (axes - x.dim()), *x.shape) for x in (a, b))
    if any(m != n and 1 not in (m, n) for m, n in zip(one, other, strict=True)):
        return None
    return ([n if m == 1 else m for m, n in zip(one, other, strict=True)],)


def _in_place(x: Tensor, *others: Any) -> Sequence[Shape] | None:
    """On `meta` there is nothing to write: the tensor is what is made, if all others have its shape."""
    if any(step == 0 and side > 1 for step, side in zip(x.stride(), x.shape, strict=True)):
        return None  # several places in one: torch refuses
    return (x.shape,) if all(not isinstance(y, Tensor) or y.shape == x.shape for y in others) else None


def _batch_norm(x: Tensor, weight: Any, bias: Any, mean: Any, var: Any, training: bool, *_: Any) -> Any:
    channels = x.shape[1] if x.dim() > 1 else 0
    if x.dim() < 2 or any(t is not None and t.shape != (channels,) for t in (weight, bias, mean, var)):
        return None
    if training and x.numel() == channels:
        return None
    kept = (channels,) if training else (0,)  # as on CPU and CUDA; torch's kernel for meta makes them in evaluation too
    return (x.shape, kept, kept)


def _convolution(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Shape,
    padding: Shape,
    dilation: Shape,
    transposed: bool,
    output_padding: Shape,
    groups: int,
) -> Sequence[Shape] | None:
    axes = x.dim() - 2
    if transposed or axes < 1 or weight.dim() != x.dim() or groups < 1 or weight.shape[0] % groups:
        return None
    if x.shape[1] != weight.shape[1] * groups or (bias is not None and bias.shape != weight.shape[:1]):
        return None
    sides = _windows(x.shape[2:], weight.shape[2:], stride, padding, dilation)
    return None if sides is None else ((x.shape[0], weight.shape[0], *sides),)


def _windows(
    sides: Shape, kernel: Shape, stride: Shape, padding: Shape, dilation: Shape, *, ceil: bool = False
) -> list[int] | None:
    """The sides of the map that a window makes which is moved over a map."""
    made = []
    for axis, side in enumerate(sides):
        k, s, p, d = (given[axis if len(given) > 1 else 0] for given in (kernel, stride, padding, dilation))
        if min(k, s, d, side) < 1 or p < 0:
            return None
        places = (side + 2 * p - d * (k - 1) - 1 + (s - 1 if ceil else 0)) // s + 1
        made.append(places - 1 if ceil and (places - 1) * s >= side + p else places)  # a window must begin in the map
    return made if min(made) > 0 else None


def _max_pool(
    x: Tensor, kernel: Shape, stride: Shape = (), padding: Shape = (0,), dilation: Shape = (1,), ceil: bool = False
) -> Sequence[Shape] | None:
    shapes = _pool(x, kernel, stride, padding, dilation, ceil=ceil)
    return shapes and (*shapes, *shapes)  # and the indices


def _average_pool(
    x: Tensor, kernel: Shape, stride: Shape = (), padding: Shape = (0,), ceil: bool = False, *_: Any, axes: int = 2
) -> Sequence[Shape] | None:
    return _pool(x, kernel, stride, padding, (1,), ceil=ceil, axes=axes)


def _pool(
    x: Tensor, kernel: Shape, stride: Shape, padding: Shape, dilation: Shape, *, ceil: bool, axes: int = 2
) -> Sequence[Shape] | None:
    if x.dim() != axes + 2 or 2 * max(padding) > min(kernel) or (axes == 3 and min(x.shape[2:]) < max(kernel)):
        return None
    sides = _windows(x.shape[2:], kernel, stride or kernel, padding, dilation, ceil=ceil)
    return None if sides is None else ((*x.shape[:2], *sides),)


def _adaptive_pool(x: Tensor, sides: Shape) -> Sequence[Shape] | None:
    if x.dim() != 4 or len(sides) != 2 or min(sides) < 1 or min(x.shape) < 1:
        return None
    return ((*x.shape[:2], *sides),)


def _adaptive_max_pool(x: Tensor, sides: Shape) -> Sequence[Shape] | None:
    shapes = _adaptive_pool(x, sides)
    return shapes and (*shapes, *shapes)


def _matrices(*args: Tensor) -> Sequence[Shape] | None:
    """`addmm(bias, a, b)` and `mm(a, b)`, however they lie in memory."""
    *bias, a, b = args
    if a.dim() != 2 or b.dim() != 2 or a.shape[1] != b.shape[0]:
        return None
    if bias and bias[0].shape not in ((b.shape[1],), (1,)):
        return None
    return ((a.shape[0], b.shape[1]),)


def _cat(tensors: Sequence[Tensor], dim: int = 0) -> Sequence[Shape] | None:
    first = tensors[0]
    if not -first.dim() <= dim < first.dim():
        return None
    dim %= first.dim()
    rest = [(*t.shape[:dim], *t.shape[dim + 1 :]) for t in tensors]
    if any(other != rest[0] or t.dim() != first.dim() for other, t in zip(rest, tensors, strict=True)):
        return None
    return ((*first.shape[:dim], sum(t.shape[dim] for t in tensors), *first.shape[dim + 1 :]),)


def _stack(tensors: Sequence[Tensor], dim: int = 0) -> Sequence[Shape] | None:
    shape = tensors[0].shape
    if any(t.shape != shape for t in tensors) or not -len(shape) <= dim + 1 <= len(shape) + 1:
        return None
    dim %= len(shape) + 1
    return ((*shape[:dim], len(tensors), *shape[dim:]),)


def _mean(x: Tensor, dims: Shape | None = None, keepdim: bool = False) -> Sequence[Shape] | None:
    if not dims or any(not -x.dim() <= dim < x.dim() for dim in dims):
        return None
    gone = {dim % x.dim() for dim in dims}
    if len(gone) < len(dims):
        return None
    return ([1 if axis in gone else side for axis, side in enumerate(x.shape) if keepdim or axis not in gone],)


RULES: dict[Any, Rule] = {
    **dict.fromkeys(
        (
            aten.relu.default,
            aten.sigmoid.default,
            aten.tanh.default,
            aten.silu.default,
            aten.gelu.default,
            aten.hardswish.default,
            aten.hardsigmoid.default,
            aten.hardtanh.default,
            aten.leaky_relu.default,
            aten.elu.default,
            aten.exp.default,
            aten.sqrt.default,
            aten.rsqrt.default,
            aten.pow.Tensor_Scalar,
            aten.empty_like.default,
        ),
        _same,
    ),
    **dict.fromkeys(
        (aten.add.Tensor, aten.sub.Tensor, aten.mul.Tensor, aten.div.Tensor),
        _broadcast,
    ),
    aten.native_batch_norm.default: _batch_norm,
    aten.convolution.default: _convolution,
    aten.max_pool2d_with_indices.default: _max_pool,
    aten.avg_pool2d.default: _average_pool,
    aten.avg_pool3d.default: partial(_average_pool, axes=3),
    aten._adaptive_avg_pool2d.default: _adaptive_pool,
    aten.adaptive_max_pool2d.default: _adaptive_max_pool,
    aten.addmm.default: _matrices,
    aten.mm.default: _matrices,
    **dict.fromkeys(
        (
            aten.relu_.default,
            aten.sigmoid_.default,
            aten.tanh_.default,
            aten.silu_.default,
            aten.hardswish_.default,
            aten.hardtanh_.default,
            aten.leaky_relu_.default,
            aten.add_.Tensor,
            aten.mul_.Tensor,
            aten.div_.Scalar,
            aten.bernoulli_.float,
        ),
        _in_place,
    ),
    aten.cat.default: _cat,
    aten.stack.default: _stack,
    aten.mean.dim: _mean,
}
