"""The probe's held-out scores against models really refitted, and the choices built on them."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from numpy.typing import NDArray

from convatlas.data import left_out, stratified
from convatlas.errors import ConvAtlasError
from convatlas.metrics import softmax
from convatlas.transfer.outer_folds import outer_folds_predictions
from convatlas.transfer.probe import (
    STRENGTHS,
    ClassWeights,
    Features,
    blocks_of,
    fit_probe,
    held_out_sets,
    image_weights,
    ladder,
    select,
)
from convatlas.transfer.ridge import Ridge

Array = NDArray[np.float64]


def images(counts: list[int], width: int, seed: int = 0, apart: float = 1.0) -> tuple[Array, NDArray[np.int64]]:
    """Gaussian classes of the given sizes, in random order."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat(np.arange(len(counts)), counts))
    centres = apart * rng.normal(size=(len(counts), width))
    noise = rng.normal(size=(len(labels), width)) * rng.uniform(0.3, 2, width)
    return centres[labels] + noise + 5, labels


def refitted(
    features: Array, labels: np.ndarray, num_classes: int, weights: Array, penalty: float, kept: np.ndarray
) -> tuple[Array, Array]:
    """Ridge by its normal equations, the intercept a column without penalty: shares no step with the probe."""
    columns = np.hstack([features[kept], np.ones((kept.sum(), 1))])
    left = columns.T @ (weights[kept, None] * columns) + penalty * np.diag(np.append(np.ones(features.shape[1]), 0.0))
    right = columns.T @ (weights[kept, None] * np.eye(num_classes)[labels[kept]])
    solution: Array = np.asarray(np.linalg.solve(left, right), dtype=np.float64)
    return solution[:-1], solution[-1]


def brute_force(
    features: Array, labels: np.ndarray, num_classes: int, weights: Array, strength: float, ids: np.ndarray
) -> Array:
    """Scores from one refit for each set of images held out; the block's scaling is that of all images."""
    centred = features - weights @ features / len(labels)
    scaled = features * np.sqrt(len(labels) / (weights @ centred**2).sum())
    out = np.full((len(labels), num_classes), np.nan)
    for one in np.unique(ids[ids >= 0]):
        weight, bias = refitted(scaled, labels, num_classes, weights, strength * len(labels), ids != one)
        out[ids == one] = scaled[ids == one] @ weight + bias
    return out


def regressed(
    features: Features,
    labels: np.ndarray,
    num_classes: int,
    strength: float,
    ids: np.ndarray | None = None,
    weights: Array | None = None,
) -> Array:
    """The regression's own held-out scores, from which `fit_probe` goes on."""
    sets, _ = held_out_sets(labels, num_classes, ids)
    each = np.ones(len(labels)) if weights is None else weights
    ridge = Ridge(blocks_of(features), np.eye(num_classes)[labels], each)
    ((_, scores),) = ridge.held_out([strength], sets)
    return scores


SIZES = {
    "2 classes, n > d": ([22, 18], 6),
    "2 classes, imbalanced, n > d": ([40, 5], 6),
    "2 classes, imbalanced, n < d": ([20, 4], 60),
    "12 classes, imbalanced, n > d": ([9, 2, 3, 4, 5, 6, 2, 3, 8, 2, 2, 12], 10),
    "12 classes, imbalanced, n < d": ([9, 2, 3, 4, 5, 6, 2, 3, 8, 2, 2, 12], 90),
    "12 classes, two images each": ([2] * 12, 30),
    "n = d": ([10, 10], 20),
}


