"""What kernels are given: one argument each, passed by value, packed as C++ lays the struct out.

Each compilation compares the size with that here, and each by another compiler than NVRTC, of which not every version
knows offsets, the fields' offsets too (`Record.checks`).
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from operator import itemgetter

__all__ = ["COLUMN_SUMS", "PARAMETERS", "Record"]

_INT, _LONG, _POINTER = "i", "q", "Q"
"""In native size and alignment."""


class Record:
    """A struct of C++: the fields in their order, each with its type as module `struct` names it."""

    def __init__(self, fields: Mapping[str, str]) -> None:
        self._fields = dict(fields)
        self._struct = struct.Struct("".join(fields.values()) + "0Q")  # its size is a multiple of the widest type's
        self._zeros, self._in_order = dict.fromkeys(fields, 0), itemgetter(*fields)

    def pack(self, values: Mapping[str, int]) -> bytes:
        """The struct with these fields; those not given are 0, and null where they are addresses."""
        given = {**self._zeros, **values}
        assert len(given) == len(self._fields), given.keys() - self._fields.keys()
        return self._struct.pack(*self._in_order(given))

    def checks(self, name: str) -> str:
        """Static assertions, in C++, that the struct `name` is laid out like this."""
        lines = [f'static_assert(sizeof({name}) == {self._struct.size}, "parameters.py");', "#ifndef __CUDACC_RTC__"]
        before = ""
        for field, kind in self._fields.items():
            offset = struct.calcsize(f"{before}0{kind}")
            lines.append(f'static_assert(__builtin_offsetof({name}, {field}) == {offset}, "parameters.py");')
            before += kind
        return "\n".join([*lines, "#endif"])


PARAMETERS = Record(
    {
        **dict.fromkeys(("steps", "rows", "hidden", "reverse", "begin", "end", "dy_is_real", "tiles", "parity"), _INT),
        "rows_begin": _LONG,
        **dict.fromkeys(("U", "b_ih", "b_hh", "vectors", "initial", "resets", "ends", "order", "starts"), _POINTER),
        **dict.fromkeys(("P", "y", "last", "history", "saved"), _POINTER),
        **dict.fromkeys(("dy", "d_last", "d_initial", "d_P", "d_R", "operands", "d_vectors"), _POINTER),
        **dict.fromkeys(("exchange", "counters", "products", "clock"), _POINTER),
    }
)
"""`Parameters` in cuda/parameters.cuh, whose comments say what each is."""

COLUMN_SUMS = Record(
    {**dict.fromkeys(("source", "out", "again"), _POINTER), "rows": _LONG, **dict.fromkeys(("columns", "pieces"), _INT)}
)
"""`ColumnSums::Arguments` in cuda/column_sums.cuh."""
