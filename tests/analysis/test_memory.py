"""Memory against what autograd keeps and what the CPU's allocator hands out."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.nn import functional as F
from torch.profiler import ProfilerActivity, profile
from torch.utils.checkpoint import checkpoint

from convatlas import zoo
from convatlas.analysis.memory import forward_peak, largest_batch, training_memory
from convatlas.analysis.record import record

QUICK = (
    "lenet5",
    "alexnet",
    "zfnet",
    "nin_cifar",
    "vgg11",
    "googlenet",
    "resnet18",
    "plain20_cifar",
    "wide_resnet50_2",
    "resnext50_32x4d",
    "preresnet20_cifar",
    "wrn_16_8_cifar",
    "densenet121",
    "mobilenet_v1_025",
    "mobilenet_v2",
    "mobilenet_v3_small",
    "se_resnet50",
    "nasnet_a_mobile",
)


def build(name: str, device: str) -> tuple[zoo.ConvNet, Tensor]:
    size, classes = zoo.native(name)
    with torch.device(device):
        return zoo.build(name, num_classes=classes, in_channels=size[0]), torch.zeros(2, *size)


def kept_by_autograd(model: nn.Module, images: Tensor) -> int:
    """The bytes that one training pass leaves to the backward pass, parameters and buffers apart."""
    own = {t.untyped_storage()._cdata for t in (*model.parameters(), *model.buffers())}
    kept: dict[int, Tensor] = {}

    def keep(saved: Tensor) -> Tensor:
        if saved.untyped_storage()._cdata not in own:
            kept[saved.untyped_storage()._cdata] = saved
        return saved

    with saved_tensors_hooks(keep, lambda saved: saved):
        model.train()(images)
    return sum(saved.untyped_storage().nbytes() for saved in kept.values())


@pytest.mark.parametrize(
    "name",
    [
        n if n in QUICK else pytest.param(n, marks=pytest.mark.slow)
        for n in zoo.variants()
        if not n.startswith("fractalnet")  # drops paths at random: no two passes keep the same
    ],
)
def test_what_is_saved_is_what_autograd_keeps_at_every_freeze_depth(name: str) -> None:
    model, images = build(name, "meta")
    tape = record(model, images, training=True)
    stages = [f"stages.{name}" for name, stage in model.stages.named_children() if list(stage.parameters())]
    for depth in range(len(stages) + 1):  # what the network itself never trains stays so
        for stage in stages[max(depth - 1, 0) : depth]:
            model.get_submodule(stage).requires_grad_(False)
        found = training_memory(tape, frozen=stages[:depth])
        assert (found.saved, found.assumed) == (kept_by_autograd(model, images), ()), stages[:depth]
        trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
        assert (found.trainable, found.gradients, found.optimizer) == (trained, 4 * trained, 4 * trained)


def allocated(run: Callable[[], object]) -> tuple[int, int]:
    """What the CPU's allocator handed out while `run` ran: the most at once, and what is left while its result is held."""
    gc.collect()  # what is freed of others' would count
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as watched:
        result = run()
    watching: Any = watched.profiler
    events = watching.kineto_results.events()
    now = most = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        if event.name() == "[memory]":
            now += event.nbytes()
            most = max(most, now)
    del result
    return most, now


@pytest.mark.parametrize(
    "name", ["alexnet", "googlenet", "resnet18", "densenet_40_12_cifar", "mobilenet_v2", "se_resnet50"]
)
def test_the_forward_peak_is_the_allocator_s(name: str) -> None:
    """Never more than is allocated, and less only by the scratch memory of a kernel, such as its input in another layout."""
    model, images = build(name, "cpu")
    with torch.inference_mode():
        model.eval()(images)  # the first pass prepares things that stay
        most, _ = allocated(lambda: model(images))
    tape = record(model, images)
    ours = forward_peak(tape).bytes_ - images.nbytes
    assert ours <= most * 1.001
    assert most <= ours + max(sum(value.bytes_ for value in op.reads) for op in tape.ops)


