"""Where the compiled CPU backend cannot run it says why; without a place to keep compiled code it runs all the same."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

import rnn_gpu
from rnn_gpu import cells


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | environment,
        timeout=300,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("variable", "value", "reason"),
    [
        ("NUMBA_DISABLE_JIT", "1", "NUMBA_DISABLE_JIT is set"),
        ("RNN_GPU_SIMD", "altivec", "RNN_GPU_SIMD: expected one of avx512, avx2, neon, plain, got 'altivec'"),
        ("NUMBA_NUM_THREADS", "0", "NUMBA_NUM_THREADS=0"),
    ],
)
def test_what_the_environment_forbids_is_a_reason(variable, value, reason):
    code = "from rnn_gpu.dispatch import BACKENDS; print(BACKENDS['numba_cpu'].unavailable())"
    ran = run(code, **{variable: value})
    assert ran.returncode == 0, ran.stderr
    assert reason in ran.stdout


WITHOUT_A_PLACE = """
import numpy as np
from numba.core import caching
for kind in (caching.CacheImpl, caching.CompileResultCacheImpl):
    kind._locator_classes = []
import rnn_gpu
from rnn_gpu.kernels.numba_cpu import forward_kernel
weights = rnn_gpu.init_weights(rnn_gpu.cells.rnn, 3, 4)
y = rnn_gpu.forward(rnn_gpu.cells.rnn, np.ones((2, 1, 3), np.float32), weights, backend="numba_cpu").y
print(np.isfinite(y).all(), type(forward_kernel.forward._cache).__name__)
"""


def test_no_place_to_keep_compiled_code():
    ran = run(WITHOUT_A_PLACE)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.split() == ["True", "NullCache"]


def test_16_bits_overflow_without_a_warning():
    weights = rnn_gpu.init_weights(cells.rnn_relu, 4, 4, dtype="float16").map(lambda array: array * np.float16(50))
    x = np.full((20, 2, 4), 100, np.float16)
    found = {name: rnn_gpu.forward(cells.rnn_relu, x, weights, backend=name).y for name in ("numpy_cpu", "numba_cpu")}
    assert np.isinf(found["numba_cpu"]).any()
    np.testing.assert_array_equal(np.isinf(found["numba_cpu"]), np.isinf(found["numpy_cpu"]))
