"""The vector functions of the compiled CPU backend, in units in the last place, over their whole range."""

from __future__ import annotations

import numpy as np
import pytest
from numba import types

from rnn_gpu.compiler import emit_python
from rnn_gpu.kernels.numba_cpu import mathematics
from rnn_gpu.kernels.numba_cpu.host import TRAITS
from rnn_gpu.kernels.numba_cpu.simd import load, store
from tests.support.numba_entry import entry

SCALARS = {np.dtype(np.float32): types.float32, np.dtype(np.float64): types.float64}

REFERENCES = {
    "exp": np.exp,
    "log": np.log,
    "sqrt": np.sqrt,
    "sin": np.sin,
    "cos": np.cos,
    "tanh": np.tanh,
    "sigmoid": lambda x: np.where(x >= 0, 1 / (1 + np.exp(-x)), np.exp(x) / (1 + np.exp(x))),
    "softplus": lambda x: np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x))),
    "relu": lambda x: np.where(x <= 0, x.dtype.type(0), x),
    "abs": np.abs,
    "sign": np.sign,
}
PAIRS = {"maximum": np.maximum, "minimum": np.minimum}


def arguments(dtype: np.dtype) -> np.ndarray:
    """Numbers of every size and sign: dense where the functions bend, and each special value."""
    rng = np.random.default_rng(0)
    info = np.finfo(dtype)
    largest = float(np.log(info.max)) * 1.2
    sizes = 10.0 ** rng.uniform(np.log10(info.smallest_subnormal), 3, 60_000)
    special = [0.0, -0.0, np.inf, -np.inf, np.nan, info.max, info.min, info.tiny, -info.tiny, info.smallest_subnormal]
    parts = [
        rng.uniform(-largest, largest, 100_000),
        rng.uniform(-2, 2, 100_000),
        sizes * rng.choice([-1, 1], sizes.size),
        [*special, np.log(info.max), np.log(info.tiny)],
    ]
    with np.errstate(all="ignore"):
        x = np.concatenate(parts).astype(dtype)
    return x[len(x) % 64 :]  # whole vectors; the special values are at the end


def apply(name: str, *operands: np.ndarray) -> np.ndarray:
    """The backend's function over arrays, a vector at a time."""
    dtype = operands[0].dtype
    function, lanes = mathematics.FUNCTIONS[SCALARS[dtype]][name], TRAITS.lanes(dtype.itemsize)
    if len(operands) == 1:

        @entry
        def run(result, x):
            for k in range(0, x.size, lanes):
                store(result, k, function(load(x, k)))

    else:

        @entry
        def run(result, x, y):
            for k in range(0, x.size, lanes):
                store(result, k, function(load(x, k), load(y, k)))

    result = np.full_like(operands[0], np.nan)
    run(result, *operands)
    return result


def test_every_function_that_cells_may_call_is_there():
    for functions in mathematics.FUNCTIONS.values():
        assert set(functions) == set(emit_python.CALLED)
    assert {*REFERENCES, *PAIRS, "where"} == set(emit_python.CALLED)


@pytest.mark.parametrize("name", REFERENCES)
@pytest.mark.parametrize("dtype", list(SCALARS), ids=str)
def test_at_most_four_units_in_the_last_place(name, dtype):
    wide = np.dtype(np.float64) if dtype == np.float32 else np.dtype(np.longdouble)
    if np.finfo(wide).eps > np.finfo(dtype).eps / 100:
        pytest.skip("long double is no wider than double on this machine")
    x = arguments(dtype)
    with np.errstate(all="ignore"):
        exact = REFERENCES[name](x.astype(wide))
        rounded = exact.astype(dtype)
    y = apply(name, x)
    np.testing.assert_array_equal(np.isnan(y), np.isnan(rounded))
    np.testing.assert_array_equal(np.isinf(y), np.isinf(rounded))
    finite = np.isfinite(rounded)
    size = np.abs(rounded[finite])
    unit = np.maximum(size - np.nextafter(size, dtype.type(0)), np.finfo(dtype).smallest_subnormal).astype(wide)
    error = np.abs(y[finite].astype(wide) - exact[finite]) / unit
    assert error.max() <= 4, f"{error.max():.2f} units at x = {x[finite][error.argmax()]!r}"


@pytest.mark.parametrize("name", ["tanh", "sin", "sqrt", "sign", "sigmoid", "relu"])
@pytest.mark.parametrize("dtype", list(SCALARS), ids=str)
def test_zero_and_infinity_are_exact(name, dtype):
    x = np.resize(np.array([0, np.inf, 1.5], dtype), 64)
    expected = {"tanh": (0, 1), "sqrt": (0, np.inf), "sign": (0, 1), "sigmoid": (0.5, 1), "relu": (0, np.inf)}
    y = apply(name, x)
    assert y[0] == expected.get(name, (0, np.nan))[0]
    np.testing.assert_array_equal(y[1], dtype.type(expected.get(name, (0, np.nan))[1]))


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("dtype", list(SCALARS), ids=str)
def test_larger_and_smaller_pass_nan_on(name, dtype):
    values = np.array([0, 1, -1, np.inf, -np.inf, np.nan, 0.5, -0.5], dtype)
    x, y = (grid.reshape(-1) for grid in np.meshgrid(values, values))
    np.testing.assert_array_equal(apply(name, x, y), PAIRS[name](x, y))
