"""What each operation of a tape costs: mult-adds and FLOPs, two numbers that are often taken for one another.

A *mult-add* is one multiplication with the addition that follows it, in convolutions, matrix products and attention: what papers count,
many under the name of FLOPs. *FLOPs* here are all floating-point operations: two a mult-add and, elsewhere, one for each addition,
multiplication, comparison or function of an element; batch norm in evaluation is two (its scale and its shift), a mean one an input.

Every operation is counted, declared free because it computes nothing (views, copies, padding, indexing), or listed as uncounted. A total
with uncounted operations is partial, and says so.
"""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from math import prod
from typing import Any, Literal

from torch.utils.flop_counter import flop_registry

from convatlas.analysis.tape import Op, Value

# FLOPs of each element that is made: a function (a root, tanh, a logistic) counts one, what is put together from several counts those.
# An operation in place (`add_`) goes by the name without the line.
_OF_OUTPUT = {
    1: """abs add atan atan2 bitwise_and bitwise_not bitwise_or bitwise_xor ceil clamp clamp_max clamp_min cos cosh div eq erf exp
        exp2 expm1 floor floor_divide fmod ge gt le log log10 log1p log2 logical_and logical_not logical_or logical_xor lt maximum
        minimum mul ne neg pow reciprocal relu remainder round rsqrt rsub sigmoid sign sin sinh sqrt square sub tan tanh threshold
        trunc""",
    2: "_prelu_kernel addcdiv addcmul glu hardshrink hardtanh leaky_relu silu softplus softshrink",
    3: "_weight_norm_interface elu lerp upsample_linear1d",  # elu: a comparison, exp − 1, a product
    4: "_fused_rms_norm hardsigmoid mish",  # hardsigmoid: + 3, two comparisons, / 6
    5: "_log_softmax _safe_softmax _softmax gelu hardswish",  # softmax: maximum, difference, exponential, sum, quotient
    7: """native_group_norm native_layer_norm
        upsample_bilinear2d""",  # norms: mean, difference, square, sum, three to scale and shift; a look-up: 4 products, their sum
    15: "upsample_trilinear3d",
    31: "upsample_bicubic2d",
}
# and of each element that is read
_OF_INPUT = {
    1: "all amax amin any argmax argmin col2im cumprod cumsum max mean min prod sum",
    2: "linalg_vector_norm",
    4: "std std_mean var var_mean",  # mean, difference, square, sum
}
# Gives what there was before in another shape, place or type, or a constant, or only asks of what kind it is: computes nothing.
_FREE = """_upsample_nearest_exact1d _upsample_nearest_exact2d _upsample_nearest_exact3d
    prim.device profiler._record_function_enter_new profiler._record_function_exit
    _local_scalar_dense _pack_padded_sequence _reshape_alias _reshape_copy _to_copy _unsafe_view alias arange
    as_strided cat clone constant_pad_nd contiguous copy detach diag_embed diagonal embedding empty empty_like
    empty_permuted empty_strided expand expand_copy eye fill flip full full_like gather im2col index index_fill index_put
    index_select is_same_size lift_fresh lift_fresh_copy linspace masked_fill narrow native_dropout new_empty
    new_empty_strided new_full new_ones new_zeros ones ones_like permute pixel_shuffle pixel_unshuffle
    reflection_pad1d reflection_pad2d reflection_pad3d repeat replication_pad1d replication_pad2d replication_pad3d
    resize roll scalar_tensor scatter select select_scatter set slice slice_scatter split split_with_sizes squeeze
    stack sym_size t transpose tril triu unbind unfold unsafe_split unsafe_split_with_sizes unsqueeze
    upsample_nearest1d upsample_nearest2d upsample_nearest3d view view_as_complex view_as_real where zero zeros
    zeros_like"""
# Number of axes of the window
_POOLING = {"avg_pool2d": 2, "avg_pool3d": 3, "max_pool2d_with_indices": 2, "max_pool3d_with_indices": 3}
_ADAPTIVE = {"_adaptive_avg_pool2d": 2, "_adaptive_avg_pool3d": 3, "adaptive_max_pool2d": 2, "adaptive_max_pool3d": 3}
_VECTORS = {"dot", "vdot", "mv", "addmv"}  # products that torch has no formula for: each weight or element is used once


def _each_element(groups: dict[int, str], elements: Callable[[Op], int]) -> dict[str, Callable[[Op], int]]:
    return {kind: lambda op, n=flops: n * elements(op) for flops, kinds in groups.items() for kind in kinds.split()}