@pytest.mark.parametrize(
    "name", ["alexnet", "googlenet", "resnet18", "densenet_40_12_cifar", "mobilenet_v2", "se_resnet50"]
)
def test_what_is_saved_is_what_the_allocator_still_holds(name: str) -> None:
    model, images = build(name, "cpu")
    model.train()(images)
    _, left = allocated(lambda: model(images))
    assert left == pytest.approx(training_memory(record(model, images, training=True)).saved - images.nbytes, rel=0.01)


def test_a_chain_holds_two_tensors_at_a_time_and_a_residual_three() -> None:
    chain = nn.Sequential(*[nn.Conv2d(4, 4, 1) for _ in range(5)])
    unit = 4 * 4 * 10 * 10
    assert forward_peak(record(chain, torch.empty(1, 4, 10, 10))).bytes_ == 3 * unit  # the caller holds the image too

    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inside = chain

        def forward(self, x: Tensor) -> Tensor:
            y = x * 2
            return y + self.inside(y)

    assert forward_peak(record(Residual(), torch.empty(1, 4, 10, 10))).bytes_ == 4 * unit


def test_work_in_place_needs_no_memory() -> None:
    def peak(inplace: bool) -> int:
        model = nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU(inplace=inplace))
        return forward_peak(record(model, torch.empty(1, 3, 10, 10))).bytes_

    assert peak(inplace=True) == 4 * 100 * (3 + 8)
    assert peak(inplace=False) == 4 * 100 * (3 + 8 + 8)


def test_optimizers_differ_by_what_they_keep() -> None:
    tape = record(nn.Linear(10, 10), torch.empty(2, 10), training=True)
    kept = {name: training_memory(tape, optimizer=name).optimizer for name in ("sgd", "momentum", "adam")}
    assert kept == {"sgd": 0, "momentum": 4 * 110, "adam": 8 * 110}


def test_parameters_that_require_no_gradient_count_as_frozen() -> None:
    model = nn.Sequential(nn.Linear(10, 10), nn.ReLU(), nn.Linear(10, 5))
    model[0].requires_grad_(False)
    found = training_memory(record(model, torch.empty(2, 10), training=True))
    assert (found.trainable, found.saved) == (55, 4 * 20)


class OneThing(nn.Module):
    """A weight and whatever else is to be tried."""

    kept: Tensor

    def __init__(self, run: Callable[[Tensor, OneThing], Tensor], dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.run = run
        self.weight = nn.Parameter(torch.ones(4, 6, 6, dtype=dtype))
        self.register_buffer("kept", torch.ones(4, 6, 6, dtype=dtype))

    def forward(self, x: Tensor) -> Tensor:
        return self.run(x + self.weight, self)


def without_gradient(x: Tensor, own: OneThing) -> Tensor:
    with torch.no_grad():
        factor = (x * own.weight).exp()
        factor.clamp_(max=1)
    return x * factor


def clamped_without_gradient(x: Tensor, own: OneThing) -> Tensor:
    y = x * own.kept
    with torch.no_grad():
        y.clamp_(max=1)
    return y.exp()


def written_in_parts(x: Tensor, own: OneThing) -> Tensor:
    y = torch.zeros_like(x)
    y[:, :2] = x[:, :2]
    return y * own.kept * x


def written_as_whole_numbers(x: Tensor, own: OneThing) -> Tensor:
    return x * torch.zeros_like(x, dtype=torch.int64).copy_(x)


ACTIVATIONS = ("elu", "hardsigmoid", "hardswish", "hardtanh", "leaky_relu", "mish", "relu", "relu6", "selu", "silu")
THINGS: dict[str, Callable[[Tensor, Any], Tensor]] = {
    **{f"{name}_": lambda x, _, name=name: getattr(F, name)(x * 2, inplace=True) for name in ACTIVATIONS},
    **{name: lambda x, _, name=name: getattr(F, name)(x * 2) for name in ACTIVATIONS},
    **{f"pow {e}": lambda x, _, e=e: x**e for e in (0, 1, 2, 0.5)},
    **{f"dropout {p}": lambda x, _, p=p: F.dropout(x, p) for p in (0.0, 0.5, 1.0)},
    "mul_ by a weight": lambda x, own: (x * 2).mul_(own.weight),
    "mul_ by a buffer": lambda x, own: (x * 2).mul_(own.kept),
    "mul by a mask": lambda x, own: x * (own.kept > 0),
    "mul complex": lambda x, own: (torch.complex(x.float(), x.float()) * own.kept).abs(),
    "batch norm": lambda x, own: F.batch_norm(x, None, None, own.weight[:, 0, 0], training=True),
    "cosine": lambda x, own: F.cosine_similarity(x, own.weight),
    "without gradient": without_gradient,
    "clamped without gradient": clamped_without_gradient,
    "written in parts": written_in_parts,
    "written as whole numbers": written_as_whole_numbers,
    "detached": lambda x, own: x.detach() * own.weight,
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", THINGS)
def test_what_one_operation_saves_is_what_autograd_keeps(name: str, dtype: torch.dtype) -> None:
    """One after the other: what was learned of one must not be taken for another's. The second has another size."""
    with torch.device("meta"):
        model = OneThing(THINGS[name], dtype)
        for batch in (2, 3):
            images = torch.empty(batch, 4, 6, 6, dtype=dtype)
            found = training_memory(record(model, images, training=True))
            assert (found.saved, found.assumed) == (kept_by_autograd(model, images), ())


class Exponential(torch.autograd.Function):
    """With a backward pass of its own."""

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return x.exp()

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Tensor) -> None:
        ctx.save_for_backward(output)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0] * ctx.saved_tensors[0]


