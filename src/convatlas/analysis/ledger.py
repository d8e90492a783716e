"""Which value each living tensor is, and when memory is made and let go of.

The ledger holds no tensor, so that the network's own references decide how long one lives: weak references tell when the last is gone.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from convatlas.analysis.tape import Origin, Storage, Value


class _Reference(weakref.ref):
    """A tensor that may be gone, and what it is called here."""

    __slots__ = ("key", "value")
    key: int
    value: Value


class Ledger:
    """Numbers values and storages in the order in which they appear; `now` tells how many operations have run."""

    def __init__(self, now: Callable[[], int]) -> None:
        self._now = now
        self._references: dict[int, _Reference] = {}  # the current value of each living tensor, by identity
        self._storages: list[list[int]] = []  # bytes, born, freed, tensors that share it
        self._numbers: dict[int, int] = {}  # of living storages, by torch's address
        self._addresses: list[int] = []
        self._count = 0

    def storages(self) -> tuple[Storage, ...]:
        """All memory that was seen, by its number; what is still held is freed when all operations have run."""
        end = self._now()
        return tuple(Storage(size, born, freed if freed >= 0 else end) for size, born, freed, _ in self._storages)

    def value(self, tensor: Tensor) -> Value:
        found = self._references.get(id(tensor))
        return found.value if found is not None and found() is tensor else self.new(tensor, "constant")

    def new(self, tensor: Tensor, origin: Origin, name: str = "") -> Value:
        key = id(tensor)
        known = self._references.get(key)
        if known is not None and known() is tensor:  # written in place: a new value of the same memory
            storage = known.value.storage
        else:
            storage = self._storage(tensor, made=origin == "made")
            known = self._references[key] = _Reference(tensor, self._gone)
            known.key = key
        value = known.value = Value(self._count, tuple(tensor.shape), tensor.dtype, storage, origin, name)
        self._count += 1
        return value

    def _storage(self, tensor: Tensor, *, made: bool) -> int:
        """The number of the memory that a new tensor lies in."""
        address, size = _memory(tensor)
        number = self._numbers.get(address)
        if number is None:
            number = self._numbers[address] = len(self._storages)
            self._storages.append([size, self._now() if made else -1, -1, 0])
            self._addresses.append(address)
        self._storages[number][3] += 1
        return number

    def _gone(self, reference: Any) -> None:
        """A tensor was let go of; with the last one that shares it, its memory is free."""
        if self._references.get(reference.key) is reference:
            del self._references[reference.key]
        number = reference.value.storage
        storage = self._storages[number]
        storage[3] -= 1
        if not storage[3]:
            storage[2] = self._now()
            self._numbers.pop(self._addresses[number], None)


def _memory(tensor: Tensor) -> tuple[int, int]:
    """The address of a tensor's memory and its bytes; a sparse tensor has only itself."""
    if tensor.layout != torch.strided:
        return -id(tensor), 0
    storage = tensor.untyped_storage()
    return storage._cdata, storage.nbytes()
