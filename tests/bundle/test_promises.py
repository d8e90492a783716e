"""What a model folder promises of its answers: kept when moved, refused when changed, and an error where nothing can be stated."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import convatlas
from convatlas.bundle.confidence import CONFIDENCE, NONE_OF_THESE
from convatlas.bundle.load import Classifier, load
from convatlas.bundle.prediction import Prediction
from convatlas.bundle.save import config_sha256
from convatlas.errors import ConvAtlasError
from convatlas.jobs.fit import FitResult
from tiny import CLASSES, photo, write_model


@pytest.fixture(scope="module")
def classifier(fitted: FitResult) -> Classifier:
    return load(fitted.bundle)


@pytest.fixture(scope="module")
def seen() -> list[np.ndarray]:
    """Images of the classes, and then some of other things."""
    known = [np.asarray(photo(label, 500 + number)) for number in range(4) for label in CLASSES]
    generator = np.random.default_rng(0)
    return [*known, *[generator.integers(0, 256, (36, 40, 3)).astype(np.uint8) for _ in range(4)]]


def test_without_being_asked_nothing_is_promised(classifier: Classifier, seen: list[np.ndarray]) -> None:
    row = classifier.predict(seen[0])[0]
    assert (row.rejected, row.nearest_class, row.typicality, row.one_of) == (None, None, None, None)
    assert set(row.to_json()) == {"path", "label", "probability", "top"}


def test_rejected_images_are_none_of_these_with_their_nearest_class(
    classifier: Classifier, seen: list[np.ndarray]
) -> None:
    plain = classifier.predict(seen)
    rows = classifier.predict(seen, false_reject=0.1)
    assert [row.rejected for row in rows[-4:]] == [True] * 4
    assert sum(row.rejected or False for row in rows[:-4]) <= 3
    for row, without in zip(rows, plain, strict=True):
        assert row.nearest_class == without.label
        assert row.typicality is not None
        assert row.rejected == (row.typicality <= 0.1)
        assert (row.label == NONE_OF_THESE) == row.rejected == (row.probability is None)
        assert [label for label, _ in row.top] == [label for label, _ in without.top]
        np.testing.assert_allclose([p for _, p in row.top], [p for _, p in without.top], atol=1e-6)
        assert {"rejected", "nearest_class", "typicality"} < set(row.to_json())
        assert "one_of" not in row.to_json()


def test_sets_grow_with_the_coverage_and_begin_with_the_likeliest(
    classifier: Classifier, seen: list[np.ndarray]
) -> None:
    smaller: list[Prediction] | None = None
    for coverage in (0.5, 0.8, 0.95):
        rows = classifier.predict(seen, sets=coverage)
        for i, row in enumerate(rows):
            assert row.one_of is not None and row.one_of[0] == row.label
            assert set(row.one_of) <= set(CLASSES)
            assert smaller is None or set(smaller[i].one_of or ()) <= set(row.one_of)
            assert row.to_json()["one_of"] == list(row.one_of)
            assert row.rejected is None
        smaller = rows


def test_batches_and_unreadable_files_change_nothing(
    classifier: Classifier, seen: list[np.ndarray], tmp_path: Path
) -> None:
    (tmp_path / "broken.png").write_bytes(b"no image")
    asked: dict[str, Any] = {"false_reject": 0.1, "sets": 0.9}
    together = classifier.predict([*seen, tmp_path / "broken.png"] * 3, **asked)
    alone = [classifier.predict(image, **asked)[0] for image in seen]
    assert together[len(seen)].error and together[len(seen)].rejected is None
    for i, row in enumerate(alone):
        assert (together[i].label, together[i].one_of) == (row.label, row.one_of)
        assert together[i].typicality == row.typicality


def test_training_images_look_no_less_typical_than_new_ones(
    classifier: Classifier, photos: Path, seen: list[np.ndarray]
) -> None:
    paths = sorted((photos / "train").rglob("*.png"))
    found = [row.typicality or 0 for row in classifier.predict(paths, false_reject=0.1)]
    new = [row.typicality or 0 for row in classifier.predict(seen[:-4], false_reject=0.1)]
    assert np.mean(found) > np.mean(new)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"false_reject": 0.01}, "24 held-out training images cannot show a false-reject rate of 0.01, which takes 99. .* least 4.0%"),
        ({"sets": 0.99}, "24 held-out training images cannot show a coverage of sets of 0.99, which takes 99. Ask for at most 96.0%"),
        ({"false_reject": 5}, "a false-reject rate of 5 is none. Give a share between 0 and 1, such as 0.05"),
        ({"false_reject": 0}, "a false-reject rate of 0 is none"),
        ({"sets": 1.0}, "a coverage of sets of 1 is none"),
        ({"sets": float("nan")}, "a coverage of sets of nan is none"),
        ({"false_reject": 0.1, "views": "flip"}, "hold for what the model itself sees, not for the views 'flip'"),
    ],
)  # fmt: skip
def test_what_cannot_be_promised_is_an_error(classifier: Classifier, asked: dict[str, Any], message: str) -> None:
    with pytest.raises(ConvAtlasError, match=message):
        classifier.predict(photo("red", 1), **asked)


def test_a_network_without_a_fit_and_an_ensemble_promise_nothing(fitted: FitResult, tmp_path: Path) -> None:
    packed = write_model(tmp_path / "packed")
    ensemble = convatlas.ensemble([fitted.bundle, packed], tmp_path / "both").folder
    for folder, why in ((packed, f"has no {CONFIDENCE}"), (ensemble, "is an ensemble")):
        for rate, sets in ((0.1, None), (None, 0.9)):
            with pytest.raises(ConvAtlasError, match=f"{folder.name}: {why}, so no false-reject rate.*fit one"):
                load(folder).predict(photo("red", 1), false_reject=rate, sets=sets)


def test_a_folder_from_before_still_loads(fitted: FitResult, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(fitted.bundle, tmp_path / "older"))
    described = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    del described["convatlas"]["confidence"], described["convatlas"]["sha256"][CONFIDENCE]
    described["convatlas"]["config_sha256"] = config_sha256(described)
    (folder / "config.json").write_text(json.dumps(described), encoding="utf-8")
    (folder / CONFIDENCE).unlink()
    older = load(folder)
    assert older.predict(photo("red", 1)) == load(fitted.bundle).predict(photo("red", 1))
    with pytest.raises(ConvAtlasError, match=f"has no {CONFIDENCE}"):
        older.predict(photo("red", 1), false_reject=0.1)


def test_it_travels_with_the_folder_and_says_on_how_many_images_it_rests(fitted: FitResult, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(fitted.bundle, tmp_path / "elsewhere"))
    described = json.loads((folder / "config.json").read_text(encoding="utf-8"))["convatlas"]
    assert described["confidence"] == {
        "schema": "convatlas.confidence/1",
        "images": 24,
        "protocol": "8 folds, each held out in turn",
    }
    asked: dict[str, Any] = {"false_reject": 0.1, "sets": 0.9}
    assert load(folder).predict(photo("red", 1), **asked) == load(fitted.bundle).predict(photo("red", 1), **asked)


def test_a_changed_file_is_refused_and_named(fitted: FitResult, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(fitted.bundle, tmp_path / "changed"))
    content = bytearray((folder / CONFIDENCE).read_bytes())
    content[-3] ^= 4
    (folder / CONFIDENCE).write_bytes(bytes(content))
    with pytest.raises(ConvAtlasError, match=f"{CONFIDENCE}: was changed"):
        load(folder)
