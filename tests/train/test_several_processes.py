"""Two processes are one that accumulates: gradients, parameters, losses; every image is measured once; what one meets stops both."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from pair import CASES
from safetensors.torch import load_file
from test_loop import small_net, stripes
from torch import Tensor

from convatlas.errors import ConvAtlasError
from convatlas.train import InMemory, TrainConfig, train
from convatlas.train.augment import changed
from convatlas.train.loop import answers
from convatlas.train.losses import Objective
from convatlas.train.order import Order, seed_of
from convatlas.train.processes import Alone, led, processes

fcntl = pytest.importorskip("fcntl", reason="pair.py forks")
STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trained once, whichever of pytest's workers comes first."""
    root = tmp_path_factory.getbasetemp()
    shared = root.parent if "PYTEST_XDIST_WORKER" in os.environ else root
    with (shared / "pairs.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (shared / "pairs").exists():
            script = Path(__file__).with_name("pair.py")
            subprocess.run([sys.executable, script, shared / "pairs.partial"], check=True)
            (shared / "pairs.partial").rename(shared / "pairs")
    return shared / "pairs"


def told(pairs: Path, case: str, count: int, rank: int = 0) -> dict[str, Any]:
    return json.loads((pairs / case / str(count) / f"{rank}.json").read_text())


def state(pairs: Path, case: str, count: int, rank: int = 0) -> dict[str, Tensor]:
    return load_file(pairs / case / str(count) / f"{rank}.safetensors")


@pytest.mark.parametrize("case", [case for case in CASES if case not in ("stop", "fault")])
def test_two_processes_are_one_that_accumulates(pairs: Path, case: str) -> None:
    one, two, other = state(pairs, case, 1), state(pairs, case, 2), state(pairs, case, 2, rank=1)
    assert all(torch.equal(two[key], other[key]) for key in two)
    parameters = [key for key in one if not key.endswith(STATISTICS)]
    if CASES[case].micro_batch * 2 == CASES[case].batch_size:
        assert all(torch.equal(one[key], two[key]) for key in parameters)
    else:  # more than one addition a process: in another order
        assert all(torch.allclose(one[key], two[key], rtol=1e-5, atol=1e-6) for key in parameters)
    assert not torch.equal(one["conv.weight"], small_net().state_dict()["conv.weight"])
    without = [
        [{key: value for key, value in epoch.items() if key != "held_out"} for epoch in told(pairs, case, n)["history"]]
        for n in (1, 2)
    ]
    for epoch, same in zip(*without, strict=True):
        assert epoch == pytest.approx(same, rel=1e-6)


def test_running_statistics_are_the_mean_of_what_each_would_have_kept(pairs: Path) -> None:
    config, images = CASES["one_step"], stripes(40, seed=1)
    kept: list[dict[str, Tensor]] = []
    for indices, seed in Order(images.labels, config).micro_batches(0, 20, until=1):
        model = copy.deepcopy(small_net()).to(memory_format=torch.channels_last)
        torch.manual_seed(seed_of(seed, "dropout", 0))
        Objective(model.train(), config)(*changed(images.images[indices], images.labels[indices], config, seed))
        kept.append(model.state_dict())
    two = state(pairs, "one_step", 2)
    for key in ("norm.running_mean", "norm.running_var"):
        assert torch.allclose(two[key], (kept[0][key] + kept[1][key]) / 2, atol=1e-7)
        assert not torch.allclose(two[key], kept[0][key], atol=1e-7)


def test_every_image_is_measured_once(pairs: Path) -> None:
    model, held_out = small_net(), stripes(21, seed=2)
    model.load_state_dict(state(pairs, "sgd", 2))
    model.eval()
    with torch.no_grad():
        x = held_out.images.float() / 255
        x = torch.nn.functional.interpolate(x, [20, 20], mode="bilinear", antialias=True)
        mean, std = (torch.tensor(values)[:, None, None] for values in (CASES["sgd"].mean, CASES["sgd"].std))
        right = int((model((x - mean) / std).argmax(1) == held_out.labels).sum())
    assert told(pairs, "sgd", 2)["accuracy"] == right / 21


def test_asked_to_stop_one_stops_with_the_other(pairs: Path) -> None:
    assert [told(pairs, "stop", 2, rank)["stopped"] for rank in (0, 1)] == ["stopped after step 3 of 4"] * 2
    assert told(pairs, "stop", 1)["stopped"] == "stopped after step 2 of 4"


def test_a_fault_of_one_is_told_by_both(pairs: Path) -> None:
    errors = [told(pairs, "fault", 2, rank)["error"] for rank in (0, 1)]
    assert errors[0] == errors[1]
    assert "the first layer that gives no finite numbers is relu (ReLU)" in errors[0]
    assert torch.equal(state(pairs, "fault", 2)["conv.weight"], small_net().state_dict()["conv.weight"])


@pytest.mark.parametrize(
    ("count", "device", "message"),
    [
        (0, "cpu", "0 processes on 1 machines"),
        (2, "mps", "cannot share Apple's GPU"),
        (99, "cuda", "99 processes need as many GPUs, and there are"),
    ],
)
def test_numbers_of_processes_that_cannot_be(count: int, device: str, message: str) -> None:
    with pytest.raises(ConvAtlasError, match=message):
        processes(count, device)


class Three(Alone):
    """As the loop sees three processes."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 3


@pytest.mark.parametrize(
    ("fields", "message"),
    [({"batch_size": 16}, "a batch of 16 cannot be parted among 3"), ({"sync_batchnorm": True}, "needs GPUs")],
)
def test_what_several_processes_cannot_train(fields: dict[str, Any], message: str) -> None:
    config = TrainConfig(**{"epochs": 1, "batch_size": 12, "image_size": 20, **fields})
    with pytest.raises(ConvAtlasError, match=message):
        train(small_net(), stripes(40, seed=1), config, together=Three())


@pytest.mark.parametrize("count", range(1, 6))
@pytest.mark.parametrize("images", [1, 2, 4, 7])
def test_each_image_is_judged_once_though_there_are_more_processes_than_images(count: int, images: int) -> None:
    class One(Alone):
        def __init__(self, rank: int) -> None:
            super().__init__()
            self.rank, self.count = rank, count

    config, held_out = TrainConfig(epochs=1, batch_size=2, image_size=20), stripes(images, seed=2)
    seen = [
        int(index)
        for rank in range(count)
        for chosen, logits in answers(small_net(), held_out, config, One(rank))
        for index in chosen
        if logits.shape == (len(chosen), 2)
    ]
    assert sorted(seen) == list(range(images))


def test_the_work_of_the_first_is_done_once_and_its_failure_ends_all() -> None:
    class Other(Alone):
        failed = False

        def __init__(self) -> None:
            super().__init__()
            self.rank = 1

        def all(self, answer: Any) -> list[Any]:
            return [self.failed, answer]

    assert led(Alone(), lambda: 5) == 5
    assert led(Other(), lambda: 5) is None
    Other.failed = True
    with pytest.raises(SystemExit):
        led(Other(), lambda: 5)
    with pytest.raises(ZeroDivisionError):
        led(Alone(), lambda: 1 // 0)


def test_images_and_labels_go_together() -> None:
    with pytest.raises(ValueError, match="4 images with 3 labels"):
        InMemory(torch.zeros(4, 3, 8, 8, dtype=torch.uint8), torch.zeros(3, dtype=torch.int64))
