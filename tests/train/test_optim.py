"""Optimisers against a step by hand, schedules against the numbers of the papers, and what a plateau may look at."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace
from typing import Any

import pytest
import torch
from test_loop import CONFIG, small_net, stripes
from torch import Tensor, nn

from convatlas.errors import ConvAtlasError
from convatlas.train import Augment, Optim, TrainConfig, train
from convatlas.train.faults import norm_of_gradients
from convatlas.train.optim import averaging, clip, constrain, for_batch, learning_rate, optimiser, plateaus, set_rate

PLAIN = Optim(lr=0.1, warmup_epochs=0, nesterov=False)


def steps(optim: Optim, rates: list[float], start: list[float], gradient: list[float]) -> Tensor:
    """A matrix of one row after steps at these rates along one gradient."""
    model = nn.Linear(len(start), 1, bias=False)
    model.weight.data = torch.tensor([start])
    stepper = optimiser(model, optim)
    for rate in rates:
        model.weight.grad = torch.tensor([gradient])
        set_rate(stepper, rate)
        stepper.step()
    return model.weight.data[0]


def test_the_rate_inside_the_momentum_outlives_a_drop() -> None:
    """AlexNet, section 5: v ← 0.9 v − 0.0005 ε w − ε g, w ← w + v."""
    optim = replace(PLAIN, velocity="steps", weight_decay=0.5)
    w, v = torch.tensor([1.0, -2.0]), torch.zeros(2)
    gradient = torch.tensor([0.5, 0.25])
    for rate in (0.1, 0.1, 0.01):
        v = 0.9 * v - 0.5 * rate * w - rate * gradient
        w = w + v
    found = steps(optim, [0.1, 0.1, 0.01], [1.0, -2.0], [0.5, 0.25])
    torch.testing.assert_close(found, w)
    theirs = steps(replace(optim, velocity="gradients"), [0.1, 0.1, 0.01], [1.0, -2.0], [0.5, 0.25])
    assert not torch.allclose(found, theirs)
    constant = [
        steps(replace(optim, velocity=kind), [0.1] * 4, [1.0, -2.0], [0.5, 0.25]) for kind in ("steps", "gradients")
    ]
    torch.testing.assert_close(*constant)


def test_rmsprop_has_its_eps_inside_the_root_and_begins_at_one() -> None:
    optim = replace(PLAIN, name="rmsprop", eps=1.0, squares=0.9, momentum=0.8, weight_decay=0.5)
    w, s, v = torch.tensor([1.0, -2.0]), torch.ones(2), torch.zeros(2)
    for _ in range(3):
        g = torch.tensor([3.0, 0.25]) + 0.5 * w
        s = 0.9 * s + 0.1 * g * g
        v = 0.8 * v + 0.1 * g / (s + 1.0).sqrt()
        w = w - v
    torch.testing.assert_close(steps(optim, [0.1] * 3, [1.0, -2.0], [3.0, 0.25]), w)


def test_lamb_moves_each_tensor_by_the_rate_times_its_length() -> None:
    """You et al., algorithm 2. The first step by hand: Adam's direction is the sign of the gradient, plus the decay."""
    optim = replace(PLAIN, name="lamb", eps=1e-12, weight_decay=0.5)
    w, move = torch.tensor([3.0, -4.0]), torch.tensor([1.0, 1.0]) + 0.5 * torch.tensor([3.0, -4.0])
    expected = w - 0.1 * 5.0 * move / move.norm()
    torch.testing.assert_close(steps(optim, [0.1], [3.0, -4.0], [2.0, 0.01]), expected)
    assert float((steps(optim, [0.1] * 2, [3.0, -4.0], [2.0, 0.01]) - expected).norm()) == pytest.approx(
        0.1 * float(expected.norm()), rel=1e-4
    )
    undecayed = steps(replace(optim, weight_decay=0.0), [0.1], [3.0, -4.0], [2.0, 0.01])
    torch.testing.assert_close(undecayed, torch.tensor([2.9, -4.1]))  # Adam's own


@pytest.mark.parametrize(
    "optim",
    [
        Optim(name="rmsprop", lr=0.02, eps=1e-3, warmup_epochs=1),
        Optim(name="lamb", lr=0.02, eps=1e-6, warmup_epochs=1),
        Optim(lr=0.1, nesterov=False, velocity="steps", bias_lr=2, clip_norm=5, warmup_epochs=1),
    ],
    ids=["rmsprop", "lamb", "steps"],
)
def test_they_learn_stripes(optim: Optim) -> None:
    config = replace(CONFIG, epochs=12, optim=optim, augment=Augment(flip=0.5))
    history = train(small_net(), stripes(100, seed=1), config, held_out=stripes(100, seed=2))
    assert (history[-1].held_out or 0) >= 0.95


def grouped(model: nn.Module, optim: Optim) -> dict[str, tuple[float, float]]:
    """By the parameters' names: weight decay, and what the rate is multiplied by."""
    names = {id(p): name for name, p in model.named_parameters()}
    groups: list[dict[str, Any]] = optimiser(model, optim).param_groups
    return {names[id(p)]: (group["weight_decay"], group["scale"]) for group in groups for p in group["params"]}


