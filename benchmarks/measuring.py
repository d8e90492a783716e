"""How every benchmark measures: whole processes, sides in turn, and targets judged by the figures themselves.

The machine may have other work to do, so a time alone says little. Sides run A B A B, and what is compared is the ratio within each
round, where a slow minute falls on both. A section of RESULTS.md is what a script prints: nothing in it is typed by hand.
"""

from __future__ import annotations

import json
import os
import platform
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared"  # the real images and weights
WEIGHTS = SHARED / "weights/mobilenet_v1_075_224_imagenet.safetensors"
CONVATLAS = Path(sys.executable).with_name("convatlas")

T = TypeVar("T")

_CALM, _EXTRA = 0.10, 2  # the share of the processors that others may take in a round, and how many rounds may be added
_others: list[float] = []  # their share in each round that counts, for the section's last line


@dataclass(frozen=True, kw_only=True)
class Finished:
    """A process that ended well, and what it took."""

    seconds: float  # from its start to its end
    cpu_seconds: float  # of all its threads, user and system
    peak_bytes: int  # of resident memory
    output: str

    @property
    def json(self) -> Any:
        return json.loads(self.output)


def process(*command: str | Path, **environment: str) -> Finished:
    """Runs a command to its end. The caller must be small: Linux counts what a process was forked from in its peak of memory."""
    words = [str(word) for word in command]
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        started = time.perf_counter()
        child = subprocess.Popen(words, stdout=out, stderr=err, env=os.environ | environment)
        _, status, usage = os.wait4(child.pid, 0)
        seconds = time.perf_counter() - started
        child.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        err.seek(0)
        if child.returncode:
            raise RuntimeError(f"{shlex.join(words)} ended with {child.returncode}:\n{err.read()[-3000:]}")
        scale = 1 if sys.platform == "darwin" else 1024
        cpu_seconds = usage.ru_utime + usage.ru_stime
        return Finished(seconds=seconds, cpu_seconds=cpu_seconds, peak_bytes=usage.ru_maxrss * scale, output=out.read())


def python(*arguments: str | Path, **environment: str) -> Finished:
    return process(sys.executable, *arguments, **environment)


@contextmanager
def folder() -> Iterator[Path]:
    """A temporary folder."""
    with tempfile.TemporaryDirectory(prefix="convatlas-bench-") as name:
        yield Path(name)


def fit(data: Path, *options: str | Path) -> Finished:
    """`convatlas fit` as a whole process with an empty cache, its report included; `.json` is its result."""
    with folder() as scratch:
        words = ("fit", data, "--out", scratch / "model", "--json", *options)
        return process(CONVATLAS, *words, CONVATLAS_CACHE=str(scratch / "cache"))


def interleaved(repeats: int, **sides: Callable[[], T]) -> dict[str, list[T]]:
    """Each side's results, the sides run in turn, `repeats` rounds, each beginning with the next side: none has always the same before it,
    whose caches and threads it would find warm.

    A round in which other processes took much of the machine is run again, up to `_EXTRA` times in all, and the calmest rounds are kept:
    which ones is decided by the others' share alone, never by what was measured.
    """
    rounds: list[tuple[float, dict[str, T]]] = []
    while len(rounds) < repeats + (_EXTRA if repeats > 1 else 0) and sum(b <= _CALM for b, _ in rounds) < repeats:
        before, results = _processor_seconds(), {}
        first = len(rounds) % len(sides)
        for name in [*list(sides)[first:], *list(sides)[:first]]:
            say(f"round {len(rounds) + 1}: {name}")
            results[name] = sides[name]()
        after = _processor_seconds()
        busy, own, capacity = (b - a for a, b in zip(before, after, strict=True))
        rounds.append((max(0.0, busy - own) / capacity if capacity else 0.0, results))
        say(f"others took {rounds[-1][0]:.0%} of the processors")
    calmest = sorted(range(len(rounds)), key=lambda i: rounds[i][0])[:repeats]
    kept = [rounds[i] for i in sorted(calmest)]
    _others.extend(share for share, _ in kept)
    return {name: [results[name] for _, results in kept] for name in sides}


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """Ours over theirs, round by round."""
    return [a / b for a, b in zip(ours, theirs, strict=True)]


def spread(values: Sequence[float], digits: int = 2) -> str:
    """The median, with the least and the greatest in brackets."""
    middle = f"{statistics.median(values):.{digits}f}"
    return middle if len(values) == 1 else f"{middle} ({min(values):.{digits}f}–{max(values):.{digits}f})"


def target(what: str, measured: str, met: bool) -> tuple[str, str, str]:
    """A row of a section's table of targets."""
    return what, measured, "**met**" if met else "**NOT met**"


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Markdown; columns after the first are set flush right."""
    lines = [list(header), ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def section(
    title: str, about: str, *tables: str, targets: Sequence[tuple[str, str, str]] = (), peers: Sequence[str] = ()
) -> None:
    """Prints the Markdown of one section, with the command that makes it and the machine it was made on."""
    heads = [table(("Target", "Measured", ""), targets)] if targets else []
    command = f"`python benchmarks/{Path(sys.argv[0]).name}`"
    print("\n\n".join([f"## {title}", about, *heads, *tables, f"{command}; {machine(peers)}."]))


def machine(peers: Sequence[str] = ()) -> str:
    """Where and when: processor, cores, versions, what else ran, date."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "numpy", "pillow", *peers))
    others = (
        f"; other work took {spread([100 * s for s in _others], 0)} % of the processors in a round" if _others else ""
    )
    return (
        f"{cores} cores of {_processor()}, {_memory_gb():.0f} GB, {platform.system()} {platform.machine()}, "
        f"Python {platform.python_version()}, {versions}{others}; code at {_commit()}; "
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    )


def say(text: str) -> None:
    print(f"  {text}", file=sys.stderr, flush=True)


def _commit() -> str:
    def git(*words: str) -> str:
        return subprocess.run(["git", "-C", ROOT, *words], capture_output=True, text=True).stdout.strip()

    return git("rev-parse", "--short", "HEAD") + (" with changes" if git("status", "--porcelain", "src") else "")


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "an unknown processor"


def _processor_seconds() -> tuple[float, float, float]:
    """So far: of all processes (and of other machines on the same hardware), of this one and its ended children, and there were."""
    stat = Path("/proc/stat")
    if not stat.exists():
        return 0.0, 0.0, 0.0
    user, nice, system, idle, wait, irq, softirq, steal = map(int, stat.read_text().split("\n", 1)[0].split()[1:9])
    busy = user + nice + system + irq + softirq + steal
    hertz, own = os.sysconf("SC_CLK_TCK"), os.times()
    return busy / hertz, sum(own[:4]), (busy + idle + wait) / hertz


def _memory_gb() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
