"""What each operation of a tape costs: mult-adds and FLOPs, two numbers that are often taken for one another.

A *mult-add* is one multiplication with the addition that follows it, in convolutions, matrix products and attention: what papers count,
many under the name of FLOPs. *FLOPs* here are all floating-point operations: two a mult-add and, elsewhere, one for each addition,
multiplication, comparison or function of an element; batch norm in evaluation is two (its scale and its shift), a mean one an input.

Every operation is counted, declared free because it computes nothing (views, copies, padding, indexing), or listed as uncounted. A total
with uncounted operations is partial, and says so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Literal

from torch.utils.flop_counter import flop_registry

from convatlas.analysis.tape import Op, Tape, Value


def _each(text: str, flops: int) -> dict[str, int]:
    return dict.fromkeys(text.split(), flops)


# FLOPs of an output element; a function (tanh, sigmoid, a root) counts one, what is put together from several counts those
_EACH_OUTPUT = {
    **_each(
        "abs add add_ ceil clamp clamp_ clamp_max clamp_min cos div div_ eq erf exp exp_ floor fmod ge gt le log log1p lt",
        1,
    ),
    **_each(
        "bitwise_and bitwise_not bitwise_or logical_and logical_not logical_or maximum minimum mul mul_ ne neg pow", 1
    ),
    **_each(
        "reciprocal relu relu_ remainder round rsqrt rsub sigmoid sigmoid_ sign sin sqrt sub sub_ tanh tanh_ trunc where",
        1,
    ),
    **_each("addcmul addcmul_ addcdiv lerp leaky_relu elu relu6 hardtanh hardtanh_ threshold _prelu_kernel", 2),
    **_each("native_batch_norm _native_batch_norm_legit_no_training silu silu_", 2),
    **_each("hardsigmoid hardsigmoid_", 4),  # + 3, two comparisons, / 6
    **_each("hardswish hardswish_", 5),  # and the product
    **_each("gelu gelu_", 5),  # x · ½ (1 + erf(x / √2))
    **_each("mish", 4),
    **_each("_softmax _log_softmax _safe_softmax", 4),  # maximum, difference, exponential, sum or quotient
    **_each("native_layer_norm native_group_norm", 7),  # mean, difference, square, sum, product, scale, shift
}
_EACH_INPUT = {
    **_each("mean sum prod max min amax amin argmax argmin cumsum any all", 1),
    **_each("_adaptive_avg_pool2d _adaptive_avg_pool3d adaptive_max_pool2d", 1),
    **_each("linalg_vector_norm", 2),
    **_each("var std", 4),  # mean, difference, square, sum
}
_POOLING = {"max_pool2d_with_indices", "avg_pool2d", "avg_pool3d", "max_pool3d_with_indices", "avg_pool1d"}
_FREE = {
    **_each(
        "_reshape_alias _reshape_copy _to_copy _unsafe_view alias arange as_strided cat clone constant_pad_nd contiguous",
        0,
    ),
    **_each(
        "copy copy_ detach diagonal embedding empty empty_like expand expand_copy fill fill_ flip full full_like gather",
        0,
    ),
    **_each(
        "im2col index index_select is_same_size lift_fresh lift_fresh_copy masked_fill narrow native_dropout new_empty",
        0,
    ),
    **_each(
        "new_full new_ones new_zeros ones ones_like permute pixel_shuffle pixel_unshuffle reflection_pad2d repeat", 0
    ),
    **_each(
        "replication_pad2d resize_ roll scalar_tensor select set_ slice slice_scatter split split_with_sizes squeeze stack",
        0,
    ),
    **_each(
        "sym_size t transpose tril triu unbind unfold unsafe_split unsqueeze upsample_nearest2d view view_as_real zero_",
        0,
    ),
    **_each("zeros zeros_like _local_scalar_dense", 0),
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

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.mult_adds + other.mult_adds, self.flops + other.flops, self.uncounted + other.uncounted)


def total(ops: Iterable[Op]) -> Cost:
    """The sum over operations."""
    return sum((cost(op) for op in ops), Cost())


def cost(op: Op) -> Cost:
    """What one operation costs."""
    kind = op.kind.removeprefix("aten.")
    if kind in _FREE:
        return Cost()
    if not op.makes:
        return _unknown(kind)
    made = op.makes[0]
    if kind in _EACH_OUTPUT:
        return Cost(flops=_EACH_OUTPUT[kind] * made.elements)
    if kind in _EACH_INPUT:
        return Cost(flops=_EACH_INPUT[kind] * op.reads[0].elements)
    if kind in _POOLING:
        window = op.args[1] if isinstance(op.args[1], list | tuple) else [op.args[1]]
        size = 1
        for side in window:
            size *= side
        return Cost(flops=size * made.elements)
    if (formula := flop_registry.get(op.func.overloadpacket)) is not None:
        flops = int(_apply(formula, op))
        return Cost(mult_adds=flops // 2, flops=flops)
    return _unknown(kind)


def _apply(formula: Callable[..., int], op: Op) -> int:
    """torch's own formula, which takes shapes where there were tensors."""
    args = [arg.shape if isinstance(arg, Value) else arg for arg in op.args]
    kwargs = {key: arg.shape if isinstance(arg, Value) else arg for key, arg in op.kwargs.items()}
    out = op.makes[0].shape if len(op.makes) == 1 else tuple(value.shape for value in op.makes)
    return formula(*args, **kwargs, out_val=out)


def _unknown(kind: str) -> Cost:
    return Cost(uncounted=Counter([kind]))


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One module, or the operations a module ran itself, over all of its calls."""

    path: str
    kind: str
    input_shapes: tuple[tuple[int, ...], ...]  # of the first call
    output_shapes: tuple[tuple[int, ...], ...]
    calls: int
    parameters: int  # of its own, those of modules inside it apart; shared ones are counted where they are named first
    trainable: int
    buffers: int
    cost: Cost
    activations: int  # elements that it made and that are no views, over all calls
    activation_bytes: int


def layers(tape: Tape) -> list[Layer]:
    """The modules that ran operations themselves or hold parameters, in the order of their first call."""
    own: dict[str, dict[str, Value]] = {}
    for name, value in tape.state.items():
        own.setdefault(name.rpartition(".")[0], {})[name] = value
    ops: dict[str, list[Op]] = {}
    for op in tape.ops:
        ops.setdefault(tape.calls[op.call].path, []).append(op)
    rows: list[Layer] = []
    for path in dict.fromkeys(call.path for call in tape.calls):
        calls = [call for call in tape.calls if call.path == path]
        held = own.get(path, {})
        if not held and path not in ops:
            continue
        parameters = {name: value for name, value in held.items() if value.origin == "parameter"}
        made = [value for op in ops.get(path, ()) for value in op.makes if not _is_view(op, value)]
        rows.append(
            Layer(
                path=path,
                kind=calls[0].kind,
                input_shapes=tuple(value.shape for value in calls[0].inputs),
                output_shapes=tuple(value.shape for value in calls[0].outputs),
                calls=len(calls),
                parameters=sum(value.elements for value in parameters.values()),
                trainable=sum(value.elements for name, value in parameters.items() if name in tape.trainable),
                buffers=sum(value.elements for value in held.values() if value.origin == "buffer"),
                cost=total(ops.get(path, ())),
                activations=sum(value.elements for value in made),
                activation_bytes=sum(value.bytes_ for value in made),
            )
        )
    return rows


def _is_view(op: Op, value: Value) -> bool:
    return any(value.storage == read.storage for read in op.reads)
