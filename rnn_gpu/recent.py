"""What is kept of the last so many things that were found out, by several threads at once."""

from __future__ import annotations

import threading
from typing import Generic, TypeVar

__all__ = ["Recent"]

Key = TypeVar("Key")
Value = TypeVar("Value")


class Recent(Generic[Key, Value]):
    """Values by key, `most` of them: those that came first go first.

    get(key): the value, or None.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._values: dict[Key, Value] = {}
        self._lock = threading.Lock()
        self.get = self._values.get

    def add(self, key: Key, value: Value) -> Value:
        """Keep the value, and return it."""
        with self._lock:
            if len(self._values) >= self._most:
                del self._values[next(iter(self._values))]
            self._values[key] = value
        return value

    def clear(self) -> None:
        """Keep nothing."""
        with self._lock:
            self._values.clear()

    def __len__(self) -> int:
        return len(self._values)
