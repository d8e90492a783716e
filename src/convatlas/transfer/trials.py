"""The search for a plan on real images: folds of some of a workshop's images, each plan's trial on them, and what each plan costs here."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

import numpy as np

from convatlas.transfer.advise import Advice, TooFewToTrain, Trial, advise
from convatlas.transfer.plans import Plan
from convatlas.transfer.probe import ClassWeights, Features, fit_probe, image_weights
from convatlas.transfer.ridge import Index
from convatlas.transfer.workshop import Workshop


class Trials:
    """Those images that may be learned from, dealt to folds: a trial trains without one of them and is judged on it."""

    def __init__(self, shop: Workshop, rows: Index, fold_of: Index) -> None:
        """`rows` (n,) are of the workshop's images, `fold_of` (n,) their folds; -1 is always trained on."""
        self._shop, self._rows, self._fold_of = shop, rows, fold_of
        self._truth = shop.labels[rows]
        self.outs = [np.flatnonzero(fold_of == fold) for fold in range(int(fold_of.max(initial=-1)) + 1)]

    def refuse_too_few(self, *, probed: bool = True) -> None:
        """Raises `TooFewToTrain` where there is no fold or, where heads begin as probes, one leaves nothing to be held out in turn."""
        left = [self._shop.held_out(self._rows[self._fold_of != fold]) for fold in range(len(self.outs))]
        if left and not (probed and any(ids is not None and (ids < 0).all() for ids in left)):
            return
        units = len(np.unique(self._shop.together[self._rows]))
        many = f" in {units} groups" if units < len(self._rows) else ""
        raise TooFewToTrain(
            f"{len(self._rows)} images{many} are too few to judge plans that train: without a fold of them no class has two left.",
            remedy="Give at least three images of every class, from different groups; a probe needs two.",
        )

    @property
    def share(self) -> float:
        """Of the images that a trial trains on, on average."""
        return 1 - float(np.mean([len(out) for out in self.outs])) / len(self._rows)

    def run(self, plan: Plan, fold: int) -> Trial:
        """A plan that trains, trained without the images of a fold."""
        out = self.outs[fold]
        found = self._shop.judge(plan, self._rows[self._fold_of != fold], self._rows[out])
        return Trial(fold=fold, rows=out, logits=found.logits, leverages=found.leverages, seconds=found.seconds)

    def probed(self, features: Features, class_weights: ClassWeights = None) -> list[Trial]:
        """A probe on each fold; `features` are those of `rows`."""
        blocks = [features] if isinstance(features, np.ndarray) else features
        trials = []
        for fold, out in enumerate(self.outs):
            started = time.perf_counter()
            others = np.flatnonzero(self._fold_of != fold)
            held_out = self._shop.held_out(self._rows[others])
            probe = fit_probe(
                *(blocks, self._truth, self._shop.num_classes),
                class_weights=class_weights,
                folds=None if held_out is None else held_out[self._rows],
                rows=others,
            )
            logits = probe.scale * probe.scores([block[out] for block in blocks])
            trials.append(Trial(fold=fold, rows=out, logits=logits, seconds=time.perf_counter() - started))
        return trials

    def foretold(self, plans: Sequence[Plan]) -> dict[Plan, float]:
        """Seconds of one training of each plan on all of the images, from a few timed steps."""
        return {plan: self._shop.pace(plan, len(self._rows)).seconds(len(self._rows)) for plan in plans}

    def advice(
        self,
        best: str,
        features: Features,
        seconds: Mapping[Plan, float],
        *,
        memory: Mapping[Plan, int] | None = None,
        budget: float | None = None,
        closing: int = 0,
        class_weights: ClassWeights = None,
    ) -> Advice:
        """Which plan, after as many trials as the evidence asks for and the budget allows.

        Args:
            best: the rung of the best probe, and `features` those of it.
            seconds: foretold for each plan that trains, the shallowest first.
            memory: bytes of a training step, where known.
            budget: seconds for trials and what follows them; None for no bound.
            closing: how many folds the chosen plan will also be trained without, after the choice.
            class_weights: of the probe, and of the log-losses by which plans are compared.
        """
        return advise(
            *(self._truth, Plan(kind="probe", at=(best,)), self.probed(features, class_weights), self.run, seconds),
            together=self._shop.together[self._rows],
            weights=image_weights(self._truth, self._shop.num_classes, class_weights),
            memory=memory,
            budget=budget,
            share=self.share,
            closing=1 + self.share * closing,
            clock=self._shop.clock,
        )
