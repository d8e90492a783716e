"""Counters of energy, where this machine lets one be read: RAPL of the processor through powercap, NVML of an Nvidia GPU.

Both count joules since some moment; the difference of two readings is what the whole package or board has used, other programs
included and nothing subtracted. Where neither can be read there is a reason instead of a number.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

POWERCAP = Path("/sys/class/powercap")
_NVML = "libnvidia-ml.so.1"


@dataclass(frozen=True, kw_only=True)
class Counter:
    """A counter of joules that only grows."""

    what: str
    joules: Callable[[], float]


def find_counter(device: str, *, powercap: Path = POWERCAP, nvml: Any = None) -> Counter | str:
    """The counter of `device` (cpu, cuda, mps), or why there is none. `nvml` stands in for Nvidia's library."""
    if device == "cuda":
        return _gpu(nvml)
    if device != "cpu":
        return f"no counter of energy is known for {device}"
    return _packages(powercap)


def _packages(powercap: Path) -> Counter | str:
    """The sum of the processor's packages; `intel-rapl` is what Linux calls AMD's as well."""
    try:
        zones = [zone for zone in sorted(powercap.glob("intel-rapl:*")) if zone.name.count(":") == 1]
        packages = [zone for zone in zones if (zone / "name").read_text().startswith("package")]
        if not packages:
            return f"{powercap} lists no processor package"
        zones_read = [_Zone(zone) for zone in packages]
    except PermissionError:
        return f"{powercap} may be read by the administrator only"
    except (OSError, ValueError) as error:
        return f"{powercap} cannot be read ({error})"
    plural = "s" if packages[1:] else ""
    return Counter(
        what=f"RAPL of {len(packages)} processor package{plural}, other programs included",
        joules=lambda: sum(zone.joules() for zone in zones_read),
    )


class _Zone:
    """One RAPL zone, whose counter of microjoules starts again at zero now and then."""

    def __init__(self, folder: Path) -> None:
        self._energy = folder / "energy_uj"
        self._range = int((folder / "max_energy_range_uj").read_text())
        self._last = int(self._energy.read_text())
        self._total = 0

    def joules(self) -> float:
        now = int(self._energy.read_text())
        self._total += now - self._last if now >= self._last else now - self._last + self._range
        self._last = now
        return self._total / 1e6


def _gpu(library: Any) -> Counter | str:
    try:
        nvml = library if library is not None else ctypes.CDLL(_NVML)
    except OSError:
        return f"{_NVML} is not on this machine"
    handle = ctypes.c_void_p()
    energy = ctypes.c_ulonglong()  # millijoules

    def read() -> int:
        return nvml.nvmlDeviceGetTotalEnergyConsumption(handle, ctypes.byref(energy))

    if nvml.nvmlInit_v2() or nvml.nvmlDeviceGetHandleByIndex_v2(0, ctypes.byref(handle)) or read():
        return "this GPU or its driver counts no energy"

    def joules() -> float:
        read()
        return energy.value / 1e3

    return Counter(what="NVML of GPU 0, the whole board", joules=joules)