def test_decay_and_rates_by_what_a_parameter_is() -> None:
    model = nn.Sequential(
        OrderedDict(
            conv=nn.Conv2d(3, 4, 3), depthwise=nn.Conv2d(4, 4, 3, groups=4), norm=nn.BatchNorm2d(4), fc=nn.Linear(4, 2)
        )
    )
    caffe = grouped(model, Optim(weight_decay=0.1, bias_lr=2))
    assert caffe == {
        **{f"{name}.weight": (0.1, 1.0) for name in ("conv", "depthwise", "fc")},
        **{f"{name}.bias": (0.0, 2.0) for name in ("conv", "depthwise", "fc")},
        **{f"norm.{name}": (0.0, 1.0) for name in ("weight", "bias")},
    }
    facebook = grouped(model, Optim(weight_decay=0.1, decay_all=True))
    assert set(facebook.values()) == {(0.1, 1.0)} and len(facebook) == 8
    mobile = grouped(model, Optim(weight_decay=0.1, decay_depthwise=False))
    assert [name for name, (decay, _) in mobile.items() if decay] == ["conv.weight", "fc.weight"]


def test_a_bias_learns_at_its_own_rate() -> None:
    model = nn.Linear(2, 1)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    stepper = optimiser(model, Optim(momentum=0, weight_decay=0, bias_lr=2))
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    set_rate(stepper, 0.25)
    stepper.step()
    moved = {name: float((before[name] - p.detach()).flatten()[0]) for name, p in model.named_parameters()}
    assert moved == pytest.approx({"weight": 0.25, "bias": 0.5})


def test_gradients_are_clipped_together() -> None:
    model = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 1, bias=False))
    for p in model.parameters():
        p.grad = torch.full_like(p, 3.0)
    clip(model, Optim(clip_norm=0), norm_of_gradients(model))
    assert all(p.grad is not None and p.grad.eq(3).all() for p in model.parameters())
    clip(model, Optim(clip_norm=1.0), norm_of_gradients(model))
    gradients = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
    torch.testing.assert_close(gradients, torch.full((6,), 6**-0.5), rtol=1e-4, atol=0)


def test_filters_of_the_first_layer_alone_are_scaled_back() -> None:
    model = nn.Sequential(nn.Conv2d(3, 2, 3), nn.Conv2d(2, 2, 3))
    first, second = (model.get_parameter(f"{i}.weight") for i in (0, 1))
    first.data[0], first.data[1], second.data[:] = 0.05, 0.5, 0.5
    constrain(model, Optim())
    assert float(first.detach().max()) == 0.5
    constrain(model, Optim(filter_rms=0.1))
    assert float(first.detach()[0].max()) == pytest.approx(0.05) and float(first.detach()[1].max()) == pytest.approx(
        0.1
    )
    assert float(second.detach().min()) == 0.5


def test_an_average_forgets_the_beginning_of_a_short_run() -> None:
    average, step = [torch.zeros(3), torch.zeros((), dtype=torch.int64)], averaging(0.9999)
    for n in range(1, 101):
        step(average, [torch.ones(3), torch.tensor(n)], torch.tensor(n))
    assert float(average[0].min()) > 0.99 and int(average[1]) == 100
    late = [torch.zeros(3)]
    step(late, [torch.ones(3)], 10**9)
    torch.testing.assert_close(late[0], torch.full((3,), 1e-4))


def rates(optim: Optim, at: list[float], epochs: int) -> list[float]:
    return [learning_rate(optim, epoch, epochs) for epoch in at]


@pytest.mark.parametrize(
    ("changes", "epochs", "expected"),
    [
        # WRN: times 0.2 after 60, 120 and 160 of 200
        ({"schedule": "step", "drops": (0.3, 0.6, 0.8), "divisor": 5}, 200, {59.9: 0.1, 60: 0.02, 120: 0.004, 160: 8e-4}),
        # LeNet: 0.0005 for two passes, 0.0002 for three, 0.0001 for three, 0.00005 for four, then 0.00001
        (
            {"schedule": "step", "lr": 5e-4, "drops": (0.1, 0.25, 0.4, 0.6), "levels": (0.4, 0.2, 0.1, 0.02)},
            20,
            {0: 5e-4, 1.9: 5e-4, 2: 2e-4, 5: 1e-4, 8: 5e-5, 11.9: 5e-5, 12: 1e-5, 19: 1e-5},
        ),
        # FractalNet: whenever the epochs that are left have halved, of 400
        ({"schedule": "halving", "lr": 0.02}, 400, {199.9: 0.02, 200: 2e-3, 300: 2e-4, 350: 2e-5, 375: 2e-6}),
        # NASNet: times 0.97 every 2.4 epochs, at once
        ({"schedule": "exponential", "factor": 0.97, "factor_epochs": 2.4}, 20, {2.3: 0.1, 2.4: 0.097, 7.2: 0.1 * 0.97**3}),
        ({"schedule": "polynomial", "power": 0.5}, 60, {0: 0.1, 45: 0.05, 60: 0.0}),
        ({"schedule": "polynomial", "final_lr": 0.5}, 60, {30: 0.075, 60: 0.05}),
        ({"schedule": "onecycle", "rise": 0.25, "warmup_epochs": 5}, 40, {0: 0.004, 10: 0.1, 25: 0.05, 40: 0.0}),
        ({"schedule": "triangle", "rise": 0.2, "final_lr": 0.1, "warmup_epochs": 5}, 40, {0: 0.02, 4: 0.06, 8: 0.1, 24: 0.055}),
    ],
)  # fmt: skip
def test_the_schedules_of_the_papers(changes: dict[str, Any], epochs: int, expected: dict[float, float]) -> None:
    assert rates(replace(PLAIN, **changes), list(expected), epochs) == pytest.approx(list(expected.values()), abs=1e-12)


