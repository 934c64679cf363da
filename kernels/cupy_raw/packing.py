"""Rows of different lengths: the caller's arrays with padding, and those in which the steps that exist lie together."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from rnn_gpu.arrays import name_of
from rnn_gpu.kernels.cupy_raw import source
from rnn_gpu.kernels.cupy_raw.device import Device, Kernel, Launch
from rnn_gpu.kernels.cupy_raw.parameters import PackedRows, Parameters
from rnn_gpu.kernels.cupy_raw.source import THREADS

__all__ = ["kernels_of", "pack", "unpack"]

BLOCKS_A_MULTIPROCESSOR = 16
"""Wanted, so that enough loads are under way."""

Array = tuple[int, np.dtype[Any]]
"""The address and the dtype of one."""


def kernels_of(dtype: str, kept: str) -> list[Kernel]:
    """Those that calls with lengths take, but for x that is W x already."""
    return [source.packed_rows(dtype, kept, "pack"), source.packed_rows(kept, dtype, "unpack")]


def pack(device: Device, call: Parameters, columns: int, given: Array, out: Array) -> None:
    """out [N, columns] of the caller's [T, B, columns]. call: the parameters with the numbering of rows."""
    _run(device, call, columns, given, out, "pack")


def unpack(device: Device, call: Parameters, columns: int, given: Array, out: Array) -> None:
    """The reverse; 0 where a row has ended."""
    _run(device, call, columns, given, out, "unpack")


def _run(device: Device, call: Parameters, columns: int, given: Array, out: Array, which: str) -> None:
    if call.steps * call.rows * columns:
        launch = _launch(call.steps * call.rows, given[1], out[1], which, device.properties.multiprocessors)
        arguments = (given[0], out[0], call.starts, call.order, call.steps, call.rows, columns)
        device.launch(launch, PackedRows(*arguments))


@lru_cache(maxsize=1024)
def _launch(rows: int, given: np.dtype[Any], out: np.dtype[Any], which: str, multiprocessors: int) -> Launch:
    blocks = min(-(-rows // (THREADS // 32)), BLOCKS_A_MULTIPROCESSOR * multiprocessors)
    return Launch(source.packed_rows(name_of(given), name_of(out), which), grid=blocks, block=THREADS, shared=0)
