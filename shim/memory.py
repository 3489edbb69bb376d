"""A bounded memory of what never changes, so that the runtime is asked for it once."""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, TypeVar

V = TypeVar("V")


class Memory(Generic[V]):
    """Values by whole id; the one that was not asked for the longest is forgotten first."""

    def __init__(self, size: int) -> None:
        """``size``: how many are kept."""
        self._size = size
        self._values: OrderedDict[str, V] = OrderedDict()

    def get(self, key: str) -> V | None:
        """What is remembered of ``key``."""
        value = self._values.get(key)
        if value is not None:
            self._values.move_to_end(key)
        return value

    def put(self, key: str, value: V) -> None:
        """Remember ``value``."""
        self._values[key] = value
        self._values.move_to_end(key)
        if len(self._values) > self._size:
            self._values.popitem(last=False)

    def clear(self) -> None:
        """Forget everything."""
        self._values.clear()
