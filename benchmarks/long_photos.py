"""Long photos: what becomes of them when the middle is cropped, or they are squashed, padded or shown in several crops; what `auto` takes.

Training images of two sets, made long in two ways: *strips*, the photo's central square anywhere on a grey strip, of which the middle
may hold nothing; and *bands*, a band out of the photo's middle, full of content from end to end. One probe on the last stage of
MobileNetV1-0.75 each, by leave-one-out: log-loss and accuracy. The rule by which `auto` chooses was settled on images made so.

Usage: `python benchmarks/long_photos.py` prints the section.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from convatlas import catalogue
from convatlas.data import scan
from convatlas.data.framing import FitMode
from convatlas.jobs.images import silent
from convatlas.jobs.material import gather
from convatlas.transfer.probe import fit_probe
from convatlas.weights.source import find_weights
from measuring import SHARED, WEIGHTS, folder, say, section, table, target

SETS = {"hymenoptera": 60, "flowers12": 12}  # images a class, the first by name
RATIOS = (1.5, 2.0, 2.5, 3.0, 4.0)
MODES: tuple[FitMode, ...] = ("crop", "squash", "pad", "multicrop")
GREY = (128, 128, 128)
WORSE = 0.05  # nats that `auto` may lose to the best of the others


def strip(photo: Image.Image, ratio: float, draws: np.random.Generator) -> Image.Image:
    """The central square of the photo at a random place of a grey strip."""
    side = min(photo.size)
    left, top = (photo.width - side) // 2, (photo.height - side) // 2
    made = Image.new("RGB", (round(ratio * side), side), GREY)
    made.paste(photo.crop((left, top, left + side, top + side)), (int(draws.integers(0, made.width - side + 1)), 0))
    return made


def band(photo: Image.Image, ratio: float, draws: np.random.Generator) -> Image.Image:
    """The middle of the photo, as wide as it is, or as high where it is not that long."""
    height = min(photo.height, round(photo.width / ratio))
    width = min(photo.width, round(height * ratio))
    left, top = (photo.width - width) // 2, (photo.height - height) // 2
    return photo.crop((left, top, left + width, top + height))


def variants(name: str, scratch: Path) -> Iterator[tuple[str, Path]]:
    """Folders of the set's images, as they are and made long."""
    dataset = scan(SHARED / "data" / name)
    records = [
        record
        for label in dataset.classes
        for record in [each for each in dataset.of("train") if each.label == label][: SETS[name]]
    ]
    for words, make in (("as they are", None), ("on strips", strip), ("bands", band)):
        for ratio in RATIOS if make else (1.0,):
            draws = np.random.default_rng(0)
            place = scratch / f"{name}-{words}-{ratio}".replace(" ", "-")
            for record in records:
                with Image.open(dataset.root / record.path) as file:
                    photo = file.convert("RGB")
                out = place / record.label / f"{Path(record.path).stem}.png"
                out.parent.mkdir(parents=True, exist_ok=True)
                (make(photo, ratio, draws) if make else photo).save(out, compress_level=1)
            yield f"{name}, {words}" + (f", {ratio:g}:1" if make else f" ({len(records)})"), place


def judged(place: Path, mode: FitMode) -> tuple[float, float]:
    """The probe's held-out log-loss and accuracy."""
    source = find_weights(WEIGHTS)
    found = gather(scan(place), source, mode, device="cpu", progress=silent)
    means = found.passed.store.means(found.train.sha256s)[catalogue.find(source.name).stages[-1]]
    probe = fit_probe(means, found.train.labels, len(found.classes), folds=found.held_out)
    return probe.log_loss, probe.accuracy


def taken(place: Path) -> FitMode:
    """What `auto` takes: the weights' own way, or several crops."""
    return gather(scan(place), find_weights(WEIGHTS), "auto", device="cpu", progress=silent).source.preprocessing.fit


def main() -> None:
    rows, lost = [], []
    with folder() as scratch:
        for name in SETS:
            for words, place in variants(name, scratch):
                say(words)
                found = {mode: judged(place, mode) for mode in MODES}
                auto = taken(place)
                lost.append(found[auto][0] - min(loss for loss, _ in found.values()))
                rows.append((words, *(f"{loss:.3f}, {100 * right:.1f} %" for loss, right in found.values()), auto))
    section(
        "Long photos",
        "Log-loss and accuracy of a probe on the last stage of MobileNetV1-0.75, leave-one-out, on training images; one draw of places "
        "each, and with so few images differences below about 5 points are within chance. Strips are grey with the photo's central "
        "square anywhere on them, bands are cut out of the photo's middle. Last: what `--resize-mode auto` takes; the rule was settled "
        "on images made so.",
        table(("", *MODES, "`auto`"), rows),
        targets=[
            target(
                f"`auto` loses at most {WORSE} nats to the best of the four on average",
                f"{np.mean(lost):.3f}, at most {max(lost):.3f}",
                float(np.mean(lost)) <= WORSE,
            )
        ],
    )


if __name__ == "__main__":
    main()
