"""Features by several processes: each content is run once by one of them, and the first ends with what one process would have had."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import convatlas
from convatlas.data import scan
from convatlas.jobs import shares
from convatlas.jobs.images import Pass, extract_features
from convatlas.train.processes import Alone
from convatlas.weights.source import find_weights
from tiny import write_split, write_weights


class InThreads(Alone):
    """Processes that are threads: what one asks, the others answer."""

    def __init__(self, rank: int, answers: list[Any], barrier: threading.Barrier) -> None:
        super().__init__("cpu")
        self.rank, self.count = rank, barrier.parties
        self._answers, self._barrier = answers, barrier

    def all(self, answer: Any) -> list[Any]:
        self._answers[self.rank] = answer
        self._barrier.wait(60)
        found = list(self._answers)
        self._barrier.wait(60)
        return found


def features(photos: Path, backbone: Path) -> Pass:
    dataset = scan(photos)
    return extract_features(dataset, dataset.records, find_weights(backbone), device="cpu")


def vectors(passed: Pass) -> dict[str, np.ndarray]:
    sha256s = [item.sha256 for item in passed.examined if item.facts is not None]
    return {**passed.store.means(sha256s), **{f"{k} ±": v for k, v in passed.store.deviations(sha256s).items()}}


@pytest.mark.parametrize("count", [1, 2, 3, 50])
@pytest.mark.parametrize("elsewhere", [False, True])
def test_each_content_is_run_once_and_the_result_is_that_of_one_process(
    backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int, elsewhere: bool
) -> None:
    """Processes on one machine share the cache; on others what they found must come over."""
    source, photos = find_weights(backbone), write_split(tmp_path / "photos", {"train": 8, "test": 4})
    copy = photos / "train/red/copy.png"
    copy.write_bytes((photos / "train/blue/000.png").read_bytes())
    (photos / "train/red/broken.png").write_bytes(b"no image")
    dataset = scan(photos)
    contents = len({dataset.read(record) for record in dataset.records}) - 1  # one of them is no image
    monkeypatch.setenv("CONVATLAS_CACHE", str(tmp_path / "alone"))
    alone = features(photos, backbone)
    caches = threading.local()
    if elsewhere:  # a cache of its own for each
        monkeypatch.setattr("convatlas.cache.cache_folder", lambda: getattr(caches, "folder", tmp_path / "shared0"))
    monkeypatch.setenv("CONVATLAS_CACHE", str(tmp_path / "shared0"))
    answers, barrier = [None] * count, threading.Barrier(count)
    ran = [0] * count

    def one(rank: int) -> None:
        caches.folder = tmp_path / f"shared{rank}"
        ran[rank] = shares.share_features(
            dataset, dataset.records, source, InThreads(rank, answers, barrier), device="cpu"
        )

    threads = [threading.Thread(target=one, args=(rank,)) for rank in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert sum(ran) == contents
    assert max(ran) - min(ran) <= 3 or count > contents
    again = features(photos, backbone)
    assert again.extraction.forwarded == again.extraction.decoded == 0
    ours, theirs = vectors(again), vectors(alone)
    assert ours.keys() == theirs.keys()
    assert all(np.allclose(ours[key], theirs[key], rtol=1e-5, atol=1e-6) for key in ours)
    failures = [item.failure.kind for item in again.examined if item.failure]
    assert failures == [item.failure.kind for item in alone.examined if item.failure] and len(failures) == 1


def test_a_fit_by_two_processes_is_one_fit(photos: Path, backbone: Path, tmp_path: Path) -> None:
    words = [sys.executable, "-m", "convatlas", "fit", photos, "--weights", backbone, "--no-report", "--json"]
    environment = {**os.environ, "CONVATLAS_CACHE": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1"}
    run = subprocess.run(
        [*words, "--out", tmp_path / "two", "--processes", "2"], capture_output=True, timeout=300, env=environment
    )
    assert run.returncode == 0, run.stderr.decode()
    two = json.loads(run.stdout)
    one = convatlas.fit(photos, weights=backbone, out=tmp_path / "one", report=False).json
    assert two["counts"]["forwarded"] == 0 and two["counts"]["from_cache"] == 36
    assert (two["accuracy"], two["plan"], two["strength"]) == (one["accuracy"], one["plan"], one["strength"])
    assert two["log_loss"] == pytest.approx(one["log_loss"], rel=1e-4)
    assert (tmp_path / "two/model.safetensors").is_file()


@pytest.mark.slow
def test_a_fit_by_two_machines_is_one_fit(photos: Path, backbone: Path, tmp_path: Path) -> None:
    """Each with a cache of its own, as on different machines; what they say to one another goes by the loopback."""
    words = [sys.executable, "-m", "convatlas", "fit", photos, "--weights", backbone, "--no-report", "--json"]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {**os.environ, "OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    runs = [
        subprocess.Popen(
            [*words, "--out", tmp_path / f"model{node}", "--nodes", "2"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**shared, "NODE_RANK": str(node), "CONVATLAS_CACHE": str(tmp_path / f"cache{node}")},
        )
        for node in range(2)
    ]
    try:
        (first, errors), (second, _) = (run.communicate(timeout=300) for run in runs)
    finally:
        for run in runs:
            run.kill()
    assert [run.returncode for run in runs] == [0, 0], errors.decode()
    two = json.loads(first)
    one = convatlas.fit(photos, weights=backbone, out=tmp_path / "one", report=False).json
    assert two["counts"]["forwarded"] == 0 and two["counts"]["from_cache"] == 36
    assert (two["accuracy"], two["plan"], two["strength"]) == (one["accuracy"], one["plan"], one["strength"])
    assert two["log_loss"] == pytest.approx(one["log_loss"], rel=1e-4)
    assert not second and not (tmp_path / "model1").exists()


@pytest.mark.slow
def test_several_networks_are_ranked_by_two_processes_as_by_one(photos: Path, backbone: Path, tmp_path: Path) -> None:
    """A network that cannot be run is the first process's to tell, and does not keep the others waiting."""
    folder = tmp_path / "weights"
    folder.mkdir()
    write_weights(folder / "a.safetensors")
    write_weights(folder / "b.safetensors", name="resnet32_cifar")
    (folder / "broken.safetensors").write_bytes(b"no tensors")
    (folder / "broken.json").write_text((folder / "a.json").read_text())
    words = [sys.executable, "-m", "convatlas", "fit", photos, "--backbones", folder, "--no-report", "--json"]
    environment = {**os.environ, "CONVATLAS_CACHE": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1"}
    run = subprocess.run(
        [*words, "--out", tmp_path / "two", "--processes", "2"], capture_output=True, timeout=300, env=environment
    )
    assert run.returncode == 0, run.stderr.decode()
    two = json.loads(run.stdout)["networks"]
    one = convatlas.fit(photos, backbones=folder, out=tmp_path / "one", report=False).json["networks"]
    assert [(row["name"], row.get("accuracy"), row["failure"]) for row in two["rows"]] == [
        (row["name"], row.get("accuracy"), row["failure"]) for row in one["rows"]
    ]
    assert sum(row["failure"] is None for row in one["rows"]) == 2


@pytest.mark.parametrize("given", [{"processes": 0}, {"nodes": 0}])
def test_no_processes_at_all_are_refused(photos: Path, backbone: Path, tmp_path: Path, given: dict[str, Any]) -> None:
    with pytest.raises(convatlas.ConvAtlasError, match="give at least one"):
        convatlas.fit(photos, weights=backbone, out=tmp_path / "model", **given)
