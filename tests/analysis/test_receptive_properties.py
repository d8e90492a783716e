"""Receptive fields of random networks are how far a NaN reaches; where they are bounds, they hold it; nothing is wrong in silence."""

from __future__ import annotations

import torch
from generated import PLAIN, TURNED, WHOLE, Example, Gate, many, modules
from hypothesis import event, given
from reach import differences, is_seen, reached
from torch import nn

from convatlas.analysis.receptive import Field, Unknown, receptive_fields
from convatlas.analysis.record import record

SETTINGS = many(150)


def check(example: Example) -> bool:
    """Whether the field is known."""
    module, shape = example.module.double(), example.input_shape
    tape = record(module, torch.zeros(shape, dtype=torch.float64))
    (output,) = tape.outputs
    field = receptive_fields(tape).get(output.number)
    if isinstance(field, Unknown):
        event(f"unknown: {field.reason.partition(': ')[2]}")
        return False
    axis = max(range(len(shape) - 2), key=lambda axis: shape[2 + axis])
    rows = reached(module, shape, axis)
    if field is None:
        event("nothing of the image")
        assert not rows.any()
        return True
    assert not (wrong := differences(field, axis, rows)), "\n".join(map(str, (wrong, field, module)))
    event("bound" if not field.exact else "put to the test" if is_seen(field, axis, rows) else "all of the image")
    return True


@SETTINGS
@given(modules(kinds=PLAIN))
def test_fields_of_plain_networks_are_known_and_how_far_a_nan_reaches(example: Example) -> None:
    assert check(example)


@SETTINGS
@given(modules(kinds=PLAIN + TURNED))
def test_fields_of_maps_turned_flattened_and_enlarged_are_how_far_a_nan_reaches(example: Example) -> None:
    check(example)


@SETTINGS
@given(modules(kinds=PLAIN + TURNED + WHOLE))
def test_fields_behind_views_of_the_whole_map_are_how_far_a_nan_reaches(example: Example) -> None:
    check(example)


@SETTINGS
@given(modules(kinds=(*PLAIN, "gate", "statistics")))
def test_without_gates_fields_are_those_of_the_network_without_them(example: Example) -> None:
    def field(module: nn.Module, *, gates: bool) -> Field | Unknown | None:
        tape = record(module, torch.zeros(example.input_shape))
        return receptive_fields(tape, gates=gates).get(tape.outputs[0].number)

    assert isinstance(example.module, nn.Sequential)
    bare = nn.Sequential(*(nn.Identity() if _is_gate(step) else step for step in example.module))
    without, never = field(example.module, gates=False), field(bare, gates=True)
    assert isinstance(without, Field)
    assert isinstance(never, Field)
    assert [interval[:3] for interval in without.largest] == [interval[:3] for interval in never.largest]
    assert (without.dims, without.exact) == (never.dims, never.exact)
    event(f"{sum(map(_is_gate, example.module))} gates")


def _is_gate(step: nn.Module) -> bool:
    norms = (nn.GroupNorm, nn.LayerNorm, nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)
    return isinstance(step, Gate) or (isinstance(step, norms) and not getattr(step, "track_running_stats", False))
