"""Numba's decorators as this backend uses them, typed: a compiled function is called as it is written."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

__all__ = ["cached_jit", "jit"]

Function = TypeVar("Function", bound=Callable[..., Any])


def jit(function: Function) -> Function:
    """Compile when first called, without the interpreter lock. For functions that compiled code calls."""
    return cast(Function, numba.njit(nogil=True)(function))


def cached_jit(function: Function) -> Function:
    """The same, kept on disk. For functions that Python calls, defined at the top of a module."""
    return cast(Function, numba.njit(nogil=True, cache=True)(function))
