"""Resets of a sequence that is run both ways."""

from __future__ import annotations

from typing import Any

import numpy as np

from rnn_gpu.arrays import on_host

__all__ = ["from_behind"]


def from_behind(resets: Any, lengths: np.ndarray[Any, Any] | None) -> np.ndarray[Any, Any]:
    """Resets (T, B) that cut a sequence where these do, for the way back: there, step t-1 comes after step t.

    A NumPy array: those on a GPU are copied. What they hold at and after a row's end is left out.
    """
    there = on_host("resets", resets)
    if lengths is not None:
        there = there & (np.arange(len(there))[:, None] < lengths)
    shifted = np.zeros_like(there)
    shifted[:-1] = there[1:]
    return shifted
