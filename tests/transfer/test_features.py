"""Each image goes through the network once, ever; and what is stored is what the plain network gives."""

from __future__ import annotations

import hashlib
import importlib
import os
import shutil
import signal
import sqlite3
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from convatlas import catalogue, zoo
from convatlas.data import Dataset, DecodeError, Examined, Preprocessing, Record, decode, scan
from convatlas.jobs import images
from convatlas.jobs.images import KnownFacts, Pass, extract_features
from convatlas.transfer import features
from convatlas.transfer.features import FeatureStore
from convatlas.weights.load import load_network
from convatlas.weights.source import WeightsSource, find_weights
from convatlas.zoo.inference import normalised
from tiny import CARD, CLASSES, STAGES, damage, photo, python, write_photos, write_weights


@pytest.fixture
def source(backbone: Path) -> WeightsSource:
    return find_weights(backbone)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Class folders with four images each, to be changed."""
    write_photos(tmp_path / "photos", 0, 4)
    return tmp_path / "photos"


def run(folder: Path, source: WeightsSource, **options: Any) -> Pass:
    dataset = scan(folder)
    return extract_features(dataset, dataset.records, source, device="cpu", **options)


def counts(passed: Pass) -> tuple[int, int]:
    return passed.extraction.decoded, passed.extraction.forwarded


def all_features(passed: Pass) -> np.ndarray:
    sha256s = [item.sha256 for item in passed.examined if item.facts]
    return np.concatenate([*passed.store.means(sha256s).values(), *passed.store.deviations(sha256s).values()], axis=1)


def test_a_second_pass_decodes_nothing_and_needs_no_network(
    folder: Path, source: WeightsSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run(folder, source)
    assert counts(first) == (12, 12)

    def forbidden(*_: object, **__: object) -> Any:
        raise AssertionError("the network was asked for")

    monkeypatch.setattr(features, "_runner", forbidden)
    monkeypatch.setattr("convatlas.weights.load.load_network", forbidden)
    monkeypatch.setattr(importlib.import_module("convatlas.data.examine"), "decode", forbidden)
    second = run(folder, source)
    assert counts(second) == (0, 0)
    assert np.array_equal(all_features(second), all_features(first))
    assert [item.facts for item in second.examined] == [item.facts for item in first.examined]


def test_ten_more_images_are_ten_more_forwards(folder: Path, source: WeightsSource) -> None:
    run(folder, source)
    write_photos(folder, 50, 5, ("red", "blue"))
    assert counts(run(folder, source)) == (10, 10)


def test_renaming_moving_and_touching_forward_nothing(folder: Path, source: WeightsSource) -> None:
    before = run(folder, source)
    (folder / "red/000.png").rename(folder / "red/été 蜂.png")
    (folder / "red/001.png").rename(folder / "blue/moved.png")
    os.utime(folder / "red/002.png", (1, 1))
    folder.rename(folder.with_name("elsewhere"))
    passed = run(folder.with_name("elsewhere"), source)
    assert counts(passed) == (0, 0)
    key = next(item.sha256 for item in passed.examined if item.record.path == "red/été 蜂.png")
    assert np.array_equal(passed.store.means([key])["stage2"], before.store.means([key])["stage2"])


def test_a_changed_file_is_forwarded_again(folder: Path, source: WeightsSource) -> None:
    run(folder, source)
    photo("red", 77).save(folder / "red/000.png")
    assert counts(run(folder, source)) == (1, 1)


def test_equal_images_are_forwarded_once(folder: Path, source: WeightsSource) -> None:
    without = run(folder, source)
    without.store.path.unlink()
    for label in CLASSES:  # in the same batch and in later ones
        for i in range(10):
            shutil.copy(folder / "blue/000.png", folder / label / f"copy{i}.png")
    passed = run(folder, source)
    assert passed.extraction.forwarded == 12
    assert len(passed.examined) == 42
    for key in (item.sha256 for item in passed.examined):
        for stage, expected in without.store.means([key]).items():
            assert np.allclose(passed.store.means([key])[stage], expected, rtol=1e-4, atol=1e-6)


def test_unreadable_files_are_neither_forwarded_nor_tried_again(folder: Path, source: WeightsSource) -> None:
    (folder / "red/bad.png").write_bytes((folder / "red/000.png").read_bytes()[:500])
    first, second = run(folder, source), run(folder, source)
    assert (counts(first), counts(second)) == ((12, 12), (0, 0))
    for passed in (first, second):
        (failure,) = [item.failure for item in passed.examined if item.failure]
        assert failure.kind == "truncated"
        assert str(folder / "red/bad.png") in str(failure)


def test_a_damaged_entry_is_computed_again(folder: Path, source: WeightsSource) -> None:
    before = run(folder, source)
    key = before.examined[5].sha256
    damage(before.store.path, key)
    after = run(folder, source)
    assert counts(after) == (1, 1)
    assert np.allclose(all_features(after), all_features(before), rtol=1e-5)
    assert counts(run(folder, source)) == (0, 0)


def test_lost_widths_cost_a_pass_and_nothing_else(folder: Path, source: WeightsSource) -> None:
    before = run(folder, source)
    damage(before.store.path, "widths")
    assert counts(run(folder, source)) == (12, 12)
    assert counts(run(folder, source)) == (0, 0)


def test_a_removed_cache_is_made_again(folder: Path, source: WeightsSource) -> None:
    run(folder, source).store.path.unlink()
    assert counts(run(folder, source)) == (12, 12)


def store_path(source: WeightsSource, device: str = "cpu", weights: str = "0") -> Path:
    store = FeatureStore(source, weights_sha256=weights, device=device, capacity=0)
    store.close()
    return store.path


@pytest.mark.parametrize(
    "change",
    [
        {"name": "resnet32_cifar"},
        {"config": {"shortcut": "projection"}},
        *({"preprocessing": Preprocessing(**{"size": 32, "resize": 32, "interpolation": "bilinear", **other})}
          for other in ({"size": 24}, {"resize": 40}, {"interpolation": "bicubic"}, {"fit": "squash"}, {"mean": (0.5,) * 3},
                        {"std": (0.5,) * 3}, {"background": (0, 0, 0)})),
    ],
    ids=str,
)  # fmt: skip
def test_another_network_or_preparation_is_another_store(source: WeightsSource, change: dict[str, Any]) -> None:
    assert store_path(replace(source, **change)) != store_path(source)


@pytest.mark.parametrize("constant", ["DECODER", "POOLING", "ARITHMETIC"])
def test_another_decoder_or_arithmetic_is_another_store(
    source: WeightsSource, constant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = store_path(source)
    monkeypatch.setattr(features, constant, getattr(features, constant) + " changed")
    assert store_path(source) != before


def test_another_torch_device_code_or_weights_is_another_store(
    source: WeightsSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = store_path(source)
    assert store_path(source, device="cuda") != before
    assert store_path(source, weights="1") != before
    for name in ("version", "code_sha256"):
        with monkeypatch.context() as patch:
            patch.setattr(features, name, lambda part: "0.0")
            assert store_path(source) != before


def test_how_weights_were_asked_for_does_not_matter(source: WeightsSource, tmp_path: Path) -> None:
    moved = replace(source, path=tmp_path / "x", tag="embedded", labels=("a",), notes=("b",))
    assert store_path(moved) == store_path(source)


def test_other_weights_of_the_same_name_forward_all(folder: Path, tmp_path: Path) -> None:
    path = write_weights(tmp_path / "own.safetensors")
    run(folder, find_weights(path))
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)
    assert counts(run(folder, find_weights(path))) == (12, 12)


@pytest.mark.parametrize(
    ("name", "preprocessing", "config"),
    [
        ("resnet20_cifar", CARD["preprocessing"], {}),
        ("lenet5", {"size": 32, "resize": 32, "channels": 1, "mean": [0.4], "std": [0.3]}, {}),
        ("mobilenet_v1_025", {"size": 64, "resize": 72}, {"padding": "tensorflow", "norm_eps": 1e-3}),
        ("resnet18", {"size": 64, "resize": 64, "fit": "pad"}, {}),
        ("alexnet_owt", {"size": 64, "resize": 64}, {}),
        ("nasnet_a_cifar", {"size": 32, "resize": 32}, {}),
    ],
)
def test_features_are_those_of_the_plain_network(
    folder: Path, tmp_path: Path, name: str, preprocessing: dict[str, Any], config: dict[str, Any]
) -> None:
    path = write_weights(tmp_path / "w.safetensors", name=name, card={"preprocessing": preprocessing}, **config)
    source = find_weights(path)
    passed = run(folder, source)
    model, _ = load_network(source, num_classes=0, in_channels=source.preprocessing.channels)
    p = source.preprocessing
    sha256s = [item.sha256 for item in passed.examined]
    prepared = [p.pixels(decode((folder / item.record.path).read_bytes())[0]) for item in passed.examined]
    with torch.inference_mode():
        inputs = normalised(torch.from_numpy(np.stack(prepared)), p.mean, p.std).contiguous()
        means, deviations = passed.store.means(sha256s), passed.store.deviations(sha256s)
        network = catalogue.find(name)
        assert (tuple(means), tuple(deviations)) == (network.rungs, network.stages[:-1])
        for stage in means:
            maps = zoo.feature(zoo.prefix(model, stage)(inputs)).double()
            maps = maps[..., None] if maps.ndim == 2 else maps.flatten(2)  # a hidden layer has no maps
            assert (means[stage].dtype, means[stage].shape) == (np.float32, tuple(maps.shape[:2]))
            assert np.abs(means[stage] - maps.mean(2).numpy()).max() <= 1e-5 * maps.abs().max(), stage
            if (
                stage in deviations
            ):  # squares, since the root of a small difference rounds the more the nearer it is to 0
                error = np.abs(deviations[stage] ** 2 - maps.var(2, correction=0).numpy()).max()
                assert error <= 1e-5 * maps.square().mean(2).max(), stage


def test_images_come_out_in_the_order_of_the_records(folder: Path, source: WeightsSource) -> None:
    dataset = scan(folder)
    backwards = tuple(reversed(dataset.records))
    passed = extract_features(dataset, backwards, source, device="cpu")
    assert [item.record for item in passed.examined] == list(backwards)
    assert all(item.pixels is None for item in passed.examined)
    forwards = [item.sha256 for item in passed.examined][::-1]
    in_order, reversed_ = (passed.store.deviations(keys)["stage2"] for keys in (forwards, forwards[::-1]))
    assert np.array_equal(in_order, reversed_[::-1])
    assert not np.array_equal(in_order, reversed_)
    some = [forwards[i] for i in (7, 2, 2, 11)]
    assert np.array_equal(passed.store.deviations(some)["stage2"], in_order[[7, 2, 2, 11]])


def test_progress_counts_every_file(folder: Path, source: WeightsSource) -> None:
    (folder / "red/bad.png").write_bytes(b"")
    seen: list[tuple[str, int, int]] = []
    run(folder, source, progress=lambda what, done, total: seen.append((what, done, total)))
    assert seen == [("decode and forward", done, 13) for done in range(1, 14)]


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_an_interrupted_pass_keeps_what_it_computed(
    folder: Path, source: WeightsSource, error: type[BaseException]
) -> None:
    def interrupt(what: str, done: int, total: int) -> None:
        if done == 9:  # one batch of eight is through
            raise error

    with pytest.raises(error) as held:
        run(folder, source, progress=interrupt)
    sha256s = [hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.rglob("*.png"))]
    known = KnownFacts()
    assert sum(known(sha256) is not None for sha256 in sha256s) >= 9, "written now, not when the error is forgotten"
    assert held.traceback
    assert counts(run(folder, source)) == (4, 4)


def test_a_passing_lack_of_memory_is_no_fact_about_a_file(
    folder: Path, source: WeightsSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoding = importlib.import_module("convatlas.data.decode")  # not the function of that name
    whole = run(folder, source)
    path = sorted(folder.rglob("*.png"))[0]

    def short(*given: Any) -> Any:
        raise MemoryError

    with monkeypatch.context() as patched:
        patched.setattr(decoding, "to_rgb", short)
        with pytest.raises(DecodeError, match="needs more memory than there was") as caught:
            decode(path.read_bytes())
    with KnownFacts() as known:
        known.learn(Examined(record=whole.examined[0].record, sha256="f" * 64, failure=caught.value))
    assert KnownFacts()("f" * 64) is None and KnownFacts()(hashlib.sha256(path.read_bytes()).hexdigest()) is not None


def test_facts_are_of_the_background_that_they_were_seen_on(tmp_path: Path, source: WeightsSource) -> None:
    """A black mark on nothing is hardly to be seen on black."""
    folder, mark = tmp_path / "photos", Image.new("RGBA", (64, 64))
    mark.paste((0, 0, 0, 255), (24, 24, 40, 40))
    for label in ("one", "two"):
        (folder / label).mkdir(parents=True)
        mark.save(folder / label / "mark.png")
    found = []
    for background in ((255, 255, 255), (0, 0, 0)):
        preprocessing = replace(source.preprocessing, background=background)
        facts = run(folder, replace(source, preprocessing=preprocessing)).examined[0].facts
        assert facts is not None
        found.append(facts.dominant)
    assert found[0] < 1 and found[1] == 1


def test_a_killed_pass_goes_on_with_the_missing_images(tmp_path: Path, backbone: Path) -> None:
    folder = tmp_path / "photos"
    write_photos(folder, 0, 50)
    killed = """
