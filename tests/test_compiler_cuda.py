"""The C++ source: compiled for the host without a warning, run segment by segment, and compared with the NumPy driver.

What is compiled is what `cell.source("cuda")` shows, the very text that a GPU kernel includes.
"""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from support import cpp
from support.backends import REFERENCE
from support.calls import draw
from support.cases import Case
from support.cells import CELLS
from support.errors import assert_close
from support.unusual import UNUSUAL

from rnn_gpu import cells

ALL = CELLS | UNUSUAL

LIMIT = 16
"""Rounding errors. The C library's exp and tanh differ from NumPy's in the last bit, and four steps add that up."""

CASES = (
    Case("steps", T=4, B=3, I=2, H=5, initial=True),
    Case("many_units", T=2, B=33, I=3, H=31, initial=True),
)


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    if shutil.which("g++") is None:
        pytest.skip("g++ is not installed, and the C++ source needs a compiler")
    return cpp.build(list(ALL.values()), tmp_path_factory.mktemp("cpp"))


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("cell", ALL.values(), ids=ALL)
def test_results_are_those_of_numpy(library, cell, dtype, case):
    call = draw(cell, case, dtype)
    expected = REFERENCE.run(call.map(lambda array: array.astype(np.float64)))
    assert_close(cpp.run(library, call), expected, LIMIT)


def test_a_segment_does_nothing_ahead_of_its_time(library):
    """Registers start out as NaN: what has no value yet stays so, and what has one is not written again."""
    call = draw(cells.gru_2014, CASES[0])
    units = cpp.Units(library, call, "Forward")
    units.of["Wx"][...] = 0.5
    units.of["state"][...] = 0.25
    before = units.memory.copy()
    units.run("forward", 0)
    assert (units.of["operand"] == 0.25).all()
    units.of["operand"][...] = np.nan
    np.testing.assert_array_equal(units.memory, before)


def test_lstm_source_reads_like_this():
    source = cells.lstm.source("cuda")
    assert source.startswith(
        "// lstm: Long short-term memory with a forget gate. Gers, Schmidhuber & Cummins (2000), eqs 1-6.\n"
        "struct lstm {\n"
        "  struct input { enum { i, f, g, o }; };\n"
        "  struct recurrent { enum { i, f, g, o }; };\n"
        "  struct state { enum { h, c }; };\n"
        "  struct saved { enum { i, f, g, o, tanh_c }; };\n"
    )
    assert "\n      const T i = sigmoid(Wx_i + U_i);\n" in source
    assert "\n      const T c_new = f * c + i * g;\n" in source
    assert "\n      const T dc_new = dc_out + dh_out * o * (T(1) - tanh_c * tanh_c);\n" in source
    assert "\n      unit.d_state[state::h] = unit.d_operand;\n" in source
