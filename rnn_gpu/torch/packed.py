"""Packed batches: their sizes, and how they are padded."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence

from rnn_gpu.errors import ArgumentError

__all__ = ["checked_sizes", "padded"]

Array = np.ndarray[Any, Any]


def checked_sizes(given: Tensor, n_rows: int) -> Array:
    """The sizes, a copy, if a batch of so many rows in all is packed by them: memory is read and written by them.

    Raises ArgumentError.
    """
    batch_sizes = given.numpy().copy()
    falls = batch_sizes.size and batch_sizes.item(-1) > 0 and (batch_sizes[1:] <= batch_sizes[:-1]).all()
    if batch_sizes.dtype != np.int64 or not falls or batch_sizes.sum() != n_rows:
        expected = "a PackedSequence with batch_sizes of int64, above 0, that never rise and add up to its rows"
        got = f"{batch_sizes.dtype} {batch_sizes.tolist()[:8]} ..., in sum {batch_sizes.sum()}, for {n_rows} rows"
        raise ArgumentError("input", expected, got)
    return batch_sizes


def padded(data: Tensor, batch_sizes: Tensor) -> tuple[Tensor, Tensor]:
    """The rows (n_rows, ...) of a PackedSequence as (T, B, ...), 0 where there are none, and the lengths (B,)."""
    result: tuple[Tensor, Tensor] = pad_packed_sequence(PackedSequence(data, batch_sizes))
    return result
