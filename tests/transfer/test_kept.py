"""Trainings that are kept: stopped anywhere they end bit for bit like one left alone, and no damage to the cache changes that."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from convatlas import cache
from convatlas.errors import Stopped
from convatlas.locks import locked
from convatlas.train import run as runs
from convatlas.train.augment import standardised
from convatlas.train.images import InMemory
from convatlas.transfer import finetune
from convatlas.transfer.frozen import Norms
from convatlas.transfer.maps import Precision
from convatlas.transfer.plans import Plan
from convatlas.transfer.workshop import FOUND, Trained, Workshop
from convatlas.weights.source import find_weights

CLASSES, TRAIN, TEST = 3, 24, 9
STEPS = 8  # two epochs of four
PLANS: tuple[tuple[str, Norms, int], ...] = (
    ("tune:stage3", "frozen", 0),
    ("tune:stage3", "stats", 0),
    ("tune:stage2.1", "train", 2),
    ("tune:all", "frozen", 2),
    ("tune:all", "train", 0),
    ("scratch", "frozen", 0),
)


@pytest.fixture(autouse=True)
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two epochs, and a checkpoint whenever one may be due."""
    monkeypatch.setattr(finetune, "STEPS", 4)
    monkeypatch.setattr(finetune, "LEAST_EPOCHS", 2)
    monkeypatch.setattr(finetune, "SCRATCH", 1)
    monkeypatch.setattr(runs, "OFTEN", 0.0)
    monkeypatch.setattr(runs, "RARELY", 0)


def plan_of(text: str) -> Plan:
    kind, _, at = text.partition(":")
    return Plan(kind="scratch") if kind == "scratch" else Plan(kind="tune", at=(at,))


class Bench:
    """A workshop in which one plan is carried out; counts the steps that were trained, and does what is asked after one of them."""

    def __init__(
        self,
        backbone: Path,
        plan: str = "tune:stage3",
        norms: Norms = "frozen",
        augment: int = 0,
        keep: bool = True,
        maps: Precision = "float32",
    ) -> None:
        drawn = torch.Generator().manual_seed(1)
        self.pixels = torch.randint(0, 256, (TRAIN + TEST, 3, 32, 32), dtype=torch.uint8, generator=drawn)
        images = InMemory(self.pixels, torch.arange(TRAIN + TEST) % CLASSES)
        top = np.random.default_rng(0).normal(size=(TRAIN + TEST, 64)).astype(np.float32)
        self.plan, self.told, self.steps, self.at, self.do = plan, list[str](), 0, 0, signal.SIGTERM
        self.shop = Workshop(
            *(find_weights(backbone), images, top, CLASSES),
            norms=norms,
            augment=augment,
            keep=keep,
            maps=maps,
            progress=self._progress,
            say=self.told.append,
        )

    def train(self, stop_at: int = 0, do: Callable[[], None] | signal.Signals = signal.SIGTERM) -> Trained:
        """Trains to the end, or does something after a step, by default sends itself a signal that asks to stop."""
        self.steps, self.at, self.do = 0, stop_at, do
        return self.shop.train(plan_of(self.plan), np.arange(TRAIN), np.arange(TRAIN, TRAIN + TEST), remember=True)

    def _progress(self, what: str, done: int, total: int) -> None:
        if what == self.plan:
            assert total == STEPS
            self.steps += 1
            if done == self.at:
                os.kill(os.getpid(), self.do) if isinstance(self.do, signal.Signals) else self.do()


def test_maps_in_half_are_never_what_judges(backbone: Path) -> None:
    """What the workshop says of other images is what the whole network that it hands out says."""
    logits = {}
    for maps in ("float32", "float16"):
        bench = Bench(backbone, keep=False, maps=maps)
        found = bench.train()
        with torch.inference_mode():
            x = standardised(
                bench.pixels[TRAIN:].float() / 255, bench.shop.settings(plan_of("tune:stage3"), TRAIN).config
            )
            expected = found.model(x.contiguous(memory_format=torch.channels_last)).double().numpy()
        logits[maps] = found.logits
        assert np.abs(found.logits - expected).max() < 1e-5 * np.abs(expected).max()
    assert not np.array_equal(logits["float32"], logits["float16"]), "training on other maps ends elsewhere"


def ensure_same(found: Trained, alone: Trained) -> None:
    assert found.losses == alone.losses
    assert np.array_equal(found.logits, alone.logits) and found.logits.dtype == alone.logits.dtype
    assert np.array_equal(found.read, alone.read) and found.own and alone.own
    assert all(
        np.array_equal(getattr(found.own, name), getattr(alone.own, name)) for name in ("logits", "maps", "read")
    )
    weights, expected = found.model.state_dict(), alone.model.state_dict()
    assert weights.keys() == expected.keys()
    assert all(torch.equal(weights[key], x) for key, x in expected.items())
    layouts: list[list[bool]] = [
        [p.is_contiguous(memory_format=torch.channels_last) for p in trained.model.parameters() if p.ndim == 4]
        for trained in (found, alone)
    ]
    assert layouts[0] == layouts[1]
    assert not found.model.training


