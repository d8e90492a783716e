"""A small graph laid out from left to right: nodes in columns and lanes, wires in the gaps between columns.

A node's column is the length of the longest path to it. The longest path has a lane to itself; each branch takes the first lane that
is free from where it leaves to where it joins, and a shortcut one of its own; nothing follows in a lane on what it does not read. Wires
turn only in the gaps between columns; what leaves one node shares a track there, and so does what arrives at one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

LANE, BARE = 26, 14  # heights of a lane with nodes and of one with wires alone
TRACK, ROOM = 6, 7  # between wires in a gap, and between a wire and a node at least
AIR = 22  # what is added to a gap at most


@dataclass(frozen=True, slots=True)
class Placed:
    """Where the nodes' middles are and how wires run, from (0, 0)."""

    at: Mapping[int, tuple[float, float]]
    wires: tuple[tuple[tuple[float, float], ...], ...]
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class _Run:
    """A wire: from a node, along a lane, to a node."""

    source: int
    target: int
    lane: int


def place(before: Mapping[int, Sequence[int]], width: Callable[[int], float], room: float = 0) -> Placed:
    """Places the nodes of a graph given as what each node reads; nodes are listed after those that they read.

    Where there is `room` left, the columns stand further apart.
    """
    column: dict[int, int] = {}
    for node, sources in before.items():
        column[node] = 1 + max((column[s] for s in sources), default=-1)
    lane, runs = _lanes(before, column)
    order = _order(lane, column, runs, before)
    heights = [LANE if any(lane[n] == which for n in before) else BARE for which in order]
    middle = {which: sum(heights[:i]) + heights[i] / 2 for i, which in enumerate(order)}
    columns = max(column.values(), default=0) + 1
    widths = [max((width(n) for n in before if column[n] == c), default=0) for c in range(columns)]
    tracks = [_tracks(c, lane, column, runs, middle) for c in range(columns - 1)]
    gaps = [2 * ROOM + TRACK * max(gap.values(), default=0) for gap in tracks]
    spare = min(AIR, max(0.0, (room - sum(widths) - sum(gaps)) / max(1, len(gaps))))
    left, x = [], 0.0
    for c in range(columns):
        left.append(x)
        x += widths[c] + (gaps[c] + spare if c < columns - 1 else 0)
    at = {n: (left[column[n]] + widths[column[n]] / 2, middle[lane[n]]) for n in before}

    def turn(gap: int, key: tuple[str, int]) -> float:
        return left[gap] + widths[gap] + ROOM + spare / 2 + TRACK * tracks[gap].get(key, 0)

    wires = []
    for run in runs:
        (x0, y0), (x1, y1), y = at[run.source], at[run.target], middle[run.lane]
        start, end = x0 + width(run.source) / 2, x1 - width(run.target) / 2
        points = [(start, y0)]
        if y != y0:
            bend = turn(column[run.source], ("from", run.source))
            points += [(bend, y0), (bend, y)]
        if y != y1:
            bend = turn(column[run.target] - 1, ("to", run.target))
            points += [(bend, y), (bend, y1)]
        wires.append((*points, (end, y1)))
    return Placed(at, tuple(wires), x, sum(heights))


class _Grid:
    """What is in each column of each lane: a node, or a wire on its way from one."""

    def __init__(self, before: Mapping[int, Sequence[int]]) -> None:
        self.before = before
        self.cells: dict[
            tuple[int, int], tuple[bool, int]
        ] = {}  # (lane, column): (whether a node, the node or the wire's source)

    def follow(self, left: tuple[bool, int] | None, right: tuple[bool, int] | None) -> bool:
        """Whether what is on the right comes from what is on the left, or there is nothing on one side: else wires would run together."""
        if left is None or right is None:
            return True
        is_node, number = right
        return left[1] in self.before[number] if is_node else left[1] == number

    def is_free(self, lane: int, wanted: Mapping[int, tuple[bool, int]]) -> bool:
        """Whether consecutive columns of a lane can be had."""
        if any(self.cells.get((lane, c), cell) != cell for c, cell in wanted.items()):
            return False
        first, last = min(wanted), max(wanted)
        return self.follow(self.cells.get((lane, first - 1)), wanted[first]) and self.follow(
            wanted[last], self.cells.get((lane, last + 1))
        )

    def take(self, wanted: Mapping[int, tuple[bool, int]], prefer: Iterable[int]) -> int:
        """The first free of the preferred lanes, then of all; it is taken."""
        lanes = 1 + max((lane for lane, _ in self.cells), default=-1)
        which = next(lane for lane in (*prefer, *range(lanes + 1)) if self.is_free(lane, wanted))
        self.cells |= {(which, c): cell for c, cell in wanted.items()}
        return which