def _pooling(op: Op, axes: int) -> int:
    """One for each element of each window."""
    window = op.args[1] if isinstance(op.args[1], list | tuple) else [op.args[1]]
    return op.makes[0].elements * prod(window) ** (axes if len(window) == 1 else 1)


def _adaptive_pooling(op: Op, axes: int) -> int:
    """Output j covers the elements from ⌊j · size / out⌋ to ⌈(j + 1) · size / out⌉: windows may overlap."""
    given, made = op.reads[0].shape, op.makes[0].shape
    covered = 1
    for size, out in zip(given[-axes:], made[-axes:], strict=True):
        covered *= sum(-(-(j + 1) * size // out) - j * size // out for j in range(out))
    return prod(given[:-axes]) * covered


def _batch_norm(op: Op) -> int:
    """A scale and a shift, whose factors are known; where they come from the batch itself, as much as any norm."""
    from_the_batch = op.kind == "aten.native_batch_norm" and op.args[5]
    return (7 if from_the_batch else 2) * op.reads[0].elements


# FLOPs of all but matrix products and convolutions, which torch has formulas for
_RULES: dict[str, Callable[[Op], int]] = {
    **_each_element(_OF_OUTPUT, lambda op: op.makes[0].elements),
    **_each_element(_OF_INPUT, lambda op: op.reads[0].elements),
    **_each_element({0: _FREE}, lambda op: 0),
    **{kind: lambda op, n=axes: _pooling(op, n) for kind, axes in _POOLING.items()},
    **{kind: lambda op, n=axes: _adaptive_pooling(op, n) for kind, axes in _ADAPTIVE.items()},
    **dict.fromkeys(("native_batch_norm", "_native_batch_norm_legit_no_training"), _batch_norm),
}


@dataclass(frozen=True, slots=True)
class Cost:
    """What an operation costs; sums of costs are costs."""

    mult_adds: int = 0
    flops: int = 0
    uncounted: Counter[str] = field(default_factory=Counter)  # kinds of operations that no rule covers

    @property
    def status(self) -> Literal["complete", "partial"]:
        return "partial" if self.uncounted else "complete"

    def __str__(self) -> str:
        """Both numbers; those of a partial cost say that they are a lower bound and what is missing."""
        numbers = f"{self.mult_adds:,} mult-adds, {self.flops:,} FLOPs"
        if not self.uncounted:
            return numbers
        missing = ", ".join(f"{number} {kind}" for kind, number in self.uncounted.most_common())
        return f"at least {numbers} (partial: no rule for {missing})"


def total(ops: Iterable[Op]) -> Cost:
    """The sum over operations."""
    return added(cost(op) for op in ops)


def added(costs: Iterable[Cost]) -> Cost:
    """Their sum, without a cost in between for each."""
    mult_adds = flops = 0
    uncounted: Counter[str] = Counter()
    for each in costs:
        mult_adds += each.mult_adds
        flops += each.flops
        if each.uncounted:
            uncounted += each.uncounted
    return Cost(mult_adds, flops, uncounted)


def cost(op: Op) -> Cost:
    """What one operation costs."""
    found = op.known.get("cost")
    if found is None:
        found = op.known["cost"] = _cost(op)
    return found


def _cost(op: Op) -> Cost:
    kind = op.kind.removeprefix("aten.").removesuffix("_")
    if (rule := _RULES.get(kind)) is not None:
        return Cost(flops=rule(op) if _computes_in_floats(op) else 0)
    if kind in _VECTORS:
        products = max(value.elements for value in op.reads)
        return Cost(mult_adds=products, flops=2 * products)
    if (formula := flop_registry.get(op.func.overloadpacket)) is not None:
        flops = int(_apply(formula, op))
        return Cost(mult_adds=flops // 2, flops=flops)
    return Cost(uncounted=Counter([kind]))


def _computes_in_floats(op: Op) -> bool:
    """Not on places and masks, as where an index is worked out."""
    return any(value.dtype.is_floating_point or value.dtype.is_complex for value in (*op.reads, *op.makes))


def _apply(formula: Callable[..., int], op: Op) -> int:
    """torch's own formula, which takes shapes where there were tensors."""

    def shaped(arg: Any) -> Any:
        return arg.shape if isinstance(arg, Value) else arg

    out = op.makes[0].shape if len(op.makes) == 1 else tuple(value.shape for value in op.makes)
    plain = inspect.unwrap(
        formula
    )  # past the wrapper that looks for tensors in every argument, of which there are none
    told = {"out_val" if plain is formula else "out_shape": out}
    return plain(*map(shaped, op.args), **{key: shaped(arg) for key, arg in op.kwargs.items()}, **told)