@pytest.fixture(scope="module")
def alone(backbone: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str, Norms, int], Trained]]:
    """What each plan gives when nothing is kept and nobody stops it."""
    known: dict[tuple[str, Norms, int], Trained] = {}

    def left_alone(plan: str = "tune:stage3", norms: Norms = "frozen", augment: int = 0) -> Trained:
        asked = plan, norms, augment
        if asked not in known:
            known[asked] = Bench(backbone, plan, norms, augment, keep=False).train()
        return known[asked]

    yield left_alone


Alone = Callable[..., Trained]


def folders() -> list[Path]:
    return sorted(cache.cache_folder().glob("*.training"))


@pytest.mark.parametrize(("plan", "norms", "augment"), PLANS)
def test_stopped_at_any_steps_it_ends_the_same(
    backbone: Path, alone: Alone, plan: str, norms: Norms, augment: int
) -> None:
    expected = alone(plan, norms, augment)
    drawn = np.random.default_rng(PLANS.index((plan, norms, augment)))
    for attempt in range(3):
        shutil.rmtree(cache.cache_folder(), ignore_errors=True)
        stops, done = sorted(drawn.choice(np.arange(1, STEPS + 1), size=2, replace=False).tolist()), 0
        for stop in stops:
            bench = Bench(backbone, plan, norms, augment)
            with pytest.raises(Stopped, match=rf"{plan} stopped after (step {stop} of {STEPS}|the last step)"):
                bench.train(stop, signal.SIGINT if attempt % 2 else signal.SIGTERM)
            assert bench.steps == stop - done
            done = stop
        bench = Bench(backbone, plan, norms, augment)
        ensure_same(bench.train(), expected)
        assert bench.steps == STEPS - done
        (folder,) = folders()
        assert not list(folder.glob("checkpoints/*")), "what came of it stays, its checkpoints do not"


def test_what_is_finished_is_found_with_the_time_it_took(backbone: Path, alone: Alone) -> None:
    first = Bench(backbone).train(2, lambda: time.sleep(0.5))
    bench = Bench(backbone)
    before = bench.shop.clock(), time.perf_counter()
    found = bench.train()
    ensure_same(found, alone())
    assert bench.steps == 0 and bench.told == [FOUND]
    assert found.seconds == first.seconds > 0.5
    passed = time.perf_counter() - before[1]
    assert bench.shop.clock() - before[0] >= max(passed, first.seconds), "a budget counts what it took"


def test_a_training_that_goes_on_took_what_both_parts_took(backbone: Path) -> None:
    def slowly() -> None:
        time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Stopped):
        Bench(backbone).train(3, slowly)
    bench = Bench(backbone)
    began = time.perf_counter()
    seconds = bench.train().seconds
    assert seconds >= 0.5 + (time.perf_counter() - began) / 2


@pytest.mark.parametrize("what", ["seed", "norms", "augment", "rows", "others", "threads", "frozen part"])
def test_another_training_is_not_taken_for_it(backbone: Path, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    Bench(backbone).train()
    bench = Bench(backbone, norms="train" if what == "norms" else "frozen", augment=2 if what == "augment" else 0)
    rows, others = np.arange(TRAIN), np.arange(TRAIN, TRAIN + TEST)
    if what == "seed":
        bench.shop._seed = 1
    elif what == "rows":
        rows[:2] = 1, 0
    elif what == "others":
        others = others[1:]
    elif what == "threads":
        monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    elif what == "frozen part":
        begun = bench.shop._begun

        def other(*arguments: object) -> object:
            model = begun(*arguments)  # pyright: ignore[reportArgumentType] - passed on
            with torch.no_grad():
                next(model.parameters())[0, 0, 0, 0] += 1e-3
            return model

        monkeypatch.setattr(bench.shop, "_begun", other)
    bench.shop.train(plan_of("tune:stage3"), rows, others, remember=True)
    assert bench.steps == STEPS and FOUND not in bench.told
    assert len(folders()) == 2


def stopped(backbone: Path) -> Path:
    """The folder of a training that was stopped in its middle, with two checkpoints."""
    with suppress(Stopped):
        Bench(backbone).train(5)
    (folder,) = folders()
    assert len(list(folder.glob("checkpoints/*.json"))) == 2
    return folder


def finished(backbone: Path) -> Path:
    Bench(backbone).train()
    (folder,) = folders()
    return folder


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)


@pytest.mark.parametrize("harm", ["bit", "cut", "gone", "another"])
def test_a_damaged_result_is_trained_anew(backbone: Path, alone: Alone, harm: str) -> None:
    folder = finished(backbone)
    described, tensors = (folder / "result" / f"step-000000001.{kind}" for kind in ("json", "safetensors"))
    if harm == "bit":
        flip(tensors)
    elif harm == "cut":
        described.write_bytes(described.read_bytes()[:100])
    elif harm == "gone":
        tensors.unlink()
    else:  # the result of another training, sound in itself
        shutil.rmtree(folder)
        bench = Bench(backbone, norms="train")
        bench.train()
        folders()[0].rename(folder)
    bench = Bench(backbone)
    ensure_same(bench.train(), alone())
    assert bench.steps == STEPS
    (message,) = bench.told
    assert "trained anew" in message and "--out" not in message
    again = Bench(backbone)
    again.train()
    assert again.steps == 0, "what was damaged is replaced"


