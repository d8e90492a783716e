"""A network that was trained states rates, too: by the images that the networks of its trials had not seen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import convatlas
from convatlas.bundle.confidence import read_confidence
from convatlas.errors import ConvAtlasError
from convatlas.jobs.fit import FitResult, fit
from tiny import CLASSES, photo, write_photos, write_split

ASKED: dict[str, Any] = {"false_reject": 0.1, "sets": 0.9}


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty images of each class to train, so that one fold of five can show a rate of 10 %."""
    return write_split(tmp_path_factory.mktemp("many") / "stripes", {"train": 20, "test": 6})


@pytest.fixture(scope="module")
def tuned(many: Path, backbone: Path, tmp_path_factory: pytest.TempPathFactory) -> FitResult:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CONVATLAS_CACHE", str(tmp_path_factory.mktemp("cache")))
        return fit(many, weights=backbone, out=tmp_path_factory.mktemp("tuned") / "model", plan="tune:stage3")


def test_with_a_test_part_one_fold_speaks_and_evaluate_finds_the_same(tuned: FitResult, many: Path) -> None:
    found = tuned.json["confidence"]
    assert (found["images"], found["protocol"]) == (12, "1 of 5 folds, each held out from a network of its own")
    assert (
        "12 held-out training images cannot show a false-reject rate of 0.05, which takes 19"
        in found["rates"][1]["refused"]
    )
    last = found["rates"][2]
    assert last["training"]["none_of_these"]["images"] == 12
    measured = convatlas.evaluate(tuned.bundle, many, **ASKED).json
    assert last["test"] == {"none_of_these": measured["none_of_these"], "sets": measured["sets"]}


def test_other_things_are_less_typical_than_the_classes(tuned: FitResult) -> None:
    known = [np.asarray(photo(label, 500 + number)) for number in range(4) for label in CLASSES]
    other = [np.random.default_rng(i).integers(0, 256, (36, 40, 3)).astype(np.uint8) for i in range(6)]
    rows = convatlas.load(tuned.bundle).predict([*known, *other], **ASKED)
    typicality = [row.typicality or 0.0 for row in rows]
    assert np.mean(typicality[:12]) > 2 * np.mean(typicality[12:])
    assert all(row.one_of for row in rows)


def test_the_page_says_by_whom_the_images_were_judged(tuned: FitResult) -> None:
    page = (tuned.bundle / "report.html").read_text(encoding="utf-8")
    assert 'id="confidence"' in page
    assert "12 training images, each judged by a network trained without it" in page


def test_without_a_test_part_every_fold_speaks(backbone: Path, tmp_path: Path) -> None:
    write_photos(tmp_path / "photos", 0, 5)
    result = fit(tmp_path / "photos", weights=backbone, out=tmp_path / "model", plan="tune:stage3", report=False)
    found, confidence = result.json["confidence"], read_confidence(result.bundle)
    assert confidence is not None
    assert (found["images"], found["protocol"][:12]) == (15, "5 of 5 folds")
    assert len(confidence.unlikenesses) == len(confidence.own_scores) == 15
    assert found["rates"][2]["test"] is None
    assert found["rates"][2]["training"]["none_of_these"]["rejected"] == pytest.approx(1 / 15)
    assert found["rates"][2]["training"]["sets"]["coverage"] >= 0.9


def test_a_rate_that_takes_more_held_out_images_is_refused(tuned: FitResult) -> None:
    with pytest.raises(
        ConvAtlasError, match="12 held-out training images cannot show a false-reject rate of 0.05.*at least 7.7%"
    ):
        convatlas.load(tuned.bundle).predict(photo("red", 1), false_reject=0.05)
