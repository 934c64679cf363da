"""Every cell and case in Numba's simulator, against the float64 reference, with the same bounds as every backend.

Its grid barrier waits for the threads of one block only: the simulated device has one multiprocessor, so that the grid
strategy has one block there. What several blocks do to one another only a device can show.
"""

from __future__ import annotations

import numpy as np
import pytest
from support.backends import REFERENCE, Target
from support.calls import draw
from support.cases import CASES
from support.cells import CELLS
from support.errors import assert_close, error

from rnn_gpu.arrays import dtype_named
from rnn_gpu.kernels.numba_cuda import memory
from rnn_gpu.kernels.numba_cuda.jit import SIMULATED

TARGET = Target("numba_cuda")
LUCK = 4
"""Rounding errors that a backend may make where plain NumPy happens to make next to none, as in tests/test_grid.py."""

REFERENCE_LIMIT = 16
BY_NAME = {case.name: case for case in CASES}
SOME = [BY_NAME[name] for name in ("ones", "no_rows", "lengths", "everything")]
STORED = [BY_NAME[name] for name in ("strided", "projected", "everything")]


@pytest.fixture(autouse=True)
def _memory_of_nan(monkeypatch):
    """What the device hands out is full of NaN, so that what is read before it is written shows."""
    assert SIMULATED
    empty = memory.Queue.empty

    def empty_of_nan(self, size, dtype=None):
        array = empty(self, size, dtype)
        array[:] = np.nan if array.dtype.kind == "f" else 77
        return array

    monkeypatch.setattr(memory.Queue, "empty", empty_of_nan)


def check(cell, case, dtype):
    call = draw(cell, case, dtype)
    found = TARGET.run(call)
    clean = draw(cell, case, dtype, padding=0.0)  # the same call without NaN in the padding
    expected = REFERENCE.run(clean.map(lambda array: array.astype(np.float64)))
    if dtype == "float64":
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
    assert not found["y"][call.padding()].any()
    assert not found["d_x"][call.padding()].any()


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("cell", CELLS.values(), ids=CELLS)
def test_every_cell_and_case(cell, case):
    check(cell, case, "float32")


@pytest.mark.parametrize("case", SOME, ids=str)
@pytest.mark.parametrize("cell", CELLS.values(), ids=CELLS)
@pytest.mark.parametrize("strategy", ["grid", "stepwise"])
def test_the_other_strategies(strategy, cell, case, monkeypatch):
    if strategy == "grid" and not cell.recurrent_gates:
        strategy = "block"  # a cell without products has nothing to wait for: no grid, see simulated_calls.py
    monkeypatch.setenv("RNN_GPU_STRATEGY", strategy)
    check(cell, case, "float32")


@pytest.mark.parametrize("case", STORED, ids=str)
@pytest.mark.parametrize("name", ["lstm_peephole", "gru_2014", "leaky"])
@pytest.mark.parametrize("dtype", ["float64", "float16", "bfloat16"])
def test_the_other_dtypes(dtype, name, case):
    check(CELLS[name], case, dtype)
