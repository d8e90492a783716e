"""Classes are names. An index is only where a name stands in one model's output, and never passes between data sets.

Reading a second split's folders in their own order is how a missing class shifts every label after it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from convatlas.data.problems import listing
from convatlas.errors import ConvAtlasError


@dataclass(frozen=True)
class ClassMap:
    """Class names in the order of a model's outputs. Raises `ConvAtlasError` for repeated names."""

    names: tuple[str, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", tuple(self.names))
        if len(self._places) < len(self.names):
            repeated = sorted({name for name in self.names if self.names.count(name) > 1})
            raise ConvAtlasError(f"the class names {listing(repeated)} occur twice.", remedy="Name each class once.")

    @cached_property
    def _places(self) -> dict[str, int]:
        return {name: place for place, name in enumerate(self.names)}

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __contains__(self, name: object) -> bool:
        return name in self._places

    def index(self, name: str) -> int:
        """Raises `ConvAtlasError` for a name that is not a class."""
        if name in self._places:
            return self._places[name]
        close = get_close_matches(name, self.names, n=1)
        hint = f"Did you mean {close[0]!r}?" if close else f"The classes are {listing(self.names)}."
        raise ConvAtlasError(f"unknown class {name!r}.", remedy=hint)

    def indices(self, labels: Sequence[str]) -> NDArray[np.int64]:
        """The index of each label, int64 (n,)."""
        return np.fromiter((self.index(label) for label in labels), dtype=np.int64, count=len(labels))

    def align(self, other: Sequence[str], *, partial: bool = False) -> NDArray[np.int64]:
        """Where each of the names `other` stands in this map, int64 (len(other),).

        Both must hold the same names, in any order; with `partial`, `other` may lack some. Raises `ConvAtlasError` with
        the difference.
        """
        extra = [name for name in other if name not in self]
        lacking = [] if partial else [name for name in self.names if name not in set(other)]
        if extra or lacking:
            parts = []
            if extra:
                parts.append(f"unknown here: {listing(extra, most=10)}")
            if lacking:
                parts.append(f"missing there: {listing(lacking, most=10)}")
            raise ConvAtlasError(
                f"the classes differ; {'; '.join(parts)}.",
                remedy="Rename the folders or labels so that both sides use the same names.",
            )
        return self.indices(other)
