"""The doctor: scan, decode and diagnose a data set, and say everything that was found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from convatlas.data.diagnose import diagnose
from convatlas.data.examine import Examined, examine
from convatlas.data.facts import DecodeError, Facts
from convatlas.data.near import near_copies, near_problems
from convatlas.data.problems import Problem, Severity, printable, worst_first
from convatlas.data.scan import ClassOrder, Dataset, scan

SCHEMA = "convatlas.check/1"


@dataclass(frozen=True, kw_only=True)
class CheckResult:
    """What a check found; `sound` says whether there is no error."""

    dataset: Dataset
    problems: tuple[Problem, ...]  # worst first
    examined: tuple[Examined, ...]  # without pixels, in the order of the data set's records

    def count(self, severity: Severity) -> int:
        """How many problems are of this severity."""
        return sum(problem.severity == severity for problem in self.problems)

    @property
    def sound(self) -> bool:
        """Whether there is no error."""
        return self.count("error") == 0

    def facts(self) -> dict[str, Any]:
        """The set in figures: images that decode, files by format, and the range of short and long sides."""
        facts = [entry.facts for entry in self.examined if entry.facts is not None]
        short = sorted(min(fact.width, fact.height) for fact in facts)
        long = sorted(max(fact.width, fact.height) for fact in facts)
        return {
            "decoded": len(facts),
            "failed": len(self.examined) - len(facts),
            "formats": dict(Counter(fact.format for fact in facts).most_common()),
            "short_side": {"least": short[0], "median": median(short), "most": short[-1]} if short else None,
            "long_side": {"least": long[0], "median": median(long), "most": long[-1]} if long else None,
        }

    def to_json(self) -> dict[str, Any]:
        """All of it but the files one by one, versioned."""
        return {
            "schema": SCHEMA,
            "path": printable(str(self.dataset.root)),
            "layout": self.dataset.layout,
            "classes": list(self.dataset.classes),
            "images": len(self.dataset.records),
            "splits": {split: dict(counts) for split, counts in self.dataset.class_counts().items()},
            "facts": self.facts(),
            "problems": [problem.to_json() for problem in self.problems],
        }


def check(
    path: str | Path,
    *,
    class_order: ClassOrder = "lexicographic",
    progress: Callable[[int, int], None] = lambda done, total: None,
    known: Callable[[str], Facts | DecodeError | None] = lambda sha256: None,
    found: Callable[[Examined], None] = lambda entry: None,
) -> CheckResult:
    """Decode every file of the data set at `path` and name what is wrong with it; nothing is changed.

    `progress(done, total)` and `found(entry)` are called after every file; `known(sha256)` may hand back what an earlier pass found about a
    file of that content, which is then only read. Raises `ConvAtlasError` for a path that holds no labelled images.
    """
    dataset = scan(path, class_order=class_order)
    examined = []
    for entry in examine(dataset, dataset.records, known=known):
        examined.append(entry)
        found(entry)
        progress(len(examined), len(dataset.records))
    return CheckResult(
        dataset=dataset,
        problems=worst_first(
            (*dataset.problems, *diagnose(dataset, examined), *near_problems(examined, near_copies(examined)))
        ),
        examined=tuple(examined),
    )
