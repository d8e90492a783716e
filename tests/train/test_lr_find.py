"""The range test reads its curve right, and leaves the model and the random numbers alone."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from test_loop import CONFIG, short_of_memory, small_net, stripes

from convatlas.errors import ConvAtlasError
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


def test_rates_are_those_that_training_would_use() -> None:
    """Where the rate is for another batch, what is tried at a value of optim.lr is what a run with that value does."""
    images, some = stripes(64, seed=1), {"low": 1e-3, "high": 1.0, "steps": 20}
    plain = lr_find(small_net(), images, CONFIG, **some)
    scaled = replace(CONFIG, optim=replace(CONFIG.optim, lr_batch=4 * CONFIG.batch_size))
    higher = {**some, "low": 4e-3, "high": 4.0}
    found = lr_find(small_net(), images, scaled, **higher)
    assert found.losses == pytest.approx(plain.losses, rel=1e-4)
    assert found.rates == pytest.approx([4 * rate for rate in plain.rates])


def test_batches_come_in_micro_batches_and_images_as_they_are_read() -> None:
    config = replace(CONFIG, augment=replace(CONFIG.augment, scale=(1.0, 1.0), mixup=0.0, cutmix=0.0))
    model, images = small_net(), stripes(64, seed=1)
    seen: list[int] = []
    model.get_submodule("conv").register_forward_pre_hook(lambda module, given: seen.append(len(given[0])))
    lr_find(model, images, replace(config, micro_batch=6), steps=10)
    assert seen[:6] == [5, 5, 6] * 2
    images.crops = True  # as streamed photos are: cropped where they are read
    cropped = replace(config, augment=replace(config.augment, scale=(0.1, 1.0)))
    assert lr_find(model, images, cropped, steps=10) == lr_find(model, images, config, steps=10)


def test_no_memory_for_a_batch() -> None:
    with pytest.raises(
        ConvAtlasError, match=r"memory does not suffice for 16 images at once\. Set micro_batch below 16"
    ):
        lr_find(short_of_memory(8), stripes(64, seed=1), CONFIG, steps=10)
