"""The peak of a network's resident memory, read in a process of its own: `python -m convatlas.jobs.resident`, JSON in and out.

This process imports torch and computes nothing; for each network it forks one that builds it, runs one forward pass and reads by how
much its resident memory peaked above what it held before the pass. To that are added, exactly, the bytes of weights and input. What the
libraries themselves occupy is not counted: a first pass of a tiny network brings most of them in beforehand.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import torch
from torch import nn

from convatlas.jobs.measure import Subject


def main() -> None:
    """Reads `{"batch", "threads", "subjects"}` from stdin and writes a line `{"name", "bytes", "reason"}` for each subject."""
    asked = json.load(sys.stdin)
    torch.set_num_threads(asked["threads"])
    for row in asked["subjects"]:
        subject = Subject.from_json(row)
        sys.stdout.write(json.dumps({"name": subject.name, **_in_a_fork(subject, asked["batch"])}) + "\n")
        sys.stdout.flush()


def _in_a_fork(subject: Subject, batch: int) -> dict[str, Any]:
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.write(writer, json.dumps(peak(subject, batch)).encode())
            status = 0
        finally:
            os._exit(status)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        text = pipe.read()
    _, status = os.waitpid(child, 0)
    if status or not text:
        code = os.waitstatus_to_exitcode(status)
        reason = f"signal {-code}, so there was probably too little memory" if code < 0 else f"status {code}"
        return {"bytes": None, "reason": f"the measuring process ended with {reason}"}
    return {"bytes": json.loads(text), "reason": ""}


def peak(subject: Subject, batch: int) -> int:
    """Bytes of weights, buffers and input, and by how much this process's resident memory peaks above what it holds before the pass."""
    model = subject.built()
    images = torch.zeros(
        batch * subject.crops, *subject.input_size
    )  # zeros that are written to, so that they are resident
    images.fill_(0.5)
    own = [*model.parameters(), *model.buffers(), images]
    with torch.inference_mode():
        _tiny()(torch.ones(1, 3, 16, 16))
        before = _start()
        model(images)
        return max(_peak() - before, 0) + sum(tensor.nbytes for tensor in own)


def _tiny() -> nn.Module:
    """What brings in the libraries' kernels of the usual layers."""
    layers = (
        nn.Conv2d(3, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 8, 3, padding=1, groups=8),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 8),
    )
    return nn.Sequential(*layers).eval()


def _start() -> int:
    """Bytes resident now, above which the peak will be read; on Linux the peak so far is forgotten."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return _highest()
    return _status("VmRSS")


def _peak() -> int:
    try:
        return _status("VmHWM")
    except OSError:
        return _highest()


def _status(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:"))


def _highest() -> int:
    """The highest so far, for systems without /proc: what building the network took at most is then hidden from the peak."""
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


if __name__ == "__main__":
    main()
