"""What the files show, once each was read and decoded: copies, contradictions, and images unlike the rest.

Whether an image is odd depends on its set: 28 pixels are tiny among photos and the size of a digit among digits, and a plain
background is a placeholder here and the page of every drawing there. So these rules compare with the median.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from convatlas.data.examine import Examined
from convatlas.data.facts import Facts
from convatlas.data.problems import Problem, Severity, count, listing
from convatlas.data.scan import Dataset
from convatlas.data.sniff import EXTENSIONS, extension

TINY = 32  # short side, pixels
HUGE = 50_000_000  # pixels
EXTREME_ASPECT = 4.0
PLAIN = 0.9  # share of one colour from which an image may be a placeholder
PLAIN_MEDIAN = 0.5  # if the median image of the set is below this
DIM = 0.25  # share of the declared range that an image of over 8 bits should reach
_RARE_FORMAT = 0.02
_MAIN_FORMAT = 0.8

# One line for all files of a kind: what they are, and what to do.
_FAILURES = {
    "corrupt": ("is damaged", "are damaged"),
    "truncated": ("is cut short", "are cut short"),
    "empty": ("is empty", "are empty"),
    "not-an-image": ("is not an image", "are not images"),
    "memory": ("found no memory to be decoded in", "found no memory to be decoded in"),
    "bomb": ("has too many pixels", "have too many pixels"),
    "heic": ("is in a phone format (HEIC or AVIF)", "are in phone formats (HEIC or AVIF)"),
    "float-range": ("has floating-point samples outside 0 to 1", "have floating-point samples outside 0 to 1"),
    "unsupported": ("is of a kind that is not decoded", "are of kinds that are not decoded"),
    "unreadable": ("cannot be read", "cannot be read"),
}


class _Image(NamedTuple):
    path: str
    facts: Facts


def diagnose(dataset: Dataset, examined: Sequence[Examined]) -> tuple[Problem, ...]:
    """The problems of the examined files, worst first; those of the listing are `dataset.problems`.

    `examined` needs no pixels, and may be in any order.
    """
    images = [_Image(entry.record.path, entry.facts) for entry in examined if entry.facts is not None]
    found = [
        *_failures(examined),
        *_lost_classes(examined),
        *_copies(examined),
        *_looks(images),
        *_against_the_set(images),
    ]
    severities: tuple[Severity, ...] = ("error", "warning", "note")
    return tuple(sorted(found, key=lambda problem: severities.index(problem.severity)))


def _failures(examined: Sequence[Examined]) -> Iterator[Problem]:
    for kind, (is_, are) in _FAILURES.items():
        failed = [
            (entry.record.path, entry.failure) for entry in examined if entry.failure and entry.failure.kind == kind
        ]
        if not failed:
            continue
        if len(failed) == 1:
            path, failure = failed[0]
            message = f"{path} {is_}: {failure.reason}."
        else:
            reasons = [f"{path} ({failure.reason})" for path, failure in failed]
            message = f"{count(len(failed), 'file')} {are}: {listing(reasons, most=3)}."
        yield Problem(
            kind=kind,
            severity="error",
            paths=tuple(path for path, _ in failed),
            message=message,
            remedy=failed[0][1].remedy,
        )


def _lost_classes(examined: Sequence[Examined]) -> Iterator[Problem]:
    """Classes of which nothing can be decoded in some split."""
    every = Counter((entry.record.split, entry.record.label) for entry in examined)
    sound = Counter((entry.record.split, entry.record.label) for entry in examined if entry.facts is not None)
    for (split, label), number in every.items():
        if sound[split, label] == 0:
            paths = tuple(
                entry.record.path for entry in examined if (entry.record.split, entry.record.label) == (split, label)
            )
            where = "" if split == "all" else f" in {split}"
            yield Problem(
                kind="lost-class",
                severity="error" if split in ("train", "all") else "warning",
                paths=paths,
                message=f"none of the {count(number, 'image')} of the class {label}{where} can be used: {listing(paths)}.",
                remedy="Replace the files, or remove the class.",
            )


def _copies(examined: Sequence[Examined]) -> Iterator[Problem]:
    """One problem for each set of files with the same bytes."""
    by_content: dict[str, list[Examined]] = {}
    for entry in examined:
        if entry.facts is not None:
            by_content.setdefault(entry.sha256, []).append(entry)
    for copies in by_content.values():
        if len(copies) < 2:
            continue
        paths = tuple(entry.record.path for entry in copies)
        labels = sorted({entry.record.label for entry in copies})
        splits = sorted({entry.record.split for entry in copies})
        if len(labels) > 1:
            yield Problem(
                kind="conflicting-labels",
                severity="error",
                paths=paths,
                message=f"the same image is labelled {' and '.join(labels)}: {listing(paths)}.",
                remedy="Keep the one in the right class and remove the others.",
            )
        if len(splits) > 1:
            seen = "the accuracy measured there is inflated by images that were trained on"
            harm = seen if "train" in splits else "the two do not measure independently"
            yield Problem(
                kind="duplicate-across-splits",
                severity="error",
                paths=paths,
                message=f"the same image is in {' and '.join(splits)}, so {harm}: {listing(paths)}.",
                remedy="Remove it from all but one split; the figures are also given without such images.",
            )
        elif len(labels) == 1:
            yield Problem(
                kind="duplicate",
                severity="warning",
                paths=paths,
                message=f"{count(len(paths), 'file')} hold the same image: {listing(paths)}.",
                remedy="Remove all but one; until then they are kept on one side of every split.",
            )


def _looks(images: Sequence[_Image]) -> Iterator[Problem]:
    """Properties of single images."""

    def those(property_: Callable[[_Image], bool]) -> list[_Image]:
        return [image for image in images if property_(image)]

    def about(kind: str, severity: Severity, found: list[_Image], what: str, remedy: str) -> Iterator[Problem]:
        if found:
            paths = tuple(image.path for image in found)
            message = f"{count(len(found), 'image')} {what}: {listing(paths)}."
            yield Problem(kind=kind, severity=severity, paths=paths, message=message, remedy=remedy)

    wrong = [f"{image.path} (a {image.facts.format})" for image in images if _is_misnamed(image)]
    if wrong:
        yield Problem(
            kind="wrong-extension",
            severity="warning",
            paths=tuple(image.path for image in images if _is_misnamed(image)),
            message=f"{count(len(wrong), 'image')} named as another format: {listing(wrong)}.",
            remedy="They are read by their content; rename them for programs that trust the name.",
        )
    yield from about(
        "animated", "warning", those(lambda image: image.facts.frames > 1),
        "with several frames or pages, of which the first is used", "Split them into single images if others matter.",
    )  # fmt: skip
    deep = those(lambda image: image.facts.bits > 8)
    yield from about(
        "sixteen-bit", "note", deep,
        "with more than 8 bits a sample, scaled by the declared depth to 8",
        "Nothing to do, unless the brightness matters more finely than in 256 steps.",
    )  # fmt: skip
    yield from about(
        "dim", "warning", [image for image in deep if image.facts.peak < DIM],
        f"with more than 8 bits a sample of which less than {DIM:.0%} of the range is used, so that they come out dark",
        "If the camera stores fewer bits than the file declares, scale the samples up, alike in all files.",
    )  # fmt: skip
    yield from about(
        "cmyk", "warning", those(lambda image: image.facts.cmyk),
        "in CMYK (for print), converted to RGB", "Save them as RGB if the colours matter exactly.",
    )  # fmt: skip
    yield from about(
        "transparent", "warning", those(lambda image: image.facts.alpha),
        "partly transparent, put on the stated background (white unless chosen)",
        "Check that this background is the one they will have in use, or flatten them.",
    )  # fmt: skip
    yield from about(
        "exif-rotated", "note", those(lambda image: image.facts.orientation != 1),
        "turned upright as their EXIF orientation says", "Nothing to do; other programs may show them lying.",
    )  # fmt: skip
    yield from about(
        "huge", "warning", those(lambda image: image.facts.width * image.facts.height > HUGE),
        f"of over {HUGE // 1_000_000} million pixels, slow to decode", "Save them smaller; networks see some 224 pixels a side.",
    )  # fmt: skip
    yield from about(
        "extreme-aspect", "warning",
        those(lambda image: max(image.facts.width, image.facts.height) > EXTREME_ASPECT * min(image.facts.width, image.facts.height)),
        f"over {EXTREME_ASPECT:g} times as long as wide, of which a centre crop cuts most away",
        "Use --resize-mode multicrop or pad, which keep the whole image, or cut them into pieces.",
    )  # fmt: skip


def _against_the_set(images: Sequence[_Image]) -> Iterator[Problem]:
    """Images that differ from most of their set."""
    if not images:
        return
    tiny = [image for image in images if min(image.facts.width, image.facts.height) < TINY]
    if len(tiny) > len(images) / 2:
        side = statistics.median(min(image.facts.width, image.facts.height) for image in images)
        yield Problem(
            kind="tiny",
            severity="note",
            paths=tuple(image.path for image in tiny),
            message=f"the images are small: {len(tiny):,} of {len(images):,} have a side under {TINY} pixels "
            f"(median {side:g}); they are scaled up to the network's size.",
            remedy="Nothing to do; a network made for small images may fit better.",
        )
    elif tiny:
        yield _odd("tiny", "warning", tiny, len(images), f"with a side under {TINY} pixels",
                   "Check them; they may be icons or failed downloads.")  # fmt: skip

    grey = [image for image in images if image.facts.grey]
    if 0 < len(grey) < len(images):
        minority, what = (grey, "without colour among coloured ones") if len(grey) <= len(images) / 2 else (
            [image for image in images if not image.facts.grey], "in colour among grey ones"
        )  # fmt: skip
        yield _odd("mixed-colour", "note", minority, len(images), what,
                   "Nothing to do, unless one class is greyer than another: then colour gives the class away.")  # fmt: skip

    formats = Counter(image.facts.format for image in images)
    main, number = formats.most_common(1)[0]
    rare = [image for image in images if formats[image.facts.format] <= max(1, _RARE_FORMAT * len(images))]
    if rare and number >= _MAIN_FORMAT * len(images) and len(images) >= 10:
        named = " and ".join(sorted({image.facts.format for image in rare}))
        yield _odd("odd-format", "note", rare, len(images), f"in {named} where the others are {main}",
                   "Look at them: a file of another format often comes from another source.")  # fmt: skip

    median = statistics.median(image.facts.dominant for image in images)
    plain = [
        image
        for image in images
        if (image.facts.dominant >= PLAIN and median <= PLAIN_MEDIAN) or (image.facts.dominant == 1.0 and median < 1.0)
    ]
    if plain:
        least = min(image.facts.dominant for image in plain)
        yield _odd("low-information", "warning", plain, len(images),
                   f"of which one colour covers at least {least:.0%} (half of the set: at most {median:.0%})",
                   "Look at them: they may be placeholders such as `image not found`; remove those.")  # fmt: skip


def _odd(kind: str, severity: Severity, found: list[_Image], total: int, what: str, remedy: str) -> Problem:
    paths = tuple(image.path for image in found)
    message = f"{len(found):,} of {count(total, 'image')} {what}: {listing(paths)}."
    return Problem(kind=kind, severity=severity, paths=paths, message=message, remedy=remedy)


def _is_misnamed(image: _Image) -> bool:
    """The name ends like another format's, or like a word that no picture is called by; `scan.2019` says nothing."""
    ending = extension(image.path)
    return ending[1:].isalpha() and len(ending) <= 5 and ending not in EXTENSIONS[image.facts.format]
