"""Resets of rows that end, and of a sequence that is run both ways."""

from __future__ import annotations

from typing import Any

import numpy as np

from rnn_gpu.arrays import on_host

__all__ = ["from_behind", "within"]

Array = np.ndarray[Any, Any]


def within(resets: Array, lengths: Array | None) -> Array:
    """A copy of the resets (T, B), row by row in memory, without those at and after each row's end."""
    copied = resets.copy(order="C")
    if lengths is not None:
        copied &= np.arange(len(copied))[:, None] < lengths
    return copied


def from_behind(resets: Any, lengths: Array | None) -> Array:
    """Resets (T, B) that cut a sequence where these do, for the way back: there, step t-1 comes after step t.

    A NumPy array, row by row in memory: those on a GPU are copied. What they hold at and after a row's end is left out.
    """
    there = on_host("resets", resets)
    if lengths is not None:
        there = within(there, lengths)
    shifted = np.zeros(there.shape, np.bool_)
    shifted[:-1] = there[1:]
    return shifted
