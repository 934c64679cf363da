"""The kernels compiled for devices that need not be there: no float64 in float32 kernels, no local memory, no spills.

Numba compiles to PTX, and nvJitLink that to machine code, without a driver, given the libraries of the `test` extra.
"""

from __future__ import annotations

import importlib.util
import re

import numpy as np
import pytest
from support import numba_device
from support.cells import CELLS
from support.cubin import resources

from rnn_gpu.kernels.numba_cuda.device import missing_library

if importlib.util.find_spec("numba_cuda") is None or (MISSING := missing_library()):
    pytest.skip(
        "numba-cuda, NVVM, NVRTC and nvJitLink, of the extra `test`, are not all there", allow_module_level=True
    )

from numba import cuda, types

from rnn_gpu.kernels.numba_cuda import backward, block, forward, grid, memory, packing, product, sequence, stepwise
from rnn_gpu.kernels.numba_cuda.cells import compiled, compiled_operands
from rnn_gpu.kernels.numba_cuda.compilation import ENTRY, linked, ptx
from rnn_gpu.kernels.numba_cuda.jit import SCALAR, kernel
from rnn_gpu.kernels.numba_cuda.traits import DEVICE
from rnn_gpu.machine_code import Target

CAPABILITIES = [(8, 0), (9, 0), (10, 0)]
REAL = {name: np.dtype(name) for name in ("float32", "float64")}
ARGUMENTS = {"forward": sequence.Forward, "backward": sequence.Backward}


def compile_ptx(kernel, arguments, capability=(9, 0)):
    with numba_device.pretended(capability):
        text = ptx(kernel, arguments, capability)
    assert f".target sm_{capability[0]}{capability[1]}" in text
    return text


def stack(kernel, text, capability):
    """Bytes of a thread's local memory, spilled registers among them."""
    return resources(linked(kernel, text, Target("sm_{}{}".format(*capability))))[ENTRY].stack


def flat(scalar):
    return types.Array(scalar, 1, "C")


def sizes(kind):
    return types.NamedUniTuple(types.int64, len(kind._fields), kind)


def arrays(kind, real):
    special = {"lengths": types.int32, "resets": types.uint8}
    fields = tuple(flat(special.get(field, SCALAR[real])) for field in kind._fields)
    return types.NamedTuple(fields, kind)


