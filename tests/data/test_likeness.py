"""Near copies: pictures saved again are found, pictures that merely look alike are not, and nothing is said of blank ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from convatlas.data import Examined, Facts, Record, check, near_copies, near_problems
from convatlas.data.likeness import BITS, SIDE, _candidates, alike, hashes, radius, thumbnail, unpacked
from scenes import AGAIN, brighter, saved, scene


def item(sha256: str, image: Image.Image, label: str = "a", split: str = "train") -> Examined:
    facts = Facts(format="PNG", width=image.width, height=image.height, mode="RGB", thumb=thumbnail(image))
    record = Record(path=f"{split}/{label}/{sha256}.png", label=label, split=split)  # type: ignore[arg-type] - a split
    return Examined(record=record, sha256=sha256, facts=facts)


@pytest.mark.parametrize("how", AGAIN)
def test_a_picture_saved_again_is_found(how: str) -> None:
    scenes = [scene(number) for number in range(40)]
    again = [AGAIN[how](image) for image in scenes[:15]]
    pairs = near_copies([item(str(i), image) for i, image in enumerate([*scenes, *again])])
    found = {frozenset(map(int, pair.sha256s)) for pair in pairs}
    assert found == {frozenset((i, 40 + i)) for i in range(15)}


def test_a_mirror_image_is_another_picture() -> None:
    scenes = [scene(number) for number in range(20)]
    mirrored = [image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) for image in scenes]
    assert near_copies([item(str(i), image) for i, image in enumerate([*scenes, *mirrored])]) == ()


def test_images_of_one_pattern_are_no_copies() -> None:
    """Of stripes in noise every two look alike, so that looks say nothing; one that is saved again is not told apart either."""
    y, _ = np.mgrid[:40, :40] // 5
    made = [
        Image.fromarray((60 + y % 2 * 90 + np.random.default_rng(i).integers(0, 90, (40, 40))).astype(np.uint8))
        for i in range(40)
    ]
    items = [item(str(i), image.convert("RGB")) for i, image in enumerate(made)]
    assert near_copies(items) == ()
    features = np.random.default_rng(0).normal(size=(40, 2))  # which find some pairs alike and some not
    assert near_copies(items, lambda contents: features) == ()


def test_blank_images_are_in_no_pair() -> None:
    blank = [Image.new("RGB", (28, 28), (level, level, level)) for level in (0, 1, 2, 254, 255)]
    faint = Image.fromarray(np.random.default_rng(0).integers(100, 103, (28, 28)).astype(np.uint8)).convert("RGB")
    assert near_copies([item(str(i), image) for i, image in enumerate([*blank, faint, faint])]) == ()
    assert near_copies([]) == () == near_copies([item("1", scene(1))])


def test_the_network_must_agree() -> None:
    """Two pictures of one layout, which the features keep apart, and two that these find alike too."""
    items = [item(str(i), scene(i)) for i in range(10)]
    items += [item("10", brighter(scene(0))), item("11", brighter(scene(1)))]

    def features(sha256s: list[str]) -> np.ndarray:
        rows = np.random.default_rng(0).normal(size=(12, 64))
        rows[10] = rows[0] + 0.1
        return rows[[int(sha256) for sha256 in sha256s]]

    assert [pair.sha256s for pair in near_copies(items)] in ([("0", "10"), ("1", "11")], [("1", "11"), ("0", "10")])
    (pair,) = near_copies(items, features)
    assert pair.sha256s == ("0", "10")
    assert pair.cosine is not None and pair.cosine > 0.9


def test_every_pair_of_close_hashes_is_found_once() -> None:
    generator = np.random.default_rng(0)
    codes = generator.integers(0, 2**63, 2500, dtype=np.uint64)
    codes[2400] = codes[7] ^ np.uint64(0b1011)
    first, second = _candidates(codes)
    bits = np.unpackbits(codes.view(np.uint8).reshape(-1, 8), axis=1).astype(np.float32)
    apart = bits.sum(1)[:, None] + bits.sum(1) - 2 * bits @ bits.T
    expected = {(int(a), int(b)) for a, b in zip(*np.nonzero(apart <= BITS), strict=True) if a < b}
    assert (7, 2400) in expected
    assert len(first) == len(expected)
    assert set(zip(first.tolist(), second.tolist(), strict=True)) == expected


def test_where_all_hashes_agree_candidates_stay_few() -> None:
    codes = np.random.default_rng(0).integers(0, 2**12, 4000, dtype=np.uint64)  # 52 bits in common
    first, _ = _candidates(codes)
    assert len(first) <= 40 * len(codes)


def test_a_hash_ignores_brightness_and_contrast() -> None:
    thumbs = np.random.default_rng(0).integers(60, 120, (30, SIDE, SIDE)).astype(np.uint8)
    changed = np.bitwise_count(hashes(thumbs) ^ hashes(thumbs * 2 + 10))
    assert changed.max() == 0
    assert np.bitwise_count(hashes(thumbs[:15]) ^ hashes(thumbs[15:])).min() > 10


def test_thumbnails_travel() -> None:
    image = scene(3)
    facts = Facts(format="PNG", width=1, height=1, mode="RGB", thumb=thumbnail(image))
    assert Facts.from_json(facts.to_json()) == facts
    expected = np.asarray(image.convert("L")).reshape(16, 10, 16, 10).mean(axis=(1, 3))
    assert np.abs(unpacked([facts.thumb])[0] - expected).max() < 2


def test_the_radius_shrinks_where_chance_pairs_abound() -> None:
    chance = 0.04 * np.random.default_rng(0).random(5000) ** (1 / 4)  # of four dimensions
    copies = np.full(30, 1e-4)
    assert radius(copies) == 0.02
    assert radius(np.empty(0)) == 0.02
    within = radius(np.concatenate([chance, copies]))
    assert 1e-4 < within < 0.01
    assert (chance <= within).sum() < 10


def test_a_check_says_which_files(tmp_path: Path) -> None:
    for split, label, number, image in (
        ("train", "a", 0, scene(0)),
        ("train", "a", 1, scene(1)),
        ("train", "b", 2, scene(2)),
        ("train", "b", 3, brighter(scene(1))),
        ("test", "a", 4, saved(scene(0), 40)),
        ("test", "b", 5, scene(5)),
        ("test", "b", 6, brighter(scene(5))),
    ):
        (tmp_path / split / label).mkdir(parents=True, exist_ok=True)
        image.save(tmp_path / split / label / f"{number}.png")
    result = check(tmp_path)
    found = {problem.kind: problem for problem in result.problems}
    assert set(found["near-duplicate-across-splits"].paths) == {"train/a/0.png", "test/a/4.png"}
    assert found["near-duplicate-across-splits"].severity == "warning"
    assert set(found["near-conflicting-labels"].paths) == {"train/a/1.png", "train/b/3.png"}
    assert set(found["near-duplicate"].paths) == {"test/b/5.png", "test/b/6.png"}
    assert result.sound  # suspects block nothing

    sure = near_copies(
        result.examined, lambda contents: np.random.default_rng(1).normal(size=(len(contents), 4)) * 0 + 1
    )
    assert sure == ()  # features that find nothing alike


def test_what_is_sure_is_an_error() -> None:
    one, other = item("1", scene(1)), item("2", brighter(scene(1)), split="test")
    pairs = near_copies([one, other], lambda contents: np.array([[1.0, 0.0], [1.0, 0.0]])[: len(contents)] * 1.0)
    assert pairs == ()  # of two images alone, centred features say nothing
    items = [one, other, *(item(str(i), scene(i)) for i in range(3, 9))]
    features = np.random.default_rng(0).normal(size=(8, 32))
    features[1] = features[0]
    (problem,) = near_problems(items, near_copies(items, lambda contents: features))
    assert (problem.kind, problem.severity) == ("near-duplicate-across-splits", "error")
    assert problem.paths == ("train/a/1.png", "test/a/2.png")
    assert len(alike(unpacked([entry.facts.thumb for entry in items if entry.facts]))) == 1
