"""Receptive fields of random networks are how far a NaN reaches; where they are bounds, they hold it; nothing is wrong in silence."""

from __future__ import annotations

import os

import torch
from generated import PLAIN, TURNED, WHOLE, Example, modules
from hypothesis import HealthCheck, event, given, settings
from reach import differences, is_seen, reached

from convatlas.analysis.receptive import Unknown, receptive_fields
from convatlas.analysis.tape import record

EXAMPLES = int(os.environ.get("CONVATLAS_EXAMPLES", "150"))
SETTINGS = settings(
    max_examples=EXAMPLES,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


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
