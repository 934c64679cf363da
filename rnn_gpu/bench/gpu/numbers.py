"""The numbers of a call on the device. One block of the host's is repeated there: drawing gigabytes would take longer
than measuring them."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rnn_gpu.arrays import dtype_named
from rnn_gpu.bench.calls import Call
from rnn_gpu.bench.gpu.platform import Platform
from rnn_gpu.bench.shapes import Case
from rnn_gpu.weights import init_weights

__all__ = ["draw", "rotated"]

BLOCK = 4_194_301
"""Numbers in the block: a prime, so that it begins anew at another place of every row."""


def draw(platform: Platform, case: Case, seed: int = 0) -> Call:
    """The case's numbers on the device; the same for the same shape, type and seed."""
    T, B, I, H = case.shape
    dtype = dtype_named(case.dtype)
    rng = np.random.default_rng(seed)
    parameters = init_weights(case.cell, None if case.projected else I, H, dtype=case.dtype, seed=seed)
    lengths = rng.integers(1, T + 1, B) if case.ragged else None
    resets = platform.put(rng.random((T, B)) < case.resets) if case.resets else None
    return Call(
        case,
        platform.repeated(_block(seed), (T, B, I), dtype),
        parameters.map(platform.put),
        platform.repeated(_block(seed + 1), (T, B, H), dtype),
        lengths,
        resets,
    )


def rotated(platform: Platform, case: Case, calls: int) -> list[Call]:
    """So many calls of one case on different numbers."""
    return [draw(platform, case, 2 * number) for number in range(calls)]


@cache
def _block(seed: int) -> NDArray[Any]:
    return np.random.default_rng(1000 + seed).standard_normal(BLOCK, np.float32)
