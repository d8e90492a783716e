"""What the tape of a random network tells equals what happens when the network is run."""

from __future__ import annotations

import torch
from generated import Example, many, modules
from hypothesis import given, reject
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode

from convatlas.analysis.analysis import analyse
from convatlas.analysis.cost import cost
from convatlas.analysis.memory import training_memory
from convatlas.analysis.record import record

SETTINGS = many(500)


def shapes_of_calls(model: nn.Module, x: Tensor) -> list[tuple[str, tuple[int, ...]]]:
    """The path and the output's shape of every call of a module, as the calls end."""
    seen: list[tuple[str, tuple[int, ...]]] = []
    hooks = [
        module.register_forward_hook(lambda _, __, made, path=path: seen.append((path, tuple(made.shape))))
        for path, module in model.named_modules()
    ]
    with torch.no_grad():
        model(x)
    for hook in hooks:
        hook.remove()
    return seen


@SETTINGS
@given(modules())
def test_shapes_parameters_and_costs_are_those_of_the_run(example: Example) -> None:
    model, x = example.module, torch.zeros(example.input_shape)
    with FlopCounterMode(display=False) as counter:
        ran = shapes_of_calls(model, x)
    found = analyse(model, torch.empty(example.input_shape, device="meta"), training_batch=2)
    tape = found.tape
    assert sorted((call.path, call.outputs[0].shape) for call in tape.calls) == sorted(ran)
    assert found.whole.parameters == sum(p.numel() for p in model.parameters())
    assert found.whole.cost.mult_adds == counter.get_total_flops() // 2
    assert found.status == "complete", found.whole.cost.uncounted
    for parts in (found.layers, found.blocks, found.stages):
        assert sum(row.parameters for row in parts) == found.whole.parameters
        assert sum(row.cost.mult_adds for row in parts) == found.whole.cost.mult_adds
        assert sum(row.cost.flops for row in parts) == found.whole.cost.flops


COMPUTE = {"convolution", "addmm", "mm", "bmm", "native_batch_norm", "relu", "add", "mul", "mean", "avg_pool2d"}


@SETTINGS
@given(modules())
def test_what_computes_is_never_counted_nothing_in_silence(example: Example) -> None:
    for op in record(example.module, torch.empty(example.input_shape, device="meta")).ops:
        found = cost(op)
        if op.kind.removeprefix("aten.").removesuffix("_") in COMPUTE and op.makes[0].dtype.is_floating_point:
            assert found.flops > 0 or found.uncounted, op.kind
        assert found.flops >= 2 * found.mult_adds >= 0


@SETTINGS
@given(modules())
def test_training_memory_is_what_autograd_keeps(example: Example) -> None:
    model, x = example.module.to("meta"), torch.empty((2, *example.input_shape[1:]), device="meta")
    own = {t.untyped_storage()._cdata for t in (*model.parameters(), *model.buffers())}
    kept: dict[int, Tensor] = {}

    def keep(saved: Tensor) -> Tensor:
        if saved.untyped_storage()._cdata not in own:
            kept[saved.untyped_storage()._cdata] = saved
        return saved

    try:
        with saved_tensors_hooks(keep, lambda saved: saved):
            model.train()(x)
    except ValueError:  # a norm that has a single value to learn its statistics from
        reject()
    found = training_memory(record(model, x, training=True))
    assert found.saved == sum(saved.untyped_storage().nbytes() for saved in kept.values()), found.assumed
