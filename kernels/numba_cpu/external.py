"""Functions that are compiled once for each working type, and that all kernels call by name.

What a compiled function calls is otherwise linked into it and compiled anew: products and packing, the same for every
cell, would take most of the time that a new cell's first call takes.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numba
import numpy as np
from llvmlite import binding, ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from rnn_gpu.kernels.numba_cpu.jit import digest_of, kept_where_possible
from rnn_gpu.kernels.numba_cpu.simd import array_at

__all__ = ["Kind", "array_of", "external", "provide"]

Kind = str
"""A function's parameters, a letter each: a, an array of the working type; n, one of int64; i, an int64."""

_made: list[tuple[str, Kind, bool, Callable[[str], Callable[..., None]]]] = []


def external(name: str, kind: Kind, backward: bool = False) -> Callable[[Callable[[str], Callable[..., None]]], Any]:
    """Decorate what makes a function of pointers and integers; return the function of arrays that compiled code calls.

    backward: whether only kernels that run back call it.
    What makes it gets a digest of this backend, and has the function close over it: so what is kept on disk under
    another digest is not mistaken for it.
    """

    def decorate(make: Callable[[str], Callable[..., None]]) -> Any:
        _made.append((name, kind, backward, make))

        def call(typing: Any, *arguments: Any) -> Any:
            scalar = next(a.dtype for a, letter in zip(arguments, kind, strict=True) if letter == "a")
            taken = [types.int64 if letter == "i" else a for a, letter in zip(arguments, kind, strict=True)]

            def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
                passed = [
                    value if letter == "i" else cgutils.create_struct_proxy(a)(context, builder, value).data
                    for value, letter, a in zip(values, kind, signature.args, strict=True)
                ]
                called = ir.FunctionType(ir.VoidType(), [value.type for value in passed])
                builder.call(cgutils.get_or_insert_function(builder.module, called, _symbol(name, scalar)), passed)
                return context.get_dummy_value()

            return types.void(*taken), generate

        names = ", ".join(f"argument_{k}" for k in range(len(kind)))
        namespace: dict[str, Any] = {"call": call}
        exec(f"def {name}(typing, {names}): return call(typing, {names})", namespace)  # Numba wants each by its name
        return intrinsic(namespace[name])

    return decorate


@cache
def provide(real: np.dtype[Any], backward: bool) -> None:
    """Make the functions for a working type known by their names: kernels may then run, compiled now or before.

    backward: those that only kernels that run back call; else the others.
    """
    scalar = numba.from_dtype(real)
    pointers = {"a": types.CPointer(scalar), "n": types.CPointer(types.int64), "i": types.int64}
    for name, kind, _, make in (made for made in _made if made[2] == backward):
        signature = types.void(*(pointers[letter] for letter in kind))
        compiled = kept_where_possible(numba.cfunc, signature, _nrt=False)(make(digest_of()))
        _kept.append(compiled)
        binding.add_symbol(_symbol(name, scalar), compiled.address)


_kept: list[Any] = []
"""Compiled functions live as long as what refers to them."""


def _symbol(name: str, scalar: Any) -> str:
    return f"rnn_gpu_{name}_{scalar}_{digest_of()}"


@intrinsic
def array_of(typing: Any, pointer: Any) -> Any:
    """What lies at a pointer as an array, whose size nobody asks for."""
    array = types.Array(pointer.dtype, 1, "C")

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return array_at(context, builder, array, arguments[0], ir.Constant(ir.IntType(64), 0))

    return array(pointer), generate
