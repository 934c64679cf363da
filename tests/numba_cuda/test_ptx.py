"""The kernels compiled for devices that need not be there: no float64 in float32 kernels, no local memory, no spills.

Numba compiles to PTX without a driver, given the libraries that the `test` extra brings; ptxas, where it is installed,
says what registers hold.
"""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from support.cells import CELLS

from rnn_gpu.kernels.numba_cuda.device import missing_library

if importlib.util.find_spec("numba_cuda") is None or (MISSING := missing_library(("nvvm", "nvrtc"))):
    pytest.skip("numba-cuda, NVVM and NVRTC, of the extra `test`, are not all installed", allow_module_level=True)

from numba import cuda, types

from rnn_gpu.kernels.numba_cuda import backward, block, forward, grid, memory, packing, product, sequence, stepwise
from rnn_gpu.kernels.numba_cuda.cells import compiled, compiled_operands
from rnn_gpu.kernels.numba_cuda.jit import SCALAR
from rnn_gpu.kernels.numba_cuda.traits import DEVICE

CAPABILITIES = [(8, 0), (9, 0), (10, 0)]
REAL = {name: np.dtype(name) for name in ("float32", "float64")}
ARGUMENTS = {"forward": sequence.Forward, "backward": sequence.Backward}


def ptxas():
    """The assembler of the nvidia-cuda-nvcc wheel, or that of an installed toolkit."""
    spec = importlib.util.find_spec("nvidia")
    found = (
        [path for root in spec.submodule_search_locations for path in Path(root).glob("cu*/bin/ptxas")] if spec else []
    )
    return str(found[0]) if found else shutil.which("ptxas")


@pytest.fixture
def compile_ptx(monkeypatch):
    """A kernel's PTX, with the device pretended that Numba asks for when one function calls another."""

    def compile_ptx(kernel, arguments, capability=(9, 0)):
        device = SimpleNamespace(compute_capability=capability)
        monkeypatch.setattr("numba.cuda.dispatcher.get_current_device", lambda: device)
        text, _ = cuda.compile_ptx(kernel.py_func, arguments, cc=capability)
        assert f".target sm_{capability[0]}{capability[1]}" in text
        return text

    return compile_ptx


def flat(scalar):
    return types.Array(scalar, 1, "C")


def sizes(kind):
    return types.NamedUniTuple(types.int64, len(kind._fields), kind)


def arrays(kind, real):
    special = {"lengths": types.int32, "resets": types.uint8}
    fields = tuple(flat(special.get(field, SCALAR[real])) for field in kind._fields)
    return types.NamedTuple(fields, kind)


def sequence_ptx(compile_ptx, strategy, cell, real, direction, capability):
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
    return compile_ptx(make(functions), arguments, capability)


def assert_lean(text, real):
    assert ".local" not in text
    if real == "float32":
        assert not re.search(r"\.f64\b", text), re.findall(r".*\.f64\b.*", text)[:5]
    else:
        assert re.search(r"\.f64\b", text)


def spills(text, capability, tmp_path):
    """What ptxas says of each kernel: bytes of stack, and of spills."""
    assembler = ptxas()
    if assembler is None:
        pytest.skip("ptxas, of the package nvidia-cuda-nvcc, is not installed")
    source = tmp_path / "kernel.ptx"
    source.write_text(text)
    target = f"-arch=sm_{capability[0]}{capability[1]}"
    command = [assembler, target, "-c", "-v", str(source), "-o", str(tmp_path / "kernel.o")]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    found = re.findall(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", said)
    assert found, said
    return {int(number) for kernel in found for number in kernel}


SEQUENCES = [("lstm", "float32", strategy, (9, 0)) for strategy in ("block", "grid", "stepwise")] + [
    ("gru_2014", "float32", "grid", (8, 0)),
    ("lstm_peephole", "float64", "block", (10, 0)),
]


@pytest.mark.parametrize("direction", ["forward", "backward"])
@pytest.mark.parametrize(("name", "real", "strategy", "capability"), SEQUENCES)
def test_sequences(compile_ptx, tmp_path, strategy, name, real, capability, direction):
    text = sequence_ptx(compile_ptx, strategy, CELLS[name], real, direction, capability)
    assert_lean(text, real)
    parameters = re.findall(r"\.param \.(\w+) ", text[text.index(".entry") : text.index("{", text.index(".entry"))])
    words = 7 * len(ARGUMENTS[direction]._fields) + len(sequence.Sizes._fields) + 2 * (strategy == "stepwise")
    assert [kind[1:] for kind in parameters] == ["64"] * words, "as `launching` passes them"
    assert ("cudaCGSynchronize" in text) == (strategy == "grid")
    assert max(spills(text, capability, tmp_path)) <= (32 if strategy == "grid" else 0)  # its barrier is a call


OTHERS = [name for name in CELLS if name not in ("lstm", "gru_2014", "lstm_peephole")]


@pytest.mark.parametrize("name", OTHERS)
def test_every_cell(compile_ptx, name):
    """One kernel and direction of each: the three strategies call the same functions of the cell."""
    number = OTHERS.index(name)
    direction, capability = ("forward", "backward")[number % 2], CAPABILITIES[number % 3]
    strategy = "stepwise" if CELLS[name].recurrent_gates else "block"
    assert_lean(sequence_ptx(compile_ptx, strategy, CELLS[name], "float32", direction, capability), "float32")


@pytest.mark.parametrize("capability", CAPABILITIES, ids=str)
def test_the_other_kernels(compile_ptx, capability):
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
    for kernel, arguments in kernels:
        assert_lean(compile_ptx(kernel, arguments, capability), "float32")


@pytest.mark.parametrize("over", [None, "m", "k"])
@pytest.mark.parametrize("name", ["float32", "float64"])
def test_products_load_vectors_and_keep_sums_in_registers(compile_ptx, tmp_path, name, over):
    number, capability = flat(SCALAR[REAL[name]]), (9, 0)
    arguments = (number, number, number, number, flat(types.int64), sizes(product._Sizes))
    text = compile_ptx(product._kernel(REAL[name], over), arguments, capability)
    assert_lean(text, name)
    vectors = re.findall(r"ld\.shared\.v(\d)\.f", text)
    assert sum(map(int, vectors)) >= 2 * DEVICE.product_own, "of both operands, of each term"
    assert max(spills(text, capability, tmp_path)) == 0


def test_a_kernel_in_float64_would_be_seen(compile_ptx):
    def kernel(out):
        out[0] = out[0] * 0.1

    text = compile_ptx(SimpleNamespace(py_func=kernel), (flat(types.float32),))
    with pytest.raises(AssertionError):
        assert_lean(text, "float32")


def test_local_memory_would_be_seen(compile_ptx):
    def kernel(out):
        own = cuda.local.array(64, types.float32)
        for i in range(64):
            own[i] = out[i]
        out[0] = own[int(out[1])]

    text = compile_ptx(SimpleNamespace(py_func=kernel), (flat(types.float32),))
    with pytest.raises(AssertionError):
        assert_lean(text, "float32")
