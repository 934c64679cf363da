"""What the host's processor offers: vector width and register tile. The tuning numbers of products live here; how
work is shared out, and when, `shares.py` and `gradient_kernel.py` say.

The tile is R rows x V vectors of accumulators, held in registers while a product runs down its K axis; V vectors make
a panel, the unit in which weights are packed.
"""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass

from llvmlite import binding
from numba.core import config

from rnn_gpu.errors import ArgumentError

__all__ = [
    "AHEAD_BLOCKS",
    "AHEAD_ROWS",
    "BLOCK_ROWS",
    "CACHE_LINE",
    "DEPTH",
    "DEPTH_OVER_ROWS",
    "ENVIRONMENT_VARIABLE",
    "FEW_INPUTS",
    "ROWS_FOR_NOTHING",
    "ROWS_OF_TWO_VECTORS",
    "TILE_ROWS",
    "TRAITS",
    "Traits",
    "detect",
]

CACHE_LINE = 64
"""Bytes that come into a cache together; vectors that straddle two such lines are read twice."""

TILE_ROWS = 6
"""Rows in a tile of sums."""

FEW_INPUTS = 4
"""Inputs up to which their gradients are products along the gates, not along the inputs."""

ROWS_OF_TWO_VECTORS = 3
"""Rows in a tile of two vectors, each with as many chains of sums as a panel has vectors, at most."""

DEPTH = 384
"""Terms of one chain of multiply-adds; longer sums are sums of such. A panel of that depth stays in the cache."""

DEPTH_OVER_ROWS = 512
"""The same for products whose K axis is time and batch, and the rows that are run back at a time, about."""

BLOCK_ROWS = 96
"""Rows of x projected at a time: enough to hide the traffic of the weights, few enough to stay in the cache."""

AHEAD_ROWS, AHEAD_BLOCKS = 24, 4
"""The same where a thread does nothing else, for another that waits for it; and how many such blocks ahead."""

ROWS_FOR_NOTHING = 4
"""As many rows take hardly longer than one: it is the weights' way to the processor that takes the time."""

ENVIRONMENT_VARIABLE = "RNN_GPU_SIMD"
"""Names the instruction set to write for, one of `KINDS`, in place of the one found."""


@dataclass(frozen=True)
class Traits:
    """Tuning numbers for one kind of processor.

    vector_bytes: of one vector register.
    tile_vectors: vectors in a panel; TILE_ROWS times as many sums, and the operands, must fit the registers.
    scales: whether there is an instruction that multiplies by powers of two.
    """

    kind: str
    vector_bytes: int
    tile_vectors: int
    scales: bool = False

    def lanes(self, itemsize: int) -> int:
        """Elements in a vector."""
        return self.vector_bytes // itemsize

    def panel(self, itemsize: int) -> int:
        """Columns in a panel."""
        return self.lanes(itemsize) * self.tile_vectors


KINDS = {
    "avx512": Traits("avx512", 64, 4, scales=True),  # 24 of 32 registers hold sums
    "avx2": Traits("avx2", 32, 2),  # 12 of 16
    "neon": Traits("neon", 16, 4),  # 24 of 32
    "plain": Traits("plain", 16, 2),  # 12 of 16: the SSE2 that every 64-bit x86 has
}


def detect() -> Traits:
    """The traits of this processor. Raises ArgumentError if RNN_GPU_SIMD names none that there is."""
    asked_for = os.environ.get(ENVIRONMENT_VARIABLE)
    if asked_for:
        if asked_for not in KINDS:
            raise ArgumentError(ENVIRONMENT_VARIABLE, f"one of {', '.join(KINDS)}", repr(asked_for))
        return KINDS[asked_for]
    if config.CPU_NAME is not None:  # the user has asked Numba for another processor than this one
        named = dict.fromkeys(
            (f.strip("+ ") for f in (config.CPU_FEATURES or "").split(",") if f.startswith("+")), True
        )
    else:
        named = dict(binding.get_host_cpu_features())
    if named.get("avx512f") and named.get("avx512vl"):
        return KINDS["avx512"]
    if named.get("avx2") and named.get("fma"):
        return KINDS["avx2"]
    if platform.machine().lower() in ("arm64", "aarch64"):
        return KINDS["neon"]
    return KINDS["plain"]


TRAITS = detect()
