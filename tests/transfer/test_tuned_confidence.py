"""The rates of networks that were trained: their spaces differ, their training images are flattered, and new images keep the rate."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from convatlas import zoo
from convatlas.bundle.confidence import Confidence, Promise
from convatlas.bundle.member import Member
from convatlas.data import Preprocessing
from convatlas.train.config import TrainConfig
from convatlas.train.images import InMemory
from convatlas.transfer.advise import Trial
from convatlas.transfer.confidence import Among, confidence_of_trials
from convatlas.transfer.finetune import Finetune, Tuning
from convatlas.transfer.plans import Plan
from convatlas.transfer.probe import fit_probe

Array = NDArray[np.float64]
CLASSES, WIDTH, FOLDS = 3, 12, 5


def drawn(count: int, seed: int, *, away: float = 0.0) -> tuple[Array, NDArray[np.int64]]:
    """Images of Gaussian classes, as a network finds them before it is trained."""
    rng, world = np.random.default_rng(seed), np.random.default_rng(99)
    centres = 1.5 * world.normal(size=(CLASSES, WIDTH))
    labels = rng.permutation(np.arange(count) % CLASSES)
    return centres[labels] + rng.normal(size=(count, WIDTH)) + away * world.normal(size=WIDTH), labels


class Learned:
    """What training does, without a network: a space of its own, in which the images learned from lie closer to their classes."""

    def __init__(self, images: Array, labels: NDArray[np.int64], seed: int) -> None:
        rng = np.random.default_rng(seed)
        self._turn = rng.uniform(0.2, 5.0) * np.linalg.qr(rng.normal(size=(WIDTH, WIDTH)))[0]
        means = np.stack([images[labels == k].mean(axis=0) for k in range(CLASSES)])
        self.own = (images + 0.6 * (means[labels] - images)) @ self._turn
        self._probe = fit_probe(self.own, labels, CLASSES)

    def read(self, images: Array) -> Array:
        return images @ self._turn

    def logits(self, images: Array) -> Array:
        return 8 * self._probe.scores(self.read(images))


def confidence(images: Array, labels: NDArray[np.int64], last: Learned, trials: int, seed: int) -> Confidence:
    fold_of, told = np.arange(len(labels)) % FOLDS, []
    for fold in range(trials):
        out = np.flatnonzero(fold_of == fold)
        one = Learned(images[fold_of != fold], labels[fold_of != fold], 1000 * seed + fold)
        leverages = Among.of(one.own).leverages(one.read(images[out]))
        told.append(Trial(fold=fold, rows=out, logits=one.logits(images[out]), seconds=0.0, leverages=leverages))
    return confidence_of_trials(told, labels, last.own, scale=1.0, folds=FOLDS)


@pytest.mark.parametrize("trials", [1, FOLDS])
@pytest.mark.parametrize("count", [100, 300])
def test_new_images_of_the_classes_keep_the_rate_and_the_sets(count: int, trials: int) -> None:
    rejected, covered, others, naive = [], [], [], []
    for seed in range(40):
        images, labels = drawn(count, seed)
        last = Learned(images, labels, 7 + seed)
        found = confidence(images, labels, last, trials, seed)
        promise = Promise(confidence=found, false_reject=0.1, coverage=0.9)
        fresh, truth = drawn(200, 5000 + seed)
        strange, _ = drawn(50, 6000 + seed, away=3.0)
        typicality = found.typicality(last.read(fresh), last.logits(fresh))
        rejected.append(promise.rejected(typicality).mean())
        others.append(promise.rejected(found.typicality(last.read(strange), last.logits(strange))).mean())
        shares = np.exp(last.logits(fresh))
        covered.append(promise.sets(shares / shares.sum(axis=1, keepdims=True))[np.arange(200), truth].mean())
        own, new = found.metric.leverages(last.own), found.metric.leverages(last.read(fresh))
        naive.append((new >= np.quantile(own, 0.9)).mean())
    assert abs(np.mean(rejected) - 0.1) <= 0.02
    assert np.mean(covered) >= 0.88
    assert np.mean(others) > 0.8
    assert np.mean(naive) > 0.5  # which is what the images that it learned from would have said


def test_a_space_that_is_turned_and_stretched_changes_nothing() -> None:
    images, new = drawn(60, 0)[0], drawn(20, 1)[0]
    turn = 7 * np.linalg.qr(np.random.default_rng(0).normal(size=(WIDTH, WIDTH)))[0]
    np.testing.assert_allclose(Among.of(images).leverages(new), Among.of(images @ turn + 3).leverages(new @ turn + 3))


def test_as_many_images_again_move_new_ones_little() -> None:
    new, _ = drawn(400, 1)
    few, more = (np.log(Among.of(drawn(count, 2)[0]).leverages(new)).mean() for count in (60, 600))
    assert abs(few - more) < 0.15  # of leverages themselves that is ln 10


def test_the_order_of_trials_and_of_their_images_plays_no_part() -> None:
    images, labels = drawn(60, 0)
    last, told, mixed = Learned(images, labels, 0), list[Trial](), list[Trial]()
    for fold in range(FOLDS):
        rows = np.flatnonzero(np.arange(60) % FOLDS == fold)
        for trials, out in ((told, rows), (mixed, np.random.default_rng(fold).permutation(rows))):
            leverages = last.read(images[out])[:, 0] ** 2
            trials.append(Trial(fold=fold, rows=out, logits=last.logits(images[out]), seconds=0.0, leverages=leverages))
    one, other = (confidence_of_trials(each, labels, last.own, scale=1.0, folds=FOLDS) for each in (told, mixed[::-1]))
    np.testing.assert_allclose(one.unlikenesses, other.unlikenesses)
    np.testing.assert_allclose(one.own_scores, other.own_scores)


@pytest.mark.parametrize(
    ("name", "size"), [("resnet20_cifar", 32), ("nin_cifar", 32), ("lenet5", 32), ("alexnet", 227)]
)
def test_the_folder_reads_what_the_training_read(name: str, size: int) -> None:
    channels = zoo.native(name)[0][0]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = zoo.build(name, num_classes=CLASSES, in_channels=channels).eval()
    pixels = torch.randint(
        0, 256, (5, channels, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    square = Preprocessing(size=size, resize=size, channels=channels, mean=(0.5,) * channels, std=(0.25,) * channels)
    config = TrainConfig(epochs=1, batch_size=4, image_size=size, mean=square.mean, std=square.std)
    fine = Finetune(model, Tuning(plan=Plan(kind="scratch"), config=config), key=name)
    seen = fine.seen(InMemory(pixels, torch.zeros(5, dtype=torch.int64)))
    model.eval()  # training goes on, for all that its loop knows
    member = Member(Path(), network=name, probe=None, classes=("a", "b", "c"), preprocessing=square, model=model)
    logits, read = member.read(pixels.permute(0, 2, 3, 1).numpy())
    np.testing.assert_allclose(seen.read, read, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(seen.logits, logits, rtol=1e-4, atol=1e-5)
