"""Every backend, cell, case and dtype against the float64 reference, and the reference against scalar loops."""

from __future__ import annotations

import sys
from contextlib import contextmanager

import numpy as np
import pytest
from support import scalar
from support.backends import REFERENCE, TARGETS
from support.calls import draw
from support.cases import CASES, DTYPES
from support.cells import CELLS
from support.errors import assert_close, assert_same_bits, error

from rnn_gpu import dispatch
from rnn_gpu.arrays import dtype_named

REFERENCE_LIMIT = 16
"""Rounding errors that plain NumPy may make. The cases have up to 7 steps of some ten roundings each, most of which
cancel: 6 is the most seen with OpenBLAS, and another BLAS sums in another order."""

LUCK = 4
"""Rounding errors that a backend may make where plain NumPy happens to make next to none."""

COMBINATIONS = [(case, dtype) for case in CASES for dtype in DTYPES if (case.layout, dtype) != ("foreign", "bfloat16")]
"""ml_dtypes' bfloat16 has no foreign byte order."""


@contextmanager
def memory_of_nan():
    """Memory that `empty` of NumPy and CuPy hands out is full of NaN: what is read before it is written shows."""

    def of_nan(empty):
        def empty_of_nan(shape, dtype=float, *args, **kwargs):
            array = empty(shape, dtype, *args, **kwargs)
            if array.dtype.kind not in "iubO":
                array.fill(np.nan)
            return array

        return empty_of_nan

    with pytest.MonkeyPatch.context() as patch:
        for library in filter(None, (np, sys.modules.get("cupy"))):
            patch.setattr(library, "empty", of_nan(library.empty))
        yield


@pytest.mark.parametrize("name", dispatch.BACKENDS)
def test_the_backend_is_among_those_tested(name):
    if reason := dispatch.BACKENDS[name].unavailable():
        pytest.skip(f"{name}: {reason}")
    assert name in map(str, TARGETS)


@pytest.mark.parametrize(("case", "dtype"), COMBINATIONS, ids=str)
@pytest.mark.parametrize("cell", CELLS.values(), ids=CELLS)
@pytest.mark.parametrize("target", TARGETS, ids=str)
def test_results_are_those_of_the_reference(target, cell, case, dtype):
    call = draw(cell, case, dtype)
    found = target.run(call)
    with memory_of_nan():  # a second run, as code that is compiled in the first one must find the usual `empty`
        assert_same_bits(target.run(call), found)

    clean = draw(cell, case, dtype, padding=0.0)  # the same call without NaN in the padding
    expected = REFERENCE.run(clean.map(lambda array: array.astype(np.float64)))
    if dtype == "float64" or target.name == REFERENCE.name:
        assert_close(found, expected, REFERENCE_LIMIT)
    else:
        plain = REFERENCE.run(clean)
        for name, array in found.items():
            limit = max(2 * error(plain[name], expected[name]), LUCK)
            assert_close({name: array}, {name: expected[name]}, limit)

    stored, working = dtype_named(dtype), np.dtype("float64" if dtype == "float64" else "float32")
    states = {f"{prefix}_{state}" for prefix in ("last", "d") for state in cell.states}
    assert {name: array.dtype for name, array in found.items()} == {
        name: working if name in states else stored for name in found
    }
    assert {name for name, array in found.items() if name.startswith("d_")} == {
        f"d_{name}" for name, _ in call.parameters()
    } | {f"d_{state}" for state in cell.states}
    assert not found["y"][call.padding()].any()
    assert not found["d_x"][call.padding()].any()


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("name", scalar.STEPS)
def test_the_reference_is_what_the_papers_say(name, case):
    call = draw(CELLS[name], case)
    expected = scalar.run(call)
    found = REFERENCE.run(call)
    assert_close({key: found[key] for key in expected}, expected, REFERENCE_LIMIT)