@pytest.mark.parametrize("harm", ["checkpoints", "description", "another run", "something else", "log"])
def test_a_damaged_run_is_trained_anew(backbone: Path, alone: Alone, harm: str) -> None:
    folder = stopped(backbone)
    if harm == "checkpoints":
        for path in folder.glob("checkpoints/*.safetensors"):
            flip(path)
    elif harm == "description":
        (folder / "run.json").write_text("{")
    elif harm == "another run":
        described = json.loads((folder / "run.json").read_text())
        described["config"]["optim"]["lr"] = 0.5
        (folder / "run.json").write_text(json.dumps(described))
    elif harm == "something else":
        shutil.rmtree(folder)
        folder.mkdir()
        (folder / "notes.txt").write_text("somebody's")
    else:
        state = folder / "metrics.jsonl"
        state.unlink()
        state.mkdir()
    bench = Bench(backbone)
    ensure_same(bench.train(), alone())
    assert bench.steps == STEPS
    assert any("trained anew" in message for message in bench.told)


def test_of_two_checkpoints_the_sound_one_is_taken(backbone: Path, alone: Alone) -> None:
    folder = stopped(backbone)
    flip(max(folder.glob("checkpoints/*.safetensors")))
    bench = Bench(backbone)
    ensure_same(bench.train(), alone())
    assert bench.steps == STEPS - 4
    assert any("going back to the checkpoint before it" in message for message in bench.told)


def test_maps_that_no_longer_fit_make_it_begin_anew(
    backbone: Path, alone: Alone, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped(backbone)
    for maps in cache.cache_folder().glob("*.maps"):
        maps.unlink()
    monkeypatch.setenv("CONVATLAS_CACHE_LIMIT", "1K")
    bench = Bench(backbone)
    ensure_same(bench.train(), alone())
    assert bench.steps == STEPS
    assert any("data.reads" in message and "trained anew" in message for message in bench.told)


@pytest.mark.parametrize("plan", ["tune:stage3", "scratch"])
@pytest.mark.parametrize("why", ["no folder", "no room", "too little allowed", "filling up", "another process"])
def test_where_nothing_can_be_kept_it_is_trained_all_the_same(
    backbone: Path, alone: Alone, plan: str, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = ExitStack()
    if why == "no folder":
        (tmp_path / "file").write_text("in the way")
        monkeypatch.setenv("CONVATLAS_CACHE", str(tmp_path / "file"))
    elif why == "no room":
        monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=100))
    elif why == "too little allowed":
        monkeypatch.setenv("CONVATLAS_CACHE_LIMIT", "1K")
    elif why == "filling up":
        real = Path.replace

        def full(path: Path, target: Path) -> Path:
            if "step-" in str(target):
                raise OSError(28, "No space left on device")
            return real(path, target)

        monkeypatch.setattr(Path, "replace", full)
    else:
        with suppress(Stopped):
            Bench(backbone, plan).train(2)
        held.enter_context(locked(folders()[0] / ".lock", wait=False))
    with held:
        with pytest.raises(KeyboardInterrupt):  # nobody says that it would go on
            Bench(backbone, plan).train(3, signal.SIGINT)
        bench = Bench(backbone, plan)
        ensure_same(bench.train(), alone(plan))
    assert bench.steps == STEPS
    assert bench.told and len(set(bench.told)) == len(bench.told), "each thing is said once"


def test_a_short_training_writes_no_checkpoint(backbone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "OFTEN", 10.0)
    seen: list[Path] = []
    Bench(backbone).train(STEPS, lambda: seen.extend(folders()[0].glob("checkpoints/*")))
    assert not seen


def test_the_cache_shows_trainings_and_prunes_those_that_nobody_trains(backbone: Path) -> None:
    def look() -> None:
        (mine,) = [file for file in cache.contents() if file.path.suffix == ".training"]
        assert mine.identity["network"] == "resnet20_cifar tune:stage3"
        assert mine.bytes_ > 0 and mine.entries > 0
        assert mine.path not in [file.path for file in cache.prune(0)]

    Bench(backbone).train(3, look)
    assert [file.path.suffix for file in cache.prune(0)] == [".training"]
    assert not folders()


def test_trials_keep_no_weights(backbone: Path) -> None:
    bench = Bench(backbone)
    rows, others = np.arange(TRAIN), np.arange(TRAIN, TRAIN + TEST)
    judged = bench.shop.judge(plan_of("tune:stage3"), rows, others)
    (folder,) = folders()
    assert sum(path.stat().st_size for path in folder.rglob("*.safetensors")) < 1000
    again = Bench(backbone).shop.judge(plan_of("tune:stage3"), rows, others)
    assert np.array_equal(again.logits, judged.logits) and again.seconds == judged.seconds
