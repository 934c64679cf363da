"""The Python source: as if written by hand, one text for NumPy's arrays and for Numba's scalars, and repeatable.

float32 code is checked in the LLVM text that Numba makes of it: one double there, and the working type was lost.
"""

from __future__ import annotations

import ast
import math
import subprocess
import sys

import numba
import numpy as np
import pytest
from numpy.testing import assert_allclose
from support.cells import CELLS
from support.unusual import UNUSUAL

from rnn_gpu import cells
from rnn_gpu.compiler import emit_python
from rnn_gpu.compiler.language import cell, tanh
from rnn_gpu.errors import ArgumentError
from rnn_gpu.kernels.numpy_cpu import mathematics

ALL = CELLS | UNUSUAL

LSTM = '''\
"""lstm: Long short-term memory with a forget gate. Gers, Schmidhuber & Cummins (2000), eqs 1-6."""


def lstm_forward(Wx_i, Wx_f, Wx_g, Wx_o, U_i, U_f, U_g, U_o, c):
    i = sigmoid(Wx_i + U_i)
    f = sigmoid(Wx_f + U_f)
    g = tanh(Wx_g + U_g)
    o = sigmoid(Wx_o + U_o)
    c_new = f * c + i * g
    tanh_c = tanh(c_new)
    h_new = o * tanh_c
    return i, f, g, o, c_new, tanh_c, h_new


def lstm_backward_ifgo(dh_out, dc_out, c, i, f, g, o, tanh_c):
    do_ = dh_out * tanh_c
    dc_new = dc_out + dh_out * o * (real(1) - tanh_c * tanh_c)
    di = dc_new * g
    dg = dc_new * i
    df = dc_new * c
    dc = dc_new * f
    dU_o = do_ * o * (real(1) - o)
    dU_g = dg * (real(1) - g * g)
    dU_f = df * f * (real(1) - f)
    dU_i = di * i * (real(1) - i)
    return dc, dU_o, dU_g, dU_f, dU_i
'''

GRU_2014 = '''\
"""gru_2014: Gated recurrent unit as first published, reset before the product. Cho et al. (2014), eqs 5-8.

Also ONNX's default (linear_before_reset=0) and Keras' reset_after=False.
"""


def gru_2014_operand_n(Wx_r, Wx_z, U_r, U_z, h):
    r = sigmoid(Wx_r + U_r)
    z = sigmoid(Wx_z + U_z)
    r_times_h = r * h
    return r, z, r_times_h


def gru_2014_forward(Wx_n, U_n, h, z):
    n = tanh(Wx_n + U_n)
    one_minus_z = real(1) - z
    h_new = one_minus_z * n + z * h
    return n, h_new


def gru_2014_backward_n(dh_out, h, z, n):
    one_minus_z = real(1) - z
    dn = dh_out * one_minus_z
    dz = dh_out * h - dh_out * n
    dU_n = dn * (real(1) - n * n)
    dU_z = dz * z * one_minus_z
    return dU_n, dU_z


def gru_2014_backward_rz(dU_n_operand, h, r):
    dr = dU_n_operand * h
    dU_r = dr * r * (real(1) - r)
    return dU_r


def gru_2014_backward(dh_out, dU_n_operand, dU_rz_operand, r, z):
    dh = dh_out * z + dU_n_operand * r + dU_rz_operand
    return dh


def gru_2014_operands(h, r):
    r_times_h = r * h
    return r_times_h
'''


@pytest.mark.parametrize(("cell", "text"), [(cells.lstm, LSTM), (cells.gru_2014, GRU_2014)], ids=["lstm", "gru_2014"])
def test_source_reads_as_if_written_by_hand(cell, text):
    assert cell.source("python") == text


def test_unknown_language_is_refused():
    with pytest.raises(ArgumentError, match=r"language: expected 'python' or 'cuda', got 'fortran'"):
        cells.lstm.source("fortran")


def bare_numbers(text):
    """The numbers in a Python text that are not the argument of `real`."""
    tree = ast.parse(text)
    inside = {
        number
        for call in ast.walk(tree)
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "real"
        for number in ast.walk(call)
    }
    constants = {node for node in ast.walk(tree) if isinstance(node, ast.Constant) and not isinstance(node.value, str)}
    return [node.value for node in constants - inside]


@pytest.mark.parametrize("cell", ALL.values(), ids=ALL)
def test_every_constant_is_of_the_working_type(cell):
    text = cell.source("python")
    assert bare_numbers(text) == []
    called = {node.func.id for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)}
    assert called <= {"real", *emit_python.CALLED}


def test_a_bare_number_is_seen():
    assert bare_numbers("h = real(2) * x + 0.5 * real(-1)") == [0.5]


def test_constants_read_back_as_they_were():
    text = UNUSUAL["every_operation"].source("python")
    numbers = {
        float(ast.literal_eval(call.args[0]))
        for call in ast.walk(ast.parse(text))
        if isinstance(call, ast.Call) and call.func.id == "real"
    }
    assert {1.1, 0.3, -0.7, 0.9, 0.1, 1e-3, 0.25, 0.5, 3.0} <= numbers
    assert "real(0.001)" in text
    assert "real(3)" in text


