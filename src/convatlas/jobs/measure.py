"""What networks cost on this machine: latency, throughput, peak memory and energy of plain eager evaluation in float32.

Nothing is folded, compiled or laid out anew, so that a figure is of the network and not of our tricks. Weights are untrained, which costs
the same arithmetic. Networks take turns, round after round, and each figure is the median of its rounds: what slows the machine for a
while then slows all of them, and shows in the spread.
"""

from __future__ import annotations

import json
import platform
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from convatlas.bundle.save import build
from convatlas.jobs.energy import Counter, find_counter
from convatlas.jobs.images import Progress, silent
from convatlas.zoo.heads.probe import ProbeConfig

MEASURED = ("latency", "throughput", "memory", "energy")
DEFAULT_BATCH = {"cpu": 8, "cuda": 64, "mps": 64}  # a processor is not faster with more, a GPU idles with fewer

_LEAST_SECONDS = {"latency": 0.1, "throughput": 0.1, "energy": 1.0}  # of a round; the counters of energy are slow
_KEPT_BYTES = 2e9  # of networks held between rounds; what is beyond is built anew each time


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A network to be measured, described so that another process can build it."""

    name: str
    network: str
    input_size: tuple[int, int, int]  # channels, height, width
    num_classes: int
    crops: int = 1  # such inputs an image
    config: dict[str, Any] = field(default_factory=dict)  # fields of the network's config that differ
    probe: dict[str, Any] | None = None  # the probe of a model folder

    def built(self) -> nn.Module:
        """The network in evaluation mode, its weights as initialised."""
        probe = None if self.probe is None else ProbeConfig(**{k: _tuple(v) for k, v in self.probe.items()})
        channels = self.input_size[0]
        return build(self.network, self.config, probe, num_classes=self.num_classes, channels=channels).eval()

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> Subject:
        return cls(**{**row, "input_size": tuple(row["input_size"])})


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One measured quantity of one network: the median of its rounds and their range, or why there is none."""

    value: float | None
    low: float | None = None
    high: float | None = None
    rounds: tuple[float, ...] = ()
    reason: str = ""  # why there is no value

    @classmethod
    def of(cls, rounds: Sequence[float]) -> Figure:
        return cls(value=median(rounds), low=min(rounds), high=max(rounds), rounds=tuple(rounds))


@dataclass(frozen=True, kw_only=True)
class Measurements:
    """The figures by network and quantity, and under what conditions they were taken."""

    figures: dict[str, dict[str, Figure]]
    conditions: dict[str, Any]


def measure(
    subjects: Sequence[Subject],
    quantities: Sequence[str],
    *,
    device: str,
    batch: int | None = None,
    repeats: int = 5,
    progress: Progress = silent,
) -> Measurements:
    """Measures `quantities` (of `MEASURED`) of every subject on `device`; `batch` is that of all but latency, which is of one image.

    Memory is read in a process of its own, once; all else in `repeats` rounds in which the networks take turns.
    """
    batch = batch or DEFAULT_BATCH[device]
    counter = find_counter(device) if "energy" in quantities else "not asked for"
    timed = [
        q for q in quantities if q in ("latency", "throughput") or (q == "energy" and isinstance(counter, Counter))
    ]
    rounds: dict[str, dict[str, list[float]]] = {s.name: {q: [] for q in timed} for s in subjects}
    steps = repeats * len(subjects) if timed else 0
    kept: dict[str, nn.Module] = {}
    for step in range(steps):
        subject = subjects[step % len(subjects)]
        model = kept[subject.name] if subject.name in kept else subject.built().to(device)
        if sum(map(_bytes, {**kept, subject.name: model}.values())) <= _KEPT_BYTES:
            kept[subject.name] = model
        for quantity in timed:
            shown = 1 if quantity == "latency" else batch
            images = _images(subject, shown).to(device)
            seconds, joules = _round(model, images, device, _LEAST_SECONDS[quantity], counter)
            figure = {"latency": seconds, "throughput": shown / seconds, "energy": joules / shown}[quantity]
            rounds[subject.name][quantity].append(figure)
        progress("measure", step + 1, steps)
    figures = {name: {q: Figure.of(values) for q, values in found.items()} for name, found in rounds.items()}
    if "memory" in quantities:
        for name, figure in _memory(subjects, device, batch, progress).items():
            figures[name]["memory"] = figure
    if "energy" in quantities and not isinstance(counter, Counter):
        for name in figures:
            figures[name]["energy"] = Figure(value=None, reason=counter)
    return Measurements(figures=figures, conditions=_conditions(quantities, device, batch, repeats, counter))


