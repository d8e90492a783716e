"""What people see: progress bars on stderr, and results as short text on stdout."""

from __future__ import annotations

import io
import json
import sys
import textwrap
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from convatlas.errors import ConvAtlasError

Json = Annotated[bool, typer.Option("--json", help="Machine-readable output on stdout.")]


def say(text: str) -> None:
    """A note to the person at the keyboard."""
    print(text, file=sys.stderr)


def put(text: str, out: Path | None = None) -> None:
    """To stdout, or whole or not at all to a file."""
    if out is None:
        print(text)
        return
    from convatlas.report.page import replaced

    try:
        replaced(out, text if text.endswith("\n") else f"{text}\n")
    except OSError as error:
        raise ConvAtlasError(
            f"{out} cannot be written: {error.strerror}.", remedy="Give a file in a folder of yours."
        ) from error


def put_json(value: Any, out: Path | None = None) -> None:
    put(json.dumps(value, indent=1, ensure_ascii=True), out)


def rate_text(speed: float | None) -> str:
    """So many a second, or the seconds that each takes; nothing where that is not known yet."""
    if not speed:
        return ""
    return f"{speed:,.0f}/s" if speed >= 10 else f"{speed:.1f}/s" if speed >= 1 else f"{1 / speed:.1f} s each"


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
            bars.update(tasks[what], completed=done)
            bars.update(tasks[what], rate=rate_text(task.speed))

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


def tables_text(tables: Sequence[Any]) -> list[str]:
    """Each table of an analysis with its title above and its notes below, as wide as it must be, or as the terminal is."""
    from rich import box
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    width = None if sys.stdout.isatty() else 1000
    found: list[str] = []
    for given in tables:
        shown = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for i, heading in enumerate(given.header):
            is_prose = heading == "why"
            shown.add_column(
                heading, justify="right" if i in given.figures else "left", max_width=70 if is_prose else None
            )
        for row in given.rows:
            shown.add_row(*map(escape, row))
        written = io.StringIO()
        console = Console(file=written, width=width, force_terminal=sys.stdout.isatty())
        console.print(shown)
        text = "\n".join(line.rstrip() for line in written.getvalue().splitlines())
        found.append("\n".join([given.title, text, *(textwrap.fill(note, 110) for note in given.notes)]) + "\n")
    return found


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


def chance(share: float) -> str:
    """As `percent`, but never 100 % of what is no more than very likely."""
    return "over 99.9 %" if share > 0.999 else percent(share)


def problems_text(problems: Sequence[dict[str, Any]], most: int | None = None) -> str:
    """The findings of a check, worst first, each with its files and its remedy; of each kind `most` at the most."""
    lines: list[str] = []
    shown, left_out = Counter[str](), Counter[str]()
    for problem in problems:
        shown[problem["kind"]] += 1
        if most is not None and shown[problem["kind"]] > most:
            left_out[problem["kind"]] += 1
            continue
        lines.append(f"{problem['severity']}: {problem['message']} [{problem['kind']}]")
        lines += [f"    {path}" for path in problem["paths"][:10]]
        if len(problem["paths"]) > 10:
            lines.append(f"    … and {len(problem['paths']) - 10:,} more (--json lists all)")
        if problem["remedy"]:
            lines.append(f"  → {problem['remedy']}")
    lines += [f"… and {count:,} more [{kind}] (the report and --json list all)" for kind, count in left_out.items()]
    return "\n".join(lines)
