"""What the conversions share: reading foreign arrays, checking their shapes, and putting gate blocks in order.

Each framework's module holds one table, `ORDERS`: the cells it has, and the order in which it lays out the blocks of
each, told by this package's gate names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rnn_gpu.arrays import DTYPES, library_of
from rnn_gpu.compiler.cell import Cell
from rnn_gpu.errors import ArgumentError, ArgumentTypeError
from rnn_gpu.weights.core import Weights

__all__ = ["Orders", "Parts", "gate_order", "numpy_array", "read", "read_weights", "reorder"]

Orders = Mapping[Cell, tuple[str, ...]]
"""For each cell that a framework has, the order in which the framework lays out its blocks."""


class Parts(NamedTuple):
    """One layer's parameters as NumPy arrays: as `Weights`, with both biases (b_ih, b_hh) or neither."""

    w_ih: NDArray[Any]
    w_hh: NDArray[Any]
    biases: tuple[NDArray[Any], NDArray[Any]] | None
    vectors: Mapping[str, NDArray[Any]]


def gate_order(cell: Cell, orders: Orders, framework: str) -> tuple[str, ...]:
    """Return the order of `framework`'s gate blocks for `cell`.

    Raises ArgumentTypeError if `cell` is no cell, ArgumentError, naming the cells that the framework has, if it is
    none of them. A user's own cell is none, whatever its name: its equations may be others.
    """
    if not isinstance(cell, Cell):
        raise ArgumentTypeError("cell", "a cell, such as rnn_gpu.cells.lstm", repr(cell))
    if cell not in orders:
        names = ", ".join(known.name for known in orders)
        raise ArgumentError("cell", f"one of rnn_gpu.cells that {framework} has ({names})", repr(cell))
    return orders[cell]


def numpy_array(argument: str, array: Any) -> NDArray[Any]:
    """Return `array` as a NumPy array of floats, without a copy where there need be none.

    Takes NumPy arrays, torch tensors of any device, and whatever offers `__array__` or DLPack on the CPU.
    Raises ArgumentTypeError for anything else.
    """
    try:
        if hasattr(array, "detach"):  # a torch tensor; NumPy takes neither one of bfloat16 nor one on a GPU
            array = array.detach().cpu()
            array = library_of(argument, array).view(array)
        by_dlpack = hasattr(array, "__dlpack__") and not hasattr(array, "__array__")
        found = np.from_dlpack(array) if by_dlpack else np.asarray(array)
    except (TypeError, ValueError, RuntimeError, BufferError) as error:
        got = f"{type(array).__name__} ({error})"
        raise ArgumentTypeError(argument, "an array that NumPy can read", got) from error
    if found.dtype.name not in DTYPES:
        got = type(array).__name__ if found.dtype == object else f"dtype {found.dtype}"
        raise ArgumentTypeError(argument, f"an array of {', '.join(DTYPES)}", got)
    return found


def read(argument: str, array: Any, axes: str, sizes: dict[str, int]) -> NDArray[Any]:
    """Return `array` as a NumPy array of the shape written in `axes`, such as "G*H I".

    The first array that has an axis of one letter only fixes that letter's size in `sizes`.
    Raises ArgumentTypeError if it is no array of floats, ArgumentError if it has another shape.
    """
    found = numpy_array(argument, array)
    names = axes.split()
    if found.ndim == len(names):
        for name, size in zip(names, found.shape, strict=True):
            if name.isalpha():
                sizes.setdefault(name, size)
    expected = [_size(name, sizes) for name in names]
    if list(found.shape) != expected:
        known = ", ".join(f"{letter}={size}" for letter, size in sizes.items())
        raise ArgumentError(argument, f"shape ({', '.join(names)}) with {known}", f"shape {found.shape}")
    return found


def _size(name: str, sizes: Mapping[str, int]) -> int:
    """Return the size of an axis written "G*H"; -1, which no array has, while a letter is not known."""
    factors = [int(factor) if factor.isdigit() else sizes.get(factor, -1) for factor in name.split("*")]
    return -1 if -1 in factors else prod(factors)


def read_weights(cell: Cell, weights: Weights) -> Parts:
    """Return `weights` as NumPy arrays of checked shapes. A bias without the other is joined by zeros.

    For cells whose every gate has both products. Raises ArgumentTypeError and ArgumentError as `read` does.
    """
    if not isinstance(weights, Weights):
        raise ArgumentTypeError("weights", "Weights", type(weights).__name__)
    sizes = {"G": len(cell.gates)}
    w_hh = read("weights.w_hh", weights.w_hh, "G*H H", sizes)
    w_ih = read("weights.w_ih", weights.w_ih, "G*H I", sizes)
    vectors = {name: read(f"weights.vectors[{name!r}]", weights.vectors.get(name), "H", sizes) for name in cell.vectors}
    if weights.b_ih is None and weights.b_hh is None:
        return Parts(w_ih, w_hh, None, vectors)

    def bias(argument: str, array: Any) -> NDArray[Any]:
        return np.zeros(len(w_hh), w_hh.dtype) if array is None else read(argument, array, "G*H", sizes)

    return Parts(w_ih, w_hh, (bias("weights.b_ih", weights.b_ih), bias("weights.b_hh", weights.b_hh)), vectors)


def reorder(array: NDArray[Any], have: Sequence[str], want: Sequence[str], axis: int = 0) -> NDArray[Any]:
    """Return a new C-contiguous array with the gate blocks along `axis`, which lie as in `have`, laid as in `want`."""
    blocks = dict(zip(have, np.split(array, len(have), axis), strict=True))
    return np.ascontiguousarray(np.concatenate([blocks[gate] for gate in want], axis))
