"""What a fit decides, on the training images alone, and what the decision is then judged by.

A probe is fitted on every stage and one of them chosen by cross-validation; where plans that train are asked for, they are tried. Only then
is the test part looked at. Without one the headline comes from outer folds, in each of which the whole choice is made anew.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from convatlas.bundle.confidence import Confidence
from convatlas.data import stratified
from convatlas.jobs.images import Progress, resolve_device
from convatlas.jobs.material import Material, Side
from convatlas.metrics import repeated_interval
from convatlas.transfer.advise import TooFewToTrain
from convatlas.transfer.confidence import fit_confidence
from convatlas.transfer.outer_folds import OuterFolds, outer_folds_predictions
from convatlas.transfer.plans import Plan
from convatlas.transfer.probe import Selection, rungs_of, select

if TYPE_CHECKING:
    from convatlas.jobs.adapt import Adapted
    from convatlas.transfer.workshop import Trained

_OUTER_FOLDS = 5
# How often outer folds are dealt where there are fewer images than that: it takes least time there, and is worth most.
_DEALS = ((500, 5), (1000, 3), (2000, 2))

UNTRIED = "Whether training the network deeper pays was not tried: --budget 10m tries it, --budget 0 tells what it takes on this machine."


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What the user left to be decided, and what not."""

    plan: Plan | None  # None searches where there is a budget, and probes where there is none
    budget: float | None  # seconds for all that trains
    class_weights: Literal["balanced"] | None = None
    norms: Literal["frozen", "stats", "train"] = "frozen"
    augment: int = 0  # random views of each image to tune on; 0 shows them as they are
    maps: Literal["float32", "float16"] = "float32"  # how what a frozen part makes of images is kept
    device: str = "auto"
    seed: int = 0
    control: bool = False  # whether a network is trained from scratch too, to compare with

    @property
    def trains(self) -> bool:
        """Whether plans that train are weighed: with a budget of 0 that is all that is done with them."""
        return self.plan.trains if self.plan else self.budget is not None


@dataclass(frozen=True, kw_only=True)
class Deals:
    """The accuracies of outer folds that were dealt several times."""

    right: np.ndarray  # (deals, n) whether each image that every deal held out was right
    interval: tuple[float, float]  # 95 %, of the accuracies' mean

    @property
    def accuracies(self) -> tuple[float, ...]:
        """Of each deal."""
        return tuple(map(float, self.right.mean(axis=1)))

    @property
    def accuracy(self) -> float:
        return float(np.mean(self.accuracies))


@dataclass(frozen=True, kw_only=True)
class Decided:
    """What was chosen, and what it says of the images that judge it."""

    selection: Selection  # the best probe, and those on the other rungs
    rungs: dict[str, tuple[np.ndarray, ...]]  # of the training images
    by_rung: dict[str, np.ndarray]  # (test, K) probabilities by each rung's probe; empty without a test part
    adapted: Adapted | None  # the search for a plan that trains, where there was one
    outer: OuterFolds | None  # where a probe was judged by them; of several deals the one nearest to their mean
    deals: Deals | None  # all of them
    judged: Side
    probabilities: np.ndarray  # (judged, K), calibrated
    confidence: Confidence  # what the training images say of the classifier
    typicality: np.ndarray | None  # (test,) by it; None without a test part
    told: list[str]  # what somebody should know
    untried: str  # why no plan that trains was weighed; "" where some were
    solve_seconds: float
    adapt_seconds: float | None

    @property
    def trained(self) -> Trained | None:
        """The network that was trained, where that was chosen."""
        return self.adapted.trained if self.adapted else None

    @property
    def scale(self) -> float:
        """Of the chosen classifier's logits: 1 / its temperature."""
        return self.adapted.scale if self.adapted and self.trained else self.selection.probe.scale

    @property
    def right(self) -> np.ndarray:
        """(judged,) whether the likeliest class is the true one."""
        return self.probabilities.argmax(axis=1) == self.judged.labels

    @property
    def rights(self) -> np.ndarray:
        """(deals, judged) the same of every deal of outer folds; of one where there are no several."""
        return self.deals.right if self.deals else self.right[None]


