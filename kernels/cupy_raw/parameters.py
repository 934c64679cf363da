"""What kernels are given: one argument each, passed by value, laid out as C++ lays the struct out.

Each compilation compares the size with that here, and each by another compiler than NVRTC, of which not every version
knows offsets, the fields' offsets too (`Record.checks`).
"""

from __future__ import annotations

import ctypes

__all__ = ["ColumnSums", "PackedRows", "Parameters", "Record", "fields"]

_TYPES = {"int": ctypes.c_int, "long long": ctypes.c_longlong, "pointer": ctypes.c_uint64}


def fields(kind: str, *names: str) -> list[tuple[str, type]]:
    """Fields of these names, "int", "long long" or "pointer", for `_fields_`."""
    return [(name, _TYPES[kind]) for name in names]


class Record(ctypes.Structure):
    """A struct of C++ by its fields in their order. Those not given are 0, and null where they are addresses."""

    __slots__ = ()  # so that there are no other attributes

    @classmethod
    def checks(cls, name: str) -> str:
        """Static assertions, in C++, that the struct `name` is laid out like this."""
        lines = [f'static_assert(sizeof({name}) == {ctypes.sizeof(cls)}, "parameters.py");', "#ifndef __CUDACC_RTC__"]
        for field, *_ in cls._fields_:
            offset = getattr(cls, field).offset
            lines.append(f'static_assert(__builtin_offsetof({name}, {field}) == {offset}, "parameters.py");')
        return "\n".join([*lines, "#endif"])


class Parameters(Record):
    """`Parameters` in cuda/parameters.cuh, whose comments say what each is."""

    __slots__ = ()
    _fields_ = (
        *fields("int", "steps", "rows", "hidden", "reverse", "begin", "end", "dy_is_real", "tiles", "parity", "slots"),
        *fields("long long", "rows_begin"),
        *fields("pointer", "U", "b_ih", "b_hh", "vectors", "initial", "resets", "ends", "order", "starts"),
        *fields("pointer", "P", "y", "last", "history", "saved"),
        *fields("pointer", "dy", "d_last", "d_initial", "d_P", "d_R", "operands", "d_vectors"),
        *fields("pointer", "exchange", "counters", "products", "clock"),
    )

    def copy(self) -> Parameters:
        """The same once more."""
        return Parameters.from_buffer_copy(self)


class ColumnSums(Record):
    """`ColumnSums::Arguments` in cuda/column_sums.cuh."""

    __slots__ = ()
    _fields_ = (
        *fields("pointer", "source", "out", "again"),
        *fields("long long", "rows"),
        *fields("int", "columns", "pieces"),
    )


class PackedRows(Record):
    """`PackedRows::Arguments` in cuda/packed_rows.cuh."""

    __slots__ = ()
    _fields_ = (
        *fields("pointer", "source", "out", "starts", "order"),
        *fields("int", "steps", "rows", "columns"),
    )
