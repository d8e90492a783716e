"""A run goes on bit for bit where it stopped, and its folder is nobody else's."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from test_loop import fails_once, small_net, stripes
from torch import Tensor

from convatlas.errors import ConvAtlasError, Stopped
from convatlas.train import Augment, Optim, TrainConfig, train
from convatlas.train.checkpoint import complete, newest
from convatlas.train.learner import Learner
from convatlas.train.run import Run, open_run

CONFIG = TrainConfig(
    epochs=3,
    batch_size=16,
    image_size=20,
    optim=Optim(lr=0.1, warmup_epochs=1),
    augment=Augment(scale=(0.7, 1.0), flip=0.5, colour=0.2, mixup=0.2, cutmix=0.2, erase=0.2),
)
STEPS = 3 * 2  # 40 images
EVERY = [
    CONFIG,
    replace(CONFIG, ema=0.8, label_smoothing=0.1),
    replace(CONFIG, optim=Optim(name="adamw", lr=0.01, warmup_epochs=1)),
    replace(CONFIG, precision="bfloat16"),
    replace(CONFIG, optim=Optim(name="rmsprop", lr=0.01, eps=1.0, schedule="plateau", patience=1, warmup_epochs=0)),
    replace(CONFIG, optim=Optim(name="lamb", lr=0.01, clip_norm=1.0, warmup_epochs=1), loss="binary"),
    replace(
        CONFIG,
        optim=Optim(lr=0.1, nesterov=False, velocity="steps", bias_lr=2, schedule="halving", warmup_epochs=0),
        augment=Augment(
            flip=0.5, flip_mode="alternate", pca=0.1, randaugment=6, rotate=5, cutout=4, mixup=0.5, mixup_alpha=0.2
        ),
    ),
    replace(
        CONFIG,
        optim=Optim(lr=0.1, norm_bias_lr=8, decay_all=True, schedule="triangle", final_lr=0.1),
        augment=Augment(pad=2, padding="reflect", flip=0.5, flip_mode="alternate"),
    ),
]


def described(config: TrainConfig = CONFIG) -> dict[str, Any]:
    return {"recipe": "stripes", "config": asdict(config), "versions": {"torch": torch.__version__}}


def go(folder: Path, config: TrainConfig = CONFIG, stop_after: int = 0, save_every: int = 0) -> dict[str, Tensor]:
    """Trains, or goes on; asks to stop after so many steps of the run."""
    model = small_net()
    with open_run(folder, described(config)) as run:

        def progress(step: int, steps: int) -> None:
            run.stop = step == stop_after

        train(
            *(model, stripes(40, seed=1), config),
            held_out=stripes(20, seed=2),
            part="val",
            run=run,
            save_every=save_every,
            progress=progress,
        )
    return model.state_dict()


def metrics(folder: Path) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]


@pytest.mark.parametrize("config", EVERY, ids=["sgd", "ema", "adamw", "bfloat16", "plateau", "lamb", "steps", "fast"])
def test_stopped_after_any_step_it_ends_the_same(tmp_path: Path, config: TrainConfig) -> None:
    alone = go(tmp_path / "alone", config)
    for step in range(1, STEPS):
        folder = tmp_path / str(step)
        with pytest.raises(Stopped, match=f"after step {step} of {STEPS}"):
            go(folder, config, stop_after=step)
        result = go(folder, config)
        assert all(torch.equal(result[key], x) for key, x in alone.items())
        assert metrics(folder) == metrics(tmp_path / "alone")
        tensors = f"checkpoints/step-{STEPS:09d}.safetensors"
        assert (folder / tensors).read_bytes() == (tmp_path / "alone" / tensors).read_bytes()


def test_a_run_that_is_over_is_not_trained_again(tmp_path: Path) -> None:
    first = go(tmp_path)
    before = metrics(tmp_path)
    again = go(tmp_path)
    assert all(torch.equal(again[key], x) for key, x in first.items())
    assert metrics(tmp_path) == before


def test_a_damaged_newest_checkpoint_costs_only_time(tmp_path: Path) -> None:
    alone = go(tmp_path / "alone")
    with pytest.raises(Stopped):
        go(tmp_path / "run", stop_after=5, save_every=1)
    newest = tmp_path / "run/checkpoints/step-000000005.safetensors"
    newest.write_bytes(newest.read_bytes()[:-1])
    result = go(tmp_path / "run")
    assert all(torch.equal(result[key], x) for key, x in alone.items())
    assert metrics(tmp_path / "run") == metrics(tmp_path / "alone")


def test_another_config_is_refused_with_the_difference(tmp_path: Path) -> None:
    go(tmp_path)
    other = replace(CONFIG, epochs=4, optim=Optim(lr=0.05, warmup_epochs=1))
    with pytest.raises(ConvAtlasError, match="holds another run") as caught:
        go(tmp_path, other)
    assert "config.epochs: 3 there, 4 now" in str(caught.value)
    assert "config.optim.lr: 0.1 there, 0.05 now" in str(caught.value)


def test_other_versions_are_told_and_allowed(tmp_path: Path) -> None:
    said: list[str] = []
    with open_run(tmp_path, {**described(), "versions": {"torch": "0.1"}}) as run:
        run.log(epoch=1)
    with open_run(tmp_path, described(), said.append):
        pass
    assert said and f'versions.torch: "0.1" there, "{torch.__version__}" now' in said[0]


def test_two_processes_cannot_train_one_run(tmp_path: Path) -> None:
    with (
        open_run(tmp_path, described()),
        pytest.raises(ConvAtlasError, match="is being trained by another process"),
        open_run(tmp_path, described()),
    ):
        pass
    with open_run(tmp_path, described()):  # free again
        pass


@pytest.mark.parametrize("content", ["photo.jpg", "run.json"])
def test_a_folder_with_something_else_is_left_alone(tmp_path: Path, content: str) -> None:
    (tmp_path / content).write_text("[]")
    with pytest.raises(ConvAtlasError, match=r"no run|no description of a run"), open_run(tmp_path, described()):
        pass
    assert [path.name for path in tmp_path.iterdir() if path.name != ".lock"] == [content]


def test_a_run_killed_before_it_was_described_begins_again(tmp_path: Path) -> None:
    (tmp_path / ".lock").touch()
    (tmp_path / ".run.json.partial").write_text("{")
    with open_run(tmp_path, described()):
        pass
    assert json.loads((tmp_path / "run.json").read_text())["recipe"] == "stripes"


def test_a_shortened_log_is_noticed(tmp_path: Path) -> None:
    with pytest.raises(Stopped):
        go(tmp_path, stop_after=3)
    (tmp_path / "metrics.jsonl").write_text("")
    with pytest.raises(ConvAtlasError, match="is shorter than it was"):
        go(tmp_path)


def test_a_disk_that_fills_up_is_told_and_harms_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = go(tmp_path / "alone")
    real = Path.replace
    with monkeypatch.context() as patched:

        def full(path: Path, target: Path) -> Path:
            if "step-000000004.json" in str(target):
                raise OSError(28, "No space left on device")
            return real(path, target)

        patched.setattr(Path, "replace", full)
        with pytest.raises(ConvAtlasError, match="step 4 cannot be saved") as caught:
            go(tmp_path / "run")
    assert "Make room" in caught.value.remedy
    result = go(tmp_path / "run")
    assert all(torch.equal(result[key], x) for key, x in alone.items())
    assert metrics(tmp_path / "run") == metrics(tmp_path / "alone")


def test_without_room_nothing_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=100))
    with pytest.raises(ConvAtlasError, match="MB are free, and checkpoints need"):
        go(tmp_path)
    assert metrics(tmp_path) == []


def test_where_there_was_room_to_begin_there_is_room_to_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the three checkpoints that must fit two are there already."""
    alone = go(tmp_path / "alone")
    with open_run(tmp_path / "size", described()) as run:
        learner = Learner(small_net(), CONFIG, steps=2, batch_size=16, micro_batch=16)
        asked: list[int] = []
        monkeypatch.setattr(Run, "ensure_room", lambda self, bytes_: asked.append(bytes_))
        learner.ensure_room(run)
    monkeypatch.undo()
    disk = 3.5 * asked[0]

    def usage(folder: Path) -> SimpleNamespace:
        return SimpleNamespace(free=disk - asked[0] * complete(tmp_path / "run/checkpoints"))

    monkeypatch.setattr("shutil.disk_usage", usage)
    with pytest.raises(Stopped):
        go(tmp_path / "run", stop_after=5)
    result = go(tmp_path / "run")
    assert all(torch.equal(result[key], x) for key, x in alone.items())


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no file is always full here")
def test_a_log_that_cannot_be_written_is_told_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the epoch's checkpoint, and nothing is left to be written when the file is closed."""
    alone, log = go(tmp_path / "alone"), Run.log

    def full(self: Run, **row: Any) -> None:
        with Path("/dev/full").open("r+b", buffering=0) as device:
            before, self._metrics = self._metrics, device
            try:
                log(self, **row)
            finally:
                self._metrics = before

    with monkeypatch.context() as patched:
        patched.setattr(Run, "log", full)
        with pytest.raises(ConvAtlasError, match=r"metrics\.jsonl: cannot be written .*No space") as caught:
            go(tmp_path / "run")
    assert "Make room" in caught.value.remedy
    result = go(tmp_path / "run")
    assert all(torch.equal(result[key], x) for key, x in alone.items())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_ask_to_stop_and_are_given_back(tmp_path: Path, number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with open_run(tmp_path, described()) as run, run.listening():
        os.kill(os.getpid(), number)
        assert run.stop
        if number == signal.SIGINT:
            with pytest.raises(KeyboardInterrupt):
                os.kill(os.getpid(), number)
    assert signal.getsignal(number) == before


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills.py forks")
@pytest.mark.parametrize(
    ("kills", "processes"),
    [
        (10, 1),
        (4, 2),
        (3, 4),
        pytest.param(200, 1, marks=pytest.mark.slow),
        pytest.param(100, 2, marks=pytest.mark.slow),
    ],
)
def test_killed_at_any_moment_it_ends_the_same(tmp_path: Path, kills: int, processes: int) -> None:
    script = Path(__file__).with_name("kills.py")
    command = [sys.executable, script, tmp_path, str(kills), "0", str(processes)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True)
    found = json.loads(done.stdout)
    assert found["failures"] == 0
    assert found["save"] + found["step"] >= kills
    assert found["save"] >= kills / 4 and found["step"] > 0


def test_the_weights_before_a_step_that_is_not_finite_are_kept(tmp_path: Path) -> None:
    with pytest.raises(ConvAtlasError, match=r"epoch 2, step 2 of 2"), open_run(tmp_path / "run", described()) as run:
        train(fails_once(4), stripes(40, seed=1), CONFIG, run=run)
    with pytest.raises(Stopped):
        go(tmp_path / "asked", stop_after=3)
    kept, asked = (newest(tmp_path / name / "checkpoints") for name in ("run", "asked"))
    assert kept and asked and kept.step == asked.step == 3
    weights = {key: x for key, x in asked.tensors.items() if key.startswith("model.")}
    assert weights and all(torch.equal(kept.tensors[key], x) for key, x in weights.items())


def test_a_run_that_made_no_step_gives_way_to_another(tmp_path: Path) -> None:
    with open_run(tmp_path / "run", described()):
        pass
    other = replace(CONFIG, seed=5)
    go(tmp_path / "run", other)
    assert json.loads((tmp_path / "run/run.json").read_text())["config"]["seed"] == 5
    with pytest.raises(ConvAtlasError, match="holds another run"), open_run(tmp_path / "run", described()):
        pass
    shutil.rmtree(tmp_path / "run/checkpoints")
    (tmp_path / "run/metrics.jsonl").write_text("")
    (tmp_path / "run/record.json").write_text("{}")  # all that may be kept of a finished one
    with pytest.raises(ConvAtlasError, match="holds another run"), open_run(tmp_path / "run", described()):
        pass
