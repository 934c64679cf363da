"""The kernels written for other processors than this one: narrower vectors, fewer registers, the same answers."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from rnn_gpu.kernels.numba_cpu.host import KINDS, TRAITS

AGAINST_NUMPY = """
import sys
import numpy as np
import rnn_gpu
from rnn_gpu import cells
rng = np.random.default_rng(0)
for name, dtype in (given.split(":") for given in sys.argv[1:]):
    cell, bound = cells.ALL[name], {"float32": 1e-5, "float64": 1e-13}[dtype]
    weights = rnn_gpu.init_weights(cell, 5, 19, dtype=dtype)
    x, dy = (rng.standard_normal((6, 8, n)).astype(dtype) for n in (5, 19))
    found = {}
    for backend in ("numpy_cpu", "numba_cpu"):
        y, last, tape = rnn_gpu.forward(cell, x, weights, lengths=[6, 0, 3, 6, 1, 2, 5, 4], backend=backend)
        gradients = rnn_gpu.backward(tape, dy)
        found[backend] = [y, *last, gradients.x, *(array for _, array in gradients.weights.items())]
    for expected, got in zip(*found.values(), strict=True):
        np.testing.assert_allclose(got, expected, rtol=bound, atol=bound * np.abs(expected).max())
"""


def assert_runs(kind, *arguments):
    """Python runs with these arguments, the kernels written for this kind of processor."""
    ran = subprocess.run(
        [sys.executable, *arguments],
        env=os.environ | {"RNN_GPU_SIMD": kind},
        timeout=300,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr


CALLS = {"neon": ("gru_2014:float64",), "plain": ("lstm:float32",)}
"""What is run; of other kinds, both. Vectors of these two are equally long, and compiling takes its time."""


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != TRAITS.kind])
def test_kernels_of_every_kind_of_processor(kind):
    if kind == "avx512" and platform.machine() in ("x86_64", "AMD64"):
        pytest.skip("this processor has no AVX-512 to run it with")
    assert_runs(kind, "-c", AGAINST_NUMPY, *CALLS.get(kind, ("lstm:float32", "gru_2014:float64")))


def test_the_functions_without_an_instruction_that_scales():
    kind = {"x86_64": "avx2", "AMD64": "avx2"}.get(platform.machine(), "plain")
    assert KINDS["avx512"].scales
    assert not KINDS[kind].scales
    if TRAITS.kind == kind:
        pytest.skip("test_mathematics.py itself runs so here: this processor has no instruction that scales")
    mathematics = Path(__file__).with_name("test_mathematics.py")
    assert_runs(kind, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(mathematics))


def test_an_unknown_kind_is_refused():
    ran = subprocess.run(
        [sys.executable, "-c", "import rnn_gpu.kernels.numba_cpu.host"],
        env=os.environ | {"RNN_GPU_SIMD": "altivec"},
        timeout=60,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "RNN_GPU_SIMD: expected one of avx512, avx2, neon, plain, got 'altivec'" in ran.stderr
