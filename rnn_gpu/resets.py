"""Resets of rows that end, and of a sequence that is run both ways."""

from __future__ import annotations

from typing import Any

import numpy as np

from rnn_gpu.arrays import on_host

__all__ = ["from_behind", "within"]

Array = np.ndarray[Any, Any]


def within(resets: Array, lengths: Array | None) -> Array:
    """A copy of the resets (T, B), without those at and after each row's end."""
    return resets.copy(order="C") if lengths is None else resets & (np.arange(len(resets))[:, None] < lengths)


def from_behind(resets: Any, lengths: Array | None) -> Array:
    """Resets (T, B) that cut a sequence where these do, for the way back: there, step t-1 comes after step t.

    A NumPy array: those on a GPU are copied. What they hold at and after a row's end is left out.
    """
    there = within(on_host("resets", resets), lengths)
    shifted = np.zeros_like(there)
    shifted[:-1] = there[1:]
    return shifted
