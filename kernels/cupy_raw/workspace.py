"""Memory for arrays that are needed equally long: one allocation, of which each is known by its address."""

from __future__ import annotations

from typing import Any

import numpy as np

from rnn_gpu.kernels.cupy_raw.device import Memory

__all__ = ["BYTE", "carve"]

Array = Any

LINE = 256
"""Bytes, of which every address is a multiple, as that of an array is."""

BYTE = np.dtype(np.uint8)


def carve(memory: Memory, held: list[Array], *sizes: int) -> list[int]:
    """The addresses of so many bytes each, which hold anything, in an array that is added to `held`."""
    starts, end = [], 0
    for size in sizes:
        starts.append(end)
        end += -(-size // LINE) * LINE
    array = memory.empty((end,), BYTE)
    held.append(array)
    first = memory.address(array)
    return [first + start for start in starts]
