"""What people see: progress bars on stderr, and results as short text on stdout."""

from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any


def say(text: str) -> None:
    """A note to the person at the keyboard."""
    print(text, file=sys.stderr)


def put_json(value: Any) -> None:
    print(json.dumps(value, indent=1, ensure_ascii=True))


@contextmanager
def progress_bars() -> Iterator[Callable[[str, int, int], None]]:
    """A `progress(what, done, total)` that draws a bar for each kind of work, with throughput and time left, on a terminal only."""
    if not sys.stderr.isatty():
        yield lambda what, done, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description:>20}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        tasks: dict[str, Any] = {}

        def progress(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=total, rate="")
            task = next(t for t in bars.tasks if t.id == tasks[what])
            rate = f"{done / task.elapsed:,.0f}/s" if task.elapsed and done else ""
            bars.update(tasks[what], completed=done, rate=rate)

        yield progress


def table(header: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[int] = ()) -> str:
    """Text columns as wide as their content; `right` are the columns set flush right."""
    lines = [header, *rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]

    def set_line(line: Sequence[str]) -> str:
        return "  ".join(
            cell.rjust(w) if i in right else cell.ljust(w) for i, (cell, w) in enumerate(zip(line, widths, strict=True))
        ).rstrip()

    return "\n".join(set_line(line) for line in lines)


def pairs_text(pairs: Sequence[tuple[str, str]], *, width: int = 110) -> str:
    """Labels in a column of their own, each with its text beside it, wrapped to `width`."""
    indent = 4 + max(len(label) for label, _ in pairs)
    return "\n".join(
        textwrap.fill(
            text,
            width,
            initial_indent=f"  {label}".ljust(indent),
            subsequent_indent=" " * indent,
            break_long_words=False,
            break_on_hyphens=False,
        )
        for label, text in pairs
    )


def percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f} %"


def problems_text(problems: Sequence[dict[str, Any]]) -> str:
    """The findings of a check, worst first, each with its files and its remedy."""
    lines: list[str] = []
    for problem in problems:
        lines.append(f"{problem['severity']}: {problem['message']} [{problem['kind']}]")
        lines += [f"    {path}" for path in problem["paths"][:10]]
        if len(problem["paths"]) > 10:
            lines.append(f"    … and {len(problem['paths']) - 10:,} more (--json lists all)")
        if problem["remedy"]:
            lines.append(f"  → {problem['remedy']}")
    return "\n".join(lines)
