"""Device functions of a cell, compiled once for each cell, working type, direction and number of rows a thread owns."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from types import SimpleNamespace
from typing import Any

import numpy as np

from rnn_gpu.compiler import emit_python
from rnn_gpu.compiler.cell import Cell
from rnn_gpu.kernels.numba_cuda import emit_segments, mathematics
from rnn_gpu.kernels.numba_cuda.emit_segments import Segments
from rnn_gpu.kernels.numba_cuda.jit import INDEX, device, executed

__all__ = ["CompiledCell", "compiled", "compiled_operands", "segments_of"]


@dataclass(frozen=True, eq=False)
class CompiledCell:
    """What a sequence kernel closes over: the segments' device functions, the working type, rows a thread owns."""

    segments: Segments
    functions: SimpleNamespace
    dtype: np.dtype[Any]
    rows: int


@lru_cache(maxsize=256)
def segments_of(cell: Cell, direction: str, rows: int = 1) -> Segments:
    """The text of a cell's segments. direction: "forward" or "backward"."""
    write = emit_segments.forward if direction == "forward" else emit_segments.backward
    return write(cell.program, rows)


@lru_cache(maxsize=256)
def compiled(cell: Cell, real: np.dtype[Any], direction: str, rows: int) -> CompiledCell:
    """The cell's segments in one direction, for threads that own `rows` rows each."""
    segments = segments_of(cell, direction, rows)
    text = segments.text + "\n\n" + emit_segments.row_ends(rows)
    functions = executed(text, f"{cell.name} {direction} {rows}", _namespace(cell, real))
    return CompiledCell(segments, SimpleNamespace(**functions), real, rows)


@lru_cache(maxsize=256)
def compiled_operands(cell: Cell, real: np.dtype[Any]) -> Any:
    """The device function `operands(a, s, t, row, unit)`."""
    return executed(emit_segments.operands(cell.program), f"{cell.name} operands", _namespace(cell, real))["operands"]


@lru_cache(maxsize=256)
def _namespace(cell: Cell, real: np.dtype[Any]) -> dict[str, Any]:
    functions = emit_python.compiled(cell.program, real.type, mathematics.functions(real))
    return {"real": real.type, "zero": real.type(0), "index": INDEX} | {
        key: device(value) for key, value in functions.items()
    }
