"""Functions that are compiled once for each working type, and that all kernels call by name.

What a compiled function calls is otherwise linked into it and compiled anew: products and packing, the same for every
cell, would take most of the time that a new cell's first call takes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numba
import numpy as np
from llvmlite import binding, ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, typeof_impl

from rnn_gpu.kernels.numba_cpu.failure import raise_failure
from rnn_gpu.kernels.numba_cpu.jit import EmptyType, cached_jit, digest_of, jit
from rnn_gpu.kernels.numba_cpu.marshal import c_function, written_function
from rnn_gpu.kernels.numba_cpu.simd import array_at

__all__ = ["Kind", "emitted", "external", "provide"]

Kind = str
"""A function's parameters, a letter each: a, an array of the working type; n, one of int64; w, one of float64; i, an
int64."""

_made: list[_External] = []


class _External(ABC):
    """A function to be compiled, as a value that compiled code takes: its type says it all.

    backward: whether only kernels that run back call it.
    """

    def __init__(self, named: Callable[..., None], kind: Kind, backward: bool) -> None:
        self.name, self.kind, self.backward = named.__name__, kind, backward
        self.numba_type = EmptyType(f"External({self.name}, {digest_of()})")
        self.numba_type.contents = self

    def symbol(self, scalar: Any) -> str:
        """The name by which the function for a working type is called."""
        return f"rnn_gpu_{self.name}_{scalar}_{digest_of()}"

    @abstractmethod
    def resolve(self, typing: Any, parameters: Sequence[Any]) -> None:
        """Have Numba compile what the function needs."""

    @abstractmethod
    def address(self, context: Any, builder: Any, parameters: Sequence[Any], plain: Sequence[Any]) -> Any:
        """The address of a C function of such LLVM types, `plain`, which stand for Numba's, `parameters`."""


class _Jitted(_External):
    """One that Numba compiles."""

    def __init__(self, function: Callable[..., None], kind: Kind, backward: bool) -> None:
        super().__init__(function, kind, backward)
        self._function = jit(function)

    def resolve(self, typing: Any, parameters: Sequence[Any]) -> None:
        numba.typeof(self._function).get_call_type(typing, tuple(parameters), {})

    def address(self, context: Any, builder: Any, parameters: Sequence[Any], plain: Sequence[Any]) -> Any:
        def arguments(inside: Any, given: Any) -> list[Any]:
            none = ir.Constant(ir.IntType(64), 0)
            return [
                value if kind is types.int64 else array_at(context, inside, kind, value, none)
                for kind, value in zip(parameters, given, strict=True)
            ]

        return c_function(context, builder, self._function, parameters, plain, arguments)


class _Emitted(_External):
    """One whose code `write(builder, *arguments)` writes."""

    def __init__(self, write: Callable[..., None], kind: Kind) -> None:
        super().__init__(write, kind, backward=False)
        self._write = write

    def resolve(self, typing: Any, parameters: Sequence[Any]) -> None:
        """Nothing: its code calls none."""

    def address(self, context: Any, builder: Any, parameters: Sequence[Any], plain: Sequence[Any]) -> Any:
        return written_function(builder, self.name, plain, self._write)


@typeof_impl.register(_External)
def _type_of(value: _External, context: Any) -> EmptyType:
    return value.numba_type


def external(kind: Kind, backward: bool = False) -> Callable[[Callable[..., None]], Any]:
    """Decorate a function of flat arrays, whose size it does not ask for, and integers; compiled code calls it by name.

    backward: whether only kernels that run back call it.
    """
    return lambda function: _called(_Jitted(function, kind, backward))


def emitted(kind: Kind) -> Callable[[Callable[..., None]], Any]:
    """Decorate a function that writes the code of such a one, given an LLVM builder and the arguments.

    Arrays are pointers to it.
    It is for what is called often: an array of Numba's has seven fields, which are handed on at every call.
    """
    return lambda write: _called(_Emitted(write, kind))


def _called(made: _External) -> Any:
    """The function for compiled code to call."""
    kind = made.kind
    _made.append(made)

    def call(typing: Any, *arguments: Any) -> Any:
        scalar = next(a.dtype for a, letter in zip(arguments, kind, strict=True) if letter == "a")
        taken = [types.int64 if letter == "i" else a for a, letter in zip(arguments, kind, strict=True)]

        def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            passed = [
                value if letter == "i" else cgutils.create_struct_proxy(a)(context, builder, value).data
                for value, letter, a in zip(values, kind, signature.args, strict=True)
            ]
            called = ir.FunctionType(ir.IntType(64), [value.type for value in passed])
            symbol = cgutils.get_or_insert_function(builder.module, called, made.symbol(scalar))
            raise_failure(context, builder, builder.call(symbol, passed))
            return context.get_dummy_value()

        return types.void(*taken), generate

    names = ", ".join(f"argument_{k}" for k in range(len(kind)))
    namespace: dict[str, Any] = {"call": call}
    exec(f"def {made.name}(typing, {names}): return call(typing, {names})", namespace)  # Numba wants each by its name
    return intrinsic(namespace[made.name])


@cache
def provide(real: np.dtype[Any], backward: bool) -> None:
    """Make the functions for a working type known by their names: kernels may then run, compiled now or before.

    backward: those that only kernels that run back call; else the others.
    """
    scalar, like = numba.from_dtype(real), np.empty(0, real)
    for made in _made:
        if made.backward == backward:
            binding.add_symbol(made.symbol(scalar), address_of_external(made, like))


@intrinsic
def _address(typing: Any, external: Any, like: Any) -> Any:
    """Where the C function of an external function is."""
    made = external.contents
    arrays = {"a": like.dtype, "n": types.int64, "w": types.float64}
    kinds = {letter: types.Array(dtype, 1, "C") for letter, dtype in arrays.items()} | {"i": types.int64}
    parameters = [kinds[letter] for letter in made.kind]

    made.resolve(typing, parameters)

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        plain = [
            context.get_data_type(kind.dtype).as_pointer() if kind is not types.int64 else ir.IntType(64)
            for kind in parameters
        ]
        return made.address(context, builder, parameters, plain)

    return types.int64(external, like), generate


@cached_jit
def address_of_external(external: Any, like: Any) -> int:
    """Where the C function of an external function is, for arrays of the type of `like`."""
    where: int = _address(external, like)
    return where