@pytest.mark.parametrize(
    ("run", "name"),
    [
        (lambda x, own: Exponential.apply(x) * own.kept, "Exponential"),
        (lambda x, own: checkpoint(torch.exp, x, use_reentrant=True) * own.kept, "CheckpointFunction"),
        (lambda x, own: checkpoint(torch.exp, x, use_reentrant=False) * own.kept, "checkpoint"),
    ],
    ids=["function", "reentrant", "checkpoint"],
)
@pytest.mark.filterwarnings("error")
def test_what_has_its_own_backward_passes_gradients_on_and_is_named(run: Any, name: str) -> None:
    found = training_memory(record(OneThing(run), torch.empty(2, 4, 6, 6), training=True))
    assert found.assumed == (name,)
    assert found.saved == 4 * 2 * 144  # what exp made; `kept` is a buffer


class Odd(nn.Module):
    """Makes a random number of rows, which `meta` tensors cannot."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(3))

    def forward(self, x: Tensor) -> Tensor:
        return torch.masked_select(x * self.scale, x > 0)


def test_what_cannot_be_asked_is_assumed_to_save_all() -> None:
    found = training_memory(record(Odd(), torch.ones(2, 3), training=True))
    assert found.assumed == ("masked_select",)
    assert found.saved >= 4 * 6


@settings(max_examples=200, derandomize=True)
@given(st.integers(0, 10**6), st.integers(1, 10**4), st.integers(0, 10**8), st.integers(0, 50))
def test_the_largest_batch_fits_and_one_more_does_not(fixed: int, each: int, budget: int, bumps: int) -> None:
    def bytes_of(batch: int) -> int:
        return fixed + each * batch + bumps * (batch // 7)

    found = largest_batch(bytes_of, budget)
    assert bytes_of(found) <= budget if found else bytes_of(2) > budget
    assert bytes_of(found + 1) > budget or found == 0


def test_the_largest_batch_of_a_network() -> None:
    size, classes = zoo.native("resnet20_cifar")
    with torch.device("meta"):
        model = zoo.build("resnet20_cifar", num_classes=classes)

    def bytes_of(batch: int) -> int:
        return training_memory(record(model, torch.empty(batch, *size, device="meta"), training=True)).total

    found = largest_batch(bytes_of, 10**9)
    assert bytes_of(found) <= 10**9 < bytes_of(found + 1)


def test_bad_requests_are_named() -> None:
    tape = record(nn.Sequential(nn.Linear(3, 3)), torch.empty(2, 3), training=True)
    with pytest.raises(ValueError, match="no parameter lies in 'stem'"):
        training_memory(tape, frozen=["stem"])
    with pytest.raises(ValueError, match="unknown optimizer 'lion'; there are sgd, momentum, adam"):
        training_memory(tape, optimizer="lion")  # type: ignore[arg-type] - what is wrong with it
