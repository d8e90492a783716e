"""What a training run reached on the images held out: an accuracy with its interval, how it came about, and whether it flatters."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from convatlas.data import Dataset, units
from convatlas.jobs.leaks import leak_in_words
from convatlas.jobs.scores import accuracy_with_interval

if TYPE_CHECKING:
    from convatlas.train.cached import Cached
    from convatlas.train.config import TrainConfig
    from convatlas.train.images import InMemory
    from convatlas.train.learner import Epoch
    from convatlas.train.streamed import Streamed

    Part = InMemory | Cached | Streamed


SHOWN = 3  # files that a warning names; the result has all


@dataclass(frozen=True, kw_only=True, eq=False)
class HeldOut:
    """A part of the data that a run measures, and what is known of its images before anything is trained."""

    split: str
    images: Part
    together: np.ndarray  # (n,) equal for images of one unit: copies of a file, a group
    leaked: np.ndarray  # (n,) whether the training images have the same file

    @staticmethod
    def of(dataset: Dataset, split: str, images: Part, training: Part) -> HeldOut:
        groups = {dataset.locate(each): each.group for each in dataset.of(split) if each.group is not None}
        grouped = [groups.get(name) for name in images.names] if groups else [None] * len(images)
        known = set(training.contents)
        return HeldOut(
            split=split,
            images=images,
            together=units(grouped, images.contents),
            leaked=np.array([sha256 in known for sha256 in images.contents], dtype=bool),
        )

    def warn(self, say: Callable[[str], None]) -> None:
        """Says so, where images are also training images."""
        if count := int(self.leaked.sum()):
            shown = ", ".join(self.leaking()[:SHOWN]) + (f" and {count - SHOWN:,} more" if count > SHOWN else "")
            say(
                f"{count:,} of {len(self.leaked):,} {self.split} images are also training images, as the same file ({shown}); the accuracy "
                "will be told without them, too"
            )

    def leaking(self) -> list[str]:
        """Where the images are that are also training images."""
        return [self.images.names[i] for i in np.flatnonzero(self.leaked).tolist()]


def reached(
    history: Sequence[Epoch],
    config: TrainConfig,
    held_out: Mapping[str, HeldOut],
    right: Callable[[Part], np.ndarray],
) -> dict[str, Any]:
    """The accuracy on a part that nothing was chosen by, where there is one, with its interval and how it came about.

    `held_out` are the parts by name, the one that was watched first; `right` says of each of a part's images whether it is classified
    right.
    """
    from convatlas.train.learner import best_epoch

    if not held_out:
        unknown = "no part of the data was held out, so nothing is known of new images"
        return {"accuracy": None, "leak": None, "alarms": [], "protocol": unknown}
    kept = history[best_epoch(history) - 1] if config.patience else history[-1]
    chosen = "nothing chosen by it"
    if config.optim.schedule == "plateau" and config.optim.watch == "validation":
        chosen = "the learning rate lowered by it"
    if config.patience:
        chosen = "the best of its epochs, chosen by this, so it flatters"
    part = next(iter(held_out.values()))
    if "test" in held_out and part.split != "test":
        part, chosen = held_out["test"], "measured once, at the end"
    hit = right(part.images)
    found = accuracy_with_interval(hit, part.together)
    alone = len(np.unique(part.together))
    counted = f"{len(hit)} images" + (f" (copies and groups together: {alone})" if alone < len(hit) else "")
    result: dict[str, Any] = {
        "accuracy": found["accuracy"],
        "accuracy_interval": found["accuracy_interval"],
        "protocol": f"{part.split} split, {counted}, weights after epoch {kept.epoch}, {chosen}; 95 % Wilson interval, one seed",
        "leak": _leak_json(part, hit),
    }
    return {**result, "alarms": [*leak_in_words(result, f"{part.split} images")]}


def _leak_json(part: HeldOut, right: np.ndarray) -> dict[str, Any]:
    """As of a fit, but for near copies, which nobody looks for here."""
    count, others = int(part.leaked.sum()), ~part.leaked
    without = accuracy_with_interval(right[others], part.together[others]) if 0 < count < len(right) else None
    return {"images": count, "of": len(right), "exact": count, "without": without, "files": part.leaking()}
