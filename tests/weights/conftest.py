"""Fixtures of the weights' tests: no test sees the user's caches, and none leaves this machine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from loopback import Server, serve
from tiny import backbone as backbone
from tiny import fitted as fitted
from tiny import one_thread as one_thread
from tiny import photos as photos


@pytest.fixture
def caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with empty caches: `torch/hub/checkpoints` and `hub/hub`."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    for variable in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "CONVATLAS_MIRROR"):
        monkeypatch.delenv(variable, raising=False)
    return tmp_path


@pytest.fixture
def server(caches: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server that stands for torchvision's and for the hub; nothing else is reachable."""
    with serve(Server()) as running:
        monkeypatch.setenv("HF_ENDPOINT", running.address)
        monkeypatch.setenv("CONVATLAS_MIRROR", running.address)
        for variable in ("NO_PROXY", "no_proxy"):
            monkeypatch.setenv(variable, "127.0.0.1,localhost")
        yield running
