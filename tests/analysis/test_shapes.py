"""Our shapes of `meta` tensors are torch's: the same or declined, and never an answer where torch refuses."""

from __future__ import annotations

from typing import Any

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from convatlas.analysis.record import record
from convatlas.analysis.shapes import RULES, outputs
from tiny import python

SIDES = st.integers(1, 9)
SHAPES = st.lists(SIDES, min_size=1, max_size=5).map(tuple)
DTYPES = st.sampled_from([torch.float32, torch.float64, torch.float16, torch.int64])


@st.composite
def tensors(draw: st.DrawFn, shape: tuple[int, ...] | None = None, dtype: torch.dtype = torch.float32) -> Tensor:
    """A `meta` tensor, sometimes a view of another or channels last in memory."""
    sides = draw(SHAPES) if shape is None else shape
    made = torch.empty(sides, dtype=dtype, device="meta")
    if len(sides) < 2 or draw(st.integers(0, 9)):
        return made
    if draw(st.booleans()):
        return torch.empty((sides[1], sides[0], *sides[2:]), dtype=dtype, device="meta").transpose(0, 1)
    if len(sides) == 4 and draw(st.booleans()):
        return made.to(memory_format=torch.channels_last)
    return torch.empty((*sides[:-1], sides[-1] + 1), dtype=dtype, device="meta")[..., 1:]


@st.composite
def nearly(draw: st.DrawFn, sides: tuple[int, ...]) -> tuple[int, ...]:
    """The shape, now and then wrong in one place."""
    if not sides or draw(st.integers(0, 4)):
        return sides
    axis = draw(st.integers(0, len(sides) - 1))
    return (*sides[:axis], draw(SIDES), *sides[axis + 1 :])


@st.composite
def arguments(draw: st.DrawFn, func: Any) -> tuple[Any, ...]:
    """Arguments that `func` might be called with, plain or odd, right or wrong."""
    name = func.overloadpacket.__name__
    if name == "convolution":
        axes, groups = draw(st.integers(1, 3)), draw(st.integers(1, 3))
        inside, outside = draw(st.integers(1, 3)), draw(st.integers(1, 3)) * groups
        shape = (draw(SIDES), inside * groups, *(draw(SIDES) for _ in range(axes)))
        kernel = (outside, inside, *(draw(st.integers(1, 4)) for _ in range(axes)))
        each = [[draw(st.integers(low, 3)) for _ in range(axes)] for low in (1, 0, 1)]
        bias = draw(st.one_of(st.none(), nearly((outside,)).flatmap(tensors)))
        weight = draw(nearly(kernel).flatmap(tensors))
        return (draw(tensors(shape)), weight, bias, *each, draw(st.integers(0, 9)) == 0, [0] * axes, groups)
    if name == "native_batch_norm":
        shape = draw(SHAPES)
        kept = [draw(nearly((shape[min(1, len(shape) - 1)],)).flatmap(tensors)) for _ in range(4)]
        return (draw(tensors(shape)), *kept, draw(st.booleans()), 0.1, 1e-5)
    if name == "addmm":
        n, m, k = draw(SIDES), draw(SIDES), draw(SIDES)
        return tuple(draw(nearly(shape).flatmap(tensors)) for shape in ((m,), (n, k), (k, m)))
    if name == "mm":
        n, m, k = draw(SIDES), draw(SIDES), draw(SIDES)
        return tuple(draw(nearly(shape).flatmap(tensors)) for shape in ((n, k), (k, m)))
    if name in ("max_pool2d_with_indices", "avg_pool2d", "avg_pool3d"):
        axes = 3 if name == "avg_pool3d" else 2
        shape = draw(st.one_of(SHAPES, st.lists(SIDES, min_size=axes + 2, max_size=axes + 2).map(tuple)))
        sizes = st.sampled_from((1, axes))
        pair = [
            draw(sizes.flatmap(lambda n, low=low, high=high: st.lists(st.integers(low, high), min_size=n, max_size=n)))
            for low, high in ((1, 4), (1, 4), (0, 2))
        ]
        dilation = [draw(st.lists(st.integers(1, 2), min_size=1, max_size=2))] if name.startswith("max") else []
        stride = draw(st.sampled_from([pair[1], []]))
        return (draw(tensors(shape)), pair[0], stride, pair[2], *dilation, draw(st.booleans()))
    if name in ("_adaptive_avg_pool2d", "adaptive_max_pool2d"):
        return draw(tensors(draw(st.one_of(SHAPES, st.tuples(SIDES, SIDES, SIDES, SIDES))))), [draw(SIDES), draw(SIDES)]
    if name in ("cat", "stack"):
        shape = draw(SHAPES)
        parts = [draw(nearly(shape).flatmap(tensors)) for _ in range(draw(st.integers(1, 4)))]
        return parts, draw(st.integers(-3, 3))
    dtype = draw(DTYPES)
    x = draw(tensors(dtype=dtype))
    if name == "mean":
        return x, draw(st.lists(st.integers(-3, 3), max_size=3)), draw(st.booleans())
    if name in ("div_", "bernoulli_"):
        return x, 0.5
    if name in ("add_", "mul_") and draw(st.booleans()):
        return torch.empty((), dtype=dtype, device="meta"), draw(st.sampled_from([1, 0.5, True]))
    if name in ("add_", "mul_"):
        return x, draw(nearly(tuple(x.shape)).flatmap(tensors))
    if name in ("add", "sub", "mul", "div"):
        wide = tuple(1 if draw(st.booleans()) else side for side in x.shape)
        wide = wide[draw(st.integers(0, len(wide) - 1)) :]
        return x, draw(st.one_of(nearly(wide).flatmap(tensors), st.just(2.0)))
    return (x, 2.0) if name == "pow" else (x,)


