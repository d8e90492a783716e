"""Measuring: what is asked for and nothing else, with its conditions; memory that follows the maps; counters that may not be there."""

from __future__ import annotations

import ctypes
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from convatlas import catalogue
from convatlas.jobs import measure as measuring
from convatlas.jobs.compare import compare
from convatlas.jobs.energy import Counter, find_counter
from convatlas.jobs.fit import FitResult
from convatlas.jobs.measure import Figure, Subject, measure


def subject(name: str) -> Subject:
    network = catalogue.find(name)
    return Subject(name=name, network=name, input_size=network.input_size, num_classes=network.num_classes)


def test_rounds_take_turns_and_a_figure_is_their_median() -> None:
    seen: list[tuple[str, int, int]] = []
    found = measure(
        [subject("lenet5"), subject("resnet20_cifar")],
        ["latency", "throughput"],
        device="cpu",
        batch=2,
        repeats=3,
        progress=lambda *step: seen.append(step),
    )
    assert seen == [("measure", done, 6) for done in range(1, 7)]
    for figures in found.figures.values():
        assert set(figures) == {"latency", "throughput"}
        for figure in figures.values():
            assert figure.value is not None and figure.low is not None and figure.high is not None
            assert len(figure.rounds) == 3 and figure.value in figure.rounds
            assert 0 < figure.low <= figure.value <= figure.high
    latency = {name: figures["latency"].value for name, figures in found.figures.items()}
    assert (latency["lenet5"] or 0) < (latency["resnet20_cifar"] or 0)  # 0.3 million mult-adds against 41 million
    assert found.conditions["threads"] == torch.get_num_threads()
    assert (found.conditions["batch"], found.conditions["rounds"], found.conditions["device"]) == (2, 3, "cpu")


def test_networks_beyond_what_is_kept_are_built_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[str] = []
    plain = Subject.built

    def counted(self: Subject) -> Any:
        built.append(self.name)
        return plain(self)

    monkeypatch.setattr(Subject, "built", counted)
    monkeypatch.setattr(measuring, "_KEPT_BYTES", 500_000)  # LeNet-5 has 240 kB, ResNet-20 has 1.1 MB
    measure([subject("lenet5"), subject("resnet20_cifar")], ["latency"], device="cpu", repeats=3)
    assert built == ["lenet5", "resnet20_cifar", "resnet20_cifar", "resnet20_cifar"]


@pytest.mark.skipif(sys.platform == "win32", reason="there is no fork")
def test_memory_is_the_weights_and_what_a_pass_takes_at_most() -> None:
    peaks = {
        batch: {
            name: figures["memory"].value or 0
            for name, figures in measure(
                [subject("alexnet_owt"), subject("vgg11_bn")], ["memory"], device="cpu", batch=batch, repeats=1
            ).figures.items()
        }
        for batch in (1, 8)
    }
    weights = {name: 4 * catalogue.find(name).parameters for name in peaks[1]}
    image = 4 * 3 * 224 * 224
    first = 4 * 64 * 224 * 224  # the first map of VGG; its norm's output stands beside it
    for batch, found in peaks.items():
        assert found["vgg11_bn"] >= weights["vgg11_bn"] + batch * (image + 1.8 * first)
        assert (
            found["vgg11_bn"] <= weights["vgg11_bn"] + batch * (image + 5 * first) + 120e6
        )  # a convolution's own copies
        assert found["alexnet_owt"] >= weights["alexnet_owt"] + batch * image
    assert peaks[8]["vgg11_bn"] - peaks[1]["vgg11_bn"] > 7 * 1.5 * first


@pytest.mark.skipif(sys.platform == "win32", reason="there is no fork")
def test_a_process_that_dies_is_a_reason_and_the_others_are_measured() -> None:
    rows = [
        {"name": "bad", "network": "lenet5", "input_size": [3, 5, 5], "num_classes": 10, "config": {}, "probe": None},
        {
            "name": "good",
            "network": "lenet5",
            "input_size": [1, 32, 32],
            "num_classes": 10,
            "config": {},
            "probe": None,
        },
    ]
    asked = json.dumps({"batch": 1, "threads": 1, "subjects": rows})
    done = subprocess.run(
        [sys.executable, "-m", "convatlas.jobs.resident"], input=asked, capture_output=True, text=True, timeout=120
    )
    bad, good = map(json.loads, done.stdout.splitlines())
    assert bad["bytes"] is None and "status 1" in bad["reason"]
    assert good["bytes"] > 4 * 60_000


