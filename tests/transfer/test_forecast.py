"""The forecast of more images: right about curves that are known, and silent where nothing can be known."""

from __future__ import annotations

import numpy as np
import pytest

from convatlas.data import left_out
from convatlas.transfer import forecast as curves
from convatlas.transfer.forecast import Curve, Point, forecast, learning_curve
from convatlas.transfer.probe import fit_probe


def made(floor: float, scale: float, exponent: float, images: int, classes: int, sizes: int = 7) -> Curve:
    """A curve that is a power law in the images a class, judged by `images` images."""
    shares = np.geomspace(0.1, 1, sizes)
    errors = floor + scale * (shares * images / classes) ** -exponent
    points = tuple(
        Point(images=round(share * images), accuracy=1 - error, interval=(0.0, 1.0))
        for share, error in zip(shares, errors, strict=True)
    )
    deviations = np.sqrt(errors * (1 - errors) / images)
    together = 0.7 + 0.3 * np.eye(sizes)  # the same images judge every point
    covariance = together * np.outer(deviations, deviations)
    return Curve(points=points, covariance=covariance, images=images, worth=images, classes=classes)


@pytest.mark.parametrize(
    ("floor", "scale", "exponent"), [(0.0, 1.0, 0.5), (0.1, 1.0, 0.7), (0.05, 2.0, 1.0), (0.3, 0.2, 0.3)]
)
def test_a_power_law_is_continued(floor: float, scale: float, exponent: float) -> None:
    curve = made(floor, scale, exponent, images=1000, classes=10)
    truth = scale * (100.0**-exponent - 150.0**-exponent)
    found = forecast(curve, 50)
    assert found.interval[0] <= truth <= found.interval[1]
    assert found.gain == pytest.approx(truth, abs=0.015)
    assert found.interval95[0] <= found.interval[0] <= found.interval[1] <= found.interval95[1]
    assert not found.doubt
    assert found.band[-1][0] == pytest.approx(150)


def test_more_images_are_worth_more_and_more_doubt() -> None:
    curve = made(0.1, 1.0, 0.5, images=1000, classes=10)
    near, far = forecast(curve, 20), forecast(curve, 400)
    assert far.gain > near.gain
    assert np.diff(far.interval) > np.diff(near.interval)
    assert np.diff(forecast(curve, 20, measured=0.05).interval) > np.diff(near.interval)


def test_a_curve_that_no_longer_rises_promises_nothing() -> None:
    found = forecast(made(0.1, 0.0, 0.5, images=2000, classes=10), 50)
    assert found.gain < 0.01
    assert found.interval[0] <= 0 <= found.interval[1]


def test_what_cannot_be_told_is_said() -> None:
    assert "too few" in forecast(made(0.1, 0.2, 0.5, images=40, classes=10, sizes=3), 50).doubt
    assert "too far" in forecast(made(0.1, 0.2, 0.5, images=40, classes=10), 50).doubt
    assert "anything from" in forecast(made(0.1, 0.8, 0.5, images=40, classes=4), 50, measured=0.1).doubt


