"""An interrupted fit that trains: the same command goes on, and what it gives is what it would have given."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from convatlas.jobs.fit import fit
from convatlas.transfer import finetune
from convatlas.transfer.workshop import FOUND

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs signals and forks")
TOLD = "import sys; from convatlas.cli import main; sys.argv[0] = 'convatlas'; main()"


@pytest.mark.parametrize(
    ("kills", "plans"),
    [
        (3, ("tune:stage3", "scratch")),
        pytest.param(60, ("tune:stage3", "tune:all", "scratch"), marks=pytest.mark.slow),
    ],
)
def test_ended_at_any_moment_it_ends_the_same(
    kills: int, plans: tuple[str, ...], photos: Path, backbone: Path, tmp_path: Path
) -> None:
    script = Path(__file__).with_name("fit_kills.py")
    words = [sys.executable, script, tmp_path, photos, backbone, str(kills), "3", *plans]
    done = subprocess.run([*map(str, words)], stdout=subprocess.PIPE, check=True)
    found = json.loads(done.stdout)
    assert found["same"] and found["failed"] == 0
    assert found["killed"] > 0 and found["stopped"] > 0
    assert found["beyond"] <= found["killed"], "a kill loses the step that it falls into, a stop nothing"


def test_ctrl_c_says_that_the_same_command_goes_on(photos: Path, backbone: Path, tmp_path: Path) -> None:
    words = ["fit", photos, "--weights", backbone, "--out", tmp_path / "model", "--plan", "scratch", "--no-report"]
    process = subprocess.Popen(
        [sys.executable, "-c", TOLD, *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),  # a shell's background job ignores it
    )
    cache = Path(os.environ["CONVATLAS_CACHE"])
    while process.poll() is None and not any(cache.glob("*.training/metrics.jsonl")):
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    printed, said = process.communicate(timeout=60)
    assert (process.returncode, printed) == (130, b""), said.decode()
    assert said.startswith(b"convatlas: ") and said.endswith(b"repeat the command to go on\n")
    assert not (tmp_path / "model").exists()


def test_a_repeated_search_trains_nothing_and_tells_what_trainings_took(
    photos: Path, backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finetune, "STEPS", 4)
    monkeypatch.setattr(finetune, "LEAST_EPOCHS", 2)
    monkeypatch.setattr(finetune, "SCRATCH", 1)
    plans = {"tune:stage3", "tune:stage2", "tune:all", "scratch"}
    steps: list[str] = []

    def told(what: str, done: int, total: int) -> None:
        if what in plans:
            steps.append(what)

    results = []
    for i in range(2):
        steps.clear()
        out = tmp_path / f"{i}"
        result = fit(photos, weights=backbone, out=out, budget="5m", control=True, report=False, progress=told)
        results.append(result.json)
        assert bool(steps) == (i == 0)
    first, again = results
    for key in ("accuracy", "log_loss", "confusion", "plan", "choice", "classifier"):
        assert again[key] == first[key]
    assert first["notes"] == [] and again["notes"] == [FOUND]
    assert again["advice"]["spent"] == first["advice"]["spent"] > 0
    took = [[row["took"] for row in result["advice"]["plans"][1:]] for result in results]  # the probe is fitted anew
    assert took[0] == took[1]
    assert again["control"] == first["control"] and again["control"]["seconds"] > 0
    assert again["seconds"]["adapt"] < first["seconds"]["adapt"], "of the command, what it took itself"
