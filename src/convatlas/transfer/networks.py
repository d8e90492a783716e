"""Which of several networks: they are judged on the same held-out images, so that they are compared image by image.

The best by held-out accuracy is not always shown to be better than the others: where neither the accuracies nor the log-losses of the same
images tell two apart, that is the answer. The accuracy is what people ask for; the log-loss sees smaller differences, since every image
moves it. That no difference is shown does not show that there is none: one that costs less than the best is only taken where its loss is
shown to be small, as trials of equivalence do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from convatlas.metrics import independent_number, paired_interval, share_interval
from convatlas.transfer.ridge import Array, Index

SHOWN = 2.0  # standard errors of a mean difference in log-loss from which on it counts as shown
SMALL = 0.01  # accuracy that may be given up for a network that costs less


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A network's answers on the training images, each held out, and what an answer costs."""

    right: Array  # (n,) 1 or 0; NaN for an image that was never held out
    losses: Array  # (n,) log-losses; NaN as well
    mult_adds: int
    together: Index | None = None  # (n,) equal for images of one unit; None where each is one of its own


@dataclass(frozen=True, kw_only=True)
class Rank:
    """A network's place beside the best."""

    name: str
    accuracy: float
    interval: tuple[float, float]  # 95 %, Wilson's
    log_loss: float
    difference: float  # in accuracy, from the best on the same images
    difference_interval: tuple[float, float] | None  # 95 %, paired; None for the best itself
    worse_by: (
        str  # what of these images shows it to be worse than the best: "accuracy" or "log-loss"; "" where nothing does
    )


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """The networks, the best first, and which of them to take."""

    rows: tuple[Rank, ...]
    chosen: str
    reason: str  # a sentence for people


def rank(judged: Mapping[str, Judged]) -> Ranking:
    """Ranks networks by accuracy (of equals, by log-loss); takes the best, or the cheapest of those shown to be less than `SMALL` worse."""
    scored = {name: np.isfinite(one.right) for name, one in judged.items()}
    accuracy = {name: float(one.right[scored[name]].mean()) for name, one in judged.items()}
    loss = {name: float(one.losses[scored[name]].mean()) for name, one in judged.items()}

    def order(name: str) -> tuple[float, float]:
        return -accuracy[name], loss[name]

    names = sorted(judged, key=order)
    best = names[0]
    rows = []
    for name in names:
        one, both = judged[name], scored[name] & scored[best]
        together = np.arange(len(both)) if one.together is None else one.together
        differences = one.right[both] - judged[best].right[both]
        interval = paired_interval(differences, together=together[both])
        excess = one.losses[both] - judged[best].losses[both]
        by_loss = excess.mean() > SHOWN * excess.std() / np.sqrt(independent_number(excess, together[both]))
        rows.append(
            Rank(
                name=name,
                accuracy=accuracy[name],
                interval=share_interval(one.right[scored[name]], together[scored[name]]),
                log_loss=loss[name],
                difference=float(differences.mean()),
                difference_interval=None if name == best else interval,
                worse_by="" if name == best else "accuracy" if interval[1] < 0 else "log-loss" if by_loss else "",
            )
        )
    as_good = [row for row in rows if row.difference_interval is None or _as_good(row, row.difference_interval)]

    def cost(row: Rank) -> tuple[int, float]:
        return judged[row.name].mult_adds, row.log_loss

    chosen = min(as_good, key=cost)
    return Ranking(rows=tuple(rows), chosen=chosen.name, reason=_reason(rows, chosen, judged))


def _as_good(row: Rank, interval: tuple[float, float]) -> bool:
    return not row.worse_by and interval[0] > -SMALL


def _reason(rows: list[Rank], chosen: Rank, judged: Mapping[str, Judged]) -> str:
    best = rows[0].name
    if len(rows) == 1:
        return f"{best} was the only one that could be judged."
    equal = [row.name for row in rows[1:] if not row.worse_by]
    if not equal:
        return f"{best} is shown to be better than {'the other' if len(rows) == 2 else 'each of the others'}."
    alike = f"No difference is shown between {best}, the best by held-out accuracy, and {', '.join(equal)}"
    if chosen.difference_interval:
        share = judged[chosen.name].mult_adds / judged[best].mult_adds
        most = -100 * min(chosen.difference_interval[0], 0.0)
        return (
            f"{alike}; {chosen.name} is taken: it costs {share:.2f} of the mult-adds of {best}, and what it loses to it is shown to be "
            f"at most {most:.1f} percentage points."
        )
    if judged[best].mult_adds <= min(judged[name].mult_adds for name in equal):
        return f"{alike}; {best} costs least of them."
    return f"{alike}; {best} is taken, since none that costs less is shown to lose less than a percentage point."