def sequence_kernel(strategy, cell, real, direction):
    """The kernel, and the types of its arguments."""
    real = REAL[real]
    row_bytes = DEVICE.row_bytes_stepwise if strategy == "stepwise" else DEVICE.row_bytes
    functions = compiled(cell, real, direction, row_bytes // real.itemsize)
    make = {
        "block": lambda cell: block.make(cell, 32, 4),
        "stepwise": lambda cell: stepwise.make(cell, 16, 4),
        "grid": lambda cell: grid.make(cell, True, 4, 8),
    }[strategy]
    arguments = (arrays(ARGUMENTS[direction], real), sizes(sequence.Sizes))
    arguments += (types.int64, types.int64) if strategy == "stepwise" else ()
    return make(functions), arguments


def assert_lean(text, real):
    assert ".local" not in text
    if real == "float32":
        assert not re.search(r"\.f64\b", text), re.findall(r".*\.f64\b.*", text)[:5]
    else:
        assert re.search(r"\.f64\b", text)


SEQUENCES = [("lstm", "float32", strategy, (9, 0)) for strategy in ("block", "grid", "stepwise")] + [
    ("gru_2014", "float32", "grid", (8, 0)),
    ("lstm_peephole", "float64", "block", (10, 0)),
]


@pytest.mark.parametrize("direction", ["forward", "backward"])
@pytest.mark.parametrize(("name", "real", "strategy", "capability"), SEQUENCES)
def test_sequences(strategy, name, real, capability, direction):
    made, arguments = sequence_kernel(strategy, CELLS[name], real, direction)
    text = compile_ptx(made, arguments, capability)
    assert_lean(text, real)
    parameters = re.findall(r"\.param \.(\w+) ", text[text.index(".entry") : text.index("{", text.index(".entry"))])
    words = 7 * len(ARGUMENTS[direction]._fields) + len(sequence.Sizes._fields) + 2 * (strategy == "stepwise")
    assert [kind[1:] for kind in parameters] == ["64"] * words, "as `launching` passes them"
    assert ("cudaCGSynchronize" in text) == (strategy == "grid")
    assert stack(made, text, capability) <= (32 if strategy == "grid" else 0)  # its barrier is a call


OTHERS = [name for name in CELLS if name not in ("lstm", "gru_2014", "lstm_peephole")]


@pytest.mark.parametrize("name", OTHERS)
def test_every_cell(name):
    """One kernel and direction of each: the three strategies call the same functions of the cell."""
    number = OTHERS.index(name)
    direction, capability = ("forward", "backward")[number % 2], CAPABILITIES[number % 3]
    strategy = "stepwise" if CELLS[name].recurrent_gates else "block"
    assert_lean(compile_ptx(*sequence_kernel(strategy, CELLS[name], "float32", direction), capability), "float32")


@pytest.mark.parametrize("capability", CAPABILITIES, ids=str)
def test_the_other_kernels(capability):
    real = REAL["float32"]
    number, whole = flat(types.float32), types.int64
    half, bits, wide = flat(types.float16), flat(types.uint16), flat(types.uint32)
    strided = types.Array(types.float16, 3, "A")
    kernels = [
        (product._sum_kernel(real), (number, whole, number, *[whole] * 5, flat(whole), whole)),
        (memory._copy_kernel(1, False), (half, number, whole, whole, whole)),
        (memory._copy_kernel(2, True), (types.Array(types.uint16, 2, "A"), wide, whole, whole, whole)),
        (memory._copy_kernel(3, False), (strided, number, whole, whole, whole)),
        (memory._narrow(False), (number, half, whole)),
        (memory._narrow(True), (wide, bits, whole)),
        (packing._pack, (number, number, sizes(packing._Packing), whole)),
        (forward._add_to_rows, (number, number, number, whole, whole)),
        (forward._ones_before_end, (flat(types.int32), flat(types.int32), whole, whole)),
        (backward._copy_rows, (number, number, flat(whole), whole, whole, whole)),
        (
            backward._operands_kernel(compiled_operands(CELLS["gru_2014"], real)),
            (arrays(backward._Kept, real), sizes(sequence.Sizes), whole),
        ),
    ]
    for made, arguments in kernels:
        assert_lean(compile_ptx(made, arguments, capability), "float32")


@pytest.mark.parametrize("over", [None, "m", "k"])
@pytest.mark.parametrize("name", ["float32", "float64"])
def test_products_load_vectors_and_keep_sums_in_registers(name, over):
    number, capability = flat(SCALAR[REAL[name]]), (9, 0)
    arguments = (number, number, number, number, flat(types.int64), sizes(product._Sizes))
    made = product._kernel(REAL[name], over)
    text = compile_ptx(made, arguments, capability)
    assert_lean(text, name)
    vectors = re.findall(r"ld\.shared\.v(\d)\.f", text)
    assert sum(map(int, vectors)) >= 2 * DEVICE.product_own, "of both operands, of each term"
    assert stack(made, text, capability) == 0


def test_a_kernel_in_float64_would_be_seen():
    def double(out):
        out[0] = out[0] * 0.1

    text = compile_ptx(kernel(double), (flat(types.float32),))
    with pytest.raises(AssertionError):
        assert_lean(text, "float32")


def test_local_memory_would_be_seen():
    def local(out):
        own = cuda.local.array(64, types.float32)
        for i in range(64):
            own[i] = out[i]
        out[0] = own[int(out[1])]

    text = compile_ptx(kernel(local), (flat(types.float32),))
    with pytest.raises(AssertionError):
        assert_lean(text, "float32")
    assert stack(kernel(local), text, (9, 0)) == 256
