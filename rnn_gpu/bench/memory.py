"""The rate at which this machine reads and writes memory."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

__all__ = ["BYTES", "copied_bytes", "copy"]

BYTES = 1 << 28
"""Of an array that no cache holds."""


def copy(threads: int) -> Callable[[], object]:
    """A copy of a large array by so many threads, to be timed."""
    source = np.ones(BYTES // 8)
    target = np.zeros_like(source)
    parts = list(zip(np.array_split(source, threads), np.array_split(target, threads), strict=True))
    pool = ThreadPoolExecutor(threads)

    def run() -> object:
        return list(pool.map(lambda part: np.copyto(part[1], part[0]), parts))

    return run


def copied_bytes() -> float:
    """Bytes read and written by that copy."""
    return 2.0 * BYTES
