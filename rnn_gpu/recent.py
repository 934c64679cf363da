"""What is kept of the last so many things that were found out, by several threads at once."""

from __future__ import annotations

from collections import OrderedDict
from contextlib import suppress
from typing import Generic, TypeVar

__all__ = ["Recent"]

Key = TypeVar("Key")
Value = TypeVar("Value")


class Recent(Generic[Key, Value]):
    """Values by key, `most` of them: those that came first go first.

    get(key): the value, or None. There is no lock, which a forked child could find locked: what is done to the values
    is one operation of Python's at a time.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._values: OrderedDict[Key, Value] = OrderedDict()
        self.get = self._values.get
        self.clear = self._values.clear

    def add(self, key: Key, value: Value) -> Value:
        """Keep the value, and return it."""
        self._values[key] = value
        while len(self._values) > self._most:
            with suppress(KeyError):  # where others have just taken the last
                self._values.popitem(last=False)
        return value

    def __len__(self) -> int:
        return len(self._values)