def compile_scalar(function):
    return numba.njit(function, error_model="numpy")


real = np.float32


@compile_scalar
def sigmoid(x):
    return real(1) / (real(1) + math.exp(-x))


@compile_scalar
def softplus(x):
    return math.log1p(math.exp(x))


@compile_scalar
def relu(x):
    return max(x, real(0))


@compile_scalar
def sign(x):
    return real((x > real(0)) - (x < real(0)))


@compile_scalar
def where(condition, a, b):
    return a if condition else b


SCALAR = {
    **{name: getattr(math, name) for name in ("cos", "exp", "log", "sin", "sqrt", "tanh")},
    "abs": abs,
    "maximum": max,
    "minimum": min,
    "sigmoid": sigmoid,
    "softplus": softplus,
    "relu": relu,
    "sign": sign,
    "where": where,
}
"""What a Numba backend binds the text's names to, as simple as can be: no care is taken of NaN and of overflow."""


def over_units(function, n_inputs, n_outputs):
    """A compiled loop over units: [inputs, units] to [outputs, units]."""
    results = ", ".join(f"outputs[{k}, u]" for k in range(n_outputs))
    arguments = ", ".join(f"inputs[{k}, u]" for k in range(n_inputs))
    text = (
        f"def loop(inputs, outputs):\n    for u in range(inputs.shape[1]):\n        {results} = function({arguments})\n"
    )
    namespace = {"function": compile_scalar(function)}
    exec(text, namespace)
    return compile_scalar(namespace["loop"])


def doubles(loop):
    """The lines of the LLVM text that compute in float64."""
    return [line for text in loop.inspect_llvm().values() for line in text.splitlines() if "double" in line]


@pytest.mark.parametrize("name", ["lstm", "gru_2014", "leaky", "names_in_use", "every_operation"])
def test_one_text_serves_numpy_and_numba(name):
    program = ALL[name].program
    assert set(SCALAR) == set(emit_python.CALLED)
    one_at_a_time = emit_python.compiled(program, real, SCALAR)
    vectorised = mathematics.functions_of(ALL[name], np.dtype(real))
    for function in program.functions:
        units = np.random.default_rng(0).uniform(0.1, 0.9, (len(function.inputs), 200)).astype(real)
        found = np.full((len(function.outputs), 200), np.nan, real)
        loop = over_units(one_at_a_time[function.name], *map(len, (function.inputs, function.outputs)))
        loop(units, found)
        assert doubles(loop) == [], function.name
        expected = np.stack(np.atleast_2d(vectorised[function.name](*units)))
        assert expected.dtype == real
        assert_allclose(found, expected, rtol=2e-6, atol=2e-6, err_msg=function.name)


def test_a_double_is_seen():
    loop = over_units(lambda x: x * 0.1, 1, 1)
    loop(np.ones((1, 3), real), np.ones((1, 3), real))
    assert any("fmul double" in line for line in doubles(loop))


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("cell", ALL.values(), ids=ALL)
def test_vectorised_text_keeps_the_working_type(cell, dtype):
    functions = mathematics.functions_of(cell, np.dtype(dtype))
    for function in cell.program.functions:
        results = functions[function.name](*np.full((len(function.inputs), 2, 3), 0.5, dtype))
        results = results if isinstance(results, tuple) else (results,)
        assert len(results) == len(function.outputs)
        assert {result.dtype.name for result in results} == {dtype}


def test_emitted_functions_show_in_tracebacks():
    functions = mathematics.functions_of(cells.lstm, np.dtype("float64"))
    with pytest.raises(TypeError) as caught:
        functions["lstm_forward"](*["a"] * 8, 1.0)
    assert "i = sigmoid(Wx_i + U_i)" in str(caught.getrepr())


DIGESTS = """
from support.cells import CELLS
from support.unusual import UNUSUAL
print([cell.digest for cell in (CELLS | UNUSUAL).values()])
"""


@pytest.mark.parametrize("hash_seed", ["0", "12345"])
def test_source_is_the_same_in_every_process(hash_seed, pytestconfig):
    environment = {"PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(pytestconfig.rootpath / "tests")}
    found = subprocess.run(
        [sys.executable, "-c", DIGESTS], env=environment, capture_output=True, text=True, check=True
    ).stdout
    digests = [cell.digest for cell in ALL.values()]
    assert found.strip() == repr(digests)
    assert len(set(digests)) == len(digests)


def test_a_docstring_cannot_break_the_source():
    def odd(Wx, U, h):
        return tanh(Wx.a + U.a(h))

    odd.__doc__ = 'Ends a """string""" and \\ a line \\'
    made = cell(gates="a", states="h")(odd)
    compile(made.source("python"), "odd", "exec")
    assert not made.source("cuda").splitlines()[0].endswith("\\")