def clusters(count: int, classes: int = 4, width: int = 30, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    centres = np.random.default_rng(99).normal(size=(classes, width))
    return (0.5 * centres[labels] + generator.normal(size=(count, width))).astype(np.float32), labels


def curve_of(features: np.ndarray, labels: np.ndarray, together: np.ndarray | None = None) -> Curve:
    classes = int(labels.max()) + 1
    probe = fit_probe(features, labels, classes, folds=together)
    right = np.where(np.isfinite(probe.held_out[:, 0]), probe.held_out.argmax(axis=1) == labels, np.nan)
    return learning_curve([features], labels, classes, probe.strength, right, together=together)


def test_the_curve_and_the_forecast_are_those_of_the_data() -> None:
    unseen, truth = clusters(8000, seed=5)

    def accuracy(count: int) -> float:
        features, labels = clusters(count, seed=1)
        return float((fit_probe(features, labels, 4).scores(unseen).argmax(axis=1) == truth).mean())

    features, labels = clusters(240, seed=1)
    curve = curve_of(features, labels)
    assert len(curve.points) == 7
    accuracies = [point.accuracy for point in curve.points]
    assert accuracies[-1] > accuracies[0] + 0.05
    assert all(point.interval[0] <= point.accuracy <= point.interval[1] for point in curve.points)
    found = forecast(curve, 50)
    assert found.interval95[0] <= accuracy(440) - accuracy(240) <= found.interval95[1]
    again = forecast(curve_of(features, labels), 50)
    assert again == found


def test_what_belongs_together_is_never_on_both_sides() -> None:
    generator = np.random.default_rng(0)
    together = np.repeat(np.arange(40), 6)  # each group has one look, and classes tell nothing
    labels = np.repeat(generator.permutation(np.arange(40) % 2), 6)
    looks = generator.normal(size=(40, 60))
    features = (looks[together] + 0.05 * generator.normal(size=(240, 60))).astype(np.float32)
    apart, joined = curve_of(features, labels, together), curve_of(features, labels)
    assert all(point.accuracy < 0.75 for point in apart.points)
    assert joined.points[-1].accuracy > 0.95
    assert apart.covariance[-1, -1] > 2 * 0.25 / 240 * 0.9  # six images of a group are less than six


def test_copies_make_no_forecast_surer() -> None:
    features, labels = clusters(120)
    once = curve_of(features, labels)
    copied = curve_of(features.repeat(4, axis=0), labels.repeat(4), np.repeat(np.arange(120), 4))
    assert once.worth == 120 and 100 < copied.worth <= 120
    one, other = (each.points[-1].interval for each in (once, copied))
    assert other[1] - other[0] == pytest.approx(one[1] - one[0], rel=0.1)


def test_points_that_are_all_right_are_not_certain() -> None:
    curve = curve_of(10 * np.eye(2, dtype=np.float32)[np.arange(40) % 2], np.arange(40) % 2)
    assert all(point.accuracy == 1 and point.interval[0] < 0.95 for point in curve.points)


@pytest.mark.parametrize("count", [24, 40, 120])
def test_a_forecast_knows_no_more_than_its_images(count: int) -> None:
    """All right, by 24 images: an accuracy of 88 % may be behind that."""
    curve = curve_of(10 * np.eye(2, dtype=np.float32)[np.arange(count) % 2], np.arange(count) % 2)
    found = forecast(curve)
    assert curve.points[-1].accuracy == 1
    _, middle, low, high = next(row for row in found.band if row[0] >= count / 2)
    assert low < 1 - 1 / count < high
    assert curve.points[-1].interval[0] < middle < 1
    assert found.gain < 3 / count


def test_many_images_are_not_all_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(curves, "MOST", 200)
    curve = curve_of(*clusters(600))
    assert [point.images for point in curve.points][-2:] == [160, 600]


@pytest.mark.parametrize("count", [100, 101, 102, 107, 333])
def test_every_image_judges_every_point(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    judging: list[int] = []

    def spy(rows: np.ndarray, units: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        judging.extend(np.isfinite(rows).sum(axis=1).tolist())
        return moments(rows, units)

    moments = curves._moments
    monkeypatch.setattr(curves, "_moments", spy)
    curve_of(*clusters(count))
    assert judging == [count] * len(judging) and len(judging) == 7


@pytest.mark.parametrize("seed", range(40))
def test_whatever_the_groups_there_is_a_curve(seed: int) -> None:
    """Folds that lack a class, or images, judge nothing; what is left may share no images."""
    generator = np.random.default_rng(seed)
    sizes = [
        generator.choice([1, 3, 5, 20, 40], generator.integers(1, 4)) for _ in range(int(generator.integers(2, 4)))
    ]
    if all(len(each) == 1 for each in sizes):
        sizes[0] = np.array([5, 5])  # or nothing could be held out at all
    labels = np.repeat(np.arange(len(sizes)), [each.sum() for each in sizes])
    units = np.repeat(np.arange(sum(map(len, sizes))), np.concatenate(sizes))
    features = generator.normal(size=(len(labels), 6)).astype(np.float32)
    probe = fit_probe(features, labels, len(sizes), folds=left_out(labels, units))
    right = np.where(np.isfinite(probe.losses), probe.held_out.argmax(axis=1) == labels, np.nan)
    curve = learning_curve([features], labels, len(sizes), probe.strength, right, together=units)
    assert curve.points[-1].images == len(labels)
    assert curve.points[-1].accuracy == pytest.approx(np.nanmean(right))
    assert np.isfinite(curve.covariance).all()
    assert np.linalg.eigvalsh(curve.covariance).min() > -1e-9
    forecast(curve)


def test_the_last_point_varies_as_that_of_all_images_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(curves, "MOST", 200)
    curve = curve_of(*clusters(1600))
    accuracy = curve.points[-1].accuracy
    assert curve.covariance[-1, -1] == pytest.approx(accuracy * (1 - accuracy) / 1600)
    assert curve.covariance[-2, -2] > 4 * curve.covariance[-1, -1]  # of an eighth of the images
    assert abs(curve.covariance[-2, -1]) <= curve.covariance[-1, -1] * 1.5


def test_a_few_images_give_a_curve_of_what_there_is() -> None:
    curve = curve_of(*clusters(9))
    assert [point.images for point in curve.points][-1] == 9
    assert forecast(curve).doubt
