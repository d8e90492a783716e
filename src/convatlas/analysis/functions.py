"""What the functions of torch that ran the operations tell of a tape: its attention, and whose products are whose.

Tools differ most over these, because `F.scaled_dot_product_attention` is one operation to some and a handful to others, and a product
of two activations is to some a layer like any other.
"""

from __future__ import annotations

from collections.abc import Collection
from itertools import groupby

from torch.nn import functional as F

from convatlas.analysis.tape import Op, Tape, Value


def function_name(op: Op) -> str:
    """`linear` of `F.linear`; empty where no function of torch ran the operation."""
    return getattr(op.function, "__name__", "")


def multiplies_activations(op: Op, moving: Collection[int]) -> bool:
    """Whether it is a matrix product of two values that both depend on the inputs."""
    factors = [value for value in op.args[-2:] if isinstance(value, Value)]
    return op.kind in ("aten.mm", "aten.bmm", "aten.baddbmm") and all(value.number in moving for value in factors)


def fused_attention(tape: Tape) -> set[int]:
    """Places of the operations that `F.scaled_dot_product_attention` ran.

    `F.multi_head_attention_forward` calls it unless it is asked for the weights; then its softmax is an ordinary one.
    """
    functions = {op.function for op in tape.ops}
    places = {i for i, op in enumerate(tape.ops) if op.function is F.scaled_dot_product_attention}
    if F.multi_head_attention_forward not in functions:
        return places
    for (_, function), group in groupby(enumerate(tape.ops), key=lambda place: (place[1].call, place[1].function)):
        if function is not F.multi_head_attention_forward:
            continue
        run = list(group)
        if any(op.kind == "aten._safe_softmax" for _, op in run):
            places |= {
                i for i, op in run if multiplies_activations(op, tape.varying) or op.kind == "aten._safe_softmax"
            }
    return places
