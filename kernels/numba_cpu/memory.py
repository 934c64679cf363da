"""Large arrays whose memory is kept when they are gone, and given to the next that ask.

The system hands a process fresh memory a page at a time, zeroed, at every first touch; for arrays of megabytes, made
and dropped at every call, that costs as much as the arithmetic done in them.
"""

from __future__ import annotations

import math
import sys
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from itertools import accumulate
from threading import RLock
from typing import Any

import numpy as np

from rnn_gpu.kernels.numba_cpu.host import CACHE_LINE
from rnn_gpu.problem import Array

__all__ = ["empty", "maker", "release", "split", "zeros"]

SMALLEST = 1 << 16
"""Bytes below which the C library's own free lists do."""

MOST_KEPT = 1 << 29
"""Bytes kept for later at most; those of sizes that nobody has asked for the longest go first."""

_lock = RLock()
_free: OrderedDict[int, list[np.ndarray[Any, Any]]] = OrderedDict()
_kept = 0


def empty(count: int, dtype: np.dtype[Any]) -> Array:
    """A flat array of `count` elements that are yet to be written. Its memory comes back when its last view is gone."""
    n_bytes = count * dtype.itemsize
    if n_bytes < SMALLEST:
        return np.empty(count, dtype)
    global _kept  # noqa: PLW0603
    size = _rounded(n_bytes)
    with _lock:
        blocks = _free.get(size)
        block = blocks.pop() if blocks else None
        if block is not None:
            _free.move_to_end(size)
            _kept -= size
    if block is None:
        room = np.empty(size + CACHE_LINE, np.uint8)
        start = -room.ctypes.data % CACHE_LINE
        block = room[start : start + size].view(_Block)
    lent = _Lent.__new__(_Lent, count, dtype, block)
    lent.block = block
    array: Array = lent.view(np.ndarray)
    return array


def maker(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Callable[[], Array]:
    """What makes arrays of that shape as `empty` does."""
    count = math.prod(shape)
    if count * dtype.itemsize < SMALLEST:
        return partial(np.empty, shape, dtype)
    return lambda: empty(count, dtype).reshape(shape)


def split(counts: Sequence[int], dtype: np.dtype[Any]) -> list[Array]:
    """Arrays of so many elements in one piece of memory, each at the beginning of a cache line."""
    total, places = _places(tuple(counts), CACHE_LINE // dtype.itemsize)
    block = empty(total, dtype)
    return [block[place] for place in places]


@lru_cache(maxsize=256)
def _places(counts: tuple[int, ...], line: int) -> tuple[int, list[slice]]:
    """How much room so many elements each take, in whole lines, and where in it they lie."""
    ends = list(accumulate(-(-count // line) * line for count in counts))
    return ends[-1], [slice(end, end + count) for end, count in zip([0, *ends], counts, strict=False)]


def zeros(count: int, dtype: np.dtype[Any]) -> Array:
    """The same, zeroed."""
    array = empty(count, dtype)
    array[:] = 0
    return array


def release() -> None:
    """Give what is kept for later back to the system."""
    global _kept  # noqa: PLW0603
    with _lock:
        _free.clear()
        _kept = 0


class _Block(np.ndarray[Any, Any]):
    """A block. A view of an array refers to that one's own base if it is of the view's class: so this has one."""


class _Lent(np.ndarray[Any, Any]):
    """A block in use. Its end, which is that of the last view of it, gives the block back."""

    block: np.ndarray[Any, Any] | None = None

    def __del__(self, ending: Callable[[], bool] = sys.is_finalizing) -> None:
        block = self.block
        if block is not None and not ending() and block.size <= MOST_KEPT:
            _keep(block)


def _keep(block: np.ndarray[Any, Any]) -> None:
    global _kept  # noqa: PLW0603
    with _lock:
        _free.setdefault(block.size, []).append(block)
        _free.move_to_end(block.size)
        _kept += block.size
        while _kept > MOST_KEPT:
            oldest, blocks = next(iter(_free.items()))
            if blocks:
                blocks.pop()
                _kept -= oldest
            else:
                del _free[oldest]


def _rounded(n_bytes: int) -> int:
    """The next of eight sizes between powers of two, so that calls of like sizes share blocks."""
    step = 1 << max(n_bytes.bit_length() - 4, 12)
    return -(-n_bytes // step) * step
