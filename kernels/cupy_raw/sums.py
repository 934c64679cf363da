"""Sums of the columns of a matrix, for the gradients of biases and of per-unit vectors."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from rnn_gpu.arrays import name_of
from rnn_gpu.compiler.cell import Cell
from rnn_gpu.kernels.cupy_raw import source
from rnn_gpu.kernels.cupy_raw.device import Device, Kernel, Launch, Matrix
from rnn_gpu.kernels.cupy_raw.parameters import ColumnSums
from rnn_gpu.kernels.cupy_raw.source import THREADS

__all__ = ["column_sums", "kernels_of"]

VECTOR_BYTES = 16
"""Of a row, loaded at once by a thread."""

ROWS_ALONE = 512
"""Up to so many rows are summed in one piece: a second launch costs more than it saves."""

ROWS_A_PIECE = 64
"""The fewest rows of a piece where there are several."""

BLOCKS_A_MULTIPROCESSOR = 8
"""Wanted, so that enough loads are under way."""

FLOAT64 = np.dtype(np.float64)


def kernels_of(cell: Cell, dtype: str, kept: str) -> list[Kernel]:
    """Those that backward takes: of the gradients of products, and of vectors; whole and in pieces."""
    real = "float64" if dtype == "float64" else "float32"
    summed = {kept, real} if cell.vectors else {kept}
    kinds = {(each, out) for each in summed for out in (dtype, "float64")} | {("float64", dtype)}
    return [source.column_sums(*kind) for kind in sorted(kinds)]


def column_sums(device: Device, address: int, matrix: Matrix, dtype: np.dtype[Any], *out: int) -> None:
    """The sum of each column, 0 of no rows, rounded to `dtype`. Summed in float64.

    matrix: row-major, without gaps between rows; it lies at that address, a multiple of 16 where its rows' bytes are.
    out: addresses of one array of `dtype`, or of two that are to hold the same, a number a column.
    """
    rows, columns, lead, source, transposed, begin = matrix
    assert (transposed, lead, begin) == (False, columns, 0)
    pieces, of_pieces, of_all = _launches(rows, columns, source, dtype, device.properties.multiprocessors)
    if pieces > 1:
        sums = device.memory.empty((pieces, columns), FLOAT64)
        between = device.memory.address(sums)
        device.launch(of_pieces, ColumnSums(address, between, 0, rows, columns, pieces))
        address, rows = between, pieces
    again = out[1] if len(out) > 1 else 0
    device.launch(of_all, ColumnSums(address, out[0], again, rows, columns, 1))


@lru_cache(maxsize=1024)
def _launches(
    rows: int, columns: int, source: np.dtype[Any], out: np.dtype[Any], multiprocessors: int
) -> tuple[int, Launch, Launch]:
    """How many pieces the rows are summed in, the launch for these, and that for the sums of the pieces or of all."""
    groups = -(-columns * source.itemsize // (32 * VECTOR_BYTES))
    pieces = 1
    if rows > ROWS_ALONE:
        wanted = -(-BLOCKS_A_MULTIPROCESSOR * multiprocessors // groups)
        pieces = min(wanted, -(-rows // ROWS_A_PIECE))
    last = FLOAT64 if pieces > 1 else source
    return pieces, _launch(columns, source, FLOAT64, pieces), _launch(columns, last, out, 1)


def _launch(columns: int, dtype: np.dtype[Any], out: np.dtype[Any], pieces: int) -> Launch:
    width = VECTOR_BYTES // dtype.itemsize
    if columns % width:
        width = 1
    return Launch(
        source.column_sums(name_of(dtype), name_of(out)), grid=pieces * -(-columns // (32 * width)), block=THREADS,
        shared=THREADS * width * FLOAT64.itemsize,
    )  # fmt: skip
