"""Which experiments of the lecture there are, and how long each is: without torch, so that the command line can list them at once.

Each is a module of this package with a function `find(laboratory)` that returns a `Finding`. The usual length is what two cores do in about
an hour; the full one is the paper's, or long enough to be believed, and wants a GPU. What is shorter than the full one says so.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass

from convatlas.errors import ConvAtlasError


@dataclass(frozen=True, kw_only=True)
class Length:
    """How much is trained: of each network, `seeds` times, `epochs` times over `images`."""

    epochs: int
    images: int  # to train on, the same number of each class, the first by file name; a fifth of that number is held out, or all
    seeds: int

    def __str__(self) -> str:
        return f"{many(self.epochs, 'epoch')} of {many(self.images, 'image')}, {many(self.seeds, 'seed')}"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One experiment."""

    question: str
    module: str  # of this package
    usual: Length | None  # None where nothing is trained on images
    full: Length | None


PLANS: dict[str, Plan] = {
    "degradation": Plan(
        question="Do deeper plain networks train worse, and do residual ones?",
        module="degradation",
        usual=Length(epochs=8, images=5_000, seeds=3),
        full=Length(epochs=164, images=50_000, seeds=3),
    ),
    "identity": Plan(
        question="Could the deeper plain network have been as good as the shallower one?",
        module="identity",
        usual=Length(epochs=8, images=5_000, seeds=1),  # as degradation's, so that they share runs
        full=Length(epochs=164, images=50_000, seeds=1),
    ),
    "very-deep": Plan(
        question="Does a residual network of 1,202 layers train at all, and within the memory foretold?",
        module="very_deep",
        usual=Length(epochs=1, images=1_600, seeds=1),
        full=Length(epochs=1, images=50_000, seeds=1),
    ),
    "filters": Plan(
        question="Are three 3×3 convolutions as good as one 7×7, and cheaper?",
        module="filters",
        usual=Length(epochs=8, images=5_000, seeds=3),
        full=Length(epochs=60, images=50_000, seeds=5),
    ),
    "inception": Plan(
        question="What do the 1×1 convolutions of an inception module save, and what do they cost?",
        module="reduction",
        usual=Length(epochs=8, images=5_000, seeds=3),
        full=Length(epochs=60, images=50_000, seeds=5),
    ),
    "auxiliary": Plan(
        question="Do GoogLeNet's auxiliary classifiers bring gradient to its lower layers?",
        module="auxiliary",
        usual=Length(epochs=1, images=3_200, seeds=3),
        full=Length(epochs=10, images=50_000, seeds=5),
    ),
    "activations": Plan(
        question="How much faster does a network learn with rectifiers than with tanh?",
        module="activations",
        usual=Length(epochs=20, images=5_000, seeds=3),
        full=Length(epochs=60, images=50_000, seeds=5),
    ),
    "ablations": Plan(
        question="What did augmentation, dropout and response normalisation do for AlexNet, and what would batch norm have done?",
        module="ablations",
        usual=Length(epochs=15, images=5_000, seeds=3),
        full=Length(epochs=100, images=50_000, seeds=5),
    ),
    "ensemble": Plan(
        question="What do seven networks know together that one does not?",
        module="ensembles",
        usual=Length(epochs=15, images=5_000, seeds=7),
        full=Length(epochs=100, images=50_000, seeds=7),
    ),
    "quadrants": Plan(
        question="Little or much data, similar or different: which plan is best, and who would have chosen it?",
        module="quadrants",
        usual=None,  # its list of cases says what it trains on
        full=None,
    ),
    "two-processes": Plan(
        question="Is AlexNet on two GPUs the same network as on one, and what goes between them?",
        module="halves",
        usual=None,
        full=None,
    ),
}


def many(number: int, noun: str) -> str:
    """`1 epoch`, `1,000 epochs`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def plan_of(name: str) -> Plan:
    """The experiment of that name; `ConvAtlasError` with all names if there is none."""
    if name not in PLANS:
        near = difflib.get_close_matches(name, PLANS, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise ConvAtlasError(f"there is no study {name!r};", remedy=f"{hint}There are lecture, {', '.join(PLANS)}.")
    return PLANS[name]
