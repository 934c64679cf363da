"""How far a result is from another, in units that mean the same for every dtype."""

from __future__ import annotations

import ml_dtypes
import numpy as np

__all__ = ["assert_close", "assert_same_bits", "error"]


def error(found: np.ndarray, expected: np.ndarray) -> float:
    """The largest |found - expected| in rounding errors of the working type, relative to the largest expected value.

    The working type of 16-bit results is float32. That they are rounded once more, to 16 bits, is no error: half a
    unit in the last place is taken off first, for each of the two that has 16 bits. Expected values below 1 count as 1:
    all that the tests draw is of order one, and what comes out small came about by cancellation, which keeps the
    rounding errors of its terms.
    """
    if not found.size:
        return 0.0
    working = 2.0**-52 if found.dtype == np.float64 else 2.0**-23
    difference = np.abs(found.astype(np.float64) - expected.astype(np.float64))
    difference -= _half_unit(found) + _half_unit(expected)
    largest = max(1.0, np.abs(expected).astype(np.float64).max())
    return float(np.maximum(difference, 0).max() / (working * largest))


def _half_unit(array: np.ndarray) -> np.ndarray | float:
    """Half a unit in the last place of each number that has 16 bits, at least; 0 for the others."""
    if array.dtype.itemsize != 2:
        return 0.0
    stored = ml_dtypes.finfo(array.dtype)
    return np.maximum(float(stored.eps) * np.abs(array.astype(np.float64)), float(stored.smallest_subnormal)) / 2


def assert_close(found: dict[str, np.ndarray], expected: dict[str, np.ndarray], limit: float) -> None:
    """Same names and shapes, and for each an `error` of at most `limit`. NaN anywhere fails."""
    assert list(found) == list(expected)
    for name, array in found.items():
        assert array.shape == expected[name].shape, name
        measured = error(array, expected[name])
        assert measured <= limit, f"{name}: {measured:.1f} rounding errors away, at most {limit:.1f} expected"


def assert_same_bits(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    """Same names, shapes, dtypes and bits."""
    assert list(found) == list(expected)
    for name, array in found.items():
        other = expected[name]
        assert (array.dtype, array.shape) == (other.dtype, other.shape), name
        identical = np.ascontiguousarray(array).tobytes() == np.ascontiguousarray(other).tobytes()
        assert identical, f"{name}: up to {error(array, other):.3g} rounding errors away"
