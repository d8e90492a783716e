"""Memory that is freed within a training stays with the process, and is given back after it."""

import ctypes
import resource
import sys
from contextlib import suppress
from pathlib import Path

import pytest
import torch

from convatlas.train.allocator import freed_memory_kept

LARGE = 96 << 20  # bytes; blocks of more than 32 MiB are mapped

glibc = pytest.mark.skipif(
    sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "gnu_get_libc_version"),
    reason="the C library is not glibc",
)


def faults() -> int:
    """Pages that the kernel hands out for a large block."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(LARGE, dtype=torch.uint8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


@glibc
def test_a_block_is_not_paid_for_every_time():
    with freed_memory_kept():
        paid = [faults() for _ in range(20)]  # the heap takes some rounds to settle
    assert paid[-1] < LARGE / resource.getpagesize() / 100


@glibc
@pytest.mark.parametrize("fails", [False, True])
def test_memory_is_given_back(fails: bool):
    kept = 0
    with suppress(RuntimeError), freed_memory_kept():
        faults()
        kept = resident()
        if fails:
            raise RuntimeError
    assert resident() < kept - LARGE / 2


def test_where_the_c_library_is_another_nothing_happens(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    with freed_memory_kept():
        assert torch.ones(3).sum() == 3
