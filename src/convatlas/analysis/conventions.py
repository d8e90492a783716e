"""What other tools would say of the same network: their totals, reproduced from our tape by their own rules.

"How many FLOPs" has as many answers as there are tools, since each decides what counts and each overlooks something. A convention here
is a tool's rule written down: it gives the integer that the tool prints, one or two sentences on why it is not ours, and the operations
that compute and that the tool passes over. The rules were read in the sources of fvcore 0.1.5, ptflops 0.7.5 and torchinfo 1.8.0 and
include what is odd in them; `tests/analysis/test_conventions.py` runs the tools themselves and lists where a tape cannot follow.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod

from torch import nn

from convatlas.analysis import ptflops
from convatlas.analysis.cost import cost
from convatlas.analysis.functions import function_name, fused_attention
from convatlas.analysis.lending import modules_of
from convatlas.analysis.tape import Op, Tape, Value

Rule = Callable[[Tape, nn.Module], tuple[int, set[int]]]  # the total, and the operations (by place) that it takes in


@dataclass(frozen=True, kw_only=True)
class Count:
    """A network's total by a convention."""

    total: int
    unit: str  # as the tool calls it
    why: str
    skipped: Mapping[str, int]  # kinds of operations that compute and count nothing here, with how many there are


@dataclass(frozen=True, kw_only=True)
class Convention:
    """A way of counting, with why its total is not ours."""

    unit: str
    why: str
    rule: Rule

    def count(self, tape: Tape, model: nn.Module) -> Count:
        """The total of the pass that `tape` recorded of `model`, whose classes and weights some tools go by."""
        total, counted = self.rule(tape, model)
        left = Counter(op.kind for i, op in enumerate(tape.ops) if i not in counted and _computes(op))
        skipped = {kind.removeprefix("aten."): number for kind, number in left.most_common()}
        return Count(total=total, unit=self.unit, why=self.why, skipped=skipped)


def _computes(op: Op) -> bool:
    found = cost(op)
    return bool(found.flops or found.uncounted)


def _paper(tape: Tape, model: nn.Module) -> tuple[int, set[int]]:
    """Products of two activations are left out: attention came after these papers, and is no layer with weights."""

    def has_weights(op: Op) -> bool:
        return op.kind == "aten.convolution" or not all(
            factor.number in tape.varying for factor in op.args[-2:] if isinstance(factor, Value)
        )

    return _added_up({i: cost(op).mult_adds for i, op in enumerate(tape.ops) if has_weights(op)})


def _added_up(amounts: Mapping[int, int]) -> tuple[int, set[int]]:
    return sum(amounts.values()), {i for i, amount in amounts.items() if amount}


def _fvcore(tape: Tape, model: nn.Module) -> tuple[int, set[int]]:
    """It traces the operators that Python calls, which is why those that run inside an unknown one go unseen."""
    fused = fused_attention(tape)
    return _added_up({i: _fvcore_count(op) for i, op in enumerate(tape.ops) if i not in fused})


_FVCORE_PRODUCTS = {"linear", "matmul", "__matmul__", "__rmatmul__", "mm", "bmm", "addmm", "einsum"}
_FVCORE_PRODUCTS |= {"rnn_tanh_cell", "rnn_relu_cell", "gru_cell", "lstm_cell"}  # the tracer looks into these
_FVCORE_PRODUCTS |= {"multi_head_attention_forward"}  # and this is Python
_FVCORE_OUTPUTS = {"upsample_nearest2d": 1, "upsample_bilinear2d": 4, "grid_sampler_2d": 4, "grid_sampler_3d": 4}


def _fvcore_count(op: Op) -> int:
    kind, function = op.kind.removeprefix("aten."), function_name(op)
    if kind == "convolution" or (kind in ("mm", "bmm", "addmm") and function in _FVCORE_PRODUCTS):
        return cost(op).mult_adds
    if kind in ("native_batch_norm", "_native_batch_norm_legit_no_training"):
        from_the_batch = kind == "native_batch_norm" and op.args[5]  # as in instance norm
        return op.reads[0].elements * ((4 if from_the_batch else 1) + (op.args[1] is not None))
    if kind in ("native_layer_norm", "native_group_norm"):
        weight = op.args[2] if kind == "native_layer_norm" else op.args[1]
        return op.reads[0].elements * (4 + (weight is not None))
    if kind in ("mean", "_adaptive_avg_pool2d") and function == "adaptive_avg_pool2d":
        return op.reads[0].elements
    return _FVCORE_OUTPUTS.get(kind, 0) * op.makes[0].elements if op.makes else 0


def _torchinfo(tape: Tape, model: nn.Module) -> tuple[int, set[int]]:
    """It looks at modules without children when they are called: the weights they hold and the shape they give."""
    modules = dict(modules_of(model))
    counts: dict[int, int] = {}
    for index, call in enumerate(tape.calls):
        module = modules[call.path]
        if any(module.children()) or not call.outputs:  # by their truth, as there: an empty Sequential is no child
            continue
        shape = call.outputs[0].shape
        for name, size in _torchinfo_weights(module):
            if name in ("weight", "bias"):
                places = prod(shape[:1] + shape[2:]) if "Conv" in call.kind else shape[0]
            elif "weight" in name or "bias" in name:
                places = prod(shape[:2])
            else:
                continue
            counts[index] = counts.get(index, 0) + size * places
    return sum(counts.values()), {i for i, op in enumerate(tape.ops) if counts.get(op.call)}


def _torchinfo_weights(module: nn.Module) -> list[tuple[str, int]]:
    """Names and sizes; of a pruned weight what its mask leaves."""
    masks = {name.removesuffix("_mask"): mask for name, mask in module.named_buffers() if name.endswith("_mask")}
    sizes: list[tuple[str, int]] = []
    for name, weight in module.named_parameters():
        pruned = name.removesuffix("_orig")
        if pruned != name and pruned in masks:
            sizes.append((pruned, int(masks[pruned].sum())))
        else:
            sizes.append((name, weight.numel()))
    return sizes


CONVENTIONS: dict[str, Convention] = {
    "paper": Convention(
        unit="mult-adds",
        why="Convolutions and fully connected layers alone, as the papers count. "
        "Ours adds the products of two activations, which attention has and the classic networks have not.",
        rule=_paper,
    ),
    "fvcore": Convention(
        unit="flops",
        why="A mult-add is one flop, and to them come one or two for each element of a batch norm, four or five of other norms, "
        "and one for each that adaptive average pooling reads. Fused attention and recurrent layers count nothing.",
        rule=_fvcore,
    ),
    "ptflops": Convention(
        unit="MACs",
        why="One is added for each bias, each element of a norm, of an activation and of what pooling reads, and twice where a module "
        "calls the function that is counted too. Sums and products written as operators, and modules of an unknown class, count nothing.",
        rule=ptflops.by_module,
    ),
    "ptflops_aten": Convention(
        unit="MACs",
        why="ptflops with backend='aten': matrix products and convolutions, with one more for each element that a bias is added to. "
        "Attention and LSTMs run as one fused operation on the CPU and count nothing.",
        rule=ptflops.by_operation,
    ),
    "torchinfo": Convention(
        unit="mult-adds",
        why="Every weight and bias of a convolution counts once a place of the output, of any other module once an image, whatever the "
        "number of its rows or tokens. What has no module of its own, as functional calls and most of attention, counts nothing.",
        rule=_torchinfo,
    ),
}
