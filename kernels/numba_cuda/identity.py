"""What a kernel is, whoever made it: a digest of its code and of all that it refers to.

Kernels are made for a cell, a working type, sizes; most of what they call was emitted as text. What any of them is
compiled from shows in Python's own code of it: its instructions, its constants, the values that it closes over, and the
globals that it names, functions among them in the same way. Nobody has to say again what a kernel depends on.

Of a module or a class it names only which it is; so only those may be there whose contents are known by the versions of
Python, NumPy and numba-cuda.
"""

from __future__ import annotations

import dis
import hashlib
from collections.abc import Callable, Iterator
from types import BuiltinFunctionType, CodeType, FunctionType, ModuleType
from typing import Any

import numpy as np
from numba import types
from numba.cuda.dispatcher import CUDADispatcher

__all__ = ["digest_of"]


def digest_of(function: Callable[..., Any]) -> str:
    """A digest of the function and of what it refers to. Raises TypeError for values that it cannot tell apart."""
    return hashlib.sha256("\n".join(_of_function(function, {})).encode()).hexdigest()


def _of_function(function: Any, numbers: dict[Any, int]) -> Iterator[str]:
    """numbers: of the functions told before, which are not told twice."""
    if function in numbers:
        yield f"function {numbers[function]}"
        return
    numbers[function] = len(numbers)
    code = function.__code__
    yield from _of_code(code)
    yield from _of_value("defaults", function.__defaults__, numbers)
    for name, value in sorted((function.__kwdefaults__ or {}).items()):
        yield from _of_value(name, value, numbers)
    for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
        yield from _of_value(name, cell.cell_contents, numbers)
    for name in sorted(_globals_of(code) & function.__globals__.keys()):  # the others are Python's own
        yield from _of_value(name, function.__globals__[name], numbers)


def _of_code(code: CodeType) -> Iterator[str]:
    yield f"code {code.co_code.hex()} {code.co_argcount} {code.co_varnames} {code.co_names} {code.co_freevars}"
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _of_code(constant)
        elif isinstance(constant, frozenset):
            yield f"frozenset {sorted(map(repr, constant))}"
        else:
            yield f"{type(constant).__name__} {constant!r}"


def _globals_of(code: CodeType) -> set[str]:
    found = {each.argval for each in dis.get_instructions(code) if each.opname in ("LOAD_GLOBAL", "LOAD_NAME")}
    return found.union(*(_globals_of(constant) for constant in code.co_consts if isinstance(constant, CodeType)))


def _of_value(name: str, value: Any, numbers: dict[Any, int]) -> Iterator[str]:
    kind = type(value)
    if isinstance(value, CUDADispatcher):
        yield f"{name} device {sorted(value.targetoptions.items())!r}"
        yield from _of_function(value.py_func, numbers)
    elif isinstance(value, FunctionType):
        yield f"{name} function"
        yield from _of_function(value, numbers)
    elif isinstance(value, tuple):
        yield f"{name} {kind.__module__}.{kind.__qualname__} {getattr(value, '_fields', '')} of {len(value)}"
        for item in value:
            yield from _of_value(name, item, numbers)
    elif value is None or kind in (bool, int, float, str):
        yield f"{name} {kind.__name__} {value!r}"
    elif isinstance(value, (np.generic, np.dtype, types.Type)):
        yield f"{name} {kind.__module__}.{kind.__name__} {value}"
    elif isinstance(value, ModuleType) and value.__name__.partition(".")[0] in _KNOWN:
        yield f"{name} module {value.__name__}"
    elif isinstance(value, (type, BuiltinFunctionType, np.ufunc)) and _module_of(value) in _KNOWN:
        yield f"{name} {_module_of(value)} {value.__name__}"
    else:
        raise TypeError(f"{name}: a kernel refers to {value!r}, and nothing here tells {kind.__name__} values apart")


_KNOWN = ("builtins", "math", "numba", "numpy")
"""Packages whose modules and classes are what they are called, whoever looks."""


def _module_of(value: Any) -> str:
    return str(getattr(value, "__module__", None) or "numpy").partition(".")[0]  # NumPy's functions do not say