def decide(found: Material, wanted: Wanted, *, progress: Progress) -> Decided:
    """Chooses a probe or a plan for the training images, and judges it on the test images or on outer folds."""
    started, train, test, classes = time.perf_counter(), found.train, found.test, len(found.classes)
    progress("solve", 0, 1)
    rungs = rungs_of(wanted.plan, train.rungs(found.passed))
    selection = select(
        *(rungs, train.labels, classes),
        class_weights=wanted.class_weights,
        folds=found.held_out,
        together=found.together,
    )
    by_rung: dict[str, np.ndarray] = {}
    unseen: dict[str, tuple[np.ndarray, ...]] = {}
    if len(test):
        unseen = rungs_of(wanted.plan, test.rungs(found.passed))
        by_rung = {name: probe.probabilities(unseen[name]) for name, probe in selection.probes.items()}
    told, adapting = list[str](), time.perf_counter()
    adapted, untried = None, UNTRIED
    if wanted.trains:
        try:
            adapted, untried = adapted_by(found, wanted, rungs, selection.name, told, progress), ""
        except TooFewToTrain as error:
            if wanted.plan:
                raise
            untried = f"No plan that trains was tried: {error}"
    adapt_seconds = time.perf_counter() - adapting if adapted else None

    outer, deals = None, None
    if adapted and adapted.trained and len(test):
        judged, probabilities = test, adapted.test
    elif adapted and adapted.trained:
        judged, probabilities = train.subset(adapted.judged), adapted.held_out[adapted.judged]
    elif len(test):
        judged, probabilities = test, by_rung[selection.name]
    else:
        outer, deals, kept = _outer(found, wanted, rungs)
        judged, probabilities = train.subset(kept), outer.probabilities[kept]
    typicality = None
    if adapted and adapted.confidence:
        confidence, typicality = adapted.confidence, adapted.typicality
    else:
        best, probe = rungs[selection.name], selection.probe
        confidence = fit_confidence(best, train.labels, probe, class_weights=wanted.class_weights, folds=found.held_out)
        if len(test):
            features = unseen[selection.name]
            typicality = confidence.typicality(np.concatenate(features, axis=1), probe.scale * probe.scores(features))
    progress("solve", 1, 1)
    return Decided(
        selection=selection,
        rungs=rungs,
        by_rung=by_rung,
        adapted=adapted,
        outer=outer,
        deals=deals,
        judged=judged,
        probabilities=probabilities,
        confidence=confidence,
        typicality=typicality,
        told=told,
        untried=untried,
        solve_seconds=time.perf_counter() - started - (adapt_seconds or 0.0),
        adapt_seconds=adapt_seconds,
    )


def _outer(
    found: Material, wanted: Wanted, rungs: dict[str, tuple[np.ndarray, ...]]
) -> tuple[OuterFolds, Deals, np.ndarray]:
    """A typical deal of outer folds, what all deals give, and the images that each of them held out."""
    labels, made, dealt = found.train.labels, list[OuterFolds](), list[np.ndarray]()
    for i in range(next((deals for below, deals in _DEALS if len(labels) < below), 1)):
        dealt.append(stratified(labels, found.together, k=_OUTER_FOLDS, seed=wanted.seed + 1 + 1000 * i))
        made.append(
            outer_folds_predictions(
                *(rungs, labels, len(found.classes), dealt[-1]),
                class_weights=wanted.class_weights,
                together=found.together,
            )
        )
    kept = np.flatnonzero(np.isfinite([one.probabilities for one in made]).all(axis=(0, 2)))
    right = np.array([one.probabilities[kept].argmax(axis=1) == labels[kept] for one in made])
    deals = Deals(right=right, interval=repeated_interval(right, np.array(dealt)[:, kept], found.together[kept]))
    accuracies = right.mean(axis=1)
    return made[int(np.abs(accuracies - accuracies.mean()).argmin())], deals, kept


def adapted_by(
    found: Material,
    wanted: Wanted,
    rungs: dict[str, tuple[np.ndarray, ...]],
    best: str,
    told: list[str],
    progress: Progress,
) -> Adapted:
    """The plan that is wanted, carried out, or the search for one; what somebody should know is added to `told`."""
    from convatlas.jobs.adapt import adapt  # and with it torch

    train, test = found.train, found.test

    def say(message: str) -> None:
        if message not in told:  # of the control too
            told.append(message)

    return adapt(
        found.dataset,
        [*train.records, *test.records],
        np.concatenate([train.labels, test.labels]),
        len(train),
        found.source,
        rungs,
        best,
        found.passed.store.means([*train.sha256s, *test.sha256s]),
        len(found.classes),
        plan=wanted.plan,
        budget=wanted.budget,
        together=found.together,
        class_weights=wanted.class_weights,
        norms=wanted.norms,
        augment=wanted.augment,
        maps=wanted.maps,
        device=resolve_device(wanted.device),
        seed=wanted.seed,
        progress=progress,
        say=say,
    )