def _round(model: nn.Module, images: Tensor, device: str, least: float, counter: Counter | str) -> tuple[float, float]:
    """Median seconds and mean joules of a forward pass, after one that warms up; passes go on for `least` seconds."""
    seconds: list[float] = []
    with torch.inference_mode():
        model(images)
        _wait(device)
        joules = counter.joules() if isinstance(counter, Counter) else 0.0
        while sum(seconds) < least:
            started = time.perf_counter()
            model(images)
            _wait(device)
            seconds.append(time.perf_counter() - started)
        used = counter.joules() - joules if isinstance(counter, Counter) else 0.0
    return median(seconds), used / len(seconds)


def _bytes(model: nn.Module) -> int:
    return sum(parameter.nbytes for parameter in model.parameters())


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()
    elif device == "mps":
        torch.mps.synchronize()


def _images(subject: Subject, batch: int) -> Tensor:
    return torch.randn(batch * subject.crops, *subject.input_size, generator=torch.Generator().manual_seed(0))


def _memory(subjects: Sequence[Subject], device: str, batch: int, progress: Progress) -> dict[str, Figure]:
    if device == "cuda":
        return {subject.name: _gpu_memory(subject, batch) for subject in subjects}
    if device != "cpu" or sys.platform == "win32":
        reason = f"the peak of memory cannot be read on {device if device != 'cpu' else sys.platform}"
        return {subject.name: Figure(value=None, reason=reason) for subject in subjects}
    return _resident_memory(subjects, batch, progress)


def _gpu_memory(subject: Subject, batch: int) -> Figure:
    before = torch.cuda.memory_allocated()
    model, images = subject.built().to("cuda"), _images(subject, batch).to("cuda")
    torch.cuda.reset_peak_memory_stats()
    with torch.inference_mode():
        model(images)
    torch.cuda.synchronize()
    return Figure.of([float(torch.cuda.max_memory_allocated() - before)])


def _resident_memory(subjects: Sequence[Subject], batch: int, progress: Progress) -> dict[str, Figure]:
    """Asks `convatlas.jobs.resident`, which forks a fresh process for each network."""
    asked = {"batch": batch, "threads": torch.get_num_threads(), "subjects": [asdict(s) for s in subjects]}
    figures: dict[str, Figure] = {}
    command = [sys.executable, "-m", "convatlas.jobs.resident"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdin is not None and child.stdout is not None
        child.stdin.write(json.dumps(asked))
        child.stdin.close()
        for line in child.stdout:
            row = json.loads(line)
            taken = row["bytes"]
            figures[row["name"]] = Figure.of([float(taken)]) if taken else Figure(value=None, reason=row["reason"])
            progress("memory", len(figures), len(subjects))
    ended = Figure(value=None, reason=f"the measuring process ended with status {child.returncode}")
    return {subject.name: figures.get(subject.name, ended) for subject in subjects}


def _conditions(
    quantities: Sequence[str], device: str, batch: int, repeats: int, counter: Counter | str
) -> dict[str, Any]:
    """Under what the figures were taken, in the words that a reader of them needs."""
    processor = torch.cuda.get_device_name() if device == "cuda" else _processor()
    found: dict[str, Any] = {
        "device": device,
        "processor": processor,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "batch": batch,
        "rounds": repeats,
        "quantities": list(quantities),
        "mode": "plain eager evaluation in float32, batch norms not folded, channels first, weights untrained",
        "energy": counter.what if isinstance(counter, Counter) else counter,
    }
    if device == "cuda":
        found["memory"] = "peak of allocated GPU memory during one forward pass, weights and input included"
    else:
        found["memory"] = (
            "weights and input, and by how much the resident memory of a fresh process peaks above them during one forward pass; true to "
            "a few megabytes"
        )
    return found


def _processor() -> str:
    """The processor's name as the system has it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
