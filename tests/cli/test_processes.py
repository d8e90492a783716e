"""What only a process of its own can show: signals, pipes, encodings, and the command as it is installed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

import convatlas
from convatlas.jobs.fit import FitResult, fit
from tiny import photo, state, write_photos

CONVATLAS = [sys.executable, "-W", "error", "-m", "convatlas"]


def command(*words: object, **environment: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [*CONVATLAS, *map(str, words)], capture_output=True, timeout=120, env={**os.environ, **environment}
    )


def test_the_installed_command_is_the_module() -> None:
    installed = Path(sys.executable).with_name("convatlas")
    outcome = subprocess.run([installed, "--version"], capture_output=True, timeout=60)
    assert (outcome.returncode, outcome.stdout) == (0, f"convatlas {convatlas.__version__}\n".encode())
    assert command("--version").stdout == outcome.stdout


def test_data_that_are_not_there_are_status_1_and_no_traceback(tmp_path: Path) -> None:
    outcome = command("check", tmp_path / "absent", "--json")
    assert (outcome.returncode, outcome.stdout) == (1, b"")
    assert outcome.stderr.startswith(b"convatlas: there is no ")
    assert b"Traceback" not in outcome.stderr
    assert command("chekc").returncode == 2


def test_names_that_are_not_text_are_shown_and_given_back(fitted: FitResult, tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"caf\xe9 \xe8\x9c\x82.png")
    photo("red", 1).save(path)
    outcome = command("predict", fitted.bundle, path)
    assert outcome.returncode == 0, outcome.stderr
    assert "caf\\udce9 蜂.png\tred\t" in outcome.stdout.decode("utf-8")
    (row,) = json.loads(command("predict", fitted.bundle, path, "--json").stdout)["rows"]
    assert row["path"] == str(path)


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_terminals_of_every_encoding(encoding: str, tmp_path: Path) -> None:
    write_photos(tmp_path / "photos", 0, 2)
    (tmp_path / "photos/red/蜂 é.png").write_bytes(b"")
    assert command("list", PYTHONIOENCODING=encoding).returncode == 0
    outcome = command("check", tmp_path / "photos", PYTHONIOENCODING=encoding)
    assert (outcome.returncode, outcome.stderr) == (1, b"")
    shown = "蜂 é.png" if encoding == "utf-8" else "\\u8702"
    assert shown in outcome.stdout.decode(encoding)


@pytest.mark.parametrize("flags", [[], ["--json"]])
def test_a_reader_who_leaves_is_no_error(flags: list[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        outcome = subprocess.run([*CONVATLAS, "list", *flags], stdout=writing, stderr=subprocess.PIPE, timeout=60)
    finally:
        os.close(writing)
    assert (outcome.returncode, outcome.stderr) == (0, b"")


@pytest.fixture
def many(tmp_path: Path) -> Path:
    """Six hundred images, enough to be interrupted among them."""
    write_photos(tmp_path / "data/photos", 0, 200)
    return tmp_path / "data/photos"


def stored(cache: Path) -> int:
    """How many images' features the cache holds so far."""
    try:
        with sqlite3.connect(f"file:{next(cache.glob('features-*.sqlite'))}?mode=ro", uri=True) as db:
            (count,) = db.execute("SELECT count(*) FROM entries").fetchone()
        db.close()
    except (StopIteration, sqlite3.DatabaseError):
        return -1
    return count


MOMENTS: dict[str, Callable[[Path], bool]] = {
    "while the images are first looked at": lambda cache: stored(cache) == 0,
    "among the images": lambda cache: stored(cache) > 64,
}


@pytest.mark.parametrize(
    "thread",
    [
        "threading.Thread(target=threading.Event().wait).start()",
        "threading._limbo[0] = threading.Thread(target=print)",  # interrupted while it started
    ],
)
def test_a_thread_that_waits_for_ever_does_not_keep_an_interrupted_command(thread: str) -> None:
    code = f"""
import sys, threading
from convatlas import cli
from convatlas.cli import verbs

def interrupted():
    {thread}
    raise KeyboardInterrupt

verbs.app, cli._PATIENCE = interrupted, 0.2
cli.main()
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, timeout=60)
    assert done.returncode == 130 and done.stderr.startswith(b"convatlas: interrupted")


@pytest.mark.skipif(os.name != "posix", reason="signals of another kind")
@pytest.mark.parametrize("moment", MOMENTS)
def test_ctrl_c_leaves_nothing_half_written_and_loses_nothing(
    moment: str, many: Path, fitted: FitResult, backbone: Path, tmp_path: Path
) -> None:
    cache = Path(os.environ["CONVATLAS_CACHE"])
    out = tmp_path / "out" / "model"
    shutil.copytree(fitted.bundle, out)
    before = state(out), state(many)
    words = ["fit", str(many), "--weights", str(backbone), "--out", str(out), "--json"]
    process = subprocess.Popen(
        [*CONVATLAS, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),  # a shell's background job ignores it
    )
    until = time.monotonic() + 60
    while not MOMENTS[moment](cache) and process.poll() is None and time.monotonic() < until:
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    printed, said = process.communicate(timeout=60)
    assert (process.returncode, printed) == (130, b""), said.decode()
    assert said.startswith(b"convatlas: interrupted; nothing was left half-written, and what was computed is cached")
    assert said.endswith(b": repeat the command to go on\n") and said.count(b"\n") == 1
    assert (state(out), state(many)) == before
    assert [path.name for path in out.parent.iterdir()] == ["model"]
    kept = max(0, stored(cache) - 1)
    if moment == "among the images":
        assert 0 < kept < 600
    result = fit(many, weights=backbone, out=out, report=False)
    assert result.json["counts"]["forwarded"] == 600 - kept