@pytest.mark.parametrize("class_weights", [None, "balanced", "own"])
@pytest.mark.parametrize("counts, width", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("strength", [1e-3, 0.3])
def test_leave_one_out_equals_one_refit_for_each_image(
    counts: list[int], width: int, strength: float, class_weights: str | None
) -> None:
    features, labels = images(counts, width)
    given = np.linspace(0.2, 3, len(counts)) if class_weights == "own" else class_weights
    weights = image_weights(labels, len(counts), given)
    expected = brute_force(features, labels, len(counts), weights, strength, np.arange(len(labels)))
    found = regressed(features, labels, len(counts), strength, weights=weights)
    np.testing.assert_allclose(found, expected, atol=1e-8)


@pytest.mark.parametrize("class_weights", [None, "balanced"])
@pytest.mark.parametrize(
    "counts, width", [([30, 12], 5), ([30, 12], 100), ([6, 9, 4, 11, 5], 3), ([6, 9, 4, 11, 5], 20)]
)
@pytest.mark.parametrize("kind", ["3 folds", "pairs and singles", "some never out"])
def test_folds_and_groups_equal_refits(counts: list[int], width: int, class_weights: str | None, kind: str) -> None:
    features, labels = images(counts, width)
    n = len(labels)
    ids = {
        "3 folds": np.arange(n) % 3,
        "pairs and singles": np.where(np.arange(n) < 10, np.arange(n) // 2, np.arange(n)),
        "some never out": np.where(np.arange(n) < 7, -1, np.arange(n) % 4),
    }[kind]
    weights = image_weights(labels, len(counts), class_weights)
    expected = brute_force(features, labels, len(counts), weights, 0.01, ids)
    np.testing.assert_allclose(regressed(features, labels, len(counts), 0.01, ids, weights), expected, atol=1e-8)
    probe = fit_probe(features, labels, len(counts), class_weights=class_weights, folds=ids, strengths=[0.01])
    assert np.isnan(probe.losses).tolist() == (ids < 0).tolist()


def test_rank_deficient_and_constant_features_change_nothing() -> None:
    features, labels = images([15, 20, 9], 8)
    awkward = np.hstack([features, features[:, :3] @ np.ones((3, 4)), np.full((44, 2), 7.3), np.zeros((44, 1))])
    expected = brute_force(awkward, labels, 3, np.ones(44), 1e-4, np.arange(44))
    np.testing.assert_allclose(regressed(awkward, labels, 3, 1e-4), expected, atol=1e-8)
    assert np.abs(fit_probe(awkward, labels, 3, strengths=[1e-4]).weight[-3:]).max() < 1e-8


def test_features_that_are_all_constant_give_the_class_frequencies() -> None:
    labels = np.array([0] * 6 + [1] * 3 + [2])
    probe = fit_probe(np.full((10, 4), 0.1), labels, 3)
    np.testing.assert_allclose(probe.probabilities(np.full((1, 4), 0.1)), [[0.6, 0.3, 0.1]], atol=1e-12)
    assert np.isfinite(probe.log_loss)


def test_a_constant_block_beside_another_does_nothing() -> None:
    features, labels = images([15, 20], 8)
    alone = fit_probe(features, labels, 2)
    beside = fit_probe([features, np.full((35, 5), 1 / 3)], labels, 2, strengths=[s.strength / 2 for s in alone.path])
    np.testing.assert_allclose(beside.held_out, alone.held_out, atol=1e-9)


@pytest.mark.parametrize("width", [5, 200])
def test_weight_and_bias_are_the_fit_of_all_images_in_the_features_own_units(width: int) -> None:
    features, labels = images([30, 11, 8], width)
    features *= 1e-3
    weights = image_weights(labels, 3, "balanced")
    centred = features - weights @ features / 49
    factor = np.sqrt(49 / (weights @ centred**2).sum())
    weight, bias = refitted(features * factor, labels, 3, weights, 0.02 * 49, np.ones(49, dtype=bool))
    own, at = Ridge([features], np.eye(3)[labels], weights).solution(0.02)
    np.testing.assert_allclose(features @ own + at, features * factor @ weight + bias, atol=1e-9)
    probe = fit_probe(features, labels, 3, class_weights="balanced", strengths=[0.02])
    assert probe.weight.shape == (width, 3)
    np.testing.assert_allclose(probe.probabilities(features), softmax(probe.scale * probe.scores(features)))


def test_blocks_get_equal_say_whatever_their_units() -> None:
    features, labels = images([25, 25, 25], 12)
    left, right = features[:, :4], features[:, 4:]
    one = fit_probe([left, right], labels, 3)
    other = fit_probe([left * 1e4 + 3, (right - 8) * 1e-5], labels, 3)
    np.testing.assert_allclose(one.held_out, other.held_out, atol=1e-7)
    scaled = [block / np.sqrt(2 * block.var(axis=0).sum()) for block in (left, right)]
    np.testing.assert_allclose(one.held_out, fit_probe(np.hstack(scaled), labels, 3).held_out, atol=1e-9)
    np.testing.assert_allclose(one.scores([left, right]), one.scores(features), atol=1e-12)


@pytest.mark.parametrize("counts, width", [([1300, 900], 12), ([30, 30, 30], 700)])
def test_many_rows_taken_in_parts_and_float32(counts: list[int], width: int) -> None:
    features, labels = images(counts, width)
    features = features.astype(np.float32)
    n = len(labels)
    found = regressed(features, labels, len(counts), 0.01)
    some = np.random.default_rng(0).choice(n, 5, replace=False)
    ids = np.full(n, -1)
    ids[some] = some
    expected = brute_force(features.astype(float), labels, len(counts), np.ones(n), 0.01, ids)
    np.testing.assert_allclose(found[some], expected[some], atol=1e-8)


def test_strengths_in_several_passes_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    features, labels = images([30, 12], 5)
    whole = fit_probe(features, labels, 2, folds=np.arange(42) % 5)
    monkeypatch.setattr("convatlas.transfer.ridge.TABLE", 200)
    parts = fit_probe(features, labels, 2, folds=np.arange(42) % 5)
    assert parts.path == whole.path
    np.testing.assert_array_equal(parts.held_out, whole.held_out)


def test_labels_that_say_nothing_are_seen_to_say_nothing() -> None:
    """The trap of leaving the intercept out of the leverage: noise would look perfectly separable."""
    rng = np.random.default_rng(3)
    features, labels = rng.normal(size=(120, 400)), rng.integers(0, 2, 120)
    probe = fit_probe(features, labels, 2)
    assert probe.accuracy < 0.65
    assert probe.log_loss > 0.6


def test_duplicates_are_exposed_by_groups() -> None:
    rng = np.random.default_rng(1)
    features, labels = np.repeat(rng.normal(size=(60, 300)), 2, axis=0), np.repeat(rng.integers(0, 2, 60), 2)
    assert fit_probe(features, labels, 2).accuracy == 1.0
    assert fit_probe(features, labels, 2, folds=np.arange(120) // 2).accuracy < 0.7


def test_the_path_is_searched_for_the_least_log_loss() -> None:
    features, labels = images([40, 30, 20], 30, apart=0.4)
    probe = fit_probe(features, labels, 3)
    assert [row.strength for row in probe.path] == sorted((row.strength for row in probe.path), reverse=True)
    best = min(probe.path, key=lambda row: row.log_loss)
    assert probe.strength == best.strength
    scores = best.scale * regressed(features, labels, 3, best.strength)
    assert best.accuracy == (scores.argmax(axis=1) == labels).mean()
    assert best.log_loss == pytest.approx(-np.log(softmax(scores)[np.arange(90), labels]).mean())
    again = fit_probe(features, labels, 3, strengths=[best.strength])
    np.testing.assert_allclose(again.held_out, probe.held_out, atol=1e-12)
    assert probe.accuracy == (probe.held_out.argmax(axis=1) == labels).mean()
    own = -np.log(softmax(probe.scale * probe.held_out)[np.arange(90), labels])
    np.testing.assert_allclose(probe.losses, own, atol=1e-9)
    assert probe.log_loss == pytest.approx(own.mean())


def test_an_only_image_of_its_class_is_fitted_and_never_scored() -> None:
    features, labels = images([12, 1, 14], 6, apart=4)
    probe = fit_probe(features, labels, 3)
    assert np.isnan(probe.held_out).all(axis=1).tolist() == (labels == 1).tolist()
    assert probe.protocol == "leave-one-out; 1 images always fitted and never scored"
    assert probe.scores(features[labels == 1]).argmax() == 1


def test_a_class_without_images_is_never_predicted() -> None:
    features, labels = images([30, 30], 10, apart=0.1)
    probe = fit_probe(features, labels * 2, 4, class_weights="balanced")
    assert set(probe.scores(features).argmax(axis=1)) <= {0, 2}
    assert set(probe.held_out.argmax(axis=1)) <= {0, 2}


def test_hardly_more_images_than_classes() -> None:
    features, labels = images([2, 1, 1, 1, 1], 768)
    probe = fit_probe(features, labels, 5)
    assert np.isfinite(probe.weight).all() and np.isfinite(probe.log_loss) and probe.scale > 0
    assert np.isfinite(fit_probe(*images([1, 2], 3), 2, folds=[0, 1, 2]).weight).all()


def test_balanced_weights_raise_the_rare_class() -> None:
    features, labels = images([200, 10], 6, apart=0.5)
    rare = labels == 1
    plain, balanced = (fit_probe(features, labels, 2, class_weights=w).held_out for w in (None, "balanced"))
    assert (balanced[rare].argmax(axis=1) == 1).mean() > (plain[rare].argmax(axis=1) == 1).mean() + 0.2


def test_the_same_images_in_another_order_give_the_same_classifier() -> None:
    features, labels = images([20, 25, 9], 80)
    order = np.random.default_rng(0).permutation(54)
    one, other = fit_probe(features, labels, 3), fit_probe(features[order], labels[order], 3)
    np.testing.assert_allclose(one.weight, other.weight, atol=1e-10)
    assert one.strength == other.strength


def rungs_of(counts: list[int], seed: int = 0) -> tuple[dict[str, Features], NDArray[np.int64]]:
    features, labels = images(counts, 12, seed, apart=1.5)
    noise = np.random.default_rng(seed + 1).normal(size=(len(labels), 20))
    return {"stage1": noise, "stage2": features, "stage3": features[:, :3]}, labels


def test_the_informative_stage_is_chosen_and_the_reason_says_so() -> None:
    rungs, labels = rungs_of([40, 40, 40])
    chosen = select(rungs, labels, 3)
    assert chosen.name == "stage2" and chosen.probe is chosen.probes["stage2"]
    assert list(chosen.probes) == list(rungs)
    assert chosen.reason.startswith("the least held-out log-loss is that of stage2, 0.")
    assert chosen.probe.log_loss == min(probe.log_loss for probe in chosen.probes.values())


def test_of_equal_rungs_the_last_stage_is_chosen() -> None:
    features, labels = images([20, 20], 5)
    wide = np.hstack([features, np.zeros((40, 3))])
    for rungs, name in (({"a": features, "b": wide}, "b"), ({"a": wide, "b": features}, "b")):
        chosen = select({**rungs, "all stages": wide}, labels, 2)
        assert chosen.name == name
        assert len({round(probe.log_loss, 9) for probe in chosen.probes.values()}) == 1
        assert "do not show to be real" in chosen.reason or "than these images may show by chance" in chosen.reason
    assert select({"one": features}, labels, 2).reason == "one was the only one tried."
    assert select({"all stages": features}, labels, 2).name == "all stages"


@pytest.mark.parametrize("class_weights", [None, "balanced"])
def test_another_rung_must_be_better_than_the_last_stage_by_a_standard_error(class_weights: ClassWeights) -> None:
    chosen_names, by_chance = set[str](), 0
    for seed in range(30):
        features, labels = images([9, 16, 11], 8, seed, apart=0.5)
        rungs = {"stage1": features[:, :6], "stage2": features[:, 2:]}
        chosen = select(rungs, labels, 3, class_weights=class_weights, folds=np.arange(36) % 6)
        weights = image_weights(labels, 3, class_weights)
        first, last = chosen.probes["stage1"].losses, chosen.probes["stage2"].losses
        gain = np.average(last - first, weights=weights)
        error = np.sqrt((weights**2 * (last - first - gain) ** 2).sum()) / weights.sum()
        assert chosen.name == ("stage1" if gain > error else "stage2")
        assert ("by chance" in chosen.reason) == (0 < gain <= error)
        chosen_names.add(chosen.name)
        by_chance += 0 < gain <= error
    assert chosen_names == {"stage1", "stage2"} and by_chance


def test_what_knows_nothing_is_no_worse_than_guessing() -> None:
    """The regression, left out one by one, is: its class is always the rarer one among the others. Neither folds nor priors have that."""
    regression, one_by_one, together = list[float](), list[float](), list[float]()
    for seed in range(40):
        rng = np.random.default_rng(seed)
        labels, noise = np.tile([0, 1], 6), rng.normal(size=(12, 30))
        probe = fit_probe(noise, labels, 2, strengths=[0.1])
        regression.append(probe.path[0].accuracy)
        one_by_one.append(probe.accuracy)
        together.append(fit_probe(noise, labels, 2, strengths=[0.1], folds=left_out(labels)).accuracy)
    assert np.mean(regression) < 0.4
    assert abs(np.mean(one_by_one) - 0.5) < 0.06
    assert abs(np.mean(together) - 0.5) < 0.06


def test_the_ladder_has_each_stage_alone_and_all_together() -> None:
    means = {f"stage{i}": np.zeros((3, 4 * i)) for i in (1, 2, 3)}
    deviations = {"stage1": np.ones((3, 4)), "stage2": np.ones((3, 8))}
    assert {name: [b.shape[1] for b in blocks] for name, blocks in ladder(means, deviations).items()} == {
        "stage1": [4],
        "stage2": [8],
        "stage3": [12],
        "all stages": [8, 12, 4, 8],
    }
    assert list(ladder({"stage1": means["stage1"]}, {})) == ["stage1"]


def test_some_rows_are_as_good_as_a_copy_of_them() -> None:
    features, labels = images([12, 9, 11], 6)
    rows = np.flatnonzero(np.arange(len(labels)) % 3 != 1)
    folds = np.arange(len(labels)) % 5
    there = fit_probe(features, labels, 3, folds=folds, rows=rows)
    copied = fit_probe(features[rows], labels[rows], 3, folds=folds[rows])
    assert np.array_equal(there.weight, copied.weight)
    assert np.array_equal(there.held_out, copied.held_out)


@pytest.mark.parametrize("each", [1, 3])
def test_outer_folds_predict_each_image_without_it(each: int) -> None:
    rungs, labels = rungs_of([30, 25, 20])
    together = np.arange(75) // each
    outer = together % 5
    outer[:3] = -1
    result = outer_folds_predictions(rungs, labels, 3, outer, together=together)
    assert np.isnan(result.probabilities).all(axis=1).tolist() == (outer < 0).tolist()
    assert set(result.chosen) == {0, 1, 2, 3, 4}
    out = outer == 2
    alone = select(
        {name: np.asarray(features)[~out] for name, features in rungs.items()},
        labels[~out],
        3,
        folds=left_out(labels[~out], together[~out]),
        together=together[~out],
    )
    expected = alone.probe.probabilities(np.asarray(rungs[alone.name])[out])
    np.testing.assert_allclose(result.probabilities[out], expected, atol=1e-12)
    # what an outer fold's own labels are makes no difference to its predictions
    swapped = np.where(out, (labels + 1) % 3, labels)
    again = outer_folds_predictions(rungs, swapped, 3, outer, together=together)
    np.testing.assert_allclose(again.probabilities[out], result.probabilities[out], atol=1e-12)


def test_choosing_among_noise_is_optimistic_and_the_outer_folds_are_not() -> None:
    rng = np.random.default_rng(5)
    labels = rng.permutation(np.repeat([0, 1], 30))
    rungs = {f"noise{k}": rng.normal(size=(60, 4)) for k in range(30)}
    chosen = select(rungs, labels, 2)
    nested = outer_folds_predictions(rungs, labels, 2, np.arange(60) % 5)
    assert chosen.probe.accuracy > 0.6
    assert (nested.probabilities.argmax(axis=1) == labels).mean() < 0.6


def test_memory_stays_below_one_float64_copy_of_the_features() -> None:
    rng = np.random.default_rng(0)
    features, labels = rng.normal(size=(20_000, 100)).astype(np.float32), rng.integers(0, 4, 20_000)
    tracemalloc.start()
    fit_probe(features, labels, 4, strengths=[1.0, 0.1])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20_000 * 100 * 8


GOOD, LABELS = images([5, 5], 3)


@pytest.mark.parametrize(
    "error, message, arguments",
    [
        (ConvAtlasError, "all 10 training images belong to one class", {"labels": np.zeros(10, dtype=int)}),
        (ConvAtlasError, "no training image can be held out", {"folds": np.zeros(10, dtype=int)}),
        (ConvAtlasError, "no training image can be held out", {"folds": np.full(10, -1)}),
        (ConvAtlasError, "every class has a single image", {"features": GOOD[:2], "labels": np.array([0, 1])}),
        (ValueError, "class index from 0 to 1", {"labels": LABELS + 1}),
        (ValueError, "9 labels for 10 rows", {"labels": LABELS[1:]}),
        (ValueError, "one fold id for each of the 10 images", {"folds": [1, 2]}),
        (ValueError, "above 0", {"strengths": [0.0]}),
        (ValueError, "above 0", {"strengths": []}),
        (ValueError, "not None, 'balanced'", {"class_weights": "equal"}),
        (ValueError, "a positive number for each of the 2", {"class_weights": [1.0, 0.0]}),
        (ValueError, "NaN or infinite", {"features": np.where(np.eye(10, 3) > 0, np.nan, GOOD)}),
        (ValueError, "blocks of equal n", {"features": [GOOD, GOOD[:4]]}),
    ],
)
def test_what_cannot_be_fitted_says_why(error: type[Exception], message: str, arguments: dict) -> None:
    with pytest.raises(error, match=message):
        fit_probe(**({"features": GOOD, "labels": LABELS, "num_classes": 2} | arguments))


def test_other_errors() -> None:
    with pytest.raises(ValueError, match="no rung"):
        select({}, LABELS, 2)
    with pytest.raises(ValueError, match="one fold id for each of the 10 images"):
        outer_folds_predictions({"a": GOOD}, LABELS, 2, [0, 1])
    with pytest.raises(ValueError, match="NaN or infinite"):
        Ridge([np.full((4, 2), np.inf)], np.eye(4), np.ones(4))


def test_a_block_that_only_rounding_varies_is_constant_and_weak_strengths_go() -> None:
    features, labels = images([20, 20], 5)
    offset = np.float32(1e6)  # of which single precision keeps 0.06
    noisy = (features * 0.01 + offset).astype(np.float32)
    assert not fit_probe([features, noisy], labels, 2).weight[5:].any()
    shaky = (features + 3e4).astype(np.float32)  # varies, but 1e-7 of its size is 1e-5 of its variance
    assert min(row.strength for row in fit_probe(shaky, labels, 2).path) > min(STRENGTHS)
    assert len(fit_probe(features, labels, 2).path) == len(STRENGTHS)


def test_single_images_of_classes_are_judged_by_the_nearest_mean_of_the_last_stage() -> None:
    """Nothing can be held out to choose by where a fold leaves one image of each class."""
    last = np.array([[0.0], [10.0], [1.0], [9.0]])
    rungs = {"first": (last[::-1].copy(),), "last": (last,)}
    found = outer_folds_predictions(rungs, [0, 1, 0, 1], 2, [0, 0, 1, 1])
    assert found.chosen == {0: None, 1: None}
    assert found.probabilities.argmax(axis=1).tolist() == [0, 1, 0, 1]
    assert found.probabilities.sum(axis=1) == pytest.approx(1)


@pytest.mark.parametrize("classes", [2, 3, 5, 20])
def test_two_images_a_class_are_judged_by_the_nearest_mean_whatever_is_dealt(classes: int) -> None:
    labels = np.repeat(np.arange(classes), 2)
    features = 8.0 * np.eye(classes)[labels] + np.random.default_rng(classes).normal(size=(2 * classes, classes))
    units = np.arange(len(labels))
    for copies in (1, 3):  # which leave no more to choose by than what they are copies of
        x, (truth, together) = features.repeat(copies, axis=0), (each.repeat(copies) for each in (labels, units))
        for seed in range(5):
            outer = stratified(truth, together, k=5, seed=1 + seed)
            found = outer_folds_predictions({"last": x}, truth, classes, outer, together=together)
            assert set(found.chosen.values()) == {None}
            assert (found.probabilities.argmax(axis=1) == truth).mean() > 0.5


def test_copies_make_no_stage_surer() -> None:
    """What is chosen, and whether a difference is called real, is as with each image once."""
    generator, labels, agreed = np.random.default_rng(0), np.repeat(np.arange(2), 30), {"units": 0, "images": 0}

    def told(copies: int, together: NDArray[np.int64] | None = None) -> tuple[str, bool]:
        rungs = {name: block.repeat(copies, axis=0) for name, block in blocks.items()}
        found = select(rungs, labels.repeat(copies), 2, folds=np.repeat(np.arange(60), copies), together=together)
        return found.name, "do not show" in found.reason or "by chance" in found.reason

    for _ in range(15):
        blocks = {name: generator.normal(size=(60, 5)) + 0.7 * labels[:, None] for name in ("first", "last")}
        once = told(1)
        agreed["units"] += told(4, np.repeat(np.arange(60), 4)) == once
        agreed["images"] += told(4) == once
    assert agreed["units"] >= 14 and agreed["images"] <= 12
