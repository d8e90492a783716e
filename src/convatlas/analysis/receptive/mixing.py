"""Operations that read many units together: reductions, products of matrices, softmax and norms."""

from __future__ import annotations

from convatlas.analysis.receptive.field import Field, Unknown, unite, whole, without
from convatlas.analysis.receptive.places import ALIKE, MIXED, axes, is_mixed
from convatlas.analysis.receptive.rule import Gates, Result, Rule, Seen, argument, dims_of, each, pointwise
from convatlas.analysis.tape import Op, Value


def reduced(op: Op, seen: Seen, gates: Gates) -> Result:
    """Sums, means, maxima, variances: everything along some dimensions together."""
    value, field = seen[0]
    dims = dims_of(op, value)
    keep = len(op.makes[0].shape) == len(value.shape)
    return whole(field, dims) if keep else without(field, dims)


def attending(op: Op, seen: Seen, gates: Gates) -> Result:
    """Softmax, sorting, the largest few: each unit sees everything along a dimension."""
    return whole(seen[0][1], dims_of(op, seen[0][0]))


def accumulated(op: Op, seen: Seen, gates: Gates) -> Result:
    """Each unit sees everything up to itself."""
    value, field = seen[0]
    dims = dims_of(op, value)
    result = whole(field, dims, sure=False)
    mixed = [dim for dim in dims if axes(field.places[dim]) or is_mixed(field.places[dim])]
    return result._replace(places=tuple(MIXED if d in mixed else tag for d, tag in enumerate(result.places)))


def halved(op: Op, seen: Seen, gates: Gates) -> Result:
    value, field = seen[0]
    dim = argument(op, "dim", -1) % len(value.shape)
    return Unknown("the halves of an axis of the image meet") if axes(field.places[dim]) else field


def multiplied(op: Op, seen: Seen, gates: Gates) -> Result:
    """Products of matrices, with a summand before the factors in `addmm` and `baddbmm`."""
    factors = [arg for arg in op.args if isinstance(arg, Value)]
    if op.kind.startswith(("aten.add", "aten.badd")):
        factors = factors[1:]
    left, right = factors[:2]
    made = op.makes[0]
    known = {value.number: field for value, field in seen}
    parts: list[tuple[Value, Field]] = []
    for value, dims in ((left, [len(left.shape) - 1]), (right, [max(0, len(right.shape) - 2)])):
        if (field := known.get(value.number)) is None:
            continue
        field = without(field, dims)
        if value is left and len(right.shape) > 1:  # rows; the columns come from the right
            field = field._replace(places=(*field.places, ALIKE))
        elif value is right and len(left.shape) > 1:
            field = field._replace(
                places=(*field.places[: len(left.shape) - 2], ALIKE, *field.places[len(left.shape) - 2 :])
            )
        parts.append((made, field))
    for value, field in seen:
        if value not in factors[:2]:
            parts.append((value, field))
    return pointwise(op, parts, gates)


def linear(op: Op, seen: Seen, gates: Gates) -> Result:
    """`linear(value, weight, bias)`: over the last dimension."""
    value, field = seen[0]
    if len(seen) > 1 or value is not op.args[0]:
        return Unknown("the weights of a linear layer depend on the image")
    return whole(field, [len(value.shape) - 1])


def attended(op: Op, seen: Seen, gates: Gates) -> Result:
    """Fused attention(query, key, value): a unit sees its query and all keys and values."""
    tokens = [
        whole(field, [len(value.shape) - 2, len(value.shape) - 1]) for value, field in seen if len(value.shape) > 2
    ]
    if len(tokens) < len(seen):
        return Unknown("attention is given something other than queries, keys and values")
    return unite(tokens)


def normalised(op: Op, seen: Seen, gates: Gates) -> Result:
    """Layer, group, instance and batch norm: with statistics over places each unit sees them all, which is a kind of gate."""
    value, field = seen[0]
    if value is not op.args[0]:
        return Unknown("the weights of a norm depend on the image")
    rank = len(value.shape)
    if "layer_norm" in op.kind or "rms_norm" in op.kind:
        dims = set(range(rank - len(op.args[1]), rank))
    elif "group_norm" in op.kind:
        dims = set(range(1, rank)) if op.args[6] == 1 else set(range(2, rank))
        if axes(field.places[1]):
            return Unknown("a group norm takes an axis of the image for channels")
    else:
        dims = {dim for dim in range(rank) if dim != 1} if _batch_statistics(op) else set()
    everything = whole(field, dims)
    own: Field = field
    if any(axes(field.places[dim]) for dim in dims):
        gates.met = True
        if gates.count:
            own = Field(everything.largest, field.smallest, field.places)
    else:
        own = everything  # of one place: its channels
    if not dims:  # those of training, handed on
        return [own, *[None] * (len(op.makes) - 1)]
    return [own, *(_statistics(made, everything) for made in op.makes[1:])]


def _batch_statistics(op: Op) -> bool:
    """Whether a batch norm takes them from this batch, as instance norm does, which is one with images for channels."""
    if op.kind.endswith(("no_training", "no_update")):
        return False
    if op.kind.endswith("no_stats"):
        return True
    return bool(argument(op, "training", argument(op, "train", True)))


def _statistics(made: Value, everything: Field) -> Field | Unknown:
    if len(made.shape) == len(everything.places):
        return everything
    if any(axes(tag) for tag in everything.places):
        return Unknown("the statistics of a norm are read")
    return everything._replace(places=(MIXED,) * len(made.shape))


_ATTENTION = """
    _scaled_dot_product_flash_attention _scaled_dot_product_efficient_attention _scaled_dot_product_attention_math
    _scaled_dot_product_flash_attention_for_cpu _scaled_dot_product_cudnn_attention scaled_dot_product_attention
"""
RULES: dict[str, Rule] = {
    **each("mean sum nansum prod max min amax amin argmax argmin all any count_nonzero", reduced),
    **each("var std var_mean std_mean norm linalg_vector_norm logsumexp aminmax median mode kthvalue", reduced),
    **each("_softmax _log_softmax _safe_softmax softmax log_softmax", attending),
    **each("sort topk", attending),
    **each("cumsum cumprod cummax cummin _cummax_helper logcumsumexp", accumulated),
    "glu": halved,
    **each("mm bmm addmm baddbmm mv addmv dot", multiplied),
    "linear": linear,
    **each(_ATTENTION, attended),
    **each("native_layer_norm native_group_norm native_batch_norm cudnn_batch_norm", normalised),
    **each("miopen_batch_norm _native_batch_norm_legit _native_batch_norm_legit_no_training", normalised),
    **each("_batch_norm_with_update _batch_norm_no_update _fused_rms_norm", normalised),
}
