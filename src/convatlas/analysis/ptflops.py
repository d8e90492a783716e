"""The rules of ptflops 0.7.5, both of its backends.

`pytorch`, the default, is two counters added up. One hooks modules by their exact class and applies a formula of its own to each call;
what lies inside a counted module is not looked at, and a module with two parents is added up at each. The other replaces some functions
of torch while the network runs, so a module that calls one of them counts twice. `aten` sees operations as our tape does.

A function that was imported by its own name escapes it (`from torch.nn.functional import relu`), while a method of a tensor does not
(`x.matmul(y)`); the operator does (`x @ y`). A tape cannot tell these apart and takes functions as seen and methods as operators.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from itertools import zip_longest
from math import prod
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from convatlas.analysis.cost import cost
from convatlas.analysis.functions import function_name, fused_attention, multiplies_activations
from convatlas.analysis.lending import modules_of
from convatlas.analysis.tape import Call, Op, Tape, Value


def by_operation(tape: Tape, model: nn.Module) -> tuple[int, set[int]]:
    """The backend `aten`."""
    fused = fused_attention(tape)
    amounts: dict[int, int] = {}
    for i, op in enumerate(tape.ops):
        kind = op.kind.removeprefix("aten.")
        if i in fused or function_name(op) == "lstm" or kind not in ("mm", "addmm", "bmm", "convolution"):
            continue
        biased = kind == "addmm" or (kind == "convolution" and op.args[2] is not None)
        amounts[i] = cost(op).mult_adds + (op.makes[0].elements if biased else 0)
    return sum(amounts.values()), set(amounts)


def by_module(tape: Tape, model: nn.Module) -> tuple[int, set[int]]:
    """The backend `pytorch`. The part of the modules is a mean over the images of the batch, that of functions is not."""
    modules = dict(modules_of(model))
    flops: dict[nn.Module, int] = {}
    for call in tape.calls:
        module = modules[call.path]
        if (formula := _formula(module)) is not None:
            flops[module] = flops.get(module, 0) + formula(module, call)
    functions = _functions(tape)
    counted = {i for i, op in enumerate(tape.ops) if _is_seen(tape.calls[op.call].path, modules)}
    batch = tape.inputs[0].shape[0]
    return int(_accumulated(model, flops) / batch + sum(functions.values())), counted | set(functions)


def _accumulated(module: nn.Module, flops: dict[nn.Module, int]) -> int:
    if _formula(module) is not None:
        return flops.get(module, 0)
    return sum(_accumulated(child, flops) for child in module.children())


def _is_seen(path: str, modules: dict[str, nn.Module]) -> bool:
    """Whether the module has a formula and lies in none that has."""
    parts = path.split(".")
    above = ["", *(".".join(parts[:depth]) for depth in range(1, len(parts)))] if path else []
    return _formula(modules[path]) is not None and not any(_formula(modules[outer]) is not None for outer in above)


Formula = Callable[[Any, Call], int]


def _formula(module: nn.Module) -> Formula | None:
    kind = type(module)
    return _FORMULAS.get(kind) or _FOREIGN.get(f"{kind.__module__}.{kind.__qualname__}")


def _conv(module: Any, call: Call, extra: int = 0) -> int:
    given, made = call.inputs[0].shape, call.outputs[0].shape
    transposed = isinstance(module, nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d)
    weights = prod(module.kernel_size) * (module.in_channels * (module.out_channels // module.groups) + extra)
    places = prod((given if transposed else made)[2:])
    return given[0] * (weights * places + (prod(made[1:]) if module.bias is not None else 0))


def _deformable_conv(module: Any, call: Call) -> int:
    modulated = len(call.inputs) == 3
    return _conv(module, call, extra=20 + 4 + modulated)  # of a bilinear look-up and its place


def _linear(module: Any, call: Call) -> int:
    given, made = call.inputs[0].shape, call.outputs[0].shape
    return prod(given[:-1]) * (given[-1] * made[-1] + (made[-1] if module.bias is not None else 0))


def _activation(module: Any, call: Call) -> int:
    return call.outputs[0].elements


def _pool(module: Any, call: Call) -> int:
    return call.inputs[0].elements


def _norm(module: Any, call: Call) -> int:
    affine = not isinstance(module, nn.LayerNorm) and module.affine  # a layer norm has no such attribute
    return call.inputs[0].elements * (2 if affine else 1)


def _upsample(module: Any, call: Call) -> int:
    return prod(call.outputs[0].shape[1:])  # of the first image alone


def _rnn(module: Any, call: Call) -> int:
    first, second = call.inputs[0].shape[:2]  # images and steps, in whichever order
    layers = [f"_l{layer}" for layer in range(module.num_layers)]
    return first * second * (2 if module.bidirectional else 1) * sum(_step(module, layer) for layer in layers)


def _rnn_cell(module: Any, call: Call) -> int:
    return call.inputs[0].shape[0] * _step(module, "")


def _step(module: Any, layer: str) -> int:
    """A step of a recurrent layer, `gates` times its width for what is done element by element."""
    gates = {nn.RNN: 1, nn.RNNCell: 1, nn.GRU: 7, nn.GRUCell: 7, nn.LSTM: 10, nn.LSTMCell: 10}[type(module)]
    names = ["weight_ih", "weight_hh", *(["bias_ih", "bias_hh"] if module.bias else [])]
    return gates * module.hidden_size + sum(module.get_parameter(name + layer).numel() for name in names)


def _multihead_attention(module: Any, call: Call) -> int:
    query, key, value = (given.shape for given in call.inputs[:3])
    images, steps = (0, 1) if module.batch_first else (1, 0)
    (q_length, q_width), (k_length, k_width), (v_length, v_width) = ((s[steps], s[2]) for s in (query, key, value))
    heads = module.num_heads
    flops = q_length * q_width  # scaling
    flops += q_length * q_width**2 + k_length * k_width**2 + v_length * v_width**2
    if module.in_proj_bias is not None:
        flops += (q_length + k_length + v_length) * q_width
    flops += heads * (q_length * k_length) * (q_width // heads + 1 + v_width // heads)  # + 1 for the softmax
    flops += q_length * v_width * (v_width + 1)
    return flops * query[images]


def _timm_attention(module: Any, call: Call) -> int:
    """Its projections are modules inside, so they drop out of the total."""
    images, length, _ = call.inputs[0].shape
    return images * module.num_heads * (length * module.head_dim + length**2 * (2 * module.head_dim + 1))


_FORMULAS: dict[type, Formula] = {
    **dict.fromkeys((nn.Conv1d, nn.Conv2d, nn.Conv3d), _conv),
    **dict.fromkeys((nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d), _conv),
    **dict.fromkeys((nn.ReLU, nn.PReLU, nn.ELU, nn.LeakyReLU, nn.ReLU6, nn.GELU), _activation),
    **dict.fromkeys((nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d), _pool),
    **dict.fromkeys((nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d), _pool),
    **dict.fromkeys((nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d), _pool),
    **dict.fromkeys((nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.GroupNorm, nn.LayerNorm), _norm),
    **dict.fromkeys((nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d), _norm),
    **dict.fromkeys((nn.RNN, nn.GRU, nn.LSTM), _rnn),
    **dict.fromkeys((nn.RNNCell, nn.GRUCell, nn.LSTMCell), _rnn_cell),
    nn.Linear: _linear,
    nn.Upsample: _upsample,
    nn.MultiheadAttention: _multihead_attention,
}
_FOREIGN: dict[str, Formula] = {
    "torchvision.ops.deform_conv.DeformConv2d": _deformable_conv,
    "timm.layers.attention.Attention": _timm_attention,
}

_OF_INPUT = (F.relu, F.prelu, F.elu, F.relu6, F.gelu, F.silu, F.softmax)
_OF_INPUT += (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d, F.max_pool1d, F.max_pool2d, F.max_pool3d)
_OF_INPUT += (F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.adaptive_avg_pool3d)
_OF_INPUT += (F.adaptive_max_pool1d, F.adaptive_max_pool2d, F.adaptive_max_pool3d)
_PRODUCTS = (torch.matmul, torch.mm, torch.bmm, torch.addmm, torch.baddbmm)
_PRODUCTS += (torch.Tensor.mm, torch.Tensor.bmm, torch.Tensor.addmm)
# functions that call replaced ones and methods, by the operations of those
_WRITTEN_IN_PYTHON = {
    F.multi_head_attention_forward: {"_softmax", "bmm", "baddbmm"},
    F.local_response_norm: {"mul", "avg_pool2d", "avg_pool3d", "add"},
}


def _functions(tape: Tape) -> dict[int, int]:
    """What the replaced functions count, by the place of the operation that does their work."""
    fused = fused_attention(tape)
    found = {i: _function(op, tape.varying) for i, op in enumerate(tape.ops) if i not in fused}
    return {i: amount for i, amount in found.items() if amount}


def _function(op: Op, moving: Collection[int]) -> int:
    kind, done = op.kind.removeprefix("aten."), cost(op)
    inside = kind in _WRITTEN_IN_PYTHON.get(op.function, ())
    if (op.function in _OF_INPUT and done.flops) or (inside and kind in ("_softmax", "avg_pool2d", "avg_pool3d")):
        return op.reads[0].elements
    if (op.function in _PRODUCTS and done.mult_adds) or (inside and multiplies_activations(op, moving)):
        return done.mult_adds + (op.reads[0].elements if kind in ("addmm", "baddbmm") else 0)
    if op.function in (F.interpolate, F.upsample) and "upsample" in kind:
        return op.makes[0].elements * (2 if op.function is F.upsample else 1)  # which calls the other
    if kind in ("add", "mul") and (inside or op.function in (torch.add, torch.mul)):
        return _elementwise(op.args)
    return 0


def _elementwise(terms: tuple[Any, ...]) -> int:
    """Axes are compared from the first on, where broadcasting compares them from the last."""
    shapes = [term.shape for term in terms[:2] if isinstance(term, Value)]
    return prod(max(sides) for sides in zip_longest(*shapes, fillvalue=1))
