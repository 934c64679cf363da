"""Device memory that is handed out again once it is free, for callers whose library has no such: Numba's and NumPy's.

The driver's own allocations wait for the device. Here a piece that nobody holds any more goes to the next who asks for
as much on the same stream, behind whose work it comes, so that nothing waits. What was once given is kept until memory
runs out, but large pieces, whose use takes longer than their making, go back to the driver.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any

__all__ = ["Piece", "Pool", "rounded"]

_LEAST = 512
"""Bytes of the smallest piece: what the driver aligns memory to."""

_LARGEST = 2**30
"""Bytes of the largest piece that is kept."""

_STEPS = 8
"""Sizes between a power of two and the next: a piece is at most an eighth larger than what was asked for."""


class Piece:
    """Memory that goes back to its pool when nobody holds it any more. address, size: in bytes."""

    __slots__ = ("_back", "address", "size")

    def __init__(self, address: int, size: int, back: Callable[[int], object]) -> None:
        self.address, self.size, self._back = address, size, back

    def __del__(self) -> None:
        self._back(self.address)


class Pool:
    """The memory of one device.

    allocate: bytes -> Numba's memory pointer, which frees what it points to when it is dropped.
    is_out_of_memory: whether an error says that there is no more.
    """

    def __init__(self, allocate: Callable[[int], Any], is_out_of_memory: Callable[[Exception], bool]) -> None:
        self._allocate, self._is_out_of_memory = allocate, is_out_of_memory
        self._memory: dict[int, Any] = {}
        """By address. Pieces have no pointer: one in a cycle would be told that it is dropped before the piece is."""
        self._free: defaultdict[tuple[int, int], list[int]] = defaultdict(list)
        """By stream and size, addresses. Pieces come back at any time, in any thread: a change is one operation."""

    def take(self, size: int, stream: int) -> Piece:
        """At least `size` bytes, to be used on that stream. What is free is given up before memory runs out."""
        size = rounded(size)
        if size > _LARGEST:
            return Piece(self._allocated(size), size, self._memory.pop)
        free = self._free[stream, size]
        try:
            address = free.pop()
        except IndexError:
            address = self._allocated(size)
        return Piece(address, size, free.append)

    def _allocated(self, size: int) -> int:
        try:
            memory = self._allocate(size)
        except Exception as error:
            if not self._is_out_of_memory(error):
                raise
            self.give_up()
            memory = self._allocate(size)
        address = int(memory.device_pointer_value)
        self._memory[address] = memory
        return address

    def give_up(self) -> None:
        """Give what is free back to the driver."""
        for free in list(self._free.values()):
            while free:
                try:
                    del self._memory[free.pop()]
                except IndexError:  # another thread took the last one
                    break

    def free_bytes(self) -> int:
        """Bytes that are kept and not in use."""
        return sum(size * len(free) for (_, size), free in list(self._free.items()))


def rounded(size: int) -> int:
    """The size of the piece that holds `size` bytes."""
    if size <= _LEAST:
        return _LEAST
    step = max(_LEAST, (1 << (size - 1).bit_length()) // (2 * _STEPS))
    return -(-size // step) * step