def rapl(folder: Path, number: int, name: str, microjoules: int, most: int = 1_000_000) -> Path:
    zone = folder / f"intel-rapl:{number}"
    zone.mkdir(parents=True)
    (zone / "name").write_text(f"{name}\n")
    (zone / "energy_uj").write_text(f"{microjoules}\n")
    (zone / "max_energy_range_uj").write_text(f"{most}\n")
    return zone


def test_packages_are_added_and_their_counters_may_start_again(tmp_path: Path) -> None:
    first, second = rapl(tmp_path, 0, "package-0", 900_000), rapl(tmp_path, 1, "package-1", 0)
    rapl(tmp_path, 2, "psys", 5)
    counter = find_counter("cpu", powercap=tmp_path)
    assert isinstance(counter, Counter) and "2 processor packages" in counter.what
    before = counter.joules()
    (first / "energy_uj").write_text("100000")  # 0.1 J up to the range, and 0.1 J beyond
    (second / "energy_uj").write_text("500000")
    assert counter.joules() - before == pytest.approx(0.7)
    assert counter.joules() - before == pytest.approx(0.7)


def test_counters_that_cannot_be_read_are_reasons(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "no processor package" in str(find_counter("cpu", powercap=tmp_path / "absent"))
    assert "mps" in str(find_counter("mps"))
    rapl(tmp_path, 0, "package-0", 1)

    def refuse(self: Path, *args: Any, **kwargs: Any) -> str:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "read_text", refuse)
    assert "administrator" in str(find_counter("cpu", powercap=tmp_path))


class FakeNvml:
    """What Nvidia's library does, as far as it is asked; `status` is what reading the energy returns."""

    def __init__(self, status: int = 0) -> None:
        self.status, self.millijoules = status, 1_000

    def nvmlInit_v2(self) -> int:
        return 0

    def nvmlDeviceGetHandleByIndex_v2(self, index: int, handle: Any) -> int:
        return 0

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: Any, into: Any) -> int:
        ctypes.cast(into, ctypes.POINTER(ctypes.c_ulonglong)).contents.value = self.millijoules
        return self.status


def test_a_gpu_counts_millijoules_or_says_that_it_does_not() -> None:
    library = FakeNvml()
    counter = find_counter("cuda", nvml=library)
    assert isinstance(counter, Counter)
    before = counter.joules()
    library.millijoules += 2_500
    assert counter.joules() - before == pytest.approx(2.5)
    assert "counts no energy" in str(find_counter("cuda", nvml=FakeNvml(status=3)))


def test_energy_is_divided_by_the_images(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter(range(10_000))
    counter = Counter(what="a clockwork", joules=lambda: 6.0 * next(ticks))  # 6 J between two readings
    monkeypatch.setattr(measuring, "find_counter", lambda device: counter)
    monkeypatch.setattr(measuring, "_LEAST_SECONDS", {"energy": 1e-9})  # one pass a round
    found = measure([subject("lenet5")], ["energy"], device="cpu", batch=3, repeats=2)
    assert found.figures["lenet5"]["energy"].rounds == (2.0, 2.0)
    assert found.conditions["energy"] == "a clockwork"


def test_a_comparison_measures_only_what_it_is_asked_for(fitted: FitResult, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "find_counter", lambda device: "nobody counts here")
    result = compare(
        ["lenet5", "resnet20_cifar", fitted.bundle], by=["latency", "energy"], repeats=1, device="cpu"
    ).json
    for row in result["networks"]:
        assert row["latency"]["value"] > 0
        assert row["energy"] == {"value": None, "low": None, "high": None, "rounds": [], "reason": "nobody counts here"}
        assert row["throughput"] is row["memory"] is None
    assert result["unreadable"] == {"energy": ["nobody counts here"]}
    assert "Energy is not readable here: nobody counts here." in result["notes"]
    assert result["measured"]["quantities"] == ["latency", "energy"]
    assert [row["latency"]["value"] for row in result["networks"]] == sorted(
        r["latency"]["value"] for r in result["networks"]
    )
    assert result["cost"] == "latency"
    assert compare(["lenet5", "resnet20_cifar"], by="energy", repeats=1, device="cpu").json["cost"] == "mult_adds"


def test_a_figure_without_rounds_has_a_reason() -> None:
    figure = Figure.of([3.0, 1.0, 2.0])
    assert (figure.value, figure.low, figure.high, figure.reason) == (2.0, 1.0, 3.0, "")


@pytest.mark.gpu
def test_a_gpus_peak_is_at_least_the_weights_and_the_input() -> None:
    found = measure([subject("resnet18")], ["latency", "throughput", "memory"], device="cuda", batch=16, repeats=2)
    peak = found.figures["resnet18"]["memory"].value or 0
    assert peak >= 4 * catalogue.find("resnet18").parameters + 16 * 4 * 3 * 224 * 224
