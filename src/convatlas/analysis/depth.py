"""How deep a network is: the layers with weights on the longest path from the image, as papers count.

A layer with weights is a convolution or a matrix product with a parameter; normalisation is not one, nor is pooling. Parallel branches
count as the longest of them. A gate (squeeze-and-excitation: a product with a map of one pixel) does not count, nor does what a forward
pass does not reach, as GoogLeNet's auxiliary classifiers.
"""

from __future__ import annotations

from convatlas.analysis.tape import Op, Tape, Value

_WEIGHTED = {"convolution", "addmm", "mm", "bmm", "baddbmm", "linear"}


def depths(tape: Tape) -> dict[int, int]:
    """Of every value, by its number: the layers with weights on the longest path to it."""
    weights = {value.storage for value in tape.state.values() if value.origin == "parameter" and len(value.shape) > 1}
    found: dict[int, int] = {}
    for op in tape.ops:
        through = _without_gates(op) if op.kind == "aten.mul" else op.reads
        deepest = max((found.get(value.number, 0) for value in through), default=0)
        reached = deepest + _is_weighted(op, weights)
        for made in op.makes:
            found[made.number] = reached
    return found


def _without_gates(op: Op) -> tuple[Value, ...]:
    """What a product reads, but for maps of one pixel that are spread over larger ones."""
    places = op.makes[0].shape[2:]
    if all(side == 1 for side in places):
        return op.reads
    return tuple(v for v in op.reads if any(side > 1 for side in v.shape[2:])) or op.reads


def _is_weighted(op: Op, weights: set[int]) -> bool:
    return op.kind.removeprefix("aten.") in _WEIGHTED and any(value.storage in weights for value in op.reads)
