"""A recorded network is given back as it was lent: whatever it keeps, draws or writes into, and however it is wrapped."""

from __future__ import annotations

import random
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from convatlas.analysis.analysis import analyse
from convatlas.analysis.cost import total
from convatlas.analysis.record import UnrunnableError, record


class Notes:
    """An object that a network keeps notes in."""

    __slots__ = ("last", "never")

    def __init__(self) -> None:
        self.last: Any = 0


class Counter:
    def __init__(self) -> None:
        self.calls = 0
        self.seen: list[Any] = []


class Keeping(nn.Module):
    """Keeps what it can wherever it can, and needs real numbers."""

    steps: Tensor
    shared: ClassVar[dict[str, Tensor]] = {}

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3))
        self.register_buffer("steps", torch.zeros(()))
        self.deep: dict[str, Any] = {"a": ({"b": [1]},)}
        self.counter = Counter()
        self.notes = Notes()
        self.recent: deque[Tensor] = deque(maxlen=2)
        self.shapes: set[tuple[int, ...]] = {(0,)}
        self.generator = torch.Generator().manual_seed(1)

    def forward(self, x: Tensor) -> Tensor:
        self.shared["x"] = self.notes.last = x
        self.deep["a"][0]["b"].append(x)
        self.counter.calls += 1
        self.counter.seen.append(x)
        self.recent.append(x)
        self.shapes.add(tuple(x.shape))
        with torch.no_grad():
            self.weight.mul_(2)
            self.steps += 1
        x = x * random.random() + float(np.random.rand()) + torch.rand(x.shape, generator=self.generator)
        return x * self.weight if bool(x.sum() > self.steps) else x


@pytest.mark.parametrize("training", [False, True])
def test_what_a_network_changes_in_a_pass_is_changed_back(training: bool) -> None:
    model = Keeping()
    drawn = random.getstate(), str(np.random.get_state()), model.generator.get_state(), torch.get_rng_state()
    assert record(model, torch.ones(2, 3), training=training).tensors == "real"
    assert (Keeping.shared, model.deep, model.counter.calls, model.counter.seen) == ({}, {"a": ({"b": [1]},)}, 0, [])
    assert (model.notes.last, list(model.recent), model.shapes) == (0, [], {(0,)})
    assert (model.steps.item(), model.weight.tolist(), model.weight.requires_grad) == (0, [1, 1, 1], True)
    assert (random.getstate(), str(np.random.get_state())) == drawn[:2]
    assert torch.equal(model.generator.get_state(), drawn[2]) and torch.equal(torch.get_rng_state(), drawn[3])


class WithoutGraph(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)

    @torch.inference_mode()
    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


def test_inference_mode_hides_no_operation() -> None:
    model, x = WithoutGraph(), torch.ones(1, 3, 5, 5)
    assert total(record(model, x).ops).mult_adds == 300
    with torch.inference_mode():
        assert total(record(model.conv, x).ops).mult_adds == 300


def test_a_network_wrapped_for_several_devices_is_that_network() -> None:
    found = analyse(nn.DataParallel(nn.Sequential(nn.Conv2d(3, 4, 1))), torch.empty(1, 3, 5, 5))
    assert (found.tape.tensors, found.whole.cost.mult_adds, found.layers[0].path) == ("meta", 300, "0")
    assert found.training


def lazy() -> nn.Module:
    return nn.Sequential(nn.LazyConv2d(4, 1))


def scripted() -> nn.Module:
    return nn.Sequential(torch.jit.script(nn.ReLU()))


class Threaded(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        made: list[Tensor] = []
        thread = threading.Thread(target=lambda: made.append(self.conv(x)))
        thread.start()
        thread.join()
        return made[0]


class Leaving(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        raise SystemExit(3)


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (lazy, r"0 \(LazyConv2d\) has no weight yet: run the network on an example once"),
        (scripted, r"0 \(.*\) is TorchScript, which hides its operations"),
        (Threaded, "conv runs in a thread of its own, which cannot be recorded"),
        (Leaving, "Leaving cannot take 1×3×4×4: SystemExit"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*")  # on its way out, and still in use
def test_what_cannot_be_seen_is_refused_in_one_sentence(
    build: Callable[[], nn.Module], says: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UnrunnableError, match=says):
        record(build(), torch.ones(1, 3, 4, 4))
    assert capfd.readouterr().err == ""


@pytest.mark.filterwarnings("ignore:Sparse CSR")  # torch's, on the first sparse tensor
def test_a_sparse_buffer_is_read_like_any_other() -> None:
    class Sparse(nn.Module):
        matrix: Tensor

        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("matrix", torch.eye(4).to_sparse_csr())

        def forward(self, x: Tensor) -> Tensor:
            return self.matrix @ x

    assert record(Sparse(), torch.empty(4, 2)).outputs[0].shape == (4, 2)
