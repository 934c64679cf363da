"""Filling arrays, by name, from a file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from rnn_gpu.errors import FileFormatError

__all__ = ["assign"]


def assign(to: Mapping[str, NDArray[Any]], values: Mapping[str, NDArray[Any]]) -> None:
    """Copy `values` into the arrays of `to`. Raises FileFormatError unless names, shapes and dtypes are the same."""
    for name, array in to.items():
        if name not in values:
            raise FileFormatError(f"tensor {name!r}: expected one of shape {array.shape}, found none")
        found = values[name]
        if found.shape != array.shape or found.dtype != array.dtype:
            raise FileFormatError(
                f"tensor {name!r}: expected {array.dtype} {array.shape}, found {found.dtype} {found.shape}"
            )
    if extra := sorted(set(values) - set(to)):
        raise FileFormatError(f"tensor {extra[0]!r}: expected none of this name, found one")
    for name, array in to.items():
        array[...] = values[name]
