"""The functions that emitted cells call, on vectors: branch-free arithmetic, at most 4 units in the last place off.

The exponential is 2^n (1 + r + r^2 p(r)) with n = round(x / ln 2), r = x - n ln 2, p a polynomial; tanh is built on
exp(x) - 1 from the same parts, so that small arguments lose nothing. Cody & Waite, Software Manual for the Elementary
Functions (1980), chapters 6 and 13. The coefficients of p are Chebyshev's on [-ln 2 / 2, ln 2 / 2].
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import types
from numba.extending import intrinsic

from rnn_gpu.kernels.numba_cpu.jit import jit
from rnn_gpu.kernels.numba_cpu.simd import call_llvm, scale_by_power_of_two, select, splat32, splat64

__all__ = ["FUNCTIONS", "REAL"]


@dataclass(frozen=True)
class _Constants:
    """Numbers of the exponential in one precision.

    p: coefficients, constant term first; ln2_high + ln2_low = ln 2; magic: added to a number, rounds it to an integer.
    highest, lowest: beyond these exp is inf or 0; saturated: below this exp(x) - 1 is -1.
    """

    p: tuple[float, ...]
    ln2_high: float
    ln2_low: float
    magic: float
    highest: float
    lowest: float
    saturated: float


_SINGLE = _Constants(
    p=(0.5, 0.16666576266288757, 0.041666556149721146, 0.008363178931176662, 0.0013926184037700295),
    ln2_high=0.6931471824645996,
    ln2_low=-1.9046542121259336e-09,
    magic=1.5 * 2**23,
    highest=89.0,
    lowest=-104.0,
    saturated=-40.0,
)
_DOUBLE = _Constants(
    p=(
        0.5,
        0.16666666666666669,
        0.04166666666662413,
        0.008333333333330062,
        0.0013888888917213717,
        0.00019841269863053618,
        2.4801521295954376e-05,
        2.7557268459997064e-06,
        2.7620088445409746e-07,
        2.510038549551032e-08,
    ),
    ln2_high=0.6931471805599453,
    ln2_low=2.3190468138462996e-17,
    magic=1.5 * 2**52,
    highest=710.0,
    lowest=-746.0,
    saturated=-80.0,
)


def _llvm(name: str, arity: int) -> Any:
    """An LLVM intrinsic on vectors as a function."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return call_llvm(builder, name, *arguments)

    if arity == 1:

        @intrinsic
        def function(typing: Any, x: Any) -> Any:
            return x(x), generate

    else:

        @intrinsic
        def function(typing: Any, x: Any, y: Any, z: Any) -> Any:
            return x(x, x, x), generate

    return function


multiply_add = _llvm("fmuladd", 3)
_absolute = _llvm("fabs", 1)


def _functions(real: Any, k: _Constants) -> dict[str, Any]:
    """The functions by the names that emitted text calls them, on vectors of the type that `real` makes."""
    top, rest = k.p[-1], k.p[-2::-1]
    inverse_ln2, ln2_high, ln2_low, magic = 1 / np.log(2.0), k.ln2_high, k.ln2_low, k.magic
    highest, lowest, saturated = k.highest, k.lowest, k.saturated
    # Unrolled by hand: Numba would keep a loop over a tuple as a loop over memory.
    terms = "".join(f"    p = multiply_add(p, r, real({c!r}))\n" for c in rest)
    text = f"def polynomial(r):\n    p = real({top!r})\n{terms}    return p\n"
    namespace: dict[str, Any] = {"real": real, "multiply_add": multiply_add}
    exec(text, namespace)
    polynomial = jit(namespace["polynomial"])

    @jit
    def split(x: Any) -> Any:
        """(n + magic, r^2 p(r) + r): x = n ln 2 + r."""
        biased = multiply_add(x, real(inverse_ln2), real(magic))
        n = biased - real(magic)
        r = multiply_add(n, real(-ln2_high), x)
        r = multiply_add(n, real(-ln2_low), r)
        return biased, multiply_add(r * r, polynomial(r), r)

    @jit
    def exp(x: Any) -> Any:
        x = select(x > real(highest), real(highest), x)
        x = select(x < real(lowest), real(lowest), x)
        biased, small = split(x)
        return scale_by_power_of_two(real(1) + small, biased)

    @jit
    def tanh(x: Any) -> Any:
        y = _absolute(x) * real(-2)
        y = select(y < real(saturated), real(saturated), y)
        biased, small = split(y)
        power = scale_by_power_of_two(real(1), biased)
        less_one = multiply_add(small, power, power - real(1))  # exp(-2 |x|) - 1
        result = -less_one / (less_one + real(2))
        return copysign(result, x)

    @jit
    def sigmoid(x: Any) -> Any:
        e = exp(-_absolute(x))
        return select(x >= real(0), real(1), e) / (real(1) + e)

    @jit
    def relu(x: Any) -> Any:
        return select(x <= real(0), real(0), x)  # NaN is not <= 0, and stays

    @jit
    def softplus(x: Any) -> Any:
        e = exp(-_absolute(x))
        u = real(1) + e  # log(1 + e) = log(u) e / (u - 1): the rounding of u cancels
        exact = u - real(1)
        log1p = select(exact > real(0), log(u) * (e / select(exact > real(0), exact, real(1))), e)
        return relu(x) + log1p

    @jit
    def sign(x: Any) -> Any:
        return select(x > real(0), real(1), select(x < real(0), real(-1), x))

    @jit
    def is_number(x: Any) -> Any:
        return x == x  # noqa: PLR0124  (NaN is not)

    @jit
    def maximum(a: Any, b: Any) -> Any:
        return select(is_number(b), select(a >= b, a, select(a <= b, b, a)), b)

    @jit
    def minimum(a: Any, b: Any) -> Any:
        return select(is_number(b), select(a <= b, a, select(a >= b, b, a)), b)

    log = _llvm("log", 1)
    return {
        "exp": exp,
        "log": log,
        "sqrt": _llvm("sqrt", 1),
        "sin": _llvm("sin", 1),
        "cos": _llvm("cos", 1),
        "tanh": tanh,
        "sigmoid": sigmoid,
        "softplus": softplus,
        "relu": relu,
        "abs": _absolute,
        "sign": sign,
        "maximum": maximum,
        "minimum": minimum,
        "where": select,
    }


@intrinsic
def copysign(typing: Any, magnitude: Any, signed: Any) -> Any:
    """`magnitude` with the sign of `signed`."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return call_llvm(builder, "copysign", *arguments)

    return magnitude(magnitude, signed), generate


REAL = {types.float32: splat32, types.float64: splat64}
"""The constructor of the working type, by Numba's scalar type."""

FUNCTIONS = {
    types.float32: _functions(splat32, _SINGLE),
    types.float64: _functions(splat64, _DOUBLE),
}
"""What emitted text may call, by Numba's scalar type."""
