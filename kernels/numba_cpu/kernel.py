"""Kernels: what each member of a team runs for a cell, called by compiled code at an address.

A kernel is `kernel(cell, real, numbers, member)`. Of the first two arguments there is nothing but their types, so that
kernels of all cells are called in one way. numbers: where its arguments lie, as `marshal.write` writes them.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numba import types
from numba.extending import intrinsic

from rnn_gpu.kernels.numba_cpu.failure import failure_of
from rnn_gpu.kernels.numba_cpu.jit import EmptyType

__all__ = ["address_of", "call"]


def address_of(kernel: Any, cell: Any, real: np.dtype[Any]) -> int:
    """Where the code of a kernel, a function of `jit.kernel`, is for a cell and a working type, compiled if need be."""
    taken = _taken(numba.typeof(cell), numba.typeof(real))
    kernel.compile(taken)
    compiled = kernel.overloads[taken]
    where: int = compiled.library.get_pointer_to_function(compiled.fndesc.llvm_func_name)
    if not where:
        raise RuntimeError(f"Numba has no code of {compiled.fndesc.llvm_func_name}")
    return where


def _taken(cell: Any, real: Any) -> tuple[Any, ...]:
    return cell, real, types.int64, types.int64


@intrinsic
def call(typing: Any, where: Any, numbers: Any, member: Any) -> Any:
    """Call the kernel at an address; return what `failure.py` says."""
    taken = _taken(EmptyType("any cell"), types.DType(types.float64))

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        kernel = builder.inttoptr(values[0], context.call_conv.get_function_type(types.void, taken).as_pointer())
        empty = [context.get_dummy_value(), context.get_dummy_value()]
        status, _ = context.call_conv.call_function(builder, kernel, types.void, taken, [*empty, *values[1:]])
        return failure_of(builder, status)

    return types.int64(types.int64, types.int64, types.int64), generate
