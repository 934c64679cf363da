"""Packed batches: their sizes, and how they are padded."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence

from rnn_gpu.errors import ArgumentError

__all__ = ["checked_sizes", "first_size", "padded"]

Array = np.ndarray[Any, Any]


def checked_sizes(given: Tensor, n_rows: int) -> Array:
    """The sizes, a copy, if a batch of so many rows in all is packed by them: memory is read and written by them.

    Raises ArgumentError.
    """
    batch_sizes = given.numpy().copy()
    falls = first_size(given) <= n_rows and batch_sizes.item(-1) > 0 and (batch_sizes[1:] <= batch_sizes[:-1]).all()
    if batch_sizes.dtype != np.int64 or not falls or batch_sizes.sum() != n_rows:
        got = f"{batch_sizes.dtype} {batch_sizes.tolist()[:8]} ..., in sum {batch_sizes.sum()}, for {n_rows} rows"
        raise ArgumentError("input", _EXPECTED, got)
    return batch_sizes


_EXPECTED = "a PackedSequence with batch_sizes (T,) of int64, above 0, that never rise and add up to its rows"


def first_size(batch_sizes: Tensor) -> int:
    """B. Raises ArgumentError for sizes that have none."""
    if batch_sizes.dim() != 1 or not batch_sizes.numel():
        raise ArgumentError("input", _EXPECTED, f"batch_sizes of shape {tuple(batch_sizes.shape)}")
    return int(batch_sizes[0])


def padded(data: Tensor, batch_sizes: Tensor) -> tuple[Tensor, Tensor]:
    """The rows (n_rows, ...) of a PackedSequence as (T, B, ...), 0 where there are none, and the lengths (B,)."""
    result: tuple[Tensor, Tensor] = pad_packed_sequence(PackedSequence(data, batch_sizes))
    return result
