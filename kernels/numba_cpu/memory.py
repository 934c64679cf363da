"""Large arrays whose memory is kept when they are gone, and given to the next that ask.

The system hands a process fresh memory a page at a time, zeroed, at every first touch; for arrays of megabytes, made
and dropped at every call, that costs as much as the arithmetic done in them.
"""

from __future__ import annotations

import ctypes
import weakref
from collections import defaultdict
from threading import RLock
from typing import Any

import numpy as np

from rnn_gpu.problem import Array

__all__ = ["empty", "release", "zeros"]

SMALLEST = 1 << 16
"""Bytes below which the C library's own free lists do."""

MOST_KEPT = 1 << 28
"""Bytes kept for later at most."""

_lock = RLock()
_free: dict[int, list[np.ndarray[Any, Any]]] = defaultdict(list)
_kept = 0


def empty(count: int, dtype: np.dtype[Any]) -> Array:
    """A flat array of `count` elements that are yet to be written. Its memory comes back when its last view is gone."""
    n_bytes = count * dtype.itemsize
    if n_bytes < SMALLEST:
        return np.empty(count, dtype)
    global _kept  # noqa: PLW0603
    size = _rounded(n_bytes)
    with _lock:
        blocks = _free[size]
        block = blocks.pop() if blocks else None
        _kept -= size if block is not None else 0
    if block is None:
        block = np.empty(size, np.uint8)
    # A view of an array refers to the array itself, a view of a ctypes buffer to the buffer: its end can be seen.
    buffer = (ctypes.c_char * n_bytes).from_buffer(block.data)
    weakref.finalize(buffer, _give_back, block).atexit = False
    array: Array = np.frombuffer(memoryview(buffer), dtype)
    return array


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


def _give_back(block: np.ndarray[Any, Any]) -> None:
    global _kept  # noqa: PLW0603
    with _lock:
        if _kept + block.size <= MOST_KEPT:
            _free[block.size].append(block)
            _kept += block.size


def _rounded(n_bytes: int) -> int:
    """The next of eight sizes between powers of two, so that calls of like sizes share blocks."""
    step = 1 << max(n_bytes.bit_length() - 4, 12)
    return -(-n_bytes // step) * step