@pytest.mark.parametrize(
    "schedule", ["cosine", "step", "plateau", "exponential", "onecycle", "triangle", "polynomial", "halving"]
)
def test_every_schedule_stays_between_nothing_and_its_rate(schedule: Any) -> None:
    for warmup in (0, 2, 50):
        optim = Optim(lr=0.3, schedule=schedule, warmup_epochs=warmup, drops=(0.5,))
        found = rates(optim, [i / 7 for i in range(7 * 9)], 9)
        assert all(0 <= rate <= 0.3 * (1 + 1e-9) for rate in found) and max(found) > 0.25


def test_a_plateau_counts_epochs_without_a_new_best() -> None:
    assert plateaus([], 2, 3) == 0
    assert plateaus([0.1, 0.2, 0.3, 0.4], 2, 3) == 0
    assert plateaus([0.5, 0.5, 0.4], 2, 3) == 1  # equal is not better
    assert plateaus([0.5, 0.4, 0.6, 0.4], 2, 3) == 0
    assert plateaus([0.5, 0.4, 0.4, 0.45, 0.49], 2, 3) == 2  # the best stays the best
    assert plateaus([0.5] + [0.4] * 100, 2, 3) == 3
    optim = Optim(lr=1.0, schedule="plateau", patience=2, warmup_epochs=0)
    assert learning_rate(optim, 3, 9, [0.5, 0.5, 0.4]) == pytest.approx(0.1)


def test_the_rate_of_a_run_follows_its_own_history() -> None:
    optim = Optim(lr=0.05, schedule="plateau", patience=1, warmup_epochs=0)
    config = replace(CONFIG, epochs=8, optim=optim)
    history = train(small_net(), stripes(40, seed=1), config, held_out=stripes(20, seed=2), part="val")
    seen = [epoch.held_out or 0 for epoch in history]
    assert [epoch.lr for epoch in history] == [0.05 / 10 ** plateaus(seen[:i], 1, 3) for i in range(8)]
    assert history[-1].lr < 0.05
    training = replace(config, optim=replace(optim, watch="training"))
    history = train(small_net(), stripes(40, seed=1), training)
    seen = [epoch.top1 for epoch in history]
    assert [epoch.lr for epoch in history] == [0.05 / 10 ** plateaus(seen[:i], 1, 3) for i in range(8)]


@pytest.mark.parametrize(
    ("part", "held", "message"),
    [("test", True, "only a test part"), (None, True, "there is none"), (None, False, "there is none"), ("val", False, "none")],
)  # fmt: skip
def test_a_plateau_refuses_everything_but_a_validation_part(part: str | None, held: bool, message: str) -> None:
    config = replace(CONFIG, optim=Optim(schedule="plateau"))
    with pytest.raises(ConvAtlasError, match=message):
        train(small_net(), stripes(8, seed=1), config, held_out=stripes(8, seed=2) if held else None, part=part)


def test_a_rate_for_a_batch_goes_in_proportion() -> None:
    assert for_batch(Optim(lr=0.6, lr_batch=1024), 256).lr == pytest.approx(0.15)
    assert for_batch(Optim(lr=0.6), 256).lr == 0.6
    config = TrainConfig(epochs=1, batch_size=64, image_size=16, optim=replace(PLAIN, lr_batch=32, schedule="step"))
    history = train(small_net(), stripes(16, seed=1), config)  # sixteen images are a batch of sixteen
    assert history[0].lr == pytest.approx(0.05)


def test_momentum_of_steps_has_no_nesterov_form() -> None:
    with pytest.raises(ConvAtlasError, match="optim.nesterov=false"):
        optimiser(small_net(), Optim(velocity="steps"))


def test_norms_over_processes_are_norms() -> None:
    """Statistics of a batch over all processes change nothing of who learns how fast."""
    optim = Optim(norm_bias_lr=64, weight_decay=1e-3, decay_all=True)
    alone, together = (
        [
            (group["scale"], group["weight_decay"], len(group["params"]))
            for group in optimiser(model, optim).param_groups
        ]
        for model in (small_net(), nn.SyncBatchNorm.convert_sync_batchnorm(small_net()))
    )
    assert alone == together and any(scale == 64 for scale, _, _ in alone)