import os, signal, sys
from convatlas.data import scan
from convatlas.jobs.images import extract_features
from convatlas.weights.source import find_weights

def kill(what, done, total):
    if done == 140:
        os.kill(os.getpid(), signal.SIGKILL)

dataset = scan(sys.argv[1])
extract_features(dataset, dataset.records, find_weights(sys.argv[2]), device="cpu", progress=kill)
"""
    assert python(killed, folder, backbone).returncode == -signal.SIGKILL
    source = find_weights(backbone)
    path = store_path(source, weights=source.sha256())
    with sqlite3.connect(path) as db:
        (stored,) = db.execute("SELECT count(*) - 1 FROM entries").fetchone()  # the widths are one
    db.close()
    assert 64 <= stored < 140
    resumed = run(folder, source)
    assert counts(resumed) == (150 - stored, 150 - stored)
    path.unlink()
    assert np.allclose(all_features(run(folder, source)), all_features(resumed), rtol=1e-5, atol=1e-6)


def test_a_network_s_stages_are_those_of_the_ladder(folder: Path, source: WeightsSource) -> None:
    assert run(folder, source).store.cuts == STAGES


def test_memory_holds_a_bounded_number_of_images(source: WeightsSource, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading never runs further ahead of the network than the buffer allows."""
    photo("red", 0)
    read = 0

    class Endless:
        """300 images made up as they are read."""

        def read(self, record: Record) -> bytes:
            nonlocal read
            read += 1
            return b"P6 4 4 255\n" + np.random.default_rng(int(record.path)).bytes(48)

        def locate(self, record: Record) -> str:
            return record.path

    monkeypatch.setattr(images, "_BUFFER_BYTES", 40 * 32 * 32 * 3)
    records = tuple(Record(path=str(i), label=CLASSES[0], split="all") for i in range(300))
    ahead: list[int] = []
    dataset: Dataset = Endless()  # type: ignore[assignment] - has what is asked of one
    extract_features(
        dataset, records, source, device="cpu", progress=lambda what, done, total: ahead.append(read - done)
    )
    assert 0 < max(ahead) <= 48
