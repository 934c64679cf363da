"""The kernels' one argument: the fields of `Parameters` in cuda/parameters.cuh, whose comments say what each is.

Each compilation compares the size with that here, and each by another compiler than NVRTC, of which not every version
knows offsets, the fields' offsets too (`checks`).
"""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["DTYPE", "checks", "parameters"]

_INT, _LONG, _POINTER = np.dtype(np.int32), np.dtype(np.int64), np.dtype(np.uint64)

_FIELDS: dict[str, np.dtype[Any]] = {
    **dict.fromkeys(("steps", "rows", "hidden", "reverse", "begin", "end", "dy_is_real", "tiles", "parity"), _INT),
    "rows_begin": _LONG,
    **dict.fromkeys(("U", "b_ih", "b_hh", "vectors", "initial", "resets", "ends", "order", "starts"), _POINTER),
    **dict.fromkeys(("P", "y", "last", "history", "saved"), _POINTER),
    **dict.fromkeys(("dy", "d_last", "d_initial", "d_P", "d_R", "operands", "d_vectors"), _POINTER),
    **dict.fromkeys(("exchange", "counters", "products", "clock"), _POINTER),
}

DTYPE = np.dtype(list(_FIELDS.items()), align=True)
"""As C++ lays the struct out."""


def parameters(fields: dict[str, int]) -> np.void:
    """The argument with these fields; those not given are 0, and null where they are addresses."""
    record = np.zeros((), DTYPE)
    for name, value in fields.items():
        record[name] = value
    return np.void(record, dtype=DTYPE)


def checks(struct: str) -> str:
    """Static assertions, in C++, that `struct` is laid out as `DTYPE`."""
    assert DTYPE.fields is not None
    lines = [f'static_assert(sizeof({struct}) == {DTYPE.itemsize}, "parameters.py");']
    lines.append("#ifndef __CUDACC_RTC__")
    for name, (_, offset, *_) in DTYPE.fields.items():
        lines.append(f'static_assert(__builtin_offsetof({struct}, {name}) == {offset}, "parameters.py");')
    return "\n".join([*lines, "#endif"])