def _lanes(before: Mapping[int, Sequence[int]], column: Mapping[int, int]) -> tuple[dict[int, int], tuple[_Run, ...]]:
    """A lane for every node and every wire."""
    readers: dict[int, list[int]] = {n: [] for n in before}
    for n, sources in before.items():
        for s in sources:
            readers[s].append(n)
    length: dict[int, int] = {}  # of the longest path from a node on
    for n in reversed(list(before)):
        length[n] = 1 + max((length[r] for r in readers[n]), default=0)
    grid = _Grid(before)
    lane: dict[int, int] = {}
    for start in sorted(before, key=lambda n: (column[n], -length[n], n)):
        if start in lane:
            continue
        chain = [start]
        while following := [r for r in readers[chain[-1]] if r not in lane]:
            chain.append(max(following, key=lambda r: (length[r], -r)))
        wanted: dict[int, tuple[bool, int]] = {}
        if before[start]:
            source = min(before[start], key=lambda s: column[s])
            wanted |= dict.fromkeys(range(column[source] + 1, column[start]), (False, source))
        joins = max((column[r] for r in readers[chain[-1]]), default=column[chain[-1]] + 1)
        for n, end in zip(chain, [*(column[n] for n in chain[1:]), joins], strict=True):
            wanted |= {column[n]: (True, n)} | dict.fromkeys(range(column[n] + 1, end), (False, n))
        lane |= dict.fromkeys(chain, grid.take(wanted, ()))
    runs: list[_Run] = []
    for n, sources in before.items():
        for s in sources:
            between: dict[int, tuple[bool, int]] = dict.fromkeys(range(column[s] + 1, column[n]), (False, s))
            if between:
                runs.append(_Run(s, n, grid.take(between, (lane[n], lane[s]))))
            else:
                beside = grid.cells.get((lane[n], column[s]))
                arrives = lane[s] != lane[n] and beside is not None and grid.cells.get((lane[s], column[n])) is None
                runs.append(_Run(s, n, lane[s] if arrives else lane[n]))
    return lane, tuple(runs)


def _order(
    lane: Mapping[int, int], column: Mapping[int, int], runs: Sequence[_Run], before: Mapping[int, Sequence[int]]
) -> list[int]:
    """Lanes from top to bottom: those of shortcuts first, the longest outside; the others as their first layer ran."""
    first: dict[int, int] = {}
    for n in before:
        if before[n]:
            first.setdefault(lane[n], n)
    for n in before:
        first.setdefault(lane[n], n)
    bare = {run.lane: 0 for run in runs if run.lane not in first}
    for run in runs:
        if run.lane in bare:
            bare[run.lane] = max(bare[run.lane], column[run.target] - column[run.source])
    return [*sorted(bare, key=lambda which: -bare[which]), *sorted(first, key=lambda which: first[which])]


def _tracks(
    gap: int, lane: Mapping[int, int], column: Mapping[int, int], runs: Sequence[_Run], middle: Mapping[int, float]
) -> dict[tuple[str, int], int]:
    """The tracks of a gap: first what turns after a node on its left, then what turns towards one on its right."""
    spans: dict[tuple[str, int], list[float]] = {}
    for run in runs:
        y0, y, y1 = middle[lane[run.source]], middle[run.lane], middle[lane[run.target]]
        if column[run.source] == gap and y != y0:
            spans.setdefault(("from", run.source), []).extend((y0, y))
        if column[run.target] == gap + 1 and y != y1:
            spans.setdefault(("to", run.target), []).extend((y, y1))
    tracks: dict[tuple[str, int], int] = {}
    for side in ("from", "to"):
        base = 1 + max(tracks.values(), default=-1) if side == "to" else 0
        for key in sorted((k for k in spans if k[0] == side), key=lambda k: min(spans[k])):
            low, high = min(spans[key]), max(spans[key])
            hit = {t for k, t in tracks.items() if min(spans[k]) <= high and low <= max(spans[k])}
            track = next(t for t in range(len(spans) + 1) if t not in hit and (t >= base or side == "from"))
            tracks[key] = track
    return tracks
