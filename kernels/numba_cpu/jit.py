"""Numba's decorators as this backend uses them, and the value that tells the compilation cache which build it is.

Numba keys what it keeps on disk by the file of the function, the argument types and the processor; a change in another
file of this backend, or other tuning numbers, would go unseen. So every function that is kept takes a value whose
*type* carries a digest of it all: `BUILD`, or a cell.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
from numba import types
from numba.core.caching import FunctionCache
from numba.extending import NativeValue, models, register_model, typeof_impl, unbox

from rnn_gpu.kernels.numba_cpu.host import TRAITS

__all__ = ["BUILD", "INSIDE", "EmptyType", "cached_jit", "digest_of", "entry_of", "jit", "kernel"]

Function = TypeVar("Function", bound=Callable[..., Any])

_OPTIONS = {"nogil": True, "_nrt": False}
INSIDE = _OPTIONS | {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
"""Numba's options for functions that only compiled code calls."""


def jit(function: Function) -> Function:
    """Compile when first called, without the interpreter lock. For functions that compiled code calls.

    Python cannot call them: nothing is compiled that takes apart what it would hand over, which would be a fifth of the
    time that all takes to compile. Nor do they count references to arrays, which would take longer than all the rest,
    and they cannot make any: who calls from Python holds the arrays.
    """
    return cast(Function, numba.njit(**INSIDE)(function))


def cached_jit(function: Function) -> Function:
    """The same for functions that Python calls, at the top of a module, kept on disk; they take a build or a cell."""
    return _kept(function, _OPTIONS)


def kernel(function: Function) -> Function:
    """The same for functions that compiled code calls at an address: see `kernel.py`."""
    return _kept(function, INSIDE)


def _kept(function: Function, options: dict[str, bool]) -> Function:
    compiled = numba.njit(**options)(function)
    try:
        compiled._cache = _Cache(function)  # where `cache=True` puts Numba's own
    except RuntimeError as error:  # there is no folder that Numba could keep it in
        if "no locator available" not in str(error):
            raise
    return cast(Function, compiled)


class _Cache(FunctionCache):
    """Numba's cache on disk, less what it does before it looks: it makes known all that compiled code may call.

    That takes two thirds of a process's first call, and imports SciPy where it is installed. The compiler does it too.
    """

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        with self._guard_against_spurious_io_errors():
            return self._load_overload(sig, target_context)


def entry_of(function: Any, kind: Hashable, arguments: tuple[Any, ...]) -> Callable[..., None]:
    """What a cached function is for arguments of these types, compiled if need be; it takes only such.

    Numba's dispatcher asks at every call for the type of each argument, which for many arguments takes longer than a
    short kernel. kind: what tells arguments of other types apart, among those the function is called with.
    """
    key = function, kind
    if key not in _entries:
        _entries[key] = function.compile(tuple(map(numba.typeof, arguments)))
    return _entries[key]


_entries: dict[Any, Callable[..., None]] = {}

_SOURCES = "".join(path.read_text("utf-8") for path in sorted(Path(__file__).parent.glob("*.py")))


@cache
def digest_of(*texts: str) -> str:
    """A digest of the texts, of this backend's source and of the kind of processor it writes for."""
    return hashlib.sha256("\0".join([_SOURCES, TRAITS.kind, *texts]).encode()).hexdigest()[:24]


class EmptyType(types.Opaque):
    """The type of a Python value that compiled code takes and finds nothing in: its type says it all.

    contents: what resolves calls that take the value, while they are compiled. It is no part of the type: types of one
        name are one type, and what is kept on disk of it is its name.
    """

    contents: Any = None

    def __reduce__(self) -> tuple[Any, ...]:
        return EmptyType, (self.name,)


register_model(EmptyType)(models.OpaqueModel)


@unbox(EmptyType)
def _unbox(empty: Any, value: Any, context: Any) -> NativeValue:
    return NativeValue(context.context.get_dummy_value())


class _Build:
    numba_type = EmptyType(f"Build({digest_of()})")


@typeof_impl.register(_Build)
def _type_of(value: _Build, context: Any) -> EmptyType:
    return value.numba_type


BUILD = _Build()
