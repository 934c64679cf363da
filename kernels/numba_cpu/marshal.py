"""A kernel's many arguments as one array of integers: addresses, sizes and numbers.

A function of fifty arrays and numbers takes Numba long to compile, and each cell has its own kernels. So what Python
calls is compiled once, and writes its arguments down; what a cell's kernel takes is where they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np
from llvmlite import ir
from numba import typeof, types
from numba.core import cgutils
from numba.extending import intrinsic

from rnn_gpu.kernels.numba_cpu.failure import OK, failure_of
from rnn_gpu.kernels.numba_cpu.simd import array_at

__all__ = [
    "FIVE",
    "ROOM",
    "Later",
    "address",
    "c_function",
    "places",
    "reader",
    "write",
    "written",
    "written_function",
]

ROOM = 128
"""Integers that a kernel's arguments take at most."""

_INTEGER = ir.IntType(64)


@intrinsic
def address(typing: Any, array: Any) -> Any:
    """Where an array's elements lie."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.ptrtoint(cgutils.create_struct_proxy(array)(context, builder, values[0]).data, _INTEGER)

    return types.int64(array), generate


@intrinsic
def write(typing: Any, to: Any, arguments: Any) -> Any:
    """Write a tuple of arrays, numbers, flags and tuples of arrays down."""

    def integers(context: Any, builder: Any, kind: Any, value: Any) -> list[Any]:
        if isinstance(kind, types.BaseTuple):
            parts = zip(kind.types, cgutils.unpack_tuple(builder, value), strict=True)
            return [number for part in parts for number in integers(context, builder, *part)]
        if isinstance(kind, types.Array):
            array = cgutils.create_struct_proxy(kind)(context, builder, value)
            return [builder.ptrtoint(array.data, _INTEGER), *cgutils.unpack_tuple(builder, array.shape)]
        return [context.cast(builder, value, kind, types.int64)]

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        data = cgutils.create_struct_proxy(to)(context, builder, values[0]).data
        numbers = integers(context, builder, arguments, values[1])
        if len(numbers) > ROOM:
            raise ValueError(f"{len(numbers)} numbers are more than {ROOM}")
        for place, number in enumerate(numbers):
            builder.store(number, builder.gep(data, [ir.Constant(_INTEGER, place)]))
        return context.get_dummy_value()

    return types.void(to, arguments), generate


def reader(kinds: str) -> Any:
    """Return compiled `read(numbers, real)`: what was written at an address, a tuple with a part for each of `kinds`.

    a: an array of `real`; t: five of these; n: an array of int64, N: one of two axes; w: one of float64; b: one of
    bool; i: an int64; ?: a bool.
    """

    @intrinsic
    def read(typing: Any, numbers: Any, real: Any) -> Any:
        like = _array(real.dtype)
        arrays = {"a": like, "n": _array(types.int64), "N": types.Array(types.int64, 2, "C")}
        arrays |= {"w": _array(types.float64), "b": _array(types.boolean)}
        plain = {"i": types.int64, "?": types.boolean, "t": types.UniTuple(like, FIVE)}
        parts = types.Tuple([(arrays | plain)[letter] for letter in kinds])

        def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            data = builder.inttoptr(values[0], _INTEGER.as_pointer())
            places = iter(range(ROOM))

            def number() -> Any:
                return builder.load(builder.gep(data, [ir.Constant(_INTEGER, next(places))]))

            def value(kind: Any) -> Any:
                if isinstance(kind, types.BaseTuple):
                    return context.make_tuple(builder, kind, [value(part) for part in kind.types])
                if not isinstance(kind, types.Array):
                    return context.cast(builder, number(), types.int64, kind)
                at = builder.inttoptr(number(), context.get_data_type(kind.dtype).as_pointer())
                return array_at(context, builder, kind, at, *(number() for _ in range(kind.ndim)))

            return context.make_tuple(builder, parts, [value(kind) for kind in parts.types])

        return parts(numbers, real), generate

    return read


def places(kinds: Mapping[str, str]) -> dict[str, int]:
    """Where each part begins among the integers; kinds: by name, as `reader` has them."""
    sizes = {"t": 2 * FIVE, "N": 3, "i": 1, "?": 1}
    begins = accumulate((sizes.get(kind, 2) for kind in kinds.values()), initial=0)
    return dict(zip(kinds, begins, strict=False))


@dataclass(frozen=True)
class Later:
    """An array of so many elements whose address is yet to be written."""

    size: int


def written(parts: Iterable[Any]) -> list[int]:
    """What `write` writes of arrays, numbers, flags and tuples of arrays, as a list."""
    numbers: list[int] = []
    for part in parts:
        if isinstance(part, int):
            numbers.append(part)
        elif isinstance(part, Later):
            numbers += (0, part.size)
        elif isinstance(part, np.ndarray):
            numbers += (part.__array_interface__["data"][0], *part.shape)
        elif isinstance(part, tuple):
            numbers += written(part)
        else:
            numbers.append(int(part))
    return numbers


FIVE = 5
"""Arrays in a tuple of arrays, such as the weights, raw and packed."""


def c_function(
    context: Any, builder: Any, function: Any, parameters: Any, plain: Any, arguments: Callable[[Any, Any], list[Any]]
) -> Any:
    """The address of a new C function that calls a jitted one for `parameters`; it returns what `failure.py` says.

    plain: LLVM types of what it takes; arguments: makes the jitted function's arguments of these, inside it.
    """
    compiled = function.get_compile_result(typeof(function).get_call_type(context.typing_context, parameters, {}))
    context.active_code_library.add_linking_library(compiled.library)
    description = compiled.fndesc
    made, inside = _new_function(builder, description.mangled_name, plain)
    callee = context.declare_function(builder.module, description)
    status, _ = context.call_conv.call_function(
        inside, callee, description.restype, description.argtypes, arguments(inside, made.args), attrs=("alwaysinline",)
    )
    inside.ret(failure_of(inside, status))
    return builder.ptrtoint(made, _INTEGER)


def written_function(builder: Any, name: str, plain: Any, write: Callable[..., None]) -> Any:
    """The address of a new C function whose code `write(builder, *arguments)` writes. It never fails."""
    made, inside = _new_function(builder, name, plain)
    write(inside, *made.args)
    inside.ret(ir.Constant(_INTEGER, OK))
    return builder.ptrtoint(made, _INTEGER)


def _new_function(builder: Any, name: str, plain: Any) -> tuple[Any, Any]:
    """A C function that is yet to be written, and what writes it."""
    made = ir.Function(builder.module, ir.FunctionType(_INTEGER, plain), name=f"c_{name}")
    made.linkage = "internal"
    return made, ir.IRBuilder(made.append_basic_block("entry"))


def _array(dtype: Any) -> Any:
    return types.Array(dtype, 1, "C")
