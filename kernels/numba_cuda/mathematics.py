"""The functions that emitted cells call, a number at a time, in float32 or float64.

exp, log, sqrt, sin, cos and tanh are CUDA's; the others are built on them so that nothing overflows on the way.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np

from rnn_gpu.kernels.numba_cuda.jit import SIMULATED, device

__all__ = ["functions"]

_LIBRARY = np if SIMULATED else math
"""Python's math raises errors where IEEE 754 has inf or NaN, which NumPy's functions of the same names give."""


@cache
def _quotient(dtype: np.dtype[Any]) -> Any:
    """a / b for b between 1 and 2 and a up to 1.

    A division in float32 branches where an operand is subnormal or huge, and a cell's sigmoids would wait for one
    another; here the rounding error of a quick reciprocal is mended, to one unit in the last place.
    """
    if SIMULATED or dtype != np.float32:
        return device(lambda a, b: a / b)

    from numba.cuda import libdevice  # noqa: PLC0415  (the simulator has none)

    one = np.float32(1)

    def quotient(a: Any, b: Any) -> Any:
        reciprocal = libdevice.fast_fdividef(one, b)
        q = a * reciprocal
        return libdevice.fmaf(libdevice.fmaf(-b, q, a), reciprocal, q)

    return device(quotient)


@cache
def functions(dtype: np.dtype[Any]) -> dict[str, Any]:
    """The functions by the names that emitted text calls them. dtype: the working type, float32 or float64."""
    real = dtype.type
    exp, log, sqrt, tanh = _LIBRARY.exp, _LIBRARY.log, _LIBRARY.sqrt, _LIBRARY.tanh
    sin, cos, absolute = _LIBRARY.sin, _LIBRARY.cos, abs

    quotient = _quotient(dtype)

    def sigmoid(x: Any) -> Any:
        e = exp(-absolute(x))
        return quotient(real(1) if x >= real(0) else e, real(1) + e)

    def softplus(x: Any) -> Any:
        e = exp(-absolute(x))
        u = real(1) + e  # log(1 + e) = log(u) e / (u - 1): the rounding of u cancels
        exact = u - real(1)
        log1p = log(u) * (e / exact) if exact > real(0) else e
        return (real(0) if x <= real(0) else x) + log1p

    def relu(x: Any) -> Any:
        return real(0) if x <= real(0) else x  # NaN is not <= 0, and stays

    def sign(x: Any) -> Any:
        return real(1) if x > real(0) else (real(-1) if x < real(0) else x)

    def maximum(a: Any, b: Any) -> Any:
        return a if a >= b or a != a else b  # noqa: PLR0124  (NaN is not itself)

    def minimum(a: Any, b: Any) -> Any:
        return a if a <= b or a != a else b  # noqa: PLR0124

    def where(condition: Any, a: Any, b: Any) -> Any:
        return a if condition else b

    made = (sigmoid, softplus, relu, sign, maximum, minimum, where)
    library = {"exp": exp, "log": log, "sqrt": sqrt, "sin": sin, "cos": cos, "tanh": tanh, "abs": absolute}
    return {function.__name__: device(function) for function in made} | library
