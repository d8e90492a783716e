"""The range test reads its curve right, and leaves the model and the random numbers alone."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from test_loop import CONFIG, small_net, stripes

from convatlas.train.lr_find import EXPLODED, lr_find, told


def test_it_finds_a_rate_that_trains_and_changes_nothing() -> None:
    model, images = small_net(), stripes(64, seed=1)
    before = {key: x.clone() for key, x in model.state_dict().items()}
    state = torch.random.get_rng_state()
    config = replace(CONFIG, optim=replace(CONFIG.optim, nesterov=False))
    found = lr_find(model, images, config, low=1e-5, high=1e4, steps=60)
    assert all(torch.equal(x, before[key]) for key, x in model.state_dict().items())
    assert torch.equal(state, torch.random.get_rng_state()) and model.training
    assert found == lr_find(model, images, config, low=1e-5, high=1e4, steps=60)
    assert found.exploded and len(found.rates) == len(found.losses) < 60
    assert 1e-5 < found.suggestion < 10 and found.steepest
    ratios = [b / a for a, b in zip(found.rates, found.rates[1:], strict=False)]
    assert ratios == pytest.approx([ratios[0]] * len(ratios)) and found.rates[0] == pytest.approx(1e-5)
    assert max(found.losses) <= EXPLODED * min(found.losses)
    assert json.loads(json.dumps(found.to_json()))["suggestion"] == found.suggestion


def test_the_suggestion_is_the_safer_of_the_two() -> None:
    rates = [10.0**i for i in range(-6, 1)]
    found = told(rates, [1.0, 0.99, 0.5, 0.45, 0.4, 0.6, 1.5], exploded=True)
    assert (found.steepest, found.tenth, found.suggestion) == (1e-5, pytest.approx(1e-3), 1e-5)
    late = told(rates, [1.0, 1.0, 1.0, 0.99, 0.1, 0.6, 1.5], exploded=True)
    assert late.steepest == 1e-3 and late.suggestion == pytest.approx(1e-3)
    flat = told(rates, [1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6], exploded=False)
    assert flat.steepest is None and flat.suggestion == pytest.approx(1e-7)


@pytest.mark.parametrize(("low", "high", "steps"), [(0.0, 1.0, 10), (2.0, 1.0, 10), (1e-4, 1.0, 3)])
def test_ranges_that_mean_nothing(low: float, high: float, steps: int) -> None:
    with pytest.raises(ValueError, match="0 < low < high and at least 10 steps"):
        lr_find(small_net(), stripes(8, seed=1), CONFIG, low=low, high=high, steps=steps)


def test_a_loss_that_is_not_finite_from_the_start() -> None:
    model = small_net()
    model.get_parameter("fc.bias").data[0] = float("nan")
    with pytest.raises(ValueError, match="not finite at the lowest rate"):
        lr_find(model, stripes(8, seed=1), CONFIG, steps=10)