@settings(max_examples=1500, deadline=None, derandomize=True)
@given(st.sampled_from(list(RULES)).flatmap(lambda func: st.tuples(st.just(func), arguments(func))))
def test_a_rule_answers_as_torch_does_or_not_at_all(case: tuple[Any, tuple[Any, ...]]) -> None:
    func, args = case
    ours = outputs(func, args, {})
    if ours is None:
        return
    theirs = func(*args)  # raises where it should: then there must be no answer of ours
    if func._schema.is_mutable:
        assert ours is args[0] and theirs is args[0]
    assert isinstance(ours, Tensor) == isinstance(theirs, Tensor)
    pairs = list(zip(*((x,) if isinstance(x, Tensor) else x for x in (ours, theirs)), strict=True))
    if func is torch.ops.aten.native_batch_norm.default and not args[5]:
        pairs = pairs[:1]  # the statistics kept: none on the CPU, though torch's kernel for meta makes some
    for mine, other in pairs:
        assert (mine.shape, mine.dtype) == (other.shape, other.dtype)
        steps = zip(mine.stride(), other.stride(), mine.shape, strict=True)
        assert all(m == o for m, o, side in steps if side > 1)  # an axis of one place may have any


def test_no_rule_answers_for_real_numbers() -> None:
    x = torch.ones(2, 3)
    assert outputs(torch.ops.aten.relu.default, (x,), {}) is None
    assert outputs(torch.ops.aten.add.Tensor, (x, x.to("meta")), {}) is None


def test_every_rule_answers_the_plain_case() -> None:
    x, weight, kept = (torch.empty(shape, device="meta") for shape in ((2, 4, 8, 8), (6, 4, 3, 3), (4,)))
    matrix = torch.empty(4, 4, device="meta")
    plain = {
        "convolution": (x, weight, None, [1, 1], [0, 0], [1, 1], False, [0, 0], 1),
        "native_batch_norm": (x, kept, kept, kept, kept, False, 0.1, 1e-5),
        "addmm": (kept, matrix, matrix),
        "mm": (matrix, matrix),
        "max_pool2d_with_indices": (x, [3, 3], [2, 2], [1, 1]),
        "avg_pool2d": (x, [2, 2]),
        "avg_pool3d": (x[None], [2, 2, 2]),
        "_adaptive_avg_pool2d": (x, [1, 1]),
        "adaptive_max_pool2d": (x, [1, 1]),
        "cat": ([x, x], 1),
        "stack": ([x, x], 1),
        "div_": (x, 0.5),
        "bernoulli_": (x, 0.5),
        "mean": (x, [2, 3]),
        "pow": (x, 2),
    }
    for func in RULES:
        name = func.overloadpacket.__name__
        args = plain.get(name, (x, x) if name in ("add", "sub", "mul", "div", "add_", "mul_") else (x,))
        assert outputs(func, args, {}) is not None, name


def test_a_network_is_recorded_without_torch_s_compiler() -> None:
    script = (
        "import sys, torch; from convatlas import zoo; from convatlas.analysis.record import record\n"
        "for name in ('resnet18', 'densenet_40_12_cifar', 'mobilenet_v2', 'vgg11', 'fractalnet20_cifar'):\n"
        "    size, _ = zoo.native(name); record(zoo.build(name), torch.empty(1, *size), training=True)\n"
        "print('torch._dynamo' in sys.modules, 'sympy' in sys.modules)"
    )
    finished = python(script)
    assert finished.stdout.split() == ["False", "False"], finished.stderr


def test_what_was_made_before_is_made_again_with_its_own_memory() -> None:
    model = nn.Sequential(nn.ReLU(), nn.ReLU(), nn.ReLU())
    values = [op.makes[0] for op in record(model, torch.empty(1, 3)).ops]
    assert len({value.storage for value in values}) == 3


class Masking(nn.Module):
    """Two masks of one shape, with another number of places."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        with torch.device("cpu"):
            first, second = torch.tensor([True, False, False]), torch.tensor([True, True, False])
        return x[first], x[second]


def test_what_is_made_by_the_numbers_of_another_tensor_is_not_taken_from_the_last_time() -> None:
    tape = record(Masking(), torch.empty(3, 2))
    assert [value.shape for value in tape.outputs] == [(1, 2), (2, 2)]


class Places(nn.Module):
    """Works out places on the CPU and asks for one."""

    def forward(self, x: Tensor) -> Tensor:
        with torch.device("cpu"):
            places = torch.arange(4.0)
            return x * float((places + places).exp().sum())


def test_a_network_may_ask_for_numbers_that_it_made_itself() -> None:
    assert record(Places(), torch.empty(1, 4)).tensors == "meta"


def test_in_place_no_matter_how_a_tensor_lies_in_memory_but_never_into_one_place_twice() -> None:
    parts = torch.empty(2, 12, device="meta").chunk(4, 1)  # as the gates of an LSTM
    assert outputs(torch.ops.aten.tanh_.default, (parts[1],), {}) is parts[1]
    assert outputs(torch.ops.aten.tanh_.default, (torch.empty(2, 1, device="meta").expand(2, 3),), {}) is None
