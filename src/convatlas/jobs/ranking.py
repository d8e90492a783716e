"""Two answers about points in a plane: which no other beats in both directions, and whether one direction orders as the other does."""

from __future__ import annotations

from collections.abc import Sequence


def pareto_front(costs: Sequence[float], values: Sequence[float]) -> list[int]:
    """The indices of the points that no other dominates, cheapest first (cost is better low, value high).

    A point is dominated where another costs no more, is worth no less, and is better in one of the two; equal points stand together.
    """
    order = sorted(range(len(costs)), key=lambda i: (costs[i], -values[i], i))
    front: list[int] = []
    for i in order:
        last = front[-1] if front else None
        if last is None or values[i] > values[last] or (costs[i], values[i]) == (costs[last], values[last]):
            front.append(i)
    return front


def spearman(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Spearman's: 1 where both order alike, -1 where they order oppositely; ties share their mean rank.

    None where there are fewer than three points or all are tied, since then there is no order to speak of.
    """
    if len(first) < 3:
        return None
    ranks = [_ranks(first), _ranks(second)]
    middle = (len(first) + 1) / 2
    (a, b), spread = ranks, [sum((rank - middle) ** 2 for rank in row) for row in ranks]
    if not all(spread):
        return None
    shared = sum((x - middle) * (y - middle) for x, y in zip(a, b, strict=True))
    return shared / (spread[0] * spread[1]) ** 0.5


def _ranks(values: Sequence[float]) -> list[float]:
    ordered = sorted(values)
    first = {value: place for place, value in reversed(list(enumerate(ordered, 1)))}
    last = {value: place for place, value in enumerate(ordered, 1)}
    return [(first[value] + last[value]) / 2 for value in values]
